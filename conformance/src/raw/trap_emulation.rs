//! Instructions that ring 3 may not execute, or not always.

use core::arch::naked_asm;

use super::Code;
use super::trap_snippets::snippets;

snippets! {
    READ_CR0 = "mov rax, cr0";
    READ_CR2 = "mov rax, cr2";
    READ_CR3 = "mov rax, cr3";
    READ_CR4 = "mov rax, cr4";
    READ_CR8 = "mov rax, cr8";
    READ_CR1 = ".byte 0x0f, 0x20, 0xc8";
    WRITE_CR0 = "mov cr0, rax";
    WRITE_CR2 = "mov cr2, rax";
    WRITE_CR3 = "mov cr3, rax";
    WRITE_CR4 = "mov cr4, rax";
    WRITE_CR8 = "mov cr8, rax";
    READ_CR0_R15 = "mov r15, cr0";
    CLTS = "clts";
    LMSW = "lmsw ax";
    SMSW = "smsw rax";
    SMSW_MEMORY = "smsw [rsi]";
    RDMSR = "rdmsr";
    WRMSR = "wrmsr";
    CLI = "cli";
    STI = "sti";
    /// Loads the flags from rax, then the flags to rbx.
    POPF = "push rax", "popfq", "pushfq", "pop rbx";
    WBINVD = "wbinvd";
    INVD = "invd";
    INVLPG = "invlpg [rsi]";
    HLT = "hlt";
    LGDT = "lgdt [rsi]";
    LIDT = "lidt [rsi]";
    LLDT = "lldt ax";
    LTR = "ltr ax";
    SGDT = "sgdt [rsi]";
    SIDT = "sidt [rsi]";
    SLDT = "sldt rax";
    STR = "str rax";
    SWAPGS = "swapgs";
    SYSRET = "sysretq";
    SYSEXIT = "sysexit";
    MONITOR = "monitor";
    MWAIT = "mwait";
    VMCALL = "vmcall";
    VMMCALL = "vmmcall";
    RSM = "rsm";
    CLAC = "clac";
    STAC = "stac";
    INVPCID = "invpcid rax, [rsi]";
    RDFSBASE = "rdfsbase rax";
    WRGSBASE = "wrgsbase rax";
    XGETBV = "xgetbv";
    XSETBV = "xsetbv";
    RDTSC = "rdtsc";
    RDPMC = "rdpmc";
    CPUID = "cpuid";
    FORCED_CPUID = "ud2", ".byte 0x78, 0x65, 0x6e", "cpuid";
    FORCED_RDMSR = "ud2", ".byte 0x78, 0x65, 0x6e", "rdmsr";
    FORCED_LOAD = "ud2", ".byte 0x78, 0x65, 0x6e", "mov rax, [rsi]";
    LAR = "lar rax, rbx", "mov ecx, 1", "jz 2f", "dec ecx", "2:";
    VERR = "verr bx", "mov ecx, 1", "jz 2f", "dec ecx", "2:";
    VERW = "verw bx", "mov ecx, 1", "jz 2f", "dec ecx", "2:";
    /// Ports: by number and by dx.
    IN_80 = "in al, 0x80";
    OUT_80 = "out 0x80, al";
    /// Stores eax.
    STORE_32 = "mov [rsi], eax";
    IN_8 = "in al, dx";
    IN_16 = "in ax, dx";
    IN_32 = "in eax, dx";
    OUT_8 = "out dx, al";
    OUT_16 = "out dx, ax";
    OUT_32 = "out dx, eax";
    INS = "insb";
    OUTS = "outsb";
    REP_INS = "rep insb";
    REP_OUTS = "rep outsb";
    REP_OUTS_32 = "rep outsd";
    /// The prefixes of operand size, address size and REP do not matter to some.
    PREFIXED_CLI = ".byte 0x66, 0x67, 0x48", "cli";
    LOCK_CLTS = ".byte 0xf0", "clts";
    LOCK_OUT = ".byte 0xf0", "out 0x80, al";
    PREFIXED_CLTS = ".byte 0x66, 0x48", "clts";
}
