//! `update_va_mapping`, hypercall 14.

use super::{Request, readable};
use crate::shared::SharedInfo;

const UPDATE_VA_MAPPING: u64 = 14;
/// Forget the old translation of this one address, on this virtual CPU.
const INVALIDATE_LOCAL: u64 = 2;
/// Present, writable, accessed, dirty.
const WRITABLE: u64 = 0x63;

/// Maps the frame at machine address `machine` over `page`.
///
/// # Safety
/// `machine` must be the address the loader gave for the shared page, and `page` must be a page of
/// the image that is used for nothing else.
#[must_use]
pub(in crate::raw) unsafe fn map_shared_info(page: &SharedInfo, machine: u64) -> Request<'_> {
    // SAFETY: the page changes its contents once, from zeros to what the hypervisor shares, which
    // atomics allow at any time; no other memory changes. Repeating it changes nothing.
    unsafe {
        Request::new(
            UPDATE_VA_MAPPING,
            [
                readable(page),
                machine | WRITABLE,
                INVALIDATE_LOCAL,
                0,
                0,
                0,
            ],
        )
    }
}
