//! Mapping grants and undoing it.
//!
//! Undoing has two halves: [`Grants::unmap`] takes the page-table entry away, and after a flush of
//! all CPUs that may have it cached, [`Grants::finish`] puts the references back and tells the
//! granting domain by the flags of its entry. A batch has one flush between the two.

use hypercall_abi::grant::{self, MapFlags, MapGrantRef};
use hypercall_abi::mmu::EntryFlags;
use hypercall_abi::types::{DomId, GrantHandle, GrantRef, Mfn};

use super::Status;
use super::entry::{Access, TO_MAP};
use super::handles::Mapping;
use super::peer::{Grants, Peer};
use crate::domain::Domain;
use crate::frames::{FrameType, TypeRef};
use crate::mm::{Entry, EntryAt};
use crate::platform::Platform;

/// What is to be unmapped.
#[derive(Clone, Copy, Debug)]
pub struct Unmap {
    /// The mapping.
    pub handle: GrantHandle,
    /// Where it is mapped; 0: that stays.
    pub host_addr: u64,
    /// The frame's machine address, as the mapping for devices had it; 0: that stays. Unit: bytes.
    pub dev_bus_addr: u64,
    /// The address whose entry moves to the mapping's place; 0: none.
    pub new_addr: u64,
}

/// What was taken away, and waits for a flush: to be finished.
#[derive(Debug)]
#[must_use = "references are to be put back after a flush"]
pub struct Removed {
    entry: Option<Entry>,
    mapping: Mapping,
    mfn: Mfn,
}

