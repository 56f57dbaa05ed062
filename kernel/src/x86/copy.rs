//! Copying between the kernel and guest addresses, where any byte may fault.
//!
//! The only instructions of ring 0 that touch guest addresses are the string moves below. A fault on
//! one of them is expected: the trap handler looks the instruction up with [`recovery`] and continues
//! at the end of the routine, which then reports how much was left.

use core::arch::global_asm;

use super::layout::pointer;

unsafe extern "C" {
    /// Copies `len` bytes; returns how many were not copied because of a fault (rounded up to the
    /// unit of the move that faulted).
    fn copy_guest(to: *mut u8, from: *const u8, len: usize) -> usize;

    static copy_guest_words: u8;
    static copy_guest_bytes: u8;
    static copy_guest_words_failed: u8;
    static copy_guest_bytes_failed: u8;
}

global_asm!(
    ".section .text.copy, \"ax\"",
    ".global copy_guest, copy_guest_words, copy_guest_bytes",
    ".global copy_guest_words_failed, copy_guest_bytes_failed",
    ".global copy_stac, copy_clac",
    "copy_guest:",
    "mov rcx, rdx",
    "shr rcx, 3",
    "and edx, 7",
    "copy_stac:", // Patched to STAC where SMAP is on.
    "nop dword ptr [rax]",
    "copy_guest_words:",
    "rep movsq",
    "mov ecx, edx",
    "copy_guest_bytes:",
    "rep movsb",
    "copy_guest_bytes_failed:",
    "mov rax, rcx",
    "copy_clac:", // Patched to CLAC where SMAP is on.
    "nop dword ptr [rax]",
    "ret",
    "copy_guest_words_failed:",
    "lea rcx, [rcx * 8 + rdx]",
    "jmp copy_guest_bytes_failed",
);

/// Where to continue after a fault at `rip`, if that is one of the instructions that may fault.
pub(super) fn recovery(rip: u64) -> Option<u64> {
    let address = |symbol: *const u8| symbol.addr() as u64;
    if rip == address(&raw const copy_guest_words) {
        Some(address(&raw const copy_guest_words_failed))
    } else if rip == address(&raw const copy_guest_bytes) {
        Some(address(&raw const copy_guest_bytes_failed))
    } else {
        None
    }
}

/// Copies from guest address `from`, which with its length lies outside the hypervisor's range.
/// Returns how many bytes could not be read.
pub(super) fn from_guest(into: &mut [u8], from: u64) -> usize {
    let from = core::ptr::with_exposed_provenance(pointer(from));
    // SAFETY: `into` is ours for its whole length; `from` lies in the guest's part of the address
    // space, so no Rust object is there, and a fault is recovered by the trap handler.
    unsafe { copy_guest(into.as_mut_ptr(), from, into.len()) }
}

/// Copies to guest address `to`, which with its length lies outside the hypervisor's range. Returns
/// how many bytes could not be written.
pub(super) fn to_guest(to: u64, from: &[u8]) -> usize {
    let to = core::ptr::with_exposed_provenance_mut(pointer(to));
    // SAFETY: `from` is readable for its whole length; `to` lies in the guest's part of the address
    // space, so no Rust object is there, and a fault is recovered by the trap handler.
    unsafe { copy_guest(to, from.as_ptr(), from.len()) }
}
