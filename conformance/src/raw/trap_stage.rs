//! A handler for every vector and callback, which stores what it was given and ends the snippet
//! that trapped; and the memory that traps need: tables, stacks, spare pages.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

/// Words of a frame that are kept: more than the longest has.
pub(crate) const WORDS: usize = 14;
/// Number of pages of the stage's memory.
pub(crate) const PAGES: u64 = 24;
/// Number of handlers: one per vector, and eight for callbacks.
pub(crate) const HANDLERS: u64 = 264;

// Each handler has 16 bytes. They need no way back: `__probe_back` finds the stack of `run` in
// memory, whatever mode or stack the trap came from.
global_asm!(
    ".pushsection .text.stage, \"ax\", @progbits",
    ".balign 16",
    ".globl __stage_handlers",
    "__stage_handlers:",
    ".set __stage_number, 0",
    ".rept {handlers}",
    "mov qword ptr [rip + __stage_seen + 16], __stage_number",
    "jmp __stage_caught",
    ".balign 16",
    ".set __stage_number, __stage_number + 1",
    ".endr",
    "__stage_caught:",
    "mov [rip + __stage_seen + 24], rax",
    "mov [rip + __stage_seen + 8], rsp",
    "mov rax, [rip + __stage_seen]",
    "lea rax, [rax + 1]",
    "mov [rip + __stage_seen], rax",
    ".irp word, 0, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104",
    "mov rax, [rsp + \\word]",
    "mov [rip + __stage_seen + 32 + \\word], rax",
    ".endr",
    "mov rax, [rip + __stage_seen + 24]",
    "jmp __probe_back",
    ".globl __stage_user_end",
    "__stage_user_end:",
    "int 4",
    ".popsection",
    ".pushsection .data.stage, \"aw\", @progbits",
    ".balign 8",
    ".globl __stage_end",
    "__stage_end:",
    ".quad __probe_back",
    ".popsection",
    ".pushsection .bss.stage, \"aw\", @nobits",
    ".balign 8",
    ".globl __stage_seen",
    "__stage_seen: .skip {seen}",
    ".popsection",
    ".pushsection .pages.stage, \"aw\", @nobits",
    ".balign 4096",
    ".globl __stage_pages",
    "__stage_pages: .skip {size}",
    ".popsection",
    handlers = const HANDLERS,
    seen = const 8 * (WORDS + 4),
    size = const 4096 * PAGES,
);

unsafe extern "C" {
    static __stage_seen: [AtomicU64; WORDS + 4];
    static __stage_end: AtomicU64;
    static __stage_pages: u8;
    fn __stage_handlers() -> !;
    fn __stage_user_end() -> !;
    fn __probe_back() -> !;
}

/// What came to a handler.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caught {
    /// How many handlers ran.
    pub(crate) count: u64,
    /// The stack pointer the last one was given.
    pub(crate) at: u64,
    /// The number of the last one.
    pub(crate) vector: u64,
    /// What lay on the stack, from `at` on.
    pub(crate) words: [u64; WORDS],
}

/// The address of the handler of a number below [`HANDLERS`]. Those from 256 on are no vector's.
pub(crate) fn handler(number: u64) -> u64 {
    (__stage_handlers as *const ()).expose_provenance() as u64 + 16 * number
}

/// The address of a page of the stage's memory, which no Rust object lives in.
pub(crate) fn page(number: u64) -> u64 {
    (&raw const __stage_pages).expose_provenance() as u64 + 4096 * (number % PAGES)
}

/// Forgets what came.
pub(crate) fn forget() {
    seen()[0].store(0, Ordering::Relaxed);
}

/// What came since [`forget`].
pub(crate) fn caught() -> Option<Caught> {
    let [count, at, vector, _, words @ ..] =
        seen().each_ref().map(|word| word.load(Ordering::Relaxed));
    (count != 0).then_some(Caught { count, at, vector, words })
}

/// The address at which user mode ends a snippet: an `int 4`, which user mode
/// may call.
pub(crate) fn user_end() -> u64 {
    (__stage_user_end as *const ()).expose_provenance() as u64
}

/// Chooses where snippets go at their end: on in user mode's way or in the kernel's.
pub(crate) fn end_in_user_mode(user: bool) {
    let kernel_end = (__probe_back as *const ()).expose_provenance() as u64;
    // SAFETY: defined above, and atomics may change at any time.
    let end = unsafe { &__stage_end };
    end.store(if user { user_end() } else { kernel_end }, Ordering::Relaxed);
}

fn seen() -> &'static [AtomicU64; WORDS + 4] {
    // SAFETY: defined above, zeroed, and atomics may change at any time.
    unsafe { &__stage_seen }
}
