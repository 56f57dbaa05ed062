//! A guest's selectors: loading one, and looking one up. Both may fault.

use core::arch::global_asm;

unsafe extern "C" {
    /// Loads GS of the other mode; continues at `load_gs_failed` after a fault.
    fn load_gs(selector: u16);

    /// The segment's access rights; 0 if there is none, or after a fault.
    fn read_rights(selector: u16) -> u32;

    static read_rights_lar: u8;
    static read_rights_failed: u8;
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
    "xor edi, edi",
    "jmp load_gs_move",
    ".global read_rights, read_rights_lar, read_rights_failed",
    "read_rights:",
    "xor eax, eax",
    "movzx edi, di",
    "read_rights_lar:",
    "lar eax, edi",
    "read_rights_failed:",
    "ret",
);

/// Loads `selector` as the GS that is not active. One that can't be loaded becomes null.
pub(super) fn load_inactive_gs(selector: u16) {
    // SAFETY: ring 0 does not use GS, and a fault is recovered by the trap handler.
    unsafe { load_gs(selector) };
}

/// A segment's access rights as `lar` gives them; `None` if the selector is of no segment.
pub(super) fn access_rights(selector: u16) -> Option<u32> {
    // SAFETY: reads a descriptor, if there is one; a fault is recovered by the trap handler.
    let rights = unsafe { read_rights(selector) };
    (rights != 0).then_some(rights)
}

/// Where to continue after a fault at `rip`, if that is one of the instructions above.
pub(super) fn recovery(rip: u64) -> Option<u64> {
    let address = |symbol: *const u8| symbol.addr() as u64;
    if rip == address(&raw const load_gs_move) {
        Some(address(&raw const load_gs_failed))
    } else if rip == address(&raw const read_rights_lar) {
        Some(address(&raw const read_rights_failed))
    } else {
        None
    }
}
