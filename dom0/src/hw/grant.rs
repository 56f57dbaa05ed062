//! Pages of front ends: copied to and from, or mapped.

use alloc::rc::Rc;

use hypercall_abi::call::Hypercall;
use hypercall_abi::grant::{
    COPY, COPY_DEST_GREF, COPY_SOURCE_GREF, CopyPtr, GENERAL_ERROR, GrantCopy,
};
use hypercall_abi::types::{DomId, GrantRef, PAGE_SIZE};
use pv_guest_sdk::raw::gate::Request;
use pv_guest_sdk::{Gate, Machine};

use smallvec::SmallVec;

use super::{PacketPage, Piece};

/// The most copies that are made in one hypercall.
pub const BATCH: usize = 64;

/// A copy between a page that a domain has granted and memory of this one.
#[derive(Clone, Copy, Debug)]
pub struct Copied<'a> {
    /// The granted page.
    pub reference: GrantRef,
    /// Where in it. Unit: bytes.
    pub offset: u16,
    /// This domain's memory.
    pub own: &'a Piece,
    /// How much, within both. Unit: bytes.
    pub length: u16,
    /// Whether it goes to the granted page.
    pub is_to_peer: bool,
}

/// Makes copies with pages of `domain`, at most [`BATCH`] of them. A bit of the answer, by number,
/// says which were made.
pub fn copy<'a>(domain: DomId, copies: impl ExactSizeIterator<Item = Copied<'a>>) -> u64 {
    let mut made = 0;
    perform(copies.map(|copy| describe(domain, copy)), |number, done| {
        made |= u64::from(done) << number;
    });
    made
}

/// Makes copies between pages of `domain` and packets, and notes in each whether it was made.
pub fn copy_packets(
    domain: DomId,
    direction: netback::Direction,
    copies: &mut [netback::Copy],
    packets: &mut [netback::Packet<PacketPage>],
) {
    for some in copies.chunks_mut(BATCH) {
        let mut made = 0_u64;
        let described = some.iter().map(|it| describe_packet(domain, direction, it, packets));
        perform(described, |number, done| made |= u64::from(done) << number);
        for (number, copy) in some.iter_mut().enumerate() {
            copy.done = made >> number & 1 != 0;
        }
    }
}

/// Has operations made, [`BATCH`] at most. Each is of memory that nobody refers to meanwhile.
fn perform(copies: impl Iterator<Item = GrantCopy>, mut done: impl FnMut(usize, bool)) {
    // Filled where it is: to move it costs as much as a copy.
    let mut operations = SmallVec::<[GrantCopy; BATCH]>::new();
    operations.extend(copies);
    let address = operations.as_mut_ptr().expose_provenance() as u64;
    // SAFETY: so many operations are borrowed, mutably. The peer's pages are none of ours, or
    // behind grants; ours are pieces, which are atomics to Rust and stay for as long as they
    // live, or pages of packets, which are borrowed mutably; and a copy is within one.
    let request = unsafe {
        Request::new(
            Hypercall::GrantTableOp,
            [COPY.into(), address, operations.len() as u64, 0, 0, 0],
        )
    };
    Machine.call(&request);
    for (number, operation) in operations.iter().enumerate() {
        done(number, operation.status == 0);
    }
}

fn describe(domain: DomId, copy: Copied<'_>) -> GrantCopy {
    let machine = copy.own.machine();
    let page = PAGE_SIZE as u64;
    let offset = u16::try_from(machine % page).unwrap_or_default();
    let own = CopyPtr { page: machine / page, domid: DomId::SELF, offset, pad: 0 };
    let peer =
        CopyPtr { page: copy.reference.0.into(), domid: domain, offset: copy.offset, pad: 0 };
    // No longer than the piece.
    let length = copy.length.min(u16::try_from(copy.own.length()).unwrap_or(u16::MAX));
    let (source, dest, flags) =
        if copy.is_to_peer { (own, peer, COPY_DEST_GREF) } else { (peer, own, COPY_SOURCE_GREF) };
    GrantCopy { source, dest, len: length, flags, status: GENERAL_ERROR, pad: 0 }
}

/// What is not within a page is made a copy that is refused.
fn describe_packet(
    domain: DomId,
    direction: netback::Direction,
    copy: &netback::Copy,
    packets: &[netback::Packet<PacketPage>],
) -> GrantCopy {
    let page = packets
        .get(usize::from(copy.packet))
        .and_then(|packet| packet.pages().get(usize::from(copy.page)))
        .filter(|_| usize::from(copy.at) + usize::from(copy.length) <= PAGE_SIZE);
    let frame = page.map_or(u64::MAX, |page| page.machine() / PAGE_SIZE as u64);
    let own = CopyPtr { page: frame, domid: DomId::SELF, offset: copy.at, pad: 0 };
    let peer = CopyPtr { page: copy.gref.0.into(), domid: domain, offset: copy.offset, pad: 0 };
    let (source, dest, flags) = match (direction, copy.source) {
        (netback::Direction::FromGuest, _) => (peer, own, COPY_SOURCE_GREF),
        (netback::Direction::ToGuest, None) => (own, peer, COPY_DEST_GREF),
        (netback::Direction::ToGuest, Some((domid, gref, offset))) => {
            let other = CopyPtr { page: gref.0.into(), domid, offset, pad: 0 };
            (other, peer, COPY_SOURCE_GREF | COPY_DEST_GREF)
        }
    };
    GrantCopy { source, dest, len: copy.length, flags, status: GENERAL_ERROR, pad: 0 }
}

/// A mapped page of a front end's, which stays mapped for as long as a piece of it is in use.
#[derive(Debug)]
pub struct Mapped<W> {
    mapping: pv_guest_sdk::grant::Mapping,
    /// The addresses where it is mapped, dropped after it.
    _window: W,
}

impl<W: 'static> Mapped<W> {
    /// A page that was mapped at a window.
    #[must_use]
    pub const fn new(mapping: pv_guest_sdk::grant::Mapping, window: W) -> Self {
        Self { mapping, _window: window }
    }

    /// Its words, if it is mapped for writing.
    #[must_use]
    pub fn words(&self) -> Option<&[core::sync::atomic::AtomicU32; PAGE_SIZE / 4]> {
        self.mapping.words()
    }

    /// A part of it, which is within, for a device.
    #[must_use]
    pub fn piece(self: &Rc<Self>, offset: u16, length: u16) -> Piece {
        let offset = u64::from(offset);
        let machine = self.mapping.machine().address() + offset;
        let address = self.mapping.page().address() + offset;
        let within = offset + u64::from(length) <= PAGE_SIZE as u64;
        let length = if within { length.into() } else { 0 };
        // SAFETY: mapped as atomics for as long as `self` lives, which the piece keeps; within the
        // page by the check above.
        unsafe { Piece::new(machine, address, length, Some(self.clone())) }
    }
}
