//! Packets from a front end: gathered from slots, copied in one batch, checked, given to the switch.
//!
//! A packet is one slot for its first piece, slots of extra infos, and slots of further pieces. The
//! front end may show its slots in any portions; what is not whole yet is kept here.
//!
//! Of a long packet the headers alone are copied at first if the last one left the switch at once:
//! then it goes to the other front end's pages from this one's. If not, the rest is copied too.

use alloc::vec::Vec;
use core::cell::RefCell;
use core::ops::Range;

use hypercall_abi::netif::{
    self as abi, ExtraInfo, STATUS_DROPPED, STATUS_ERROR, STATUS_NULL, STATUS_OKAY, TxRequest,
    TxResponse,
};
use hypercall_abi::types::PAGE_SIZE;
use shared_ring::{Protocol, Ring, RingError, Words};
use smallvec::SmallVec;
use zerocopy::{FromBytes, IntoBytes};

use crate::guest::{Copy, Direction, Guest, Piece};
use crate::headers::{ETHERNET, HEADERS, Headers};
use crate::offload;
use crate::packet::{Buffer, Checksum, Family, Packet, Pool, Segmentation};
use crate::queue::{Limits, Outlet};
use crate::switch::{PortId, Rest, Route, Switch};

/// Pieces that a packet may have: the number that every front end may count on, and a few more.
const MOST_PIECES: usize = abi::MIN_SLOTS as usize + 2;
/// A page's size as pieces tell it. Unit: bytes.
const PAGE_BYTES: u16 = 4096;
/// Extra infos that a packet may have.
const MOST_EXTRAS: usize = 8;
/// Segments that a packet may have to be cut into: as TCP's least common segments are.
const MOST_SEGMENTS: usize = 256;

/// What travels on the ring.
#[derive(Debug)]
pub(crate) struct TxRing;

impl Protocol for TxRing {
    type Request = TxRequest;
    type Response = TxResponse;
    const MAX_ORDER: u32 = 0;
}

/// What the next slot is.
#[derive(Clone, Copy, Default)]
enum Expected {
    #[default]
    First,
    Extra,
    Piece,
}

/// A packet whose slots are not all there yet.
#[derive(Default)]
struct Partial {
    next: Expected,
    pieces: SmallVec<[TxRequest; MOST_PIECES]>,
    extras: usize,
    segmentation: Option<Segmentation>,
    /// It will be answered with an error.
    is_wrong: bool,
}

impl Partial {
    /// Takes a slot. Returns whether the packet is whole, and the slot's answer if it has to be
    /// given at once, since there is no place for it.
    fn add(&mut self, slot: TxRequest) -> (bool, Option<TxResponse>) {
        if let Expected::Extra = self.next {
            return self.add_extra(&slot);
        }
        let is_first = matches!(self.next, Expected::First);
        let fits = self.pieces.len() < MOST_PIECES;
        if fits {
            self.pieces.push(slot);
        }
        self.is_wrong |= !fits;
        let answer = (!fits).then_some(TxResponse { id: slot.id, status: STATUS_ERROR });
        if is_first && slot.flags & abi::TX_EXTRA_INFO != 0 {
            self.next = Expected::Extra;
            return (false, answer);
        }
        self.next = Expected::Piece;
        (slot.flags & abi::TX_MORE_DATA == 0, answer)
    }

    /// Begins with the next packet.
    fn clear(&mut self) {
        self.next = Expected::First;
        self.pieces.clear();
        self.extras = 0;
        self.segmentation = None;
        self.is_wrong = false;
    }

    fn add_extra(&mut self, slot: &TxRequest) -> (bool, Option<TxResponse>) {
        let fits = self.extras < MOST_EXTRAS;
        self.extras += usize::from(fits);
        let extra = ExtraInfo::read_from_prefix(slot.as_bytes());
        let extra = extra.map_or_else(|_| ExtraInfo::default(), |(extra, _)| extra);
        self.is_wrong |= !fits;
        match extra.kind {
            abi::EXTRA_GSO if extra.gso_kind == abi::GSO_NONE => {}
            abi::EXTRA_GSO => {
                let (size, family) = (extra.gso_size, Family::of(extra.gso_kind));
                self.segmentation = family.map(|family| Segmentation { family, size });
                self.is_wrong |= size == 0 || family.is_none();
            }
            // It says nothing of the packet's bytes.
            abi::EXTRA_HASH => {}
            _ => self.is_wrong = true,
        }
        let answer = (!fits).then_some(TxResponse { id: 0, status: STATUS_NULL });
        if extra.flags & abi::EXTRA_MORE != 0 {
            return (false, answer);
        }
        self.next = Expected::Piece;
        (self.pieces.first().is_none_or(|it| it.flags & abi::TX_MORE_DATA == 0), answer)
    }

