//! Pages that belong to no Rust object.

use core::arch::global_asm;

/// Pages for the arguments of calls; the page behind the last is unmapped before they are used.
pub const ARENA: u64 = 16;
/// Pages whose frames become whatever a guest may make of a frame.
pub const TOYS: usize = 256;
/// Pages for this or that: the grant table, a vCPU's context (two), code, a stack.
pub const SPARE: u64 = 8;

global_asm!(
    ".pushsection .pages.hostile, \"aw\", @nobits",
    ".balign 4096",
    ".globl __h_arena, __h_spare, __h_toys",
    "__h_arena: .skip {arena}",
    "__h_guard: .skip 4096",
    "__h_spare: .skip {spare}",
    "__h_toys: .skip {toys}",
    ".popsection",
    arena = const ARENA * 4096,
    spare = const SPARE * 4096,
    toys = const TOYS * 4096,
);

unsafe extern "C" {
    static __h_arena: u8;
    static __h_spare: u8;
    static __h_toys: u8;
}

/// The address of the arena.
pub fn arena() -> u64 {
    (&raw const __h_arena).expose_provenance() as u64
}

/// The address behind the arena: nothing is mapped there.
pub fn arena_end() -> u64 {
    arena() + ARENA * 4096
}

/// The address of a spare page.
pub fn spare(number: u64) -> u64 {
    (&raw const __h_spare).expose_provenance() as u64 + number % SPARE * 4096
}

/// The address of a toy.
pub fn toy(number: u64) -> u64 {
    (&raw const __h_toys).expose_provenance() as u64 + number % TOYS as u64 * 4096
}

/// Reads a word that is mapped.
pub fn peek(address: u64) -> u64 {
    let value;
    // SAFETY: a plain load; what is not mapped ends the guest.
    unsafe {
        core::arch::asm!("mov {}, [{}]", out(reg) value, in(reg) address,
            options(nostack, readonly, preserves_flags));
    }
    value
}

/// Writes a word, to memory that by this crate's rule belongs to no Rust object.
pub fn poke(address: u64, value: u64) {
    // SAFETY: by this crate's rule.
    unsafe {
        core::arch::asm!("mov [{}], {}", in(reg) address, in(reg) value,
            options(nostack, preserves_flags));
    }
}

/// Writes words from an address on.
pub fn put(address: u64, words: &[u64]) {
    for (at, &word) in (address..).step_by(8).zip(words) {
        poke(at, word);
    }
}

/// Writes bytes from an address on.
pub fn put_bytes(address: u64, bytes: &[u8]) {
    for (at, &byte) in (address..).zip(bytes) {
        // SAFETY: by this crate's rule.
        unsafe {
            core::arch::asm!("mov [{}], {}", in(reg) at, in(reg_byte) byte,
                options(nostack, preserves_flags));
        }
    }
}

/// The processor's time-stamp counter.
pub fn tsc() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: reads a counter.
    unsafe {
        core::arch::asm!("rdtsc", out("rax") low, out("rdx") high,
            options(nomem, nostack, preserves_flags));
    }
    high << 32 | low
}
