//! Running a few instructions with every register set beforehand and read afterwards.

use core::arch::global_asm;

/// The x87 and SSE state, as FXSAVE stores it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C, align(16))]
pub(crate) struct FxArea(pub(crate) [u8; 512]);

impl FxArea {
    /// The state of a processor fresh from FNINIT, all exceptions masked.
    pub(crate) const fn clean() -> Self {
        let mut bytes = [0; 512];
        bytes[0] = 0x7f;
        bytes[1] = 0x03;
        bytes[24] = 0x80;
        bytes[25] = 0x1f;
        Self(bytes)
    }
}

/// Every register a snippet starts with and ends with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C, align(16))]
pub(crate) struct Registers {
    pub(crate) rax: u64,
    pub(crate) rbx: u64,
    pub(crate) rcx: u64,
    pub(crate) rdx: u64,
    pub(crate) rsi: u64,
    pub(crate) rdi: u64,
    pub(crate) rbp: u64,
    /// 0: the stack stays where it is.
    pub(crate) rsp: u64,
    /// r8 to r15.
    pub(crate) high: [u64; 8],
    pub(crate) rflags: u64,
    reserved: u64,
    pub(crate) fx: FxArea,
}

impl Registers {
    /// Zeros, interrupts on, a clean x87 and SSE state.
    pub(crate) const fn new() -> Self {
        Self {
            rax: 0,
            rbx: 0,
            rcx: 0,
            rdx: 0,
            rsi: 0,
            rdi: 0,
            rbp: 0,
            rsp: 0,
            high: [0; 8],
            rflags: 0x202,
            reserved: 0,
            fx: FxArea::clean(),
        }
    }
}

const _: () = assert!(core::mem::offset_of!(Registers, rsp) == 56);
const _: () = assert!(core::mem::offset_of!(Registers, rflags) == 128);
const _: () = assert!(core::mem::offset_of!(Registers, fx) == 144);

/// A few instructions that end with a jump to `__probe_back`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Code(pub(super) unsafe extern "C" fn() -> !);

impl Code {
    /// The address of its first instruction.
    pub(crate) fn address(self) -> u64 {
        (self.0 as *const ()).expose_provenance() as u64
    }
}

// Everything callee-saved goes to the stack, whose address goes to memory, so the snippet may use
// any register, rsp too.
global_asm!(
    ".pushsection .text.probe, \"ax\", @progbits",
    ".globl __probe",
    "__probe:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov [rip + __probe_stack], rsp",
    "mov [rip + __probe_registers], rdi",
    "mov [rip + __probe_rdi], rsi",
    "mov rax, [rdi + 56]",
    "test rax, rax",
    "jnz 1f",
    "mov rax, rsp",
    "1:",
    "mov [rip + __probe_rsp], rax",
    "fxrstor64 [rdi + 144]",
    "push qword ptr [rdi + 128]",
    "popfq",
    "mov rax, [rdi]",
    "mov rbx, [rdi + 8]",
    "mov rcx, [rdi + 16]",
    "mov rdx, [rdi + 24]",
    "mov rsi, [rdi + 32]",
    "mov rbp, [rdi + 48]",
    "mov r8, [rdi + 64]",
    "mov r9, [rdi + 72]",
    "mov r10, [rdi + 80]",
    "mov r11, [rdi + 88]",
    "mov r12, [rdi + 96]",
    "mov r13, [rdi + 104]",
    "mov r14, [rdi + 112]",
    "mov r15, [rdi + 120]",
    "mov rdi, [rdi + 40]",
    "mov rsp, [rip + __probe_rsp]",
    "jmp [rip + __probe_rdi]",
    ".globl __probe_back",
    "__probe_back:",
    "mov [rip + __probe_rsp], rsp",
    "mov [rip + __probe_rdi], rdi",
    "mov rsp, [rip + __probe_stack]",
    "mov rdi, [rip + __probe_registers]",
    "mov [rdi], rax",
    "mov [rdi + 8], rbx",
    "mov [rdi + 16], rcx",
    "mov [rdi + 24], rdx",
    "mov [rdi + 32], rsi",
    "mov [rdi + 48], rbp",
    "mov [rdi + 64], r8",
    "mov [rdi + 72], r9",
    "mov [rdi + 80], r10",
    "mov [rdi + 88], r11",
    "mov [rdi + 96], r12",
    "mov [rdi + 104], r13",
    "mov [rdi + 112], r14",
    "mov [rdi + 120], r15",
    "pushfq",
    "pop qword ptr [rdi + 128]",
    "push 0x202",
    "popfq",
    "mov rax, [rip + __probe_rdi]",
    "mov [rdi + 40], rax",
    "mov rax, [rip + __probe_rsp]",
    "mov [rdi + 56], rax",
    "fxsave64 [rdi + 144]",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    ".popsection",
    ".pushsection .bss.probe, \"aw\", @nobits",
    ".balign 8",
    "__probe_stack: .skip 8",
    "__probe_registers: .skip 8",
    "__probe_rsp: .skip 8",
    "__probe_rdi: .skip 8",
    ".popsection",
);

unsafe extern "C" {
    fn __probe(registers: *mut Registers, code: u64);
}

/// Runs a snippet with the given registers and stores what they hold afterwards. If `rsp` was 0 it
/// is 0 again, unless the snippet moved it.
pub(crate) fn run(code: Code, registers: &mut Registers) {
    crate::told::keep(code, registers);
    let stack_stays = registers.rsp == 0;
    let address = code.address();
    // SAFETY: the routine keeps the calling convention whatever the snippet does to registers; what
    // the snippet does to memory is harmless by this crate's rule (see the module `raw`).
    unsafe { __probe(registers, address) };
    let stack: u64;
    // SAFETY: reads what the routine stored.
    unsafe {
        core::arch::asm!("mov {}, [rip + __probe_stack]", out(reg) stack,
            options(nostack, readonly, preserves_flags));
    }
    if stack_stays && registers.rsp == stack {
        registers.rsp = 0;
    }
}
