//! What the processor says about a fault beside its vector.

use core::fmt;

use super::Vector;

bitflags::bitflags! {
    /// An error code. The named bits are a page fault's; for all other vectors it is a selector
    /// ([`ErrorCode::selector`]).
    ///
    /// # Examples
    ///
    /// ```ignore-none
    /// # use pv_guest_sdk::{trap::{ErrorCode, Vector}};
    /// let error = ErrorCode::WRITE;
    /// assert!(!error.explain(Vector::PAGE_FAULT).to_string().is_empty());
    /// assert_eq!(ErrorCode::from_bits_retain(0x29).selector(), 0x28);
    /// ```
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct ErrorCode: u64 {
        /// The page is mapped, but not so.
        const PRESENT = 1 << 0;
        /// It was a write.
        const WRITE = 1 << 1;
        /// It came from user mode.
        const USER = 1 << 2;
        /// A bit is set that must not be.
        const RESERVED = 1 << 3;
        /// It was the fetch of an instruction.
        const FETCH = 1 << 4;
        /// All others, so that any code can be taken apart.
        const _ = !0;
    }
}

impl ErrorCode {
    /// The selector that is meant, without its privilege bits. For a software interrupt that is
    /// not allowed, bit 1 is set and the number of the interrupt is `selector() >> 3`.
    #[must_use]
    pub const fn selector(self) -> u64 {
        self.bits() & 0xfffe
    }

    /// In words, for a trap of this vector.
    #[must_use]
    pub const fn explain(self, vector: Vector) -> Explanation {
        Explanation { code: self, vector }
    }
}

/// An error code in words.
///
/// # Examples
///
/// ```ignore-none
/// # use pv_guest_sdk::{trap::{ErrorCode, Vector}};
/// // Made by `explain`, to be printed.
/// let explanation = ErrorCode::from_bits_retain(0x2).explain(Vector::PAGE_FAULT);
/// println!("{explanation}");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Explanation {
    code: ErrorCode,
    vector: Vector,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code;
        if self.vector != Vector::PAGE_FAULT {
            return write!(f, "error code {:#x}", code.bits());
        }
        let mode = if code.contains(ErrorCode::USER) { "user" } else { "kernel" };
        let access = if code.contains(ErrorCode::FETCH) {
            "fetch from"
        } else if code.contains(ErrorCode::WRITE) {
            "write to"
        } else {
            "read of"
        };
        let page = if code.contains(ErrorCode::RESERVED) {
            "a page with reserved bits"
        } else if code.contains(ErrorCode::PRESENT) {
            "a protected page"
        } else {
            "an absent page"
        };
        write!(f, "{mode} {access} {page}")
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::{ErrorCode, Vector};

    #[test]
    fn page_faults_in_words() {
        for (bits, words) in [
            (0, "kernel read of an absent page"),
            (2, "kernel write to an absent page"),
            (7, "user write to a protected page"),
            (0x15, "user fetch from a protected page"),
            (9, "kernel read of a page with reserved bits"),
        ] {
            let code = ErrorCode::from_bits_retain(bits);
            assert_eq!(code.explain(Vector::PAGE_FAULT).to_string(), words);
        }
    }

    #[test]
    fn other_codes_are_selectors() {
        let code = ErrorCode::from_bits_retain(0x402);
        assert_eq!(code.explain(Vector::GENERAL_PROTECTION).to_string(), "error code 0x402");
        assert_eq!(code.selector() >> 3, 0x80);
        assert_eq!(ErrorCode::from_bits_retain(0x5_1237).selector(), 0x1236);
    }
}
