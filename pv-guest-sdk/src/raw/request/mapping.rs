//! `update_va_mapping`, hypercall 14.

use hypercall_abi::call::Hypercall;
use hypercall_abi::mmu::{EntryFlags, UVMF_INVLPG, UVMF_LOCAL};

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
