//! Packets from a front end: gathered from slots, copied in one batch, checked, given to the switch.
//!
//! A packet is one slot for its first piece, slots of extra infos, and slots of further pieces. The
//! front end may show its slots in any portions; what is not whole yet is kept here.

use alloc::vec::Vec;

use hypercall_abi::netif::{
    self as abi, ExtraInfo, STATUS_DROPPED, STATUS_ERROR, STATUS_NULL, STATUS_OKAY, TxRequest,
    TxResponse,
};
use hypercall_abi::types::PAGE_SIZE;
use shared_ring::{Protocol, Ring, RingError, Words};
use smallvec::SmallVec;
use zerocopy::{FromBytes, IntoBytes};

use crate::guest::{Copy, Direction, Guest};
use crate::headers::{ETHERNET, Headers};
use crate::offload;
use crate::packet::{Buffer, Checksum, Family, Packet, Pool, Segmentation};
use crate::queue::Limits;
use crate::switch::{PortId, Switch};

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
    /// Where its copies end, of those of the turn.
    copies: usize,
    extras: usize,
    flags: u16,
}

/// The ring for packets from a front end.
pub(crate) struct Tx<G: Guest> {
    ring: Ring<G::Page, TxRing>,
    partial: Partial,
    packets: Vec<Packet<G::Buffer>>,
    whole: Vec<Whole>,
    ids: Vec<u16>,
    copies: Vec<Copy>,
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
            bytes: 0,
        })
    }

    /// Takes packets, up to the limits of a turn. Their bytes.
    pub(crate) fn turn<P: Pool<Buffer = G::Buffer>>(
        &mut self,
        guest: &mut G,
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
        self.deliver(guest, switch, port);
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
            let Some(packet) = Packet::new(length, switch.pool()) else { return STATUS_DROPPED };
            self.begin(packet, &lengths);
            STATUS_OKAY
        });
        if status != STATUS_OKAY {
            let ids = self.partial.pieces.iter().map(|piece| piece.id);
            answer_packet(&mut self.ring, ids, self.partial.extras, status);
            switch.count(port, |counters| match status {
                STATUS_DROPPED => counters.from.dropped += 1,
                _ => counters.from.errors += 1,
            });
        }
        self.partial.clear();
    }

    /// Notes the copies of a packet's data.
    fn begin(&mut self, mut packet: Packet<G::Buffer>, lengths: &[u16]) {
        let number = u16::try_from(self.packets.len()).unwrap_or(u16::MAX);
        let mut to = 0;
        for (piece, &length) in self.partial.pieces.iter().zip(lengths) {
            let (mut offset, mut left) = (piece.offset, length);
            while left > 0 {
                // Within a page, and no more than 65535 bytes have pages.
                let at = u16::try_from(to % PAGE_SIZE).unwrap_or_default();
                let page = u16::try_from(to / PAGE_SIZE).unwrap_or_default();
                let length = left.min(PAGE_BYTES - at);
                let (gref, packet) = (piece.gref, number);
                self.copies.push(Copy { gref, offset, length, packet, page, at, done: false });
                (to, offset, left) = (to + usize::from(length), offset + length, left - length);
            }
            self.ids.push(piece.id);
        }
        packet.segmentation = self.partial.segmentation;
        self.bytes += packet.length();
        self.packets.push(packet);
        self.whole.push(Whole {
            ids: self.ids.len(),
            copies: self.copies.len(),
            extras: self.partial.extras,
            flags: self.partial.pieces.first().map_or(0, |first| first.flags),
        });
    }

    /// Copies the data of the packets of this turn, and gives them to the switch.
    fn deliver<P: Pool<Buffer = G::Buffer>>(
        &mut self,
        guest: &mut G,
        switch: &mut Switch<P>,
        port: PortId,
    ) {
        if !self.copies.is_empty() {
            guest.copy(Direction::FromGuest, &mut self.copies, &mut self.packets);
        }
        let (mut copies, mut ids) = (0, 0);
        for (mut packet, it) in self.packets.drain(..).zip(self.whole.drain(..)) {
            let made = self.copies.get(copies..it.copies).unwrap_or_default();
            let is_right = made.iter().all(|copy| copy.done) && check(&mut packet, it.flags);
            let status = if is_right { STATUS_OKAY } else { STATUS_ERROR };
            let its = self.ids.get(ids..it.ids).unwrap_or_default();
            answer_packet(&mut self.ring, its.iter().copied(), it.extras, status);
            (copies, ids) = (it.copies, it.ids);
            if is_right {
                switch.send(port, packet);
            } else {
                switch.count(port, |counters| counters.from.errors += 1);
            }
        }
        self.copies.clear();
        self.ids.clear();
    }
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
