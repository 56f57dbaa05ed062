//! Packets to a front end: from the switch's queue, or at once from who sends them, scattered over the
//! slots that the front end has put, copied in one batch.

use alloc::vec::Vec;

use hypercall_abi::netif::{self as abi, ExtraInfo, RxRequest, RxResponse, STATUS_ERROR};
use hypercall_abi::types::{DomId, GrantRef, PAGE_SIZE};
use shared_ring::{Protocol, Ring, RingError};

use crate::guest::{Copy, Direction, Guest};
use crate::headers::HEADERS;
use crate::packet::{Buffer, Checksum, Packet, Pool};
use crate::queue::Limits;
use crate::switch::{Placed, PortId, Rest, Switch};

/// What travels on the ring.
#[derive(Debug)]
pub(crate) struct RxRing;

impl Protocol for RxRing {
    type Request = RxRequest;
    type Response = RxResponse;
    const MAX_ORDER: u32 = 0;
}

/// The ring for packets to a front end.
pub(crate) struct Rx<G: Guest> {
    ring: Ring<G::Page, RxRing>,
    /// Whether packets may wait for slots.
    may_wait: bool,
    packets: Vec<Packet<G::Buffer>>,
    ends: Vec<End>,
    copies: Vec<Copy>,
    responses: Vec<RxResponse>,
}

/// Where a packet's copies and responses end, and what its sender knows it by.
struct End {
    copies: usize,
    responses: usize,
    tag: Option<u16>,
}

/// How many slots a packet takes: one for each page of its length, one for an extra info.
fn slots<B: Buffer>(packet: &Packet<B>) -> u32 {
    // A packet has 17 pages at most.
    let pages = u32::try_from(packet.length().div_ceil(PAGE_SIZE)).unwrap_or(u32::MAX);
    pages + u32::from(packet.segmentation.is_some())
}

impl<G: Guest> Rx<G> {
    pub(crate) fn new(page: G::Page, may_wait: bool) -> Result<Self, RingError> {
        Ok(Self {
            ring: Ring::attach(Vec::from([page]))?,
            may_wait,
            packets: Vec::new(),
            ends: Vec::new(),
            copies: Vec::new(),
            responses: Vec::new(),
        })
    }

    /// Gives packets to the front end, up to the limits of a turn.
    pub(crate) fn turn<P: Pool<Buffer = G::Buffer>>(
        &mut self,
        guest: &mut G,
        switch: &mut Switch<P>,
        port: PortId,
        limits: &Limits,
    ) -> Result<(), RingError> {
        let mut bytes = 0;
        while self.responses.len() < limits.slots && bytes < limits.bytes {
            let Some(next) = switch.next(port) else { break };
            if !self.ring.has(slots(next))? {
                if self.may_wait {
                    break;
                }
                // Nobody would tell of slots for it.
                drop(switch.take(port));
                switch.count(port, |counters| counters.to.dropped += 1);
                continue;
            }
            let Some(packet) = switch.take(port) else { break };
            bytes += packet.length();
            self.place(packet, None)?;
        }
        let (mut errors, mut none) = (0, Vec::new());
        self.deliver(guest, &mut errors, &mut none);
        switch.count(port, |counters| counters.to.errors += errors);
        Ok(())
    }

    /// Shows the responses. Returns whether the front end is to be told.
    pub(crate) fn push(&mut self) -> bool {
        self.ring.push()
    }

    /// Whether there is more to do.
    pub(crate) fn is_more<P: Pool<Buffer = G::Buffer>>(
        &self,
        switch: &Switch<P>,
        port: PortId,
    ) -> Result<bool, RingError> {
        let next = switch.next(port);
        next.map_or(Ok(false), |next| Ok(self.ring.has(slots(next))? || !self.may_wait))
    }

    /// Gives a packet its slots if there are enough.
    pub(crate) fn place_if_room(
        &mut self,
        packet: Packet<G::Buffer>,
        rest: Option<Rest<'_>>,
    ) -> Result<Placed<G::Buffer>, RingError> {
        if self.ring.waiting()? < slots(&packet) {
            return Ok(Placed::Full(packet));
        }
        self.place(packet, rest)?;
        Ok(Placed::Done)
    }

