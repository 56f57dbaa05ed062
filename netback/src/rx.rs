//! Packets to a front end: from the switch's queue, scattered over the slots that the front end has
//! put, copied in one batch.

use alloc::vec::Vec;

use hypercall_abi::netif::{self as abi, ExtraInfo, RxRequest, RxResponse, STATUS_ERROR};
use shared_ring::{Protocol, Ring, RingError};

use crate::guest::{Copy, Direction, Guest};
use crate::packet::{Buffer, Checksum, Packet, Pool};
use crate::queue::Limits;
use crate::switch::{PortId, Switch};

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
    /// Where each packet's copies and responses end.
    ends: Vec<(usize, usize)>,
    copies: Vec<Copy>,
    responses: Vec<RxResponse>,
}

/// How many slots a packet takes: one for each of its pages, one for an extra info.
fn slots<B: Buffer>(packet: &Packet<B>) -> u32 {
    // A packet has 17 pages at most.
    let pages = u32::try_from(packet.pages().len()).unwrap_or(u32::MAX);
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
            self.place(packet)?;
        }
        self.deliver(guest, switch, port);
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

    /// Takes slots for a packet, which are there.
    fn place(&mut self, packet: Packet<G::Buffer>) -> Result<(), RingError> {
        let number = u16::try_from(self.packets.len()).unwrap_or(u16::MAX);
        let parts = packet.parts().count();
        let checksum = match packet.checksum {
            Checksum::Blank => abi::RX_CSUM_BLANK | abi::RX_DATA_VALIDATED,
            Checksum::Right => abi::RX_DATA_VALIDATED,
            Checksum::Unknown => 0,
        };
        let extra = packet.segmentation;
        let mut flags = checksum | if extra.is_some() { abi::RX_EXTRA_INFO } else { 0 };
        for (index, part) in packet.parts().enumerate() {
            let request = self.ring.take()?.ok_or(RingError::Indices)?;
            if index + 1 < parts {
                flags |= abi::RX_MORE_DATA;
            }
            // A part is a page at most, and a packet has 17.
            let status = i16::try_from(part.len()).unwrap_or_default();
            self.copies.push(Copy {
                gref: request.gref,
                offset: 0,
                length: status.unsigned_abs(),
                packet: number,
                page: u16::try_from(index).unwrap_or_default(),
                at: 0,
                done: false,
            });
            self.responses.push(RxResponse { id: request.id, offset: 0, flags, status });
            flags = 0;
            if let Some(plan) = extra.filter(|_| index == 0) {
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
        self.ends.push((self.copies.len(), self.responses.len()));
        Ok(())
    }

    /// Copies the data of the packets of this turn, and answers their slots.
    fn deliver<P: Pool<Buffer = G::Buffer>>(
        &mut self,
        guest: &mut G,
        switch: &mut Switch<P>,
        port: PortId,
    ) {
        if self.packets.is_empty() {
            return;
        }
        guest.copy(Direction::ToGuest, &mut self.copies, &mut self.packets);
        let (mut copy, mut response) = (0, 0);
        for ((copies, responses), packet) in self.ends.drain(..).zip(self.packets.drain(..)) {
            let made = self.copies.get(copy..copies).unwrap_or_default();
            if !made.iter().all(|copy| copy.done) {
                switch.count(port, |counters| counters.to.errors += 1);
                let its = self.responses.get_mut(response..responses).unwrap_or_default();
                for (index, response) in its.iter_mut().enumerate() {
                    // The second is not one, but an extra info.
                    if index != 1 || packet.segmentation.is_none() {
                        response.status = STATUS_ERROR;
                    }
                }
            }
            (copy, response) = (copies, responses);
        }
        for response in self.responses.drain(..) {
            self.ring.respond(&response);
        }
        self.copies.clear();
    }
}
