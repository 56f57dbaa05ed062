//! From the processor's counter to time.

use core::sync::atomic::Ordering;

use super::Instant;
use crate::shared::VcpuTime;

/// How a counter is made time of.
///
/// # Examples
///
/// ```ignore-none
/// # use pv_guest_sdk::{time::{Instant, Scale}};
/// // A counter of 1 GHz: the factor is a fraction of 2^32, and time is in nanoseconds.
/// let scale = Scale { counter: 100, time: Instant::from_nanoseconds(5), factor: 1 << 31, shift: 1 };
/// assert_eq!(scale.time(140), Instant::from_nanoseconds(45));
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Scale {
    /// The counter at `time`.
    pub counter: u64,
    /// The time then.
    pub time: Instant,
    /// Factor from the shifted counter to ns. Unit: 2^-32.
    pub factor: u32,
    /// Shift of the counter's difference, left if positive. Unit: bits.
    pub shift: i8,
}

impl Scale {
    /// The time at a value of the counter; that of the scale for an earlier value.
    #[must_use]
    pub fn time(&self, counter: u64) -> Instant {
        let passed = counter.saturating_sub(self.counter);
        let bits = u32::from(self.shift.unsigned_abs());
        let shifted = if self.shift < 0 {
            passed.checked_shr(bits).unwrap_or(0)
        } else {
            passed.checked_shl(bits).unwrap_or(0)
        };
        let nanoseconds = (u128::from(shifted) * u128::from(self.factor)) >> 32;
        Instant(self.time.0.saturating_add(u64::try_from(nanoseconds).unwrap_or(u64::MAX)))
    }

    /// Reads the scale, and the counter by `counter` while it holds.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use pv_guest_sdk::{shared::VcpuTime, time::Scale};
    /// # fn example(time: &VcpuTime, counter: fn() -> u64) {
    /// let (scale, counted) = Scale::read(time, counter);
    /// let now = scale.time(counted);
    /// # }
    /// ```
    pub fn read(shared: &VcpuTime, counter: impl Fn() -> u64) -> (Self, u64) {
        loop {
            let version = shared.version.load(Ordering::Acquire);
            let scale = Self {
                counter: shared.tsc_timestamp.load(Ordering::Acquire),
                time: Instant(shared.system_time.load(Ordering::Acquire)),
                factor: shared.tsc_to_system_mul.load(Ordering::Acquire),
                shift: shared.tsc_shift.load(Ordering::Acquire).cast_signed(),
            };
            let counter = counter();
            if version.is_multiple_of(2) && shared.version.load(Ordering::Acquire) == version {
                return (scale, counter);
            }
            core::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use core::sync::atomic::Ordering::Relaxed;

    use zerocopy::FromZeros;

    use super::Scale;
    use crate::shared::VcpuTime;
    use crate::time::Instant;

    const fn scale(factor: u32, shift: i8) -> Scale {
        Scale { counter: 1000, time: Instant(5_000), factor, shift }
    }

    #[test]
    fn a_counter_becomes_time() {
        // 2 GHz: half a nanosecond a count.
        assert_eq!(scale(1 << 31, 0).time(1000), Instant(5_000));
        assert_eq!(scale(1 << 31, 0).time(1200), Instant(5_100));
        assert_eq!(scale(1 << 31, 1).time(1200), Instant(5_200));
        assert_eq!(scale(1 << 31, -1).time(1200), Instant(5_050));
        // 512 MHz is shifted up, as a factor is below 1.
        assert_eq!(scale(0xfa00_0000, 1).time(1000 + 512), Instant(6_000));
    }

    #[test]
    fn extremes_are_no_overflow() {
        assert_eq!(scale(u32::MAX, 0).time(0), Instant(5_000), "before the scale");
        assert_eq!(scale(u32::MAX, -128).time(u64::MAX), Instant(5_000));
        assert_eq!(scale(u32::MAX, 127).time(u64::MAX), Instant(5_000));
        let passed = u64::MAX - 1000;
        let wanted = (u128::from(passed) * u128::from(u32::MAX)) >> 32;
        let wanted = 5_000 + u64::try_from(wanted).unwrap();
        assert_eq!(scale(u32::MAX, 0).time(u64::MAX), Instant(wanted));
    }

    #[test]
    fn what_changes_while_it_is_read_is_read_again() {
        let shared = VcpuTime::new_zeroed();
        shared.version.store(4, Relaxed);
        shared.system_time.store(1, Relaxed);
        let reads = Cell::new(0);
        let (scale, counter) = Scale::read(&shared, || {
            reads.set(reads.get() + 1);
            match reads.get() {
                1 => {
                    shared.version.store(5, Relaxed);
                    shared.system_time.store(2, Relaxed);
                }
                3 => shared.version.store(6, Relaxed),
                _ => {}
            }
            reads.get()
        });
        assert_eq!((scale.time, counter), (Instant(2), 4));
    }
}