    /// Takes slots for a packet, which are there.
    fn place(
        &mut self,
        packet: Packet<G::Buffer>,
        rest: Option<Rest<'_>>,
    ) -> Result<(), RingError> {
        let number = u16::try_from(self.packets.len()).unwrap_or(u16::MAX);
        let checksum = match packet.checksum {
            Checksum::Blank => abi::RX_CSUM_BLANK | abi::RX_DATA_VALIDATED,
            Checksum::Right => abi::RX_DATA_VALIDATED,
            Checksum::Unknown => 0,
        };
        let extra = packet.segmentation;
        let mut flags = checksum | if extra.is_some() { abi::RX_EXTRA_INFO } else { 0 };
        let mut places = Places { number, rest, within: 0, at: 0 };
        let mut left = packet.length();
        while left > 0 {
            let request = self.ring.take()?.ok_or(RingError::Indices)?;
            let length = left.min(PAGE_SIZE);
            let is_first = left == packet.length();
            left -= length;
            if left > 0 {
                flags |= abi::RX_MORE_DATA;
            }
            places.fill(request.gref, length, &mut self.copies);
            // A page at most.
            let status = i16::try_from(length).unwrap_or_default();
            self.responses.push(RxResponse { id: request.id, offset: 0, flags, status });
            flags = 0;
            if let Some(plan) = extra.filter(|_| is_first) {
                // The slot's page stays unused; the front end knows it by its place.
                self.ring.take()?.ok_or(RingError::Indices)?;
                let info = ExtraInfo {
                    kind: abi::EXTRA_GSO,
                    gso_size: plan.size,
                    gso_kind: plan.family.number(),
                    ..ExtraInfo::default()
                };
                self.responses.push(zerocopy::transmute!(info));
            }
        }
        self.packets.push(packet);
        let (copies, responses) = (self.copies.len(), self.responses.len());
        self.ends.push(End { copies, responses, tag: rest.map(|rest| rest.tag) });
        Ok(())
    }

    /// Copies the data of the packets that have slots, and answers these. Counts packets that could
    /// not be copied, and adds their tags.
    pub(crate) fn deliver(&mut self, guest: &mut G, errors: &mut u64, failed: &mut Vec<u16>) {
        if self.packets.is_empty() {
            return;
        }
        guest.copy(Direction::ToGuest, &mut self.copies, &mut self.packets);
        let (mut copy, mut response) = (0, 0);
        for (end, packet) in self.ends.drain(..).zip(self.packets.drain(..)) {
            let made = self.copies.get(copy..end.copies).unwrap_or_default();
            if !made.iter().all(|copy| copy.done) {
                *errors += 1;
                failed.extend(end.tag);
                let its = self.responses.get_mut(response..end.responses).unwrap_or_default();
                for (index, response) in its.iter_mut().enumerate() {
                    // The second is not one, but an extra info.
                    if index != 1 || packet.segmentation.is_none() {
                        response.status = STATUS_ERROR;
                    }
                }
            }
            (copy, response) = (end.copies, end.responses);
        }
        for response in self.responses.drain(..) {
            self.ring.respond(&response);
        }
        self.copies.clear();
    }
}

/// Where the bytes of a packet are that the next slots get.
struct Places<'a> {
    /// The packet's, of those that have slots.
    number: u16,
    /// What is not in its own pages, and how much of the first piece is done.
    rest: Option<Rest<'a>>,
    within: u16,
    /// How much is done. Unit: bytes.
    at: usize,
}

/// What is less than a page, and so fits.
fn half(number: usize) -> u16 {
    u16::try_from(number).unwrap_or_default()
}

impl Places<'_> {
    /// Notes the copies that fill a slot's page with the next `length` bytes, a page at most.
    fn fill(&mut self, gref: GrantRef, length: usize, copies: &mut Vec<Copy>) {
        let mut offset = 0;
        while offset < length {
            let (now, source) = self.next(length - offset);
            let (page, at) = match source {
                Some(_) => (0, 0),
                None => (self.at / PAGE_SIZE, self.at % PAGE_SIZE),
            };
            copies.push(Copy {
                gref,
                offset: half(offset),
                length: half(now),
                packet: self.number,
                page: half(page),
                at: half(at),
                source,
                done: false,
            });
            self.at += now;
            offset += now.max(1);
        }
    }

    /// How many bytes come next in one place, `most` at most, and where if it is not one of its own
    /// pages.
    fn next(&mut self, most: usize) -> (usize, Option<(DomId, GrantRef, u16)>) {
        let here = if self.rest.is_some() { HEADERS } else { usize::MAX };
        if self.at < here {
            return (most.min(here - self.at).min(PAGE_SIZE - self.at % PAGE_SIZE), None);
        }
        // They are as long as what is not here.
        let Some((rest, (piece, others))) =
            self.rest.as_mut().and_then(|it| it.pieces.split_first().map(|pieces| (it, pieces)))
        else {
            return (0, None);
        };
        let now = half(most).min(piece.length - self.within);
        let source = (rest.domain, piece.gref, piece.offset + self.within);
        self.within += now;
        if self.within == piece.length {
            (rest.pieces, self.within) = (others, 0);
        }
        (now.into(), Some(source))
    }
}
