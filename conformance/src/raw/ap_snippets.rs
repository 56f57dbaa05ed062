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
}
