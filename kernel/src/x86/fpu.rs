//! The floating-point unit. Ring 0 does not use it: whatever is in it is the running guest's.

use core::arch::asm;

use x86_64::registers::control::{Cr0, Cr0Flags};
use x86_64::registers::mxcsr::{self, MxCsr};

/// Gives the unit the state in which a vCPU starts: FCW 0x37f, MXCSR 0x1f80, registers empty.
pub(super) fn reset() {
    set_task_switched(false);
    // SAFETY: the state belongs to nobody yet.
    unsafe { asm!("fninit", options(nomem, nostack)) };
    mxcsr::write(MxCsr::default());
    // SAFETY: as above.
    unsafe {
        asm!(
            "xorps xmm0, xmm0",
            "xorps xmm1, xmm1",
            "xorps xmm2, xmm2",
            "xorps xmm3, xmm3",
            "xorps xmm4, xmm4",
            "xorps xmm5, xmm5",
            "xorps xmm6, xmm6",
            "xorps xmm7, xmm7",
            "xorps xmm8, xmm8",
            "xorps xmm9, xmm9",
            "xorps xmm10, xmm10",
            "xorps xmm11, xmm11",
            "xorps xmm12, xmm12",
            "xorps xmm13, xmm13",
            "xorps xmm14, xmm14",
            "xorps xmm15, xmm15",
            options(nomem, nostack),
        );
    }
}

/// Sets or clears CR0.TS: while it is set, using the unit raises #NM.
pub(super) fn set_task_switched(set: bool) {
    let mut flags = Cr0::read();
    flags.set(Cr0Flags::TASK_SWITCHED, set);
    // SAFETY: ring 0 does not use the unit, so it does not matter to it.
    unsafe { Cr0::write(flags) };
}
