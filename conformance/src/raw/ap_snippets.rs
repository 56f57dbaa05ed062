//! The instructions that vCPUs beside the first run, one function per snippet.

use core::arch::naked_asm;

use super::ApCode;

/// Declares snippets: a name and its instructions.
macro_rules! snippets {
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

snippets! {
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
    /// Unmasks events and sleeps until one comes.
    BLOCK = "mov eax, 29", "mov edi, 1", "syscall";
    /// Counts where rbx points, and yields, until the word behind is not 0.
    COUNT = "2:", "inc qword ptr [rbx]", "mov eax, 29", "xor edi, edi", "syscall",
        "cmp qword ptr [rbx + 8], 0", "je 2b";
    /// Takes itself (rsi) down, behind 1 where rbx points; then writes 2.
    DOWN_ONCE = "mov qword ptr [rbx], 1", "mov eax, 24", "mov edi, 2", "syscall",
        "mov qword ptr [rbx], 2";
}
