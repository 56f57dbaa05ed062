//! A trap handler that stores the frame it was given and ends the snippet that trapped.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

/// Words of a frame that are kept: more than the longest has.
pub(crate) const WORDS: usize = 10;

// The handler needs no way back: `__probe_back` finds the stack of `run` in memory.
global_asm!(
    ".pushsection .text.probe, \"ax\", @progbits",
    ".globl __trap_handler",
    "__trap_handler:",
    "mov [rip + __trap_rax], rax",
    "mov [rip + __trap_seen], rsp",
    ".irp word, 0, 8, 16, 24, 32, 40, 48, 56, 64, 72",
    "mov rax, [rsp + \\word]",
    "mov [rip + __trap_seen + 8 + \\word], rax",
    ".endr",
    "mov rax, [rip + __trap_rax]",
    "jmp __probe_back",
    ".popsection",
    ".pushsection .bss.trap, \"aw\", @nobits",
    ".balign 8",
    "__trap_rax: .skip 8",
    ".globl __trap_seen",
    "__trap_seen: .skip {size}",
    ".popsection",
    size = const 8 * (WORDS + 1),
);

unsafe extern "C" {
    static __trap_seen: [AtomicU64; WORDS + 1];
    fn __trap_handler() -> !;
}

/// The address of the handler.
pub(crate) fn handler() -> u64 {
    (__trap_handler as *const ()).expose_provenance() as u64
}

/// Forgets the last trap.
pub(crate) fn forget() {
    seen()[0].store(0, Ordering::Relaxed);
}

/// The address of the last trap's frame and its first words, if there was a trap since [`forget`].
pub(crate) fn last() -> Option<(u64, [u64; WORDS])> {
    let [rsp, words @ ..] = seen();
    let rsp = rsp.load(Ordering::Relaxed);
    (rsp != 0).then(|| (rsp, words.each_ref().map(|word| word.load(Ordering::Relaxed))))
}

fn seen() -> &'static [AtomicU64; WORDS + 1] {
    // SAFETY: defined above, zeroed, and atomics may change at any time.
    unsafe { &__trap_seen }
}
