//! `update_va_mapping` (14), `mmu_update` (1) and `mmuext_op` (26): page tables.

use hypercall_abi::call::Hypercall;
use hypercall_abi::mmu::{EntryFlags, MmuUpdate, MmuextOp, UVMF_ALL, UVMF_INVLPG, UVMF_LOCAL};
use hypercall_abi::types::DomId;

use super::{Request, readable};
use crate::shared::SharedInfo;

/// What the entry allows.
const WRITABLE: EntryFlags =
    EntryFlags::PRESENT.union(EntryFlags::RW).union(EntryFlags::ACCESSED).union(EntryFlags::DIRTY);

/// Maps the frame at machine address `machine` over `page`.
///
/// # Safety
/// `machine` must be the address the loader gave for the shared page, and `page` must be a page of
/// the image that is used for nothing else.
#[must_use]
pub(in crate::raw) unsafe fn map_shared_info(page: &SharedInfo, machine: u64) -> Request<'_> {
    let entry = machine | WRITABLE.bits();
    let args = [readable(page), entry, UVMF_INVLPG | UVMF_LOCAL, 0, 0, 0];
    // SAFETY: the page changes its contents once, from zeros to what the hypervisor shares, which
    // atomics allow at any time; no other memory changes. Repeating it changes nothing.
    unsafe { Request::new(Hypercall::UpdateVaMapping, args) }
}

/// Unmaps the page at `address`.
///
/// # Safety
/// It must be a page of the image that is used for nothing.
#[must_use]
pub(in crate::raw) unsafe fn unmap_page(address: u64) -> Request<'static> {
    let args = [address, 0, UVMF_INVLPG | UVMF_LOCAL, 0, 0, 0];
    // SAFETY: nothing is in the page, by this function's contract.
    unsafe { Request::new(Hypercall::UpdateVaMapping, args) }
}

/// Replaces the level-1 entry of the page at `address`, and forgets the old one on all vCPUs.
///
/// # Safety
/// What lives at `address` must not be what a Rust reference sees, now or while the entry stands,
/// unless the entry maps the same frame with the rights that the reference needs.
#[must_use]
pub(in crate::raw) unsafe fn set_page(address: u64, entry: u64) -> Request<'static> {
    let args = [address, entry, UVMF_INVLPG | UVMF_ALL, 0, 0, 0];
    // SAFETY: by this function's contract.
    unsafe { Request::new(Hypercall::UpdateVaMapping, args) }
}

/// Writes page-table entries, which lead to frames of `owner`.
///
/// # Safety
/// As of [`set_page`], for all that the entries map, in every address space they belong to.
#[must_use]
pub(in crate::raw) unsafe fn update_entries(updates: &[MmuUpdate], owner: DomId) -> Request<'_> {
    let args = [readable(updates), updates.len() as u64, 0, owner.0.into(), 0, 0];
    // SAFETY: the updates are initialised and borrowed; the rest by this function's contract.
    unsafe { Request::new(Hypercall::MmuUpdate, args) }
}

/// Pins, unpins, loads and flushes, with frames of `owner`.
///
/// # Safety
/// A table that is loaded must map what this program uses, where it is; a frame that is cleared
/// or copied to must not be what a Rust reference sees.
#[must_use]
pub(in crate::raw) unsafe fn extended(operations: &[MmuextOp], owner: DomId) -> Request<'_> {
    let args = [readable(operations), operations.len() as u64, 0, owner.0.into(), 0, 0];
    // SAFETY: the operations are initialised and borrowed; the rest by this function's contract.
    unsafe { Request::new(Hypercall::MmuextOp, args) }
}
