//! How much of what a domain says is shown, when it says a lot.

/// So much per second may pass, and so much at once after a rest.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// Unit: bytes per second.
    rate: u64,
    /// Unit: bytes.
    most: u64,
    /// Unit: bytes.
    left: u64,
    /// When it was counted last. Unit: nanoseconds.
    since: u64,
}

impl Allowance {
    /// A full one.
    #[must_use]
    pub const fn new(rate: u64, most: u64) -> Self {
        Self { rate, most, left: most, since: 0 }
    }

    /// Whether so many bytes may pass at a time (unit: nanoseconds); if so, they count.
    pub fn take(&mut self, now: u64, bytes: u64) -> bool {
        let earned =
            u128::from(now.saturating_sub(self.since)) * u128::from(self.rate) / 1_000_000_000;
        // What is less than a byte is earned on.
        if earned > 0 {
            let earned = u64::try_from(earned).unwrap_or(u64::MAX);
            self.left = self.left.saturating_add(earned).min(self.most);
            self.since = now;
        }
        let passes = bytes <= self.left;
        if passes {
            self.left -= bytes;
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::Allowance;

    #[test]
    fn a_flood_passes_at_its_rate() {
        let mut allowance = Allowance::new(100, 50);
        let second = 1_000_000_000;
        assert!(allowance.take(second, 50) && !allowance.take(second, 1));
        assert!(!allowance.take(second + 9_999_999, 1), "a hundredth for each byte");
        assert!(allowance.take(second + 10_000_000, 1));
        assert!(!allowance.take(9 * second, 51), "it is full with 50");
        let passed = (0..1000).filter(|tick| allowance.take(9 * second + tick * second / 100, 10));
        assert_eq!(passed.count(), 104, "the 50 and 10 seconds' 1000, by tens");
    }
}
