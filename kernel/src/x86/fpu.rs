//! The floating-point unit. Ring 0 does not use it: whatever is in it is the running guest's.
//!
//! Where the processor has XSAVE, all parts that are kept are saved and loaded whatever XCR0 the guest has:
//! registers that it has switched off stay its own, and nobody else sees them when he switches them on.

use core::arch::asm;

use kernel_core::dispatch::low_u32;
use kernel_core::emulate::xcr0::AT_FIRST;
use kernel_core::saved::FpuState;
use x86_64::registers::control::{Cr0, Cr0Flags};
use x86_64::registers::xcontrol::XCr0;

use super::cpu;

/// Copies the unit's registers. CR0.TS is clear afterwards.
pub(super) fn save(into: &mut FpuState) {
    set_task_switched(false);
    let parts = cpu::features().parts;
    let into = core::ptr::from_mut(into);
    if parts == 0 {
        // SAFETY: more than 512 bytes, aligned by their type; the unit is not locked.
        unsafe { asm!("fxsave64 [{}]", in(reg) into, options(nostack, preserves_flags)) };
        return;
    }
    let guests = exchange_xcr0(parts);
    // SAFETY: the bytes of all these parts, aligned by their type; the unit is not locked.
    unsafe {
        asm!("xsave64 [{}]", in(reg) into, in("eax") low_u32(parts), in("edx") 0, options(nostack, preserves_flags))
    };
    exchange_xcr0(guests);
}

/// Loads the unit's registers, and XCR0: 0, or a valid value. CR0.TS is clear afterwards.
///
/// To load them is not enough: AMD's processors leave the addresses of the last instruction and operand
/// what they are unless an exception is pending, and those were another guest's.
pub(super) fn load(from: &FpuState, xcr0: u64) {
    set_task_switched(false);
    // SAFETY: the unit is not locked, and ring 0 does not use it.
    unsafe { asm!("fninit", options(nomem, nostack, preserves_flags)) };
    let parts = cpu::features().parts;
    let from = core::ptr::from_ref(from);
    if parts == 0 {
        // SAFETY: more than 512 bytes, aligned by their type; MXCSR has no bits that the processor lacks
        // (`FpuState` sees to it), and ring 0 does not use the unit.
        unsafe { asm!("fxrstor64 [{}]", in(reg) from, options(nostack, preserves_flags)) };
        return;
    }
    exchange_xcr0(parts);
    // SAFETY: as above; `FpuState` sees to the header, too: it names no part beyond those kept here.
    unsafe {
        asm!("xrstor64 [{}]", in(reg) from, in("eax") low_u32(parts), in("edx") 0, options(nostack, preserves_flags))
    };
    set_xcr0(xcr0);
}

/// Sets XCR0 to a valid value; 0, of a guest that has not chosen, is what `fxsave` covers.
pub(super) fn set_xcr0(xcr0: u64) {
    exchange_xcr0(if xcr0 == 0 { AT_FIRST } else { xcr0 });
}

/// Sets XCR0; what it was. It is written only if it changes: under a hypervisor that is slow.
fn exchange_xcr0(xcr0: u64) -> u64 {
    let old = XCr0::read_raw();
    if old != xcr0 {
        // SAFETY: a value that the CPU has (`xcr0::kept`, `xcr0::is_valid`), and ring 0 does not use the registers.
        unsafe { XCr0::write_raw(xcr0) };
    }
    old
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
