//! Loading a guest's selectors, which may fault.

use core::arch::{asm, global_asm};

use kernel_core::saved::Selectors;

unsafe extern "C" {
    /// Loads GS of the other mode; continues at `load_gs_failed` after a fault.
    fn load_gs(selector: u16);

    /// Load a data segment; 1 if it could, and null and 0 after a fault.
    fn load_data_ds(selector: u16) -> u64;
    fn load_data_es(selector: u16) -> u64;
    fn load_data_fs(selector: u16) -> u64;
    fn load_data_gs(selector: u16) -> u64;

    static load_gs_move: u8;
    static load_gs_failed: u8;
    static load_data_ds_failed: u8;
    static load_data_es_failed: u8;
    static load_data_fs_failed: u8;
    static load_data_gs_failed: u8;
}

global_asm!(
    ".section .text.segment, \"ax\"",
    ".macro load_data segment",
    ".global load_data_\\segment, load_data_\\segment\\()_failed",
    "load_data_\\segment:",
    "mov \\segment, edi", // Must be the first instruction: `recovery` looks for its address.
    "mov eax, 1",
    "ret",
    "load_data_\\segment\\()_failed:",
    "xor eax, eax",
    "mov \\segment, eax",
    "ret",
    ".endm",
    "load_data ds",
    "load_data es",
    "load_data fs",
    "load_data gs",
);

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

/// A function that loads a data segment.
type Load = unsafe extern "C" fn(u16) -> u64;

/// The data segment selectors.
pub(super) fn data() -> Selectors {
    let (ds, es, fs, gs): (u16, u16, u16, u16);
    // SAFETY: reads registers, nothing else.
    unsafe {
        asm!(
            "mov {0:x}, ds", "mov {1:x}, es", "mov {2:x}, fs", "mov {3:x}, gs",
            out(reg) ds, out(reg) es, out(reg) fs, out(reg) gs,
            options(nomem, nostack, preserves_flags),
        );
    };
    Selectors { ds, es, fs, gs }
}

/// Loads the data segments. One that can't be loaded becomes null, and the answer false.
pub(super) fn load_data(wanted: Selectors) -> bool {
    let now = data();
    let load = |load: Load, wanted: u16, now: u16| {
        // Null stays null; all else may mean something else in this table.
        // SAFETY: ring 0 uses none of them, and a fault is recovered by the trap handler.
        wanted == 0 && now == 0 || unsafe { load(wanted) } != 0
    };
    load(load_data_ds, wanted.ds, now.ds)
        & load(load_data_es, wanted.es, now.es)
        & load(load_data_fs, wanted.fs, now.fs)
        & load(load_data_gs, wanted.gs, now.gs)
}

/// Where to continue after a fault at `rip`, if that is one of the loads above.
pub(super) fn recovery(rip: u64) -> Option<u64> {
    let address = |symbol: *const u8| symbol.addr() as u64;
    let code = |load: Load| load as *const u8;
    let loads = [
        (&raw const load_gs_move, &raw const load_gs_failed),
        (code(load_data_ds), &raw const load_data_ds_failed),
        (code(load_data_es), &raw const load_data_es_failed),
        (code(load_data_fs), &raw const load_data_fs_failed),
        (code(load_data_gs), &raw const load_data_gs_failed),
    ];
    loads.iter().find(|(load, _)| address(*load) == rip).map(|(_, failed)| address(*failed))
}
