//! This guest's first instructions: they write down everything the loader left in the processor,
//! then continue where every guest of the SDK begins.

use core::arch::global_asm;

/// What the processor held at the first instruction.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub(crate) struct EntryState {
    /// rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8 to r15.
    pub(crate) general: [u64; 16],
    pub(crate) rflags: u64,
    /// cs, ss, ds, es, fs, gs.
    pub(crate) selectors: [u64; 6],
    /// The low half of CR0, as SMSW shows it.
    pub(crate) machine_status: u64,
    /// Limit and base of the descriptor table, packed as SGDT stores them.
    pub(crate) gdtr: [u8; 16],
    reserved: [u64; 6],
    /// What FXSAVE stores.
    pub(crate) fx: [u8; 512],
}

const _: () = assert!(core::mem::offset_of!(EntryState, rflags) == 128);
const _: () = assert!(core::mem::offset_of!(EntryState, selectors) == 136);
const _: () = assert!(core::mem::offset_of!(EntryState, machine_status) == 184);
const _: () = assert!(core::mem::offset_of!(EntryState, gdtr) == 192);
const _: () = assert!(core::mem::offset_of!(EntryState, fx) == 256);

// Only moves come before the flags are read, and nothing is pushed on the loader's stack, so that
// what it holds can be looked at afterwards.
global_asm!(
    ".pushsection .text.entry, \"ax\", @progbits",
    ".globl __pv_entry",
    ".type __pv_entry, @function",
    "__pv_entry:",
    "mov [rip + __entry_state], rax",
    "mov [rip + __entry_state + 8], rbx",
    "mov [rip + __entry_state + 16], rcx",
    "mov [rip + __entry_state + 24], rdx",
    "mov [rip + __entry_state + 32], rsi",
    "mov [rip + __entry_state + 40], rdi",
    "mov [rip + __entry_state + 48], rbp",
    "mov [rip + __entry_state + 56], rsp",
    "mov [rip + __entry_state + 64], r8",
    "mov [rip + __entry_state + 72], r9",
    "mov [rip + __entry_state + 80], r10",
    "mov [rip + __entry_state + 88], r11",
    "mov [rip + __entry_state + 96], r12",
    "mov [rip + __entry_state + 104], r13",
    "mov [rip + __entry_state + 112], r14",
    "mov [rip + __entry_state + 120], r15",
    "lea rsp, [rip + __entry_stack_end]",
    "pushfq",
    "pop rax",
    "mov [rip + __entry_state + 128], rax",
    "mov eax, cs",
    "mov [rip + __entry_state + 136], rax",
    "mov eax, ss",
    "mov [rip + __entry_state + 144], rax",
    "mov eax, ds",
    "mov [rip + __entry_state + 152], rax",
    "mov eax, es",
    "mov [rip + __entry_state + 160], rax",
    "mov eax, fs",
    "mov [rip + __entry_state + 168], rax",
    "mov eax, gs",
    "mov [rip + __entry_state + 176], rax",
    "smsw rax",
    "mov [rip + __entry_state + 184], rax",
    "sgdt [rip + __entry_state + 192]",
    "fxsave64 [rip + __entry_state + 256]",
    "mov rsi, [rip + __entry_state + 32]",
    "jmp _start",
    ".popsection",
    ".pushsection .pages.entry, \"aw\", @nobits",
    ".balign 4096",
    "__entry_state:",
    ".skip 2048",
    ".skip 2048",
    "__entry_stack_end:",
    ".popsection",
);

unsafe extern "C" {
    static __entry_state: EntryState;
    static __image_end: u8;
    static __boot_guard: u8;
}

/// What the processor held at the first instruction.
pub(crate) fn entry_state() -> EntryState {
    // SAFETY: written once, before any Rust code ran; any bytes are a valid value.
    unsafe { __entry_state }
}

/// The address behind the image's last byte, which is a page's.
pub(crate) fn image_end() -> u64 {
    (&raw const __image_end).expose_provenance() as u64
}

/// The page below the SDK's first stack, which the SDK unmaps before `main`.
pub(crate) fn guard_page() -> u64 {
    (&raw const __boot_guard).expose_provenance() as u64
}