impl<P: Platform> Grants<'_, P> {
    /// Maps a grant; what it is called, and its frame.
    ///
    /// # Errors
    ///
    /// The status, in the order in which Xen checks: neither for the processor nor for devices; no
    /// such domain; no handle left; the entry (see [`super::GrantTable`]); the frame is in use as
    /// something that may not be written; no entry of level 1 at the address.
    pub fn map(
        self,
        peer: &mut Peer<P>,
        asked: &MapGrantRef,
    ) -> Result<(GrantHandle, Mfn), Status> {
        let flags = MapFlags::from_bits_retain(asked.flags);
        let mapping = Mapping { domain: asked.dom, reference: asked.grant_ref, flags };
        if !flags.intersects(MapFlags::HOST_MAP | MapFlags::DEVICE_MAP) {
            return Err(Status::BAD_REFERENCE);
        }
        let granter = peer.find(self, asked.dom).ok_or(Status::BAD_DOMAIN)?;
        let handles = &self.domain.grants.handles;
        let handle = handles.take(self.platform()).ok_or(Status(grant::NO_SPACE))?;
        let mapped = self.use_and_map(granter, mapping, asked.host_addr);
        match mapped {
            Ok(_) => handles.set(handle, mapping),
            Err(_) => handles.give(self.platform(), handle),
        }
        mapped.map(|mfn| (handle, mfn))
    }

    fn use_and_map(
        self,
        granter: &Domain<P>,
        mapping: Mapping,
        address: u64,
    ) -> Result<Mfn, Status> {
        let (frames, access) = (self.mm().frames, mapping.access());
        let (whose, use_as) = ((self.platform(), granter.id), (self.domain.id, access, TO_MAP));
        let mfn = granter.grants.begin_use(frames, whose, mapping.reference, use_as)?;
        let mapped = self.map_frame(granter, mapping, (address, mfn));
        if mapped.is_err() {
            self.end_use(granter, mapping.reference, access);
        }
        mapped.map(|()| mfn)
    }

    fn map_frame(
        self,
        granter: &Domain<P>,
        mapping: Mapping,
        (address, mfn): (u64, Mfn),
    ) -> Result<(), Status> {
        let Access { writable, host, device } = mapping.access();
        // Devices write without a page table: the mapping itself keeps the frame writable.
        let for_devices = match device && writable {
            true => Some(
                self.mm()
                    .frames
                    .take_writable(mfn, granter.memory.as_owner())
                    .map_err(|_| Status::GENERAL)?,
            ),
            false => None,
        };
        if host {
            let (at, entry) = (entry_at(mapping.flags, address), entry_for(mapping.flags, mfn));
            if let Err(refusal) = self.mm().map_granted(self.roots, at, entry, &granter.memory) {
                if let Some(held) = for_devices {
                    let _ = self.mm().frames.put_type(held);
                }
                self.explain(&refusal);
                return Err(Status::GENERAL);
            }
        }
        let _counted = for_devices.map(TypeRef::into_entry);
        Ok(())
    }

    fn explain(self, refusal: &crate::mm::Refusal) {
        if self.domain.may_log() {
            let DomId(domain) = self.domain.id;
            log::warn!(target: crate::calls::mmu::GUEST, "domain {domain}: map_grant_ref: {refusal}");
        }
    }

    /// Takes away what maps a grant. Nothing is done if there is an error.
    ///
    /// # Errors
    ///
    /// - [`Status::BAD_HANDLE`]: no such mapping;
    /// - `GNTST_bad_dev_addr`: the device address is not that of its frame;
    /// - [`Status::GENERAL`]: the address does not map it; what was to take its place is lost then.
    pub fn unmap(self, peer: &mut Peer<P>, asked: Unmap) -> Result<Option<Removed>, Status> {
        let handles = &self.domain.grants.handles;
        let mapping = handles.claim(asked.handle)?;
        let removed = self.remove(peer, mapping, asked);
        let gone = match &removed {
            Ok(Some(removed)) => removed.mapping.flags & BOTH,
            _ => MapFlags::empty(),
        };
        let left = mapping.flags.difference(gone);
        if left.intersects(BOTH) {
            handles.set(asked.handle, Mapping { flags: left, ..mapping });
        } else {
            handles.give(self.platform(), asked.handle);
        }
        removed
    }

    fn remove(
        self,
        peer: &mut Peer<P>,
        mapping: Mapping,
        asked: Unmap,
    ) -> Result<Option<Removed>, Status> {
        let platform = self.platform();
        // The granting domain stays in the list of domains as long as one of its entries is in use.
        let granter = peer.find(self, mapping.domain).ok_or(Status::BAD_HANDLE)?;
        let mfn = granter.grants.used_frame(platform, mapping.reference);
        let mfn = mfn.ok_or(Status::BAD_HANDLE)?;
        let mut gone = MapFlags::empty();
        if asked.dev_bus_addr != 0 {
            gone |= mapping.flags & MapFlags::DEVICE_MAP;
        }
        if !gone.is_empty() && asked.dev_bus_addr != mfn.address() {
            return Err(Status(grant::BAD_DEV_ADDR));
        }
        let mut entry = None;
        if asked.host_addr != 0 && mapping.flags.contains(MapFlags::HOST_MAP) {
            let at = entry_at(mapping.flags, asked.host_addr);
            let new = Some(asked.new_addr).filter(|&address| address != 0);
            if new.is_some() && mapping.flags.contains(MapFlags::CONTAINS_PTE) {
                return Err(Status::GENERAL);
            }
            let expected = entry_for(mapping.flags, mfn);
            let removed = self.mm().remove_granted(self.roots, at, expected, new);
            entry = Some(removed.map_err(|_| Status::GENERAL)?);
            gone |= MapFlags::HOST_MAP;
        }
        let flags = gone | mapping.flags & MapFlags::READONLY;
        let removed = Removed { entry, mapping: Mapping { flags, ..mapping }, mfn };
        Ok((!gone.is_empty()).then_some(removed))
    }

    /// Makes all CPUs forget what [`Grants::unmap`] has taken away.
    pub fn flush_removed(self) {
        self.mm().flush_for_foreign();
    }

    /// Ends what was taken away before the flush.
    pub fn finish(self, peer: &mut Peer<P>, removed: Removed) {
        if let Some(entry) = removed.entry {
            self.mm().put_removed(entry);
        }
        if let Some(granter) = peer.find(self, removed.mapping.domain) {
            self.end_mapping(granter, removed.mapping, removed.mfn);
        }
    }

    /// Ends uses of an entry, and what the mapping itself holds if it was for devices.
    pub(super) fn end_mapping(self, granter: &Domain<P>, mapping: Mapping, mfn: Mfn) {
        let access = mapping.access();
        if access.device && access.writable {
            let held = TypeRef::from_entry(mfn, FrameType::Writable);
            let _ = self.mm().frames.put_type(held);
        }
        self.end_use(granter, mapping.reference, access);
    }

    #[inline(always)]
    pub(super) fn end_use(self, granter: &Domain<P>, reference: GrantRef, access: Access) {
        if let Some(held) = granter.grants.end_use(self.platform(), reference, access) {
            self.mm().frames.put(held);
        }
    }
}

const BOTH: MapFlags = MapFlags::HOST_MAP.union(MapFlags::DEVICE_MAP);

const fn entry_at(flags: MapFlags, address: u64) -> EntryAt {
    if flags.contains(MapFlags::CONTAINS_PTE) {
        EntryAt::Machine(address)
    } else {
        EntryAt::Address(address)
    }
}

/// The page-table entry of a mapping, as Xen writes it: used already, not to be executed, with three
/// of the bits that are left to software.
fn entry_for(flags: MapFlags, mfn: Mfn) -> Entry {
    let mut bits = EntryFlags::PRESENT | EntryFlags::ACCESSED | EntryFlags::DIRTY | EntryFlags::NX;
    bits.set(EntryFlags::USER, flags.contains(MapFlags::APPLICATION_MAP));
    bits.set(EntryFlags::RW, !flags.contains(MapFlags::READONLY));
    let left = u64::from(flags.bits() >> 16) << 9 & EntryFlags::AVAIL.bits();
    Entry(mfn.address() | bits.bits() | left)
}