    /// How long each piece is; or nothing, if one can't be.
    fn lengths(&self) -> Option<SmallVec<[u16; MOST_PIECES]>> {
        let (first, others) = self.pieces.split_first()?;
        let mut lengths: SmallVec<[u16; MOST_PIECES]> = SmallVec::new();
        // The first slot tells of the whole packet.
        let rest = others.iter().try_fold(first.size, |rest, it| rest.checked_sub(it.size))?;
        lengths.push(rest);
        lengths.extend(others.iter().map(|it| it.size));
        let is_within = |(piece, length): (&TxRequest, &u16)| {
            usize::from(piece.offset) + usize::from(*length) <= PAGE_SIZE
        };
        let is_right =
            usize::from(first.size) >= ETHERNET && self.pieces.iter().zip(&lengths).all(is_within);
        is_right.then_some(lengths)
    }
}

/// A packet whose data is copied in this turn.
struct Whole {
    /// Where its pieces' ids end, of those of the turn.
    ids: usize,
    /// Where its copies end, of those of the turn, and pieces that are not copied.
    copies: usize,
    rest: usize,
    extras: usize,
    flags: u16,
    status: i16,
}

/// The ring for packets from a front end.
pub(crate) struct Tx<G: Guest> {
    ring: Ring<G::Page, TxRing>,
    partial: Partial,
    packets: Vec<Packet<G::Buffer>>,
    whole: Vec<Whole>,
    ids: Vec<u16>,
    copies: Vec<Copy>,
    rest: Vec<Piece>,
    /// Packets of the turn that another front end has not got as a whole.
    failed: Vec<u16>,
    /// The last long packet left the switch at once.
    passes: bool,
    bytes: usize,
}

impl<G: Guest> Tx<G> {
    pub(crate) fn new(page: G::Page) -> Result<Self, RingError> {
        Ok(Self {
            ring: Ring::attach(Vec::from([page]))?,
            partial: Partial::default(),
            packets: Vec::new(),
            whole: Vec::new(),
            ids: Vec::new(),
            copies: Vec::new(),
            rest: Vec::new(),
            failed: Vec::new(),
            passes: false,
            bytes: 0,
        })
    }

    /// Takes packets, up to the limits of a turn. Their bytes.
    pub(crate) fn turn<P: Pool<Buffer = G::Buffer>>(
        &mut self,
        outlet: &RefCell<Outlet<G>>,
        switch: &mut Switch<P>,
        port: PortId,
        limits: &Limits,
    ) -> Result<usize, RingError> {
        self.bytes = 0;
        let mut slots = 0;
        let mut taken = Ok(());
        while slots < limits.slots && self.bytes < limits.bytes {
            match self.ring.take() {
                Ok(Some(slot)) => self.add(slot, switch, port),
                Ok(None) => break,
                Err(error) => {
                    taken = Err(error);
                    break;
                }
            }
            slots += 1;
        }
        self.deliver(outlet, switch, port);
        taken.map(|()| self.bytes)
    }

    /// Shows the responses. Returns whether the front end is to be told.
    pub(crate) fn push(&mut self) -> bool {
        self.ring.push()
    }

    /// Whether there is more to do.
    pub(crate) fn is_more(&self) -> Result<bool, RingError> {
        self.ring.is_more()
    }

    fn add<P: Pool<Buffer = G::Buffer>>(
        &mut self,
        slot: TxRequest,
        switch: &mut Switch<P>,
        port: PortId,
    ) {
        let (is_whole, answer) = self.partial.add(slot);
        if let Some(answer) = answer {
            self.ring.respond(&answer);
        }
        if !is_whole {
            return;
        }
        let lengths = self.partial.lengths().filter(|_| !self.partial.is_wrong);
        let status = lengths.map_or(STATUS_ERROR, |lengths| {
            let length = lengths.iter().copied().map(usize::from).sum();
            let passes = self.passes && length > PAGE_SIZE;
            let packet = match passes {
                true => Packet::beginning(length, switch.pool()),
                false => Packet::new(length, switch.pool()),
            };
            let Some(packet) = packet else { return STATUS_DROPPED };
            self.begin(packet, &lengths, if passes { HEADERS } else { usize::MAX });
            STATUS_OKAY
        });
        if status != STATUS_OKAY {
            let ids = self.partial.pieces.iter().map(|piece| piece.id);
            answer_packet(&mut self.ring, ids, self.partial.extras, status);
            count(switch, port, status);
        }
        self.partial.clear();
    }

