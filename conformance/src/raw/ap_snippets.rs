//! The instructions that vCPUs beside the first run, one function per snippet.

use core::arch::naked_asm;

use super::ApCode;

/// Where in [`YIELD`] the instruction behind its call is.
pub(crate) const YIELD_CALL: u64 = 21;

/// Declares snippets: a name and its instructions.
macro_rules! ap_snippets {
    ($($(#[$doc:meta])* $name:ident = $($line:literal),+;)+) => { $(
        $(#[$doc])*
        pub(crate) const $name: ApCode = {
            #[unsafe(naked)]
            unsafe extern "C" fn code() -> ! {
                naked_asm!($($line,)+ "jmp __ap_back")
            }
            ApCode(code)
        };
    )+ };
}

/// Declares, by a macro such as `ap_snippets`, those of the extended state that all vCPUs run.
macro_rules! extended_state {
    ($declare:ident) => { $declare! {
        /// Sets CR4.OSXSAVE and switches AVX on.
        AVX_ON = "mov rax, cr4", "or rax, 0x40000", "mov cr4, rax", "xor ecx, ecx",
            "xor edx, edx", "mov eax, 7", "xsetbv";
        /// Undoes that.
        AVX_OFF = "xor ecx, ecx", "xor edx, edx", "mov eax, 3", "xsetbv", "mov rax, cr4",
            "and rax, -0x40001", "mov cr4, rax";
        /// XCR0 to rax.
        XCR0 = "xor ecx, ecx", "xgetbv";
        /// Loads upper halves from rsi, yields while rbx counts down, and stores them behind.
        UPPER_YIELD = "vinsertf128 ymm1, ymm1, [rsi], 1", "vinsertf128 ymm14, ymm14, [rsi], 1",
            "2:", "mov eax, 29", "xor edi, edi",
            "syscall", "dec rbx", "jnz 2b", "vextractf128 [rsi + 16], ymm1, 1",
            "vextractf128 [rsi + 32], ymm14, 1";
        /// Loads the bases of fs and gs from rbp and r12, yields while rbx counts down, and reads them to r13
        /// and r14, and CR4 to r15. They are 0 behind.
        BASES_YIELD = "mov rax, cr4", "or rax, 0x10000", "mov cr4, rax", "wrfsbase rbp", "wrgsbase r12",
            "2:", "mov eax, 29", "xor edi, edi",
            "syscall", "dec rbx", "jnz 2b", "rdfsbase r13", "rdgsbase r14", "mov r15, cr4",
            "xor eax, eax", "wrfsbase rax", "wrgsbase rax", "mov rax, cr4", "and rax, -0x10001",
            "mov cr4, rax";
    } };
}

ap_snippets! {
    /// Nothing at all.
    NOTHING = "nop";
    /// A hypercall.
    SYSCALL = "syscall";
    UD2 = "ud2";
    X87 = "fld1";
    RDTSC = "rdtsc";
    IN_80 = "in al, 0x80";
    /// A system call from user mode, 2 bytes on.
    USER_CALL = "syscall";
    NULL_SELECTORS = "xor eax, eax", "mov ds, eax", "mov es, eax", "mov fs, eax", "mov gs, eax";
    /// Loads ds, es, fs and gs from r12d to r15d, and yields while rbx counts down.
    YIELD = "mov ds, r12d", "mov es, r13d", "mov fs, r14d", "mov gs, r15d", "2:", "mov eax, 29",
        "xor edi, edi", "syscall", "dec rbx", "jnz 2b";
    /// The same with a word on the stack.
    PUSH_YIELD = "push rax", "mov ds, r12d", "mov es, r13d", "mov fs, r14d", "mov gs, r15d", "2:",
        "mov eax, 29", "xor edi, edi", "syscall", "dec rbx", "jnz 2b";
    /// Counts where rbx points until the word behind is not 0.
    SPIN = "2:", "inc qword ptr [rbx]", "cmp qword ptr [rbx + 8], 0", "je 2b";
    /// Loads rax and yields until it is not 0, or rdx has counted down.
    WATCH = "2:", "mov eax, 29", "xor edi, edi", "syscall", "mov rax, [rsi]", "test rax, rax",
        "jnz 3f", "dec rdx", "jnz 2b", "3:";
    STORE = "mov [rsi], rax";
    READ_CR3 = "mov rax, cr3";
    /// DR0 and DR7 to rax and rbx.
    READ_DEBUG = "mov rax, dr7", "mov rbx, rax", "mov rax, dr0";
    /// Sets CR4's bit 2 to that of rbx, and reads CR4 to rax.
    SET_CR4 = "mov rax, cr4", "and rax, -5", "or rax, rbx", "mov cr4, rax", "mov rax, cr4";
    /// The bases of fs, user mode's gs and gs to rbx, rsi, rdi (their lower halves).
    BASES = "mov ecx, 0xc0000100", "rdmsr", "mov ebx, eax", "mov ecx, 0xc0000102", "rdmsr",
        "mov esi, eax", "mov ecx, 0xc0000101", "rdmsr", "mov edi, eax";
    /// ds, es, fs and gs to rax, rbx, rcx and rdx.
    SELECTORS = "mov eax, ds", "mov ebx, es", "mov ecx, fs", "mov edx, gs";
    /// Loads ds from eax, yields while rbx counts down, and reads ds to rcx.
    LOAD_SEGMENTS = "mov ds, eax", "2:", "mov eax, 29", "xor edi, edi", "syscall", "dec rbx",
        "jnz 2b", "mov ecx, ds";
    /// The limit of the segment that cx selects to rax.
    LIMIT = "mov eax, 0", "lsl eax, ecx";
    /// The call with the frame at rsp.
    IRET = "mov eax, 23", "syscall";
    /// Unmasks events and sleeps until one comes.
    BLOCK = "mov eax, 29", "mov edi, 1", "syscall";
    /// Counts where rbx points, and yields, until the word behind is not 0.
    COUNT = "2:", "inc qword ptr [rbx]", "mov eax, 29", "xor edi, edi", "syscall",
        "cmp qword ptr [rbx + 8], 0", "je 2b";
    /// Takes itself (rsi) down, behind 1 where rbx points; then writes 2.
    DOWN_ONCE = "mov qword ptr [rbx], 1", "mov eax, 24", "mov edi, 2", "syscall",
        "mov qword ptr [rbx], 2";
    /// Stores upper halves behind rsi.
    UPPER = "vextractf128 [rsi + 16], ymm1, 1",
        "vextractf128 [rsi + 32], ymm14, 1";
}

extended_state!(ap_snippets);

/// The same for the first vCPU.
pub(crate) mod first {
    use core::arch::naked_asm;

    use crate::raw::Code;
    use crate::raw::snippets::snippets;

    snippets! {
        /// Yields while rbx counts down.
        YIELD = "2:", "mov eax, 29", "xor edi, edi", "syscall", "dec rbx", "jnz 2b";
        /// Loads upper halves from rsi.
        UPPER = "vinsertf128 ymm1, ymm1, [rsi], 1", "vinsertf128 ymm14, ymm14, [rsi], 1";
        /// As `UPPER_YIELD`, with AVX switched off while it yields.
        UPPER_OFF_YIELD = "vinsertf128 ymm1, ymm1, [rsi], 1", "vinsertf128 ymm14, ymm14, [rsi], 1",
            "xor ecx, ecx", "xor edx, edx", "mov eax, 3", "xsetbv", "2:", "mov eax, 29", "xor edi, edi",
            "syscall", "dec rbx", "jnz 2b",
            "xor ecx, ecx", "xor edx, edx", "mov eax, 7", "xsetbv", "vextractf128 [rsi + 16], ymm1, 1",
            "vextractf128 [rsi + 32], ymm14, 1";
    }

    extended_state!(snippets);
}
