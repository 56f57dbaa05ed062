//! Execution of the privileged instructions.

use crate::regs::GuestRegs;

use super::alu::flag;

/// How a guest continues behind an emulated instruction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum After {
    /// At its instruction pointer.
    Continue,
    /// Single-stepping is on: with `#DB`, DR6.BS set, at its instruction pointer.
    DebugException,
}

impl After {
    /// What TF asks for.
    pub const fn of(regs: &GuestRegs) -> Self {
        if regs.rflags & flag::TF == 0 { Self::Continue } else { Self::DebugException }
    }
}
