//! One instruction of any mode, with every register set before and all that a trap shows kept.
//!
//! The `iret` call begins it; whatever traps (the trap flag is meant to be set) ends it: the handlers here
//! store what they find and go back to who began it, from any mode and stack.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

/// Words of the longest frame: the one of a selector that can't be loaded.
pub const FRAME: usize = 11;
/// Words that a trap leaves: number, stack pointer, 16 registers, a frame, four selectors, flags.
const SEEN: usize = 2 + 16 + FRAME + 4 + 1;
/// Handlers: one a vector, and eight of callbacks.
pub const HANDLERS: u64 = 264;

global_asm!(
    ".pushsection .text.step, \"ax\", @progbits",
    ".balign 16",
    ".globl __step_handlers",
    "__step_handlers:",
    ".set __step_number, 0",
    ".rept {handlers}",
    "mov qword ptr [rip + __step_seen], __step_number",
    "jmp __step_caught",
    ".balign 16",
    ".set __step_number, __step_number + 1",
    ".endr",
    "__step_caught:",
    "mov [rip + __step_seen + 16], rax",
    "mov [rip + __step_seen + 24], rcx",
    "mov [rip + __step_seen + 32], rdx",
    "mov [rip + __step_seen + 40], rbx",
    "mov [rip + __step_seen + 48], rsp",
    "mov [rip + __step_seen + 56], rbp",
    "mov [rip + __step_seen + 64], rsi",
    "mov [rip + __step_seen + 72], rdi",
    "mov [rip + __step_seen + 80], r8",
    "mov [rip + __step_seen + 88], r9",
    "mov [rip + __step_seen + 96], r10",
    "mov [rip + __step_seen + 104], r11",
    "mov [rip + __step_seen + 112], r12",
    "mov [rip + __step_seen + 120], r13",
    "mov [rip + __step_seen + 128], r14",
    "mov [rip + __step_seen + 136], r15",
    "mov [rip + __step_seen + 8], rsp",
    ".irp word, 0, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80",
    "mov rax, [rsp + \\word]",
    "mov [rip + __step_seen + 144 + \\word], rax",
    ".endr",
    "mov rsp, [rip + __step_stack]",
    "pushfq",
    "pop [rip + __step_seen + 264]",
    "mov eax, ds",
    "mov [rip + __step_seen + 232], rax",
    "mov eax, es",
    "mov [rip + __step_seen + 240], rax",
    "mov eax, fs",
    "mov [rip + __step_seen + 248], rax",
    "mov eax, gs",
    "mov [rip + __step_seen + 256], rax",
    "xor eax, eax",
    "mov ds, eax",
    "mov es, eax",
    "mov fs, eax",
    "mov gs, eax",
    "popfq",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    ".globl __step",
    "__step:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "pushfq",
    "mov [rip + __step_stack], rsp",
    "mov eax, 0xe02b",
    "mov ds, eax",
    "mov es, eax",
    "mov rdx, [rdi + 16]",
    "mov rbx, [rdi + 24]",
    "mov rbp, [rdi + 40]",
    "mov r8, [rdi + 64]",
    "mov r9, [rdi + 72]",
    "mov r10, [rdi + 80]",
    "mov r12, [rdi + 96]",
    "mov r13, [rdi + 104]",
    "mov r14, [rdi + 112]",
    "mov r15, [rdi + 120]",
    "mov rsp, rsi",
    "mov rsi, [rdi + 48]",
    "mov rdi, [rdi + 56]",
    "mov eax, 23",
    "syscall",
    "ud2",
    ".popsection",
    ".pushsection .bss.step, \"aw\", @nobits",
    ".balign 8",
    "__step_stack: .skip 8",
    ".globl __step_seen",
    "__step_seen: .skip {seen}",
    ".popsection",
    handlers = const HANDLERS,
    seen = const 8 * SEEN,
);

unsafe extern "C" {
    static __step_seen: [AtomicU64; SEEN];
    fn __step_handlers() -> !;
    fn __step(registers: *const [u64; 16], context: *const [u64; 9]);
}

/// Where a vCPU goes by the `iret` call, with registers.
#[derive(Clone, Copy, Debug)]
pub struct Begin {
    /// By their numbers: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
    pub registers: [u64; 16],
    /// The code segment's selector; privilege 3 is user mode.
    pub cs: u64,
    /// Where the code is.
    pub rip: u64,
    /// The flags.
    pub rflags: u64,
}

/// What a handler found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Which handler: a vector, or 256 and more for callbacks.
    pub number: u64,
    /// Where its frame lies.
    pub at: u64,
    /// All registers, by their numbers.
    pub registers: [u64; 16],
    /// The words of the frame, and some behind it.
    pub frame: [u64; FRAME],
    /// ds, es, fs, gs.
    pub selectors: [u64; 4],
    /// The flags that the handler began with.
    pub rflags: u64,
}

/// The address of a handler.
pub fn handler(number: u64) -> u64 {
    (__step_handlers as *const ()).expose_provenance() as u64 + 16 * number
}

/// Begins with an x87 and SSE unit as after a reset, and registers that are zero.
pub fn fresh_fpu() {
    #[repr(align(16))]
    struct Area([u16; 256]);
    static CLEAN: Area = {
        let mut area = Area([0; 256]);
        (area.0[0], area.0[12]) = (0x37f, 0x1f80);
        area
    };
    // SAFETY: no Rust code here uses the unit.
    unsafe { core::arch::asm!("fxrstor64 [{}]", in(reg) &raw const CLEAN, options(nostack)) };
}

/// Runs code until it traps, which it has to: nothing else ends it.
pub fn run(begin: &Begin) -> Seen {
    let [rax, rcx, _, _, rsp, ..] = begin.registers;
    let context =
        [rax, begin.registers[11], rcx, 0, begin.rip, begin.cs, begin.rflags, rsp, 0xe02b];
    // SAFETY: the handlers come back with all registers that the calling convention keeps; what the code
    // does to memory is harmless by this crate's rule.
    unsafe { __step(&raw const begin.registers, &raw const context) };
    // SAFETY: defined above, zeroed, and atomics may change at any time.
    let words = unsafe { &__step_seen }.each_ref().map(|word| word.load(Ordering::Relaxed));
    let mut seen = Seen { number: words[0], at: words[1], rflags: words[33], ..Seen::default() };
    seen.registers.copy_from_slice(&words[2..18]);
    seen.frame.copy_from_slice(&words[18..29]);
    seen.selectors.copy_from_slice(&words[29..33]);
    seen
}
