//! Names and sets of physical CPUs.

/// A physical CPU, counted from 0 in the order in which they were started.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CpuId(u8);

impl CpuId {
    /// The CPU that boots the machine.
    pub const BOOT: Self = Self(0);

    /// The CPU with this number; `None` from [`CpuSet::CAPACITY`] on.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number < CpuSet::CAPACITY { Some(Self(number)) } else { None }
    }

    /// The CPU's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// A set of physical CPUs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CpuSet(u64);

impl CpuSet {
    /// How many CPUs the kernel can use.
    pub const CAPACITY: u8 = 64;
    /// No CPU.
    pub const EMPTY: Self = Self(0);

    /// The set with these bits: bit n stands for CPU n.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Bit n is set when CPU n is in the set.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The set of one CPU.
    #[must_use]
    pub const fn one(cpu: CpuId) -> Self {
        Self(1_u64.wrapping_shl(cpu.0 as u32))
    }

    /// This set without `cpu`.
    #[must_use]
    pub const fn without(self, cpu: CpuId) -> Self {
        Self(self.0 & !Self::one(cpu).0)
    }

    /// Whether `cpu` is in the set.
    #[must_use]
    pub const fn contains(self, cpu: CpuId) -> bool {
        self.0 & Self::one(cpu).0 != 0
    }

    /// Whether no CPU is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The CPUs of the set in ascending order.
    pub fn iter(self) -> impl Iterator<Item = CpuId> {
        let mut bits = self.0;
        core::iter::from_fn(move || {
            let number = (bits != 0).then(|| bits.trailing_zeros())?;
            bits &= bits.wrapping_sub(1);
            u8::try_from(number).ok().and_then(CpuId::new)
        })
    }
}
