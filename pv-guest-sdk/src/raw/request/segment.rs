//! `set_gdt` (2) and `update_descriptor` (10): segments.

use hypercall_abi::call::Hypercall;

use super::{Request, readable};

/// Loads a descriptor table from these machine frames.
///
/// # Safety
/// This program must not use the segments that change.
#[must_use]
pub(in crate::raw) unsafe fn set_gdt(frames: &[u64], entries: u64) -> Request<'_> {
    // SAFETY: the list is initialised and borrowed; the rest by this function's contract.
    unsafe { Request::new(Hypercall::SetGdt, [readable(frames), entries, 0, 0, 0, 0]) }
}

/// Writes the descriptor at a machine address.
///
/// # Safety
/// The address must be in a page that is the caller's and no Rust reference sees; this program
/// must not use the segment.
#[must_use]
pub(in crate::raw) unsafe fn update_descriptor(address: u64, descriptor: u64) -> Request<'static> {
    // SAFETY: by this function's contract.
    unsafe { Request::new(Hypercall::UpdateDescriptor, [address, descriptor, 0, 0, 0, 0]) }
}
