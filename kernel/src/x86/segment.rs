//! Loading a guest's selector, which may fault.

use core::arch::global_asm;

unsafe extern "C" {
    /// Loads GS of the other mode; continues at `load_gs_failed` after a fault.
    fn load_gs(selector: u16);

    static load_gs_move: u8;
    static load_gs_failed: u8;
}

global_asm!(
    ".section .text.segment, \"ax\"",
    ".global load_gs, load_gs_move, load_gs_failed",
    "load_gs:",
    "swapgs",
    "load_gs_move:",
    "mov gs, edi",
    "swapgs",
    "ret",
    "load_gs_failed:",
    // Loading null leaves the base what it was on some processors.
    "mov ecx, 0xc0000101",
    "xor eax, eax",
    "xor edx, edx",
    "wrmsr",
    "xor edi, edi",
    "jmp load_gs_move",
);

/// Loads `selector` as the GS that is not active. One that can't be loaded becomes null.
pub(super) fn load_inactive_gs(selector: u16) {
    // SAFETY: ring 0 does not use GS, and a fault is recovered by the trap handler.
    unsafe { load_gs(selector) };
}

/// Where to continue after a fault at `rip`, if that is the load above.
pub(super) fn recovery(rip: u64) -> Option<u64> {
    let address = |symbol: *const u8| symbol.addr() as u64;
    (rip == address(&raw const load_gs_move)).then(|| address(&raw const load_gs_failed))
}
