//! The instructions that cases run, one function per snippet.

use core::arch::naked_asm;

use super::Code;

/// Declares snippets: a name and its instructions.
macro_rules! snippets {
    ($($(#[$doc:meta])* $name:ident = $($line:literal),+;)+) => { $(
        $(#[$doc])*
        pub(crate) const $name: Code = {
            #[unsafe(naked)]
            unsafe extern "C" fn code() -> ! {
                naked_asm!($($line,)+ "jmp __probe_back")
            }
            Code(code)
        };
    )+ };
}

pub(crate) use snippets;

snippets! {
    /// A hypercall.
    SYSCALL = "syscall";
    /// Nothing at all.
    NOTHING = "nop";
    /// CPUID as the processor answers it.
    CPUID = "cpuid";
    /// CPUID as the hypervisor answers it.
    FORCED_CPUID = "ud2", ".byte 0x78, 0x65, 0x6e", "cpuid";
    /// Loads rax.
    LOAD = "mov rax, [rsi]";
    /// Stores rax.
    STORE = "mov [rsi], rax";
    /// Loads rax relative to the base of fs.
    LOAD_FS = "mov rax, fs:[rsi]";
    /// Loads rax relative to the base of gs.
    LOAD_GS = "mov rax, gs:[rsi]";
    /// Pushes rax.
    PUSH = "push rax";
    /// Jumps to rsi.
    JUMP = "jmp rsi";
    /// Returns to rsi.
    RETURN = "push rsi", "ret";
    UD2 = "ud2";
    HLT = "hlt";
    CLI = "cli";
    STI = "sti";
    /// Divides by the lower half of rsi.
    DIVIDE = "div esi";
    INT3 = "int3";
    INT_14 = "int 14";
    INT_80 = "int 0x80";
    INT_82 = "int 0x82";
    INT_FF = "int 0xff";
    /// Sets the trap flag, then jumps to rsi: the trap comes behind the jump.
    SINGLE_STEP = "push 0x302", "popfq", "jmp rsi";
    LGDT = "lgdt [rsi]";
    LIDT = "lidt [rsi]";
    LTR = "ltr ax";
    INVLPG = "invlpg [rsi]";
    SWAPGS = "swapgs";
    SYSRET = "sysretq";
    SYSENTER = "sysenter";
    WRMSR = "wrmsr";
    /// Reads port 0x80.
    IN = "in al, 0x80";
    LOAD_DS = "mov ds, eax";
    LOAD_SS = "mov ss, eax";
    /// Returns to rsi with cs = rax, ss = rbx. The instruction itself is 12 bytes on.
    IRETQ = "mov rcx, rsp", "push rbx", "push rcx", "push 0x202", "push rax", "push rsi", "iretq";
    /// One by zero; the exception comes with the second WAIT, 6 bytes on.
    X87_DIVIDE = "fld1", "fldz", "fdivp", "fwait";
    /// The selectors: ds, es, fs, gs, cs, ss to rax, rbx, rcx, rdx, rsi, rdi.
    SELECTORS = "mov eax, ds", "mov ebx, es", "mov ecx, fs", "mov edx, gs", "mov esi, cs",
        "mov edi, ss";
    PREFIX_0 = ".byte 0x0e, 0x0b, 0x78, 0x65, 0x6e", "cpuid";
    PREFIX_1 = ".byte 0x0f, 0x0c, 0x78, 0x65, 0x6e", "cpuid";
    PREFIX_2 = ".byte 0x0f, 0x0b, 0x79, 0x65, 0x6e", "cpuid";
    PREFIX_3 = ".byte 0x0f, 0x0b, 0x78, 0x45, 0x6e", "cpuid";
    PREFIX_4 = ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6f", "cpuid";
    PREFIX_NOP = "ud2", ".byte 0x78, 0x65, 0x6e", "nop", "cpuid";
    PREFIX_HALF = "ud2", ".byte 0x78, 0x65, 0x6e", ".byte 0x0f, 0x0b";
    PREFIX_TWICE = "ud2", ".byte 0x78, 0x65, 0x6e", "ud2", ".byte 0x78, 0x65, 0x6e", "cpuid";
    /// Returns by the iret call to rsi, with the frame's flags in rbx and cs in rcx.
    IRET = "mov rdx, rsp", "push 0xe02b", "push rdx", "push rbx", "push rcx", "push rsi", "push 0",
        "push 0x1111", "push 0x2222", "push 0x3333", "mov eax, 23", "syscall";
    READ_CR0 = "mov rax, cr0";
    READ_CR2 = "mov rax, cr2";
    READ_CR3 = "mov rax, cr3";
    READ_CR4 = "mov rax, cr4";
    RDMSR = "rdmsr";
    RDTSC = "rdtsc";
    /// Sets the x87 switch, then uses the unit, 12 bytes on.
    SWITCHED_X87 = "mov edi, 1", "mov eax, 5", "syscall", "fld1";
    /// Sets the x87 switch, reads CR0 to rbx, and clears the switch.
    SWITCHED_CR0 = "mov edi, 1", "mov eax, 5", "syscall", "mov rbx, cr0", "xor edi, edi",
        "mov eax, 5", "syscall";
    /// Sets the x87 switch and clears it by the instruction.
    SWITCHED_CLTS = "mov edi, 1", "mov eax, 5", "syscall", "clts", "fld1", "mov rax, cr0";
}
