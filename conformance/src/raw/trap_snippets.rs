//! The instructions that cases about traps run, one function per snippet.

use core::arch::naked_asm;

use super::Code;

/// Declares snippets: a name and its instructions. At their end they go where
/// [`trap_stage::end_in_user_mode`](super::trap_stage::end_in_user_mode) says.
macro_rules! snippets {
    ($($(#[$doc:meta])* $name:ident = $($line:literal),+;)+) => { $(
        $(#[$doc])*
        pub(crate) const $name: Code = {
            #[unsafe(naked)]
            unsafe extern "C" fn code() -> ! {
                naked_asm!($($line,)+ "jmp qword ptr [rip + __stage_end]")
            }
            Code(code)
        };
    )+ };
}

pub(crate) use snippets;

snippets! {
    /// Nothing at all.
    NOTHING = "nop";
    UD2 = "ud2";
    INT3 = "int3";
    /// INT 3 in two bytes.
    INT3_LONG = ".byte 0xcd, 3";
    /// Divides rax by rsi.
    DIVIDE = "div rsi";
    /// Loads rax.
    LOAD = "mov rax, [rsi]";
    /// Stores rax.
    STORE = "mov [rsi], rax";
    /// Loads rax through the stack segment.
    LOAD_STACK = "mov rbp, rsi", "mov rax, [rbp]";
    PUSH = "push rax";
    JUMP = "jmp rsi";
    CALL = "call rsi";
    /// Loads selectors from eax.
    LOAD_DS = "mov ds, eax";
    LOAD_ES = "mov es, eax";
    LOAD_FS = "mov fs, eax";
    LOAD_GS = "mov gs, eax";
    LOAD_SS = "mov ss, eax";
    /// ds, es, fs, gs, cs, ss to rax, rbx, rcx, rdx, rsi, rdi.
    SELECTORS = "mov eax, ds", "mov ebx, es", "mov ecx, fs", "mov edx, gs", "mov esi, cs",
        "mov edi, ss";
    /// One by zero; the exception comes with the second WAIT, 6 bytes on.
    X87_DIVIDE = "fld1", "fldz", "fdivp", "fwait";
    SYSCALL = "syscall";
    SYSENTER = "sysenter";
    /// Writes 16 bits (pending and mask of an event) to where rbx points, in five bytes; then what
    /// the name says.
    RAISE = "mov word ptr [rbx], 1", "nop";
    RAISE_CALL = "mov word ptr [rbx], 1", "syscall";
    RAISE_MASKED_CALL = "mov word ptr [rbx], 0x101", "syscall";
    RAISE_TRAP = "mov word ptr [rbx], 1", "ud2";
    /// CPUID by the hypervisor, at which it looks for events.
    RAISE_CPUID = "mov word ptr [rbx], 1", "ud2", ".byte 0x78, 0x65, 0x6e", "cpuid";
    /// Waits for an event while r12 counts down.
    RAISE_WAIT = "mov word ptr [rbx], 1", "2:", "dec r12", "jnz 2b";
    /// A breakpoint on the stack segment's load must wait for the next instruction.
    MOV_SS_SYSCALL = "mov ss, [rsi]", "syscall";
    MOV_SS_INT3 = "mov ss, [rsi]", "int3";
    MOV_SS_UD2 = "mov ss, [rsi]", "ud2";
    MOV_SS_NOP = "mov ss, [rsi]", "nop", "nop";
    /// Sets the trap flag, then what the name says. The flags are 6 bytes long.
    STEP_NOP = "push 0x302", "popfq", "nop", "nop";
    STEP_SYSCALL = "push 0x302", "popfq", "syscall", "nop";
    STEP_CPUID = "push 0x302", "popfq", "ud2", ".byte 0x78, 0x65, 0x6e", "cpuid", "nop";
    STEP_INT3 = "push 0x302", "popfq", "int3";
    STEP_CLTS = "push 0x302", "popfq", "clts", "nop";
    STEP_OUT = "push 0x302", "popfq", "out dx, al", "nop";
    STEP_CLI = "push 0x302", "popfq", "cli", "nop";
    STEP_READ_CR0 = "push 0x302", "popfq", "mov rax, cr0", "nop";
    /// Loads rax relative to the base of fs or gs.
    FS_LOAD = "mov rax, fs:[rsi]";
    GS_LOAD = "mov rax, gs:[rsi]";
    /// Reads and writes of the debug registers.
    READ_DR0 = "mov rax, dr0";
    READ_DR3 = "mov rax, dr3";
    READ_DR4 = ".byte 0x0f, 0x21, 0xe0";
    READ_DR5 = ".byte 0x0f, 0x21, 0xe8";
    READ_DR6 = "mov rax, dr6";
    READ_DR7 = "mov rax, dr7";
    WRITE_DR0 = "mov dr0, rax";
    WRITE_DR4 = ".byte 0x0f, 0x23, 0xe0";
    WRITE_DR5 = ".byte 0x0f, 0x23, 0xe8";
    WRITE_DR6 = "mov dr6, rax";
    WRITE_DR7 = "mov dr7, rax";
    /// A hypercall, then what the name says, two bytes on.
    CALL_X87 = "syscall", "fld1";
    CALL_WAIT = "syscall", "fwait";
    CALL_SSE = "syscall", "movaps xmm0, xmm1";
    CALL_SSE_SAME = "syscall", "movaps xmm1, xmm1";
    CALL_CLTS_X87 = "syscall", "clts", "fld1";
    CALL_READ_CR0 = "syscall", "mov rbx, cr0", "clts";
    CALL_SMSW = "syscall", "smsw rbx", "clts";
    /// A hypercall, then the one of number 23, `iret`.
    CALL_IRET = "syscall", "mov eax, 23", "syscall";
    /// A hypercall, then another with rdi 0.
    CALL_TWICE_X87 = "syscall", "mov eax, 5", "xor edi, edi", "syscall", "fld1";
    /// Sets CR0's bit 3, then an x87 instruction.
    SET_TS_X87 = "mov rax, cr0", "or rax, 8", "mov cr0, rax", "fld1";
    X87 = "fld1";
}

/// Declares `int n` for all n: 256 pieces of 16 bytes.
mod interrupts {
    core::arch::global_asm!(
        ".pushsection .text.interrupts, \"ax\", @progbits",
        ".balign 16",
        ".globl __interrupts",
        "__interrupts:",
        ".set __interrupt, 0",
        ".rept 256",
        ".byte 0xcd, __interrupt",
        "jmp qword ptr [rip + __stage_end]",
        ".balign 16",
        ".set __interrupt, __interrupt + 1",
        ".endr",
        ".popsection",
    );
    unsafe extern "C" {
        /// The first piece.
        pub(super) fn __interrupts() -> !;
    }
}

/// Code at an address that a case has written instructions to, or where there are none.
pub(crate) fn code_at(address: u64) -> Code {
    let pointer = core::ptr::with_exposed_provenance::<()>(usize::try_from(address).unwrap_or(0));
    // SAFETY: a function pointer is only an address until it is called, and `run` jumps to it as
    // an address: what is there is the case's business. It is not null by the case's choice.
    Code(unsafe { core::mem::transmute::<*const (), unsafe extern "C" fn() -> !>(pointer) })
}

/// `int vector`.
pub(crate) fn interrupt(vector: u8) -> Code {
    let first = (interrupts::__interrupts as *const ()).expose_provenance() as u64;
    code_at(first + 16 * u64::from(vector))
}
