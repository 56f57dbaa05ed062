//! The debug registers. They hold the running guest's breakpoints; ring 0 has none.

use core::arch::asm;

/// DR6 with nothing to report.
const NOTHING: u64 = 0xffff_0ff0;

/// What the last debug exception was about; the register is clean afterwards.
pub(super) fn take_status() -> u64 {
    let status: u64;
    // SAFETY: reads a register, nothing else.
    unsafe { asm!("mov {}, dr6", out(reg) status, options(nomem, nostack, preserves_flags)) };
    // SAFETY: only what is reported changes.
    unsafe { asm!("mov dr6, {}", in(reg) NOTHING, options(nomem, nostack, preserves_flags)) };
    status
}

/// Sets a breakpoint address, which is never one of ring 0's.
pub(super) fn set_breakpoint(number: u8, address: u64) {
    match number {
        // SAFETY: the core lets only guest addresses through.
        0 => unsafe { asm!("mov dr0, {}", in(reg) address, options(nomem, nostack)) },
        // SAFETY: as above.
        1 => unsafe { asm!("mov dr1, {}", in(reg) address, options(nomem, nostack)) },
        // SAFETY: as above.
        2 => unsafe { asm!("mov dr2, {}", in(reg) address, options(nomem, nostack)) },
        // SAFETY: as above.
        _ => unsafe { asm!("mov dr3, {}", in(reg) address, options(nomem, nostack)) },
    }
}

/// Sets DR7.
pub(super) fn set_control(control: u64) {
    // SAFETY: the core lets neither access detection nor reserved bits through.
    unsafe { asm!("mov dr7, {}", in(reg) control, options(nomem, nostack)) };
}

/// Nothing is watched, and nothing reported: not what the firmware left.
pub(super) fn clear() {
    /// DR7 without a breakpoint.
    const NO_BREAKPOINT: u64 = 0x400;
    set_control(NO_BREAKPOINT);
    for number in 0..4 {
        set_breakpoint(number, 0);
    }
    take_status();
}