    /// Notes the copies of a packet's data, `here` bytes at most, and the pieces of the rest.
    fn begin(&mut self, mut packet: Packet<G::Buffer>, lengths: &[u16], here: usize) {
        let number = u16::try_from(self.packets.len()).unwrap_or(u16::MAX);
        let mut to = 0;
        for (piece, &length) in self.partial.pieces.iter().zip(lengths) {
            let (mut offset, mut left) = (piece.offset, length);
            while left > 0 && to < here {
                let more = u16::try_from(here - to).unwrap_or(u16::MAX);
                let copy = copy_to(to, Piece { gref: piece.gref, offset, length: left.min(more) });
                let length = copy.length;
                self.copies.push(Copy { packet: number, ..copy });
                (to, offset, left) = (to + usize::from(length), offset + length, left - length);
            }
            if left > 0 {
                self.rest.push(Piece { gref: piece.gref, offset, length: left });
            }
            self.ids.push(piece.id);
        }
        packet.segmentation = self.partial.segmentation;
        self.bytes += packet.length();
        self.packets.push(packet);
        self.whole.push(Whole {
            ids: self.ids.len(),
            copies: self.copies.len(),
            rest: self.rest.len(),
            status: STATUS_OKAY,
            extras: self.partial.extras,
            flags: self.partial.pieces.first().map_or(0, |first| first.flags),
        });
    }

    /// Copies the data of the packets of this turn, gives them to the switch, and answers them.
    fn deliver<P: Pool<Buffer = G::Buffer>>(
        &mut self,
        outlet: &RefCell<Outlet<G>>,
        switch: &mut Switch<P>,
        port: PortId,
    ) {
        if self.packets.is_empty() {
            return;
        }
        let mut packets = core::mem::take(&mut self.packets);
        outlet.borrow_mut().guest.copy(Direction::FromGuest, &mut self.copies, &mut packets);
        let (mut copy, mut rest) = (0, 0);
        for (number, mut packet) in packets.drain(..).enumerate() {
            let Some(it) = self.whole.get(number) else { continue };
            let (copies, flags) = (copy..it.copies, it.flags);
            let pieces = rest..it.rest;
            (copy, rest) = (it.copies, it.rest);
            let made = self.copies.get(copies).unwrap_or_default();
            let is_right = made.iter().all(|copy| copy.done) && check(&mut packet, flags);
            let status = match is_right {
                true => self.carry((number, packet, pieces), outlet, switch, port),
                false => STATUS_ERROR,
            };
            if let Some(it) = self.whole.get_mut(number) {
                it.status = status;
            }
        }
        self.packets = packets;
        switch.finish(&mut self.failed);
        self.answer(outlet, switch, port);
    }

    /// Gives a packet to the switch, to which its pieces that are not here belong.
    fn carry<P: Pool<Buffer = G::Buffer>>(
        &mut self,
        (number, packet, pieces): (usize, Packet<G::Buffer>, Range<usize>),
        outlet: &RefCell<Outlet<G>>,
        switch: &mut Switch<P>,
        port: PortId,
    ) -> i16 {
        let route = switch.route(port, &packet);
        let pieces = self.rest.get(pieces).unwrap_or_default();
        if pieces.is_empty() {
            let is_long = packet.length() > PAGE_SIZE;
            switch.follow(route, port, packet);
            if let Route::To(to) = route
                && is_long
            {
                self.passes = switch.leaves_at_once(to);
            }
            return STATUS_OKAY;
        }
        let mut guest = outlet.borrow_mut();
        let guest = &mut guest.guest;
        let packet = match route {
            Route::Nowhere => return STATUS_OKAY,
            Route::Flood { .. } => Some(packet),
            Route::To(to) => {
                let tag = u16::try_from(number).unwrap_or(u16::MAX);
                switch.pass(to, packet, Rest { domain: guest.domain(), pieces, tag })
            }
        };
        let Some(mut packet) = packet else { return STATUS_OKAY };
        self.passes = false;
        if !packet.complete(switch.pool()) {
            return STATUS_DROPPED;
        }
        if !copy_rest(guest, pieces, &mut packet) {
            return STATUS_ERROR;
        }
        switch.follow(route, port, packet);
        STATUS_OKAY
    }

