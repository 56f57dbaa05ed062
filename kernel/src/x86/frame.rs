//! The contents of machine frames, through the direct map.
//!
//! Guests write to their frames at any time, so nothing here makes a reference to their contents
//! but as atomics; bytes are copied.

use core::ptr;

use hypercall_abi::types::{Mfn, PAGE_SIZE};
use kernel_core::platform::{Bytes, Table};

use super::layout::{DIRECT_BASE, pointer};

/// The frame's first byte. A frame number that the frame table does not have is a broken invariant
/// of the core; it is caught where the direct map ends, by a page fault in ring 0.
fn start(mfn: Mfn) -> *mut u8 {
    ptr::with_exposed_provenance_mut(pointer(DIRECT_BASE + mfn.0 * PAGE_SIZE as u64))
}

/// The frame as a place for a kernel object.
pub(super) fn place<T>(mfn: Mfn) -> *mut T {
    start(mfn).cast()
}

/// The frame as a page table.
pub(super) fn table(mfn: Mfn) -> &'static Table {
    // SAFETY: mapped for ever, aligned, and any content is valid for atomic words.
    unsafe { &*place::<Table>(mfn) }
}

/// The frame as bytes that anyone may change.
pub(super) fn bytes(mfn: Mfn) -> &'static Bytes {
    // SAFETY: mapped for ever, aligned, and any content is valid for atomic bytes.
    unsafe { &*place::<Bytes>(mfn) }
}

/// Fills the frame with zeros.
pub(super) fn zero(mfn: Mfn) {
    // SAFETY: mapped, and a whole frame; the core clears only frames that nobody else uses, or that
    // a guest asked to have cleared.
    unsafe { ptr::write_bytes(start(mfn), 0, PAGE_SIZE) };
}

/// Copies a whole frame.
pub(super) fn copy(to: Mfn, from: Mfn) {
    // SAFETY: both are mapped whole frames; `copy` allows them to be the same.
    unsafe { ptr::copy(start(from), start(to), PAGE_SIZE) };
}

/// Copies bytes from one place in a frame to another, up to the first end.
pub(super) fn copy_part(to: (Mfn, usize), from: (Mfn, usize), len: usize) {
    let (to_at, from_at) = (to.1.min(PAGE_SIZE), from.1.min(PAGE_SIZE));
    let count = len.min(PAGE_SIZE - to_at).min(PAGE_SIZE - from_at);
    let (from, to) = (start(from.0).wrapping_add(from_at), start(to.0).wrapping_add(to_at));
    // SAFETY: `count` bytes from the offsets lie within both frames, which may be the same.
    unsafe { ptr::copy(from, to, count) };
}

/// Copies bytes from the frame, up to its end.
pub(super) fn read(mfn: Mfn, offset: usize, into: &mut [u8]) {
    let offset = offset.min(PAGE_SIZE);
    let count = into.len().min(PAGE_SIZE - offset);
    let from = start(mfn).wrapping_add(offset);
    // SAFETY: `count` bytes from the offset lie within the frame, and within `into`.
    unsafe { ptr::copy_nonoverlapping(from, into.as_mut_ptr(), count) };
}

/// Copies bytes into the frame, up to its end.
pub(super) fn write(mfn: Mfn, offset: usize, from: &[u8]) {
    let offset = offset.min(PAGE_SIZE);
    let count = from.len().min(PAGE_SIZE - offset);
    let to = start(mfn).wrapping_add(offset);
    // SAFETY: `count` bytes from the offset lie within the frame, and within `from`.
    unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to, count) };
}
