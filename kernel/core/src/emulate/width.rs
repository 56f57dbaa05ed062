//! Operand and address sizes.

/// A size of 1, 2, 4 or 8 bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Width {
    /// One byte.
    B1,
    /// Two bytes.
    B2,
    /// Four bytes.
    B4,
    /// Eight bytes.
    B8,
}

impl Width {
    /// Every width.
    pub const ALL: [Self; 4] = [Self::B1, Self::B2, Self::B4, Self::B8];

    /// Bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::B1 => 1,
            Self::B2 => 2,
            Self::B4 => 4,
            Self::B8 => 8,
        }
    }

    /// Bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::B1 => 8,
            Self::B2 => 16,
            Self::B4 => 32,
            Self::B8 => 64,
        }
    }

    /// A value with all bits of this width set.
    #[must_use]
    pub const fn mask(self) -> u64 {
        match self {
            Self::B1 => 0xff,
            Self::B2 => 0xffff,
            Self::B4 => 0xffff_ffff,
            Self::B8 => u64::MAX,
        }
    }

    /// The highest bit of this width.
    #[must_use]
    pub const fn sign(self) -> u64 {
        self.mask() ^ (self.mask() >> 1)
    }

    /// Copies this width's highest bit into all bits above it.
    #[must_use]
    pub const fn sign_extend(self, value: u64) -> u64 {
        if value & self.sign() == 0 { value & self.mask() } else { value | !self.mask() }
    }

    /// Whether an operand of this width at this address does not cross a multiple of its size.
    #[must_use]
    pub const fn is_aligned(self, address: u64) -> bool {
        address & (self.bytes() as u64).wrapping_sub(1) == 0
    }
}
