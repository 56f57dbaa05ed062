//! Time: a clock that all virtual CPUs share, the wall clock, timers.
//!
//! An [`Instant`] counts from the hypervisor's start. It is made of the processor's counter by what
//! the hypervisor says about it, without a call.

mod clock;
#[cfg(any(test, target_os = "none"))]
pub(crate) mod queue;
#[cfg(target_os = "none")]
mod timer;

use core::fmt;
use core::ops::{Add, Sub};

pub use core::time::Duration;

pub use clock::Scale;
#[cfg(target_os = "none")]
pub(crate) use timer::prepare;
#[cfg(target_os = "none")]
pub use timer::{Sleep, sleep, sleep_until, wall_clock};

/// A point in time, of system time: since the hypervisor's start, the same for all virtual CPUs.
///
/// # Examples
///
/// ```ignore-none
/// # use pv_guest_sdk::{time::{Duration, Instant}};
/// let boot = Instant::from_nanoseconds(0);
/// let later = boot + Duration::from_millis(2);
/// assert_eq!(later.since(boot), Duration::from_millis(2));
/// assert_eq!(later.nanoseconds(), 2_000_000);
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Instant(u64);

/// The latest point that a sum reaches: 146 years. The hypervisor takes what is twice as far for
/// the past.
const FAR: u64 = 1 << 62;

impl Instant {
    /// From what the ABI has. Unit: ns of system time.
    #[must_use]
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// As the ABI has it. Unit: ns of system time.
    #[must_use]
    pub const fn nanoseconds(self) -> u64 {
        self.0
    }

    /// How long it is since an earlier point; zero for a later one.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// How long it is since then.
    ///
    /// # Panics
    /// Before `Vcpu::start`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use pv_guest_sdk::{time::Instant, println};
    /// # fn example(start: Instant) {
    /// println!("{:?} since then", start.elapsed());
    /// # }
    /// ```
    #[cfg(target_os = "none")]
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }

    /// Now. It never goes back, whichever virtual CPU asks.
    ///
    /// # Panics
    /// Before `Vcpu::start`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use pv_guest_sdk::{time::Instant, println};
    /// # fn example() {
    /// let start = Instant::now();
    /// println!("{:?} later", start.elapsed());
    /// # }
    /// ```
    #[cfg(target_os = "none")]
    #[must_use]
    pub fn now() -> Self {
        timer::now()
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// At most the 146th year.
    fn add(self, duration: Duration) -> Self {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanoseconds).min(FAR))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09} s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::{Duration, FAR, Instant};

    #[test]
    fn sums_stay_in_what_the_hypervisor_takes_for_the_future() {
        assert_eq!(Instant(5) + Duration::from_micros(1), Instant(1005));
        assert_eq!(Instant(5) + Duration::MAX, Instant(FAR));
        assert_eq!(Instant(u64::MAX) + Duration::MAX, Instant(FAR));
        assert!(i64::try_from(FAR).is_ok());
    }

    #[test]
    fn there_is_no_time_before_the_past() {
        assert_eq!(Instant(7) - Instant(5), Duration::from_nanos(2));
        assert_eq!(Instant(5).since(Instant(7)), Duration::ZERO);
        assert_eq!(Instant(1_000_000_007).to_string(), "1.000000007 s");
    }
}
