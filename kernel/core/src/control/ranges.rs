//! A set of numbers as a few ranges: which ports, frames or interrupts a domain may use.

use hypercall_abi::errno::Errno;

/// Ranges a set can have.
const MOST: usize = 32;

/// Ascending ranges, first and last, that neither overlap nor touch.
#[derive(Clone, Debug)]
pub struct Ranges {
    ranges: [(u64, u64); MOST],
    count: usize,
}

impl Ranges {
    /// No number.
    pub const NONE: Self = Self { ranges: [(0, 0); MOST], count: 0 };
    /// Every number.
    pub const ALL: Self = Self { ranges: [(0, u64::MAX); MOST], count: 1 };

    /// Every number but 0.
    pub const FROM_1: Self = Self { ranges: [(1, u64::MAX); MOST], count: 1 };

    fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.ranges.iter().copied().take(self.count)
    }

    /// Whether there is no number in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether all numbers from `first` to `last` are in it.
    #[must_use]
    pub fn contains(&self, first: u64, last: u64) -> bool {
        self.iter().any(|(from, to)| from <= first && last <= to)
    }

    /// Adds, or removes, the numbers from `first` to `last`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: it would be too many ranges. Nothing has changed.
    pub fn set(&mut self, first: u64, last: u64, allowed: bool) -> Result<(), Errno> {
        let mut new = Self::NONE;
        let (mut start, mut end) = (first, last);
        let mut waits = allowed;
        for (from, to) in self.iter() {
            let apart = to.saturating_add(1) < first || last.saturating_add(1) < from;
            match allowed {
                true if apart => {
                    if waits && from > end {
                        new.push(start, end)?;
                        waits = false;
                    }
                    new.push(from, to)?;
                }
                true => (start, end) = (start.min(from), end.max(to)),
                false if to < first || last < from => new.push(from, to)?,
                false => {
                    if from < first {
                        new.push(from, first.saturating_sub(1))?;
                    }
                    if to > last {
                        new.push(last.saturating_add(1), to)?;
                    }
                }
            }
        }
        if waits {
            new.push(start, end)?;
        }
        *self = new;
        Ok(())
    }

    fn push(&mut self, first: u64, last: u64) -> Result<(), Errno> {
        *self.ranges.get_mut(self.count).ok_or(Errno::ENOMEM)? = (first, last);
        self.count = self.count.saturating_add(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All changes of ranges within few numbers, compared with bits.
    #[test]
    fn ranges_are_as_bits() {
        let mut random = 1_u64;
        let (mut ranges, mut bits) = (Ranges::NONE, 0_u64);
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
            let (first, length) = (random >> 33 & 31, random >> 40 & 7);
            let mask = ((1 << (length + 1)) - 1) << first;
            let allowed = random >> 50 & 1 == 0;
            ranges.set(first, first + length, allowed).unwrap();
            bits = if allowed { bits | mask } else { bits & !mask };
            for number in 0..64 {
                assert_eq!(ranges.contains(number, number), bits >> number & 1 != 0);
            }
            assert_eq!(ranges.contains(first, first + length), allowed);
            let runs = (bits & !(bits << 1)).count_ones() as usize;
            assert_eq!(ranges.count, runs, "touching ranges are one");
        }
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let mut ranges = Ranges::NONE;
        for number in 0..MOST as u64 {
            ranges.set(number * 2, number * 2, true).unwrap();
        }
        assert_eq!(ranges.set(1000, 1000, true), Err(Errno::ENOMEM));
        assert!(!ranges.contains(1000, 1000) && ranges.contains(62, 62));
        let mut all = Ranges::ALL;
        all.set(0, 0, false).unwrap();
        all.set(u64::MAX, u64::MAX, false).unwrap();
        assert!(all.contains(1, u64::MAX - 1) && !all.contains(0, 0));
    }
}
