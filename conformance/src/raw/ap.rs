//! Virtual CPUs beside the first: where they start, a mailbox through which they run a snippet
//! each time they are brought up, and handlers for everything that comes to them.
//!
//! They share one mailbox, one stack and one set of handlers, so no two of them may be up at the
//! same time. The vCPU that takes itself down at a snippet's end waits inside that hypercall: the
//! next time it is brought up it goes on behind it, and takes the next snippet. All memory here is
//! atomics or belongs to no Rust object, so what a vCPU does while others run is no data race.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use super::Registers;
use super::trap_stage::{Caught, WORDS};

/// What a vCPU finds at its first instruction.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct ApState {
    /// rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8 to r15.
    pub(crate) general: [u64; 16],
    pub(crate) rflags: u64,
    /// cs, ss, ds, es, fs, gs.
    pub(crate) selectors: [u64; 6],
    /// The low half of CR0, as SMSW shows it.
    pub(crate) machine_status: u64,
    /// Limit and base of the descriptor table, packed as SGDT stores them.
    pub(crate) gdtr: [u64; 2],
    /// The bases of fs, of gs, and of user mode's gs.
    pub(crate) bases: [u64; 3],
    /// CR0, CR2, CR3, CR4.
    pub(crate) control: [u64; 4],
    /// DR0 to DR3, DR6, DR7.
    pub(crate) debug: [u64; 6],
    /// What FXSAVE stores.
    pub(crate) fx: [u64; 64],
}

const STATE: usize = size_of::<ApState>() / 8;
const MAILBOX: usize = size_of::<Registers>() / 8;
const _: () = assert!(core::mem::offset_of!(ApState, bases) == 208);
const _: () = assert!(core::mem::offset_of!(ApState, debug) == 264);
const _: () = assert!(core::mem::offset_of!(ApState, fx) == 312 && size_of::<ApState>() == 824);

