//! Numbers that look random and come again with their seed (xorshift64*).

/// A sequence.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 3
    }

    /// A number below `end`, which is not 0.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Whether something happens that does so once in `times`.
    pub const fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of some.
    pub fn of<T: Copy, const N: usize>(&mut self, from: [T; N]) -> T {
        const { assert!(N > 0, "one of none") };
        let index = usize::try_from(self.below(N as u64)).unwrap_or(0);
        from[index % N]
    }

    /// A number at one of the places where code goes wrong.
    pub fn wild(&mut self) -> u64 {
        let near = self.below(5).wrapping_sub(2);
        match self.below(8) {
            0 => self.below(9),
            1 => near,
            2 => (1_u64 << self.below(64)).wrapping_add(near),
            3 => 0x8000_0000_0000_u64.wrapping_add(near << 3),
            4 => self.of([0xffff_8000, 0xffff_8080, 0xffff_8280, 0xffff_8400, 0xffff_8800]) << 32,
            5 => self.of([u64::MAX, i64::MAX.cast_unsigned()]) - self.below(0x2000),
            6 => u64::from(u32::MAX).wrapping_add(near),
            _ => self.next() << 3 ^ self.next(),
        }
    }

    /// A count: small, or at a limit.
    pub fn count(&mut self, good: u64) -> u64 {
        match self.below(12) {
            0 => self.of([0, 0xffff_ffff, 0x8000_0000, 0x7fff_ffff, 0x400_0000, 0x3ff_ffff]),
            1 => 1 << self.below(34),
            2 => good + 1,
            _ => good,
        }
    }
}
