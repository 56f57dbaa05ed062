//! The numbers of traps, and their names.

use core::fmt;

/// What happened: an exception's number, that of an `int` instruction, or one of the entries that
/// the hypervisor has beside them.
///
/// # Examples
///
/// ```ignore-none
/// # use pv_guest_sdk::{trap::Vector};
/// let vector = Vector::interrupt(0x80);
/// assert_eq!(vector.number(), 0x80);
/// assert!(vector.is_behind()); // the saved address is behind the instruction
/// assert!(!Vector::PAGE_FAULT.name().is_empty());
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Vector(pub(crate) u16);

impl Vector {
    /// A division by zero, or with a result that does not fit.
    pub const DIVIDE_ERROR: Self = Self(0);
    /// A single step or a breakpoint by address.
    pub const DEBUG: Self = Self(1);
    /// A non-maskable interrupt.
    pub const NMI: Self = Self(2);
    /// The instruction `int3`.
    pub const BREAKPOINT: Self = Self(3);
    /// The instruction `int 4`.
    pub const OVERFLOW: Self = Self(4);
    /// An instruction that does not exist.
    pub const INVALID_OPCODE: Self = Self(6);
    /// A floating-point instruction while the virtual task-switched flag was set; delivering this
    /// clears the flag.
    pub const DEVICE_NOT_AVAILABLE: Self = Self(7);
    /// A wrong selector in a task's state.
    pub const INVALID_TSS: Self = Self(10);
    /// A segment that is marked absent.
    pub const SEGMENT_NOT_PRESENT: Self = Self(11);
    /// A stack address that is none, or a wrong stack segment.
    pub const STACK_FAULT: Self = Self(12);
    /// Anything forbidden that has no vector of its own.
    pub const GENERAL_PROTECTION: Self = Self(13);
    /// An access that the page tables do not allow.
    pub const PAGE_FAULT: Self = Self(14);
    /// An exception of the old floating-point unit.
    pub const X87: Self = Self(16);
    /// An access that is not aligned, where that is asked for.
    pub const ALIGNMENT_CHECK: Self = Self(17);
    /// The machine is broken.
    pub const MACHINE_CHECK: Self = Self(18);
    /// An exception of the vector unit.
    pub const SIMD: Self = Self(19);
    /// Not a trap: an event waits.
    pub const EVENT: Self = Self(256);
    /// Not a trap: a segment could not be loaded on the way back to this guest. Segments were
    /// made null.
    pub const FAILSAFE: Self = Self(257);
    /// Not a trap: user mode executed `syscall`.
    pub const SYSCALL: Self = Self(258);

    /// How many there are, all kinds together.
    pub const COUNT: usize = 259;

    /// The exceptions with an error code, one bit a vector.
    #[cfg(any(target_os = "none", test))]
    pub(crate) const WITH_ERROR: u32 =
        1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 21;

    /// The vector of `int number`.
    #[must_use]
    pub const fn interrupt(number: u8) -> Self {
        Self(number as u16)
    }

    /// Whether it comes behind the instruction that raised it, which is not executed again.
    #[must_use]
    pub const fn is_behind(self) -> bool {
        matches!(self.0, 1 | 3 | 4 | 32..=255)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// Its place in a table of [`Vector::COUNT`].
    #[cfg(any(target_os = "none", test))]
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The highest ring (1: this guest's kernel, 3: its user mode too) that may raise it by `int`.
    #[cfg(any(target_os = "none", test))]
    pub(crate) const fn software_ring(number: u8) -> u8 {
        match number {
            3 | 4 | 0x80 => 3,
            32.. => 1,
            _ => 0,
        }
    }

    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "divide error",
            1 => "debug",
            2 => "non-maskable interrupt",
            3 => "breakpoint",
            4 => "overflow",
            5 => "bound range",
            6 => "invalid opcode",
            7 => "device not available",
            8 => "double fault",
            10 => "invalid TSS",
            11 => "segment not present",
            12 => "stack fault",
            13 => "general protection",
            14 => "page fault",
            16 => "x87 floating point",
            17 => "alignment check",
            18 => "machine check",
            19 => "SIMD floating point",
            20 => "virtualization",
            21 => "control protection",
            32..=255 => "software interrupt",
            256 => "event",
            257 => "failsafe",
            258 => "system call",
            _ => "reserved vector",
        }
    }
}

impl fmt::Display for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..=255 => write!(f, "{} ({})", self.name(), self.0),
            _ => f.write_str(self.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::Vector;

    #[test]
    fn names_and_numbers() {
        assert_eq!(Vector::PAGE_FAULT.to_string(), "page fault (14)");
        assert_eq!(Vector::interrupt(0x81).to_string(), "software interrupt (129)");
        assert_eq!(Vector::EVENT.to_string(), "event");
        assert_eq!(Vector::SYSCALL.index() + 1, Vector::COUNT);
    }

    #[test]
    fn exceptions_but_three_come_before_their_instruction_ends() {
        let behind = (0..32).map(Vector).filter(|vector| vector.is_behind());
        assert!(behind.eq([Vector::DEBUG, Vector::BREAKPOINT, Vector::OVERFLOW]));
        assert!(Vector::interrupt(0x80).is_behind() && !Vector::EVENT.is_behind());
    }

    #[test]
    fn vectors_with_an_error_code_cannot_be_raised_without_one() {
        for number in 0..=31 {
            if Vector::WITH_ERROR >> number & 1 == 1 {
                assert_eq!(Vector::software_ring(number), 0, "vector {number}");
            }
        }
        let user: std::vec::Vec<u8> =
            (0..=255).filter(|&number| Vector::software_ring(number) == 3).collect();
        assert_eq!(user, [3, 4, 0x80]);
    }
}