// Only moves come before the flags are read, and nothing touches the stack that the context names.
// FXSAVE wants its area at a multiple of 16: the states lie 8 bytes behind one.
global_asm!(
    ".pushsection .text.ap, \"ax\", @progbits",
    ".irp vcpu, 1, 2, 3",
    ".globl __ap_entry_\\vcpu",
    "__ap_entry_\\vcpu:",
    "mov [rip + __ap_word], rax",
    "lea rax, [rip + __ap_state_\\vcpu]",
    "jmp __ap_entry",
    ".endr",
    "__ap_entry:",
    ".set __ap_place, 0",
    ".irp register, rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15",
    "mov [rax + __ap_place], \\register",
    ".set __ap_place, __ap_place + 8",
    ".endr",
    "lea rsp, [rip + __ap_stack_end]",
    "pushfq",
    "pop qword ptr [rax + 128]",
    "mov rbx, [rip + __ap_word]",
    "mov [rax], rbx",
    "mov rbx, rax",
    ".set __ap_place, 136",
    ".irp segment, cs, ss, ds, es, fs, gs",
    "mov eax, \\segment",
    "mov [rbx + __ap_place], rax",
    ".set __ap_place, __ap_place + 8",
    ".endr",
    "smsw rax",
    "mov [rbx + 184], rax",
    "sgdt [rbx + 192]",
    "fxsave64 [rbx + 312]",
    ".set __ap_place, 0",
    ".irp msr, 0xc0000100, 0xc0000101, 0xc0000102",
    "mov ecx, \\msr",
    "rdmsr",
    "mov [rbx + 208 + __ap_place], eax",
    "mov [rbx + 212 + __ap_place], edx",
    ".set __ap_place, __ap_place + 8",
    ".endr",
    ".set __ap_place, 232",
    ".irp register, cr0, cr2, cr3, cr4, dr0, dr1, dr2, dr3, dr6, dr7",
    "mov rax, \\register",
    "mov [rbx + __ap_place], rax",
    ".set __ap_place, __ap_place + 8",
    ".endr",
    "jmp __ap_idle",
    // A snippet's end.
    ".globl __ap_back",
    "__ap_back:",
    ".set __ap_place, 0",
    ".irp register, rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15",
    "mov [rip + __ap_registers + __ap_place], \\register",
    ".set __ap_place, __ap_place + 8",
    ".endr",
    "lea rsp, [rip + __ap_stack_end]",
    "pushfq",
    "pop qword ptr [rip + __ap_registers + 128]",
    "push 0x202",
    "popfq",
    "fxsave64 [rip + __ap_registers + 144]",
    // Down, and on from here when it is brought up again.
    "__ap_idle:",
    "lea rsp, [rip + __ap_stack_end]",
    "mov eax, 24",
    "mov edi, 2",
    "mov rsi, [rip + __ap_vcpu]",
    "xor edx, edx",
    "syscall",
    "mov [rip + __ap_word], rax",
    "fxrstor64 [rip + __ap_registers + 144]",
    "push qword ptr [rip + __ap_registers + 128]",
    "popfq",
    "mov rsp, [rip + __ap_registers + 56]",
    "mov rax, [rip + __ap_registers]",
    "mov rbx, [rip + __ap_registers + 8]",
    "mov rcx, [rip + __ap_registers + 16]",
    "mov rdx, [rip + __ap_registers + 24]",
    "mov rsi, [rip + __ap_registers + 32]",
    "mov rdi, [rip + __ap_registers + 40]",
    "mov rbp, [rip + __ap_registers + 48]",
    ".set __ap_place, 64",
    ".irp register, r8, r9, r10, r11, r12, r13, r14, r15",
    "mov \\register, [rip + __ap_registers + __ap_place]",
    ".set __ap_place, __ap_place + 8",
    ".endr",
    "jmp [rip + __ap_code]",
    // Handlers of 16 bytes each: vectors, then callbacks.
    ".balign 16",
    ".globl __ap_handlers",
    "__ap_handlers:",
    ".set __ap_place, 0",
    ".rept 264",
    "mov qword ptr [rip + __ap_seen + 16], __ap_place",
    "jmp __ap_caught",
    ".balign 16",
    ".set __ap_place, __ap_place + 1",
    ".endr",
    "__ap_caught:",
    "mov [rip + __ap_seen + 24], rax",
    "mov [rip + __ap_seen + 8], rsp",
    "mov rax, [rip + __ap_seen]",
    "lea rax, [rax + 1]",
    "mov [rip + __ap_seen], rax",
    ".irp word, 0, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104",
    "mov rax, [rsp + \\word]",
    "mov [rip + __ap_seen + 32 + \\word], rax",
    ".endr",
    "mov rax, [rip + __ap_seen + 24]",
    "jmp __ap_back",
    ".popsection",
    ".pushsection .bss.ap, \"aw\", @nobits",
    ".balign 16",
    "__ap_registers: .skip {mailbox}",
    "__ap_vcpu: .skip 8",
    "__ap_code: .skip 8",
    "__ap_word: .skip 8",
    ".globl __ap_seen",
    "__ap_seen: .skip {seen}",
    ".irp vcpu, 1, 2, 3",
    ".balign 16",
    ".skip 8",
    "__ap_state_\\vcpu: .skip {state}",
    ".endr",
    ".popsection",
    ".pushsection .pages.ap, \"aw\", @nobits",
    ".balign 4096",
    ".globl __ap_pages",
    "__ap_pages: .skip 3 * 4096",
    "__ap_stack_end:",
    ".popsection",
    mailbox = const 8 * MAILBOX,
    seen = const 8 * (WORDS + 4),
    state = const 8 * STATE,
);

unsafe extern "C" {
    static __ap_registers: [AtomicU64; MAILBOX];
    static __ap_vcpu: AtomicU64;
    static __ap_code: AtomicU64;
    static __ap_word: AtomicU64;
    static __ap_seen: [AtomicU64; WORDS + 4];
    static __ap_state_1: [AtomicU64; STATE];
    static __ap_state_2: [AtomicU64; STATE];
    static __ap_state_3: [AtomicU64; STATE];
    static __ap_pages: u8;
    fn __ap_handlers() -> !;
    fn __ap_entry_1() -> !;
    fn __ap_entry_2() -> !;
    fn __ap_entry_3() -> !;
}