    /// Answers the packets of this turn.
    fn answer<P: Pool<Buffer = G::Buffer>>(
        &mut self,
        outlet: &RefCell<Outlet<G>>,
        switch: &mut Switch<P>,
        port: PortId,
    ) {
        for number in self.failed.drain(..).map(usize::from) {
            let before = number.checked_sub(1).and_then(|it| self.whole.get(it));
            let start = before.map_or(0, |it| it.rest);
            let Some(it) = self.whole.get_mut(number) else { continue };
            let pieces = self.rest.get(start..it.rest).unwrap_or_default();
            // Whose page it was that is not granted is not known, but whose it was not.
            if !are_granted(&mut outlet.borrow_mut().guest, pieces, switch.pool()) {
                it.status = STATUS_ERROR;
            }
        }
        let mut ids = 0;
        for it in self.whole.drain(..) {
            let its = self.ids.get(ids..it.ids).unwrap_or_default();
            answer_packet(&mut self.ring, its.iter().copied(), it.extras, it.status);
            ids = it.ids;
            count(switch, port, it.status);
        }
        self.copies.clear();
        self.rest.clear();
        self.ids.clear();
    }
}

/// Counts a packet that was not taken.
fn count<P: Pool>(switch: &mut Switch<P>, port: PortId, status: i16) {
    switch.count(port, |counters| match status {
        STATUS_OKAY => {}
        STATUS_DROPPED => counters.from.dropped += 1,
        _ => counters.from.errors += 1,
    });
}

/// A copy of as much of a piece to a place of a packet as is in one of its pages; the packet is 0.
fn copy_to(to: usize, piece: Piece) -> Copy {
    // Within a page, and no more than 65535 bytes have pages.
    let at = u16::try_from(to % PAGE_SIZE).unwrap_or_default();
    let page = u16::try_from(to / PAGE_SIZE).unwrap_or_default();
    let Piece { gref, offset, length } = piece;
    let length = length.min(PAGE_BYTES - at);
    Copy { gref, offset, length, packet: 0, page, at, source: None, done: false }
}

/// Copies what is behind the headers. Returns whether all of it could be.
fn copy_rest<G: Guest>(guest: &mut G, pieces: &[Piece], packet: &mut Packet<G::Buffer>) -> bool {
    let (mut copies, mut to) = (Vec::new(), HEADERS);
    for &piece in pieces {
        let (mut offset, mut left) = (piece.offset, piece.length);
        while left > 0 {
            let copy = copy_to(to, Piece { offset, length: left, ..piece });
            let length = copy.length;
            copies.push(copy);
            (to, offset, left) = (to + usize::from(length), offset + length, left - length);
        }
    }
    guest.copy(Direction::FromGuest, &mut copies, core::slice::from_mut(packet));
    copies.iter().all(|copy| copy.done)
}

/// Whether a byte of each piece can be read.
fn are_granted<G: Guest>(
    guest: &mut G,
    pieces: &[Piece],
    pool: &mut impl Pool<Buffer = G::Buffer>,
) -> bool {
    // Without a page nobody is blamed.
    let Some(mut packet) = Packet::new(1, pool) else { return true };
    let probes = pieces.iter().map(|&piece| copy_to(0, Piece { length: 1, ..piece }));
    let mut probes: Vec<_> = probes.collect();
    guest.copy(Direction::FromGuest, &mut probes, core::slice::from_mut(&mut packet));
    probes.iter().all(|probe| probe.done)
}

/// Answers each slot of a packet, in the order in which they are.
fn answer_packet<W: Words>(
    ring: &mut Ring<W, TxRing>,
    ids: impl Iterator<Item = u16>,
    extras: usize,
    status: i16,
) {
    for (number, id) in ids.enumerate() {
        ring.respond(&TxResponse { id, status });
        for _ in 0..if number == 0 { extras } else { 0 } {
            ring.respond(&TxResponse { id: 0, status: STATUS_NULL });
        }
    }
}

/// Checks what a front end says of a packet against its bytes, and notes it.
fn check<B: Buffer>(packet: &mut Packet<B>, flags: u16) -> bool {
    let is_blank = flags & abi::TX_CSUM_BLANK != 0;
    packet.checksum = if is_blank {
        Checksum::Blank
    } else if flags & abi::TX_DATA_VALIDATED != 0 {
        Checksum::Right
    } else {
        Checksum::Unknown
    };
    if !is_blank && packet.segmentation.is_none() {
        return true;
    }
    let Some(headers) = Headers::of(packet) else { return false };
    if let Some(plan) = packet.segmentation {
        if !headers.is_tcp || headers.family != plan.family {
            return false;
        }
        match offload::count(packet, &headers) {
            1 => packet.segmentation = None,
            count if count > MOST_SEGMENTS => return false,
            _ if is_blank => {}
            // Its segments' checksums have to be made in any case.
            _ => offload::blank(packet, &headers),
        }
    }
    true
}
