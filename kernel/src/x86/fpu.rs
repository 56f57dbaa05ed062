//! The floating-point unit. Ring 0 does not use it: whatever is in it is the running guest's.

use core::arch::asm;

use kernel_core::saved::FpuState;
use x86_64::registers::control::{Cr0, Cr0Flags};

/// Copies the unit's registers. CR0.TS is clear afterwards.
pub(super) fn save(into: &mut FpuState) {
    set_task_switched(false);
    // SAFETY: 512 bytes, aligned to 16 by their type; the unit is not locked.
    unsafe {
        asm!("fxsave64 [{}]", in(reg) into.0.as_mut_ptr(), options(nostack, preserves_flags))
    };
}

/// Loads the unit's registers. CR0.TS is clear afterwards.
///
/// `fxrstor64` is not enough: AMD's processors leave the addresses of the last instruction and operand
/// what they are unless an exception is pending, and those were another guest's.
pub(super) fn load(from: &FpuState) {
    set_task_switched(false);
    // SAFETY: the unit is not locked, and ring 0 does not use it.
    unsafe { asm!("fninit", options(nomem, nostack, preserves_flags)) };
    // SAFETY: 512 bytes, aligned to 16 by their type; MXCSR has no bits that the processor lacks
    // (`FpuState` sees to it), and ring 0 does not use the unit.
    unsafe { asm!("fxrstor64 [{}]", in(reg) from.0.as_ptr(), options(nostack, preserves_flags)) };
}

/// Sets or clears CR0.TS: while it is set, using the unit raises #NM.
pub(super) fn set_task_switched(set: bool) {
    let old = Cr0::read();
    let mut flags = old;
    flags.set(Cr0Flags::TASK_SWITCHED, set);
    if flags == old {
        return;
    }
    // SAFETY: ring 0 does not use the unit, so it does not matter to it.
    unsafe { Cr0::write(flags) };
}
