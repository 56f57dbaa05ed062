//! Memory that no Rust object lives in: single words at any address, and the arena.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU8, Ordering};

/// Size of the arena. Unit: bytes.
pub(crate) const ARENA: usize = 4 * 4096;

global_asm!(
    ".pushsection .pages.arena, \"aw\", @nobits",
    ".balign 4096",
    ".globl __arena",
    "__arena:",
    ".skip {size}",
    ".popsection",
    size = const ARENA,
);

unsafe extern "C" {
    static __arena: [AtomicU8; ARENA];
}

/// Four pages that hypercalls may read and write as they like.
pub(crate) fn arena() -> &'static [AtomicU8; ARENA] {
    // SAFETY: defined above, zeroed, and atomics may change at any time.
    unsafe { &__arena }
}

/// The address of the arena's first byte.
pub(crate) fn arena_address() -> u64 {
    arena().as_ptr().expose_provenance() as u64
}

/// Reads eight bytes at any address, or ends the guest if they are not mapped.
pub(crate) fn peek(address: u64) -> u64 {
    let value;
    // SAFETY: a plain load; reads of unmapped memory fault and do not return.
    unsafe {
        core::arch::asm!("mov {}, [{}]", out(reg) value, in(reg) address,
            options(nostack, readonly, preserves_flags));
    }
    value
}

/// Reads one byte at any address, or ends the guest if it is not mapped.
pub(crate) fn peek_byte(address: u64) -> u8 {
    let value;
    // SAFETY: as in `peek`.
    unsafe {
        core::arch::asm!("mov {}, [{}]", out(reg_byte) value, in(reg) address,
            options(nostack, readonly, preserves_flags));
    }
    value
}

/// Writes eight bytes at any address, which by this crate's rule belongs to no Rust object.
pub(crate) fn poke(address: u64, value: u64) {
    // SAFETY: by this crate's rule no Rust object lives there.
    unsafe {
        core::arch::asm!("mov [{}], {}", in(reg) address, in(reg) value,
            options(nostack, preserves_flags));
    }
}

/// Writes one byte at any address, which by this crate's rule belongs to no Rust object.
pub(crate) fn poke_byte(address: u64, value: u8) {
    // SAFETY: by this crate's rule no Rust object lives there, or one made of atomics.
    unsafe {
        core::arch::asm!("mov [{}], {}", in(reg) address, in(reg_byte) value,
            options(nostack, preserves_flags));
    }
}

/// The processor's time-stamp counter.
pub(crate) fn tsc() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: reads a counter; a hypervisor that does not allow it ends the guest.
    unsafe {
        core::arch::asm!("rdtsc", out("rax") low, out("rdx") high,
            options(nomem, nostack, preserves_flags));
    }
    high << 32 | low
}

/// Fills the arena with one byte.
pub(crate) fn fill_arena(byte: u8) {
    for cell in arena() {
        cell.store(byte, Ordering::Relaxed);
    }
}

/// Writes bytes to the arena from `offset` on, as far as they fit.
pub(crate) fn put(offset: usize, bytes: &[u8]) {
    for (cell, &byte) in arena().iter().skip(offset).zip(bytes) {
        cell.store(byte, Ordering::Relaxed);
    }
}

/// The arena's bytes from `offset` on; what lies behind it is zero.
pub(crate) fn get<const N: usize>(offset: usize) -> [u8; N] {
    let mut bytes = [0; N];
    for (byte, cell) in bytes.iter_mut().zip(arena().iter().skip(offset)) {
        *byte = cell.load(Ordering::Relaxed);
    }
    bytes
}