/// A few instructions that end with a jump to `__ap_back`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ApCode(pub(super) unsafe extern "C" fn() -> !);

impl ApCode {
    /// The address of its first instruction.
    pub(crate) fn address(self) -> u64 {
        (self.0 as *const ()).expose_provenance() as u64
    }
}

/// Leaves what a vCPU shall run when it is brought up, and forgets what came to handlers.
pub(crate) fn post(vcpu: u64, code: ApCode, registers: &Registers) {
    // SAFETY: a plain copy of bytes without padding; all fields are integers.
    let mut words = unsafe { core::mem::transmute::<Registers, [u64; MAILBOX]>(*registers) };
    if words[7] == 0 {
        words[7] = stack_end();
    }
    // SAFETY: defined above, and atomics may change at any time.
    for (cell, word) in unsafe { &__ap_registers }.iter().zip(words) {
        cell.store(word, Ordering::Relaxed);
    }
    prepare(vcpu);
    // SAFETY: as above.
    unsafe { &__ap_code }.store(code.address(), Ordering::Release);
}

/// Says which vCPU starts now, and forgets what came to handlers.
pub(crate) fn prepare(vcpu: u64) {
    // SAFETY: as in `post`.
    unsafe { &__ap_vcpu }.store(vcpu, Ordering::Release);
    seen()[0].store(0, Ordering::Release);
}

/// What a snippet left in the registers.
pub(crate) fn collect() -> Registers {
    // SAFETY: as in `post`.
    let cells = unsafe { &__ap_registers };
    let mut words = cells.each_ref().map(|cell| cell.load(Ordering::Acquire));
    if words[7] == stack_end() {
        words[7] = 0;
    }
    // SAFETY: all fields are integers, of which any bytes are values.
    unsafe { core::mem::transmute::<[u64; MAILBOX], Registers>(words) }
}

/// What the call answered in which the vCPU waited until it was brought up last.
pub(crate) fn down_answer() -> i64 {
    // SAFETY: as in `post`.
    unsafe { &__ap_word }.load(Ordering::Acquire).cast_signed()
}

/// What came to a handler since [`post`] or [`prepare`].
pub(crate) fn caught() -> Option<Caught> {
    let [count, at, vector, _, words @ ..] =
        seen().each_ref().map(|word| word.load(Ordering::Acquire));
    (count != 0).then_some(Caught { count, at, vector, words })
}

fn seen() -> &'static [AtomicU64; WORDS + 4] {
    // SAFETY: as in `post`.
    unsafe { &__ap_seen }
}

/// What vCPU 1, 2 or 3 found at its first instruction, if that was at [`entry`].
pub(crate) fn state(vcpu: u64) -> ApState {
    let cells = match vcpu {
        // SAFETY: as in `post`.
        1 => unsafe { &__ap_state_1 },
        // SAFETY: as in `post`.
        2 => unsafe { &__ap_state_2 },
        // SAFETY: as in `post`.
        _ => unsafe { &__ap_state_3 },
    };
    let words = cells.each_ref().map(|cell| cell.load(Ordering::Acquire));
    // SAFETY: all fields are integers, of which any bytes are values.
    unsafe { core::mem::transmute::<[u64; STATE], ApState>(words) }
}

/// Where vCPU 1, 2 or 3 writes down what it finds, and goes down.
pub(crate) fn entry(vcpu: u64) -> u64 {
    let code = match vcpu {
        1 => __ap_entry_1 as *const (),
        2 => __ap_entry_2 as *const (),
        _ => __ap_entry_3 as *const (),
    };
    code.expose_provenance() as u64
}

/// The address of the handler of a vector, or from 256 to 263 of a callback.
pub(crate) fn handler(number: u64) -> u64 {
    (__ap_handlers as *const ()).expose_provenance() as u64 + 16 * number
}

/// The end of the page that is the stack of snippets and traps.
pub(crate) fn stack_end() -> u64 {
    page() + 3 * 4096
}

/// The address of two pages for cases.
pub(crate) fn page() -> u64 {
    (&raw const __ap_pages).expose_provenance() as u64
}
