//! The registers of interrupted code.

use core::fmt;

use super::Vector;

/// What the processor held when a trap came, in the order in which the entry code saves it.
///
/// Code that only reads it cannot do harm; what the kernel's own code goes on with is never
/// changed through it.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{trap::TrapFrame, println};
/// # fn example(frame: &TrapFrame) {
/// let mode = if frame.is_user() { "user" } else { "kernel" };
/// println!("{} in {mode} mode at {:#x}", frame.vector(), frame.rip);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
#[expect(missing_docs, reason = "the names of registers")]
pub struct TrapFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rcx: u64,
    pub rax: u64,
    pub r11: u64,
    /// The vector's number.
    pub vector: u64,
    /// The error code, 0 if there is none.
    pub error: u64,
    pub rip: u64,
    /// The code segment; its privilege bits are 0 for this guest's kernel. Above it, from bit 32
    /// on, the event mask.
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// Words of a frame; the entry code counts on it.
pub(crate) const WORDS: usize = 22;

const _: () = assert!(size_of::<TrapFrame>() == 8 * WORDS);

impl TrapFrame {
    /// What happened.
    #[must_use]
    pub fn vector(&self) -> Vector {
        Vector(u16::try_from(self.vector).unwrap_or(u16::MAX))
    }

    /// Whether user mode was interrupted.
    #[must_use]
    pub const fn is_user(&self) -> bool {
        self.cs & 3 == 3
    }
}

impl fmt::Display for TrapFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |registers: [(&str, u64); 4]| {
            for (index, (name, value)) in registers.into_iter().enumerate() {
                write!(f, "{}{name:>6} {value:016x}", if index == 0 { "" } else { " " })?;
            }
            f.write_str("\n")
        };
        let cs = self.cs & 0xffff;
        row([("rax", self.rax), ("rbx", self.rbx), ("rcx", self.rcx), ("rdx", self.rdx)])?;
        row([("rsi", self.rsi), ("rdi", self.rdi), ("rbp", self.rbp), ("rsp", self.rsp)])?;
        row([("r8", self.r8), ("r9", self.r9), ("r10", self.r10), ("r11", self.r11)])?;
        row([("r12", self.r12), ("r13", self.r13), ("r14", self.r14), ("r15", self.r15)])?;
        row([("rip", self.rip), ("cs", cs), ("rflags", self.rflags), ("ss", self.ss)])
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::TrapFrame;

    #[test]
    fn the_privilege_bits_tell_user_from_kernel() {
        let kernel = TrapFrame { cs: 0x1_0000_e030, ..TrapFrame::default() };
        let user = TrapFrame { cs: 0xe033, ..TrapFrame::default() };
        assert!(!kernel.is_user());
        assert!(user.is_user());
    }

    #[test]
    fn registers_are_shown_in_lines_that_the_console_takes_whole() {
        let frame = TrapFrame { r10: 0x1234, cs: 0x1_0000_e030, ..TrapFrame::default() };
        let text = frame.to_string();
        assert_eq!(text.lines().count(), 5);
        assert!(text.lines().all(|line| line.len() <= 120));
        assert!(text.contains("   r10 0000000000001234"), "{text}");
        assert!(text.contains("    cs 000000000000e030"), "{text}");
    }
}
