//! System time: nanoseconds since the kernel started, as a function of the time-stamp counter, and
//! the wall clock.
//!
//! One rate and one starting point hold for all CPUs and for ever, so the clocks of all vCPUs agree
//! and none ever goes back.

use core::mem::offset_of;
use core::sync::atomic::{Ordering, fence};

use hypercall_abi::start::{ClockFlags, SharedInfo, VcpuTimeInfo};
use hypercall_abi::types::Mfn;
use zerocopy::IntoBytes;

use crate::platform::Platform;

/// Nanoseconds in a second.
const NANOSECONDS: u64 = 1_000_000_000;

/// The relation between counter and time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Clock {
    /// Counter at system time 0.
    start: u64,
    /// Kilohertz.
    tsc_khz: u64,
    /// Nanoseconds a shifted cycle, in units of 2^-32.
    factor: u32,
    /// Bits by which cycles are shifted to the left before the multiplication.
    shift: i8,
    /// Wall-clock time at system time 0. Unit: seconds since 1970.
    wall_seconds: u64,
}

impl Clock {
    /// A clock that began to run when the counter stood at `start` and the wall clock at
    /// `wall_seconds`. The rate is in kilohertz, and not 0.
    #[must_use]
    pub fn new(tsc_khz: u64, start: u64, wall_seconds: u64) -> Self {
        // The rate is shifted into 10^9 to 2 * 10^9, so that the factor uses all its bits.
        let mut rate = tsc_khz.max(1).saturating_mul(1000);
        let mut shift = 0_i8;
        while rate > NANOSECONDS.wrapping_mul(2) {
            rate >>= 1;
            shift = shift.wrapping_sub(1);
        }
        while rate <= NANOSECONDS {
            rate <<= 1;
            shift = shift.wrapping_add(1);
        }
        let factor = (NANOSECONDS << 32).checked_div(rate).unwrap_or(0);
        Self {
            start,
            tsc_khz,
            factor: u32::try_from(factor).unwrap_or(u32::MAX),
            shift,
            wall_seconds,
        }
    }

    /// The counter's rate. Unit: kHz.
    #[must_use]
    pub const fn tsc_khz(&self) -> u64 {
        self.tsc_khz
    }

    /// System time when the counter stands at `tsc`. Unit: nanoseconds.
    #[must_use]
    pub fn time_at(&self, tsc: u64) -> u64 {
        let cycles = tsc.saturating_sub(self.start);
        let shift = u32::from(self.shift.unsigned_abs());
        let shifted = if self.shift < 0 {
            u128::from(cycles.wrapping_shr(shift))
        } else {
            u128::from(cycles).wrapping_shl(shift)
        };
        // A rate is at least 1 kHz, so the shift is at most 20: the product has 64 + 20 + 32 bits.
        let time = shifted.wrapping_mul(u128::from(self.factor)).wrapping_shr(32);
        u64::try_from(time).unwrap_or(u64::MAX)
    }

    /// What a vCPU needs to compute the time itself, as of counter `tsc`.
    #[must_use]
    pub fn for_vcpu(&self, tsc: u64) -> VcpuTimeInfo {
        VcpuTimeInfo {
            version: 2,
            tsc_timestamp: tsc,
            system_time: self.time_at(tsc),
            tsc_to_system_mul: self.factor,
            tsc_shift: self.shift,
            flags: ClockFlags::TSC_STABLE.bits(),
            ..VcpuTimeInfo::default()
        }
    }

    /// Writes the wall clock into a domain's shared page, before the domain runs.
    pub fn publish_wall_clock(&self, platform: &impl Platform, shared_info: Mfn) {
        self.change_wall_clock(platform, shared_info, 0);
    }

    /// Writes it again, so many seconds off. The version is odd while it is written.
    pub fn change_wall_clock(&self, platform: &impl Platform, shared_info: Mfn, offset: i64) {
        let at = offset_of!(SharedInfo, wc_version);
        let mut version = [0; 4];
        platform.read_frame(shared_info, at, &mut version);
        let version = u32::from_le_bytes(version) & !1;
        platform.write_frame(shared_info, at, version.wrapping_add(1).as_bytes());
        fence(Ordering::SeqCst);
        let [a, b, c, d, e, f, g, h] = self.wall_seconds.wrapping_add_signed(offset).to_le_bytes();
        let fields = [u32::from_le_bytes([a, b, c, d]), 0, u32::from_le_bytes([e, f, g, h])];
        platform.write_frame(shared_info, at.wrapping_add(4), fields.as_bytes());
        fence(Ordering::SeqCst);
        platform.write_frame(shared_info, at, version.wrapping_add(2).as_bytes());
    }
}

/// Seconds from 1970 to a date and time in UTC; the year in full, month and day from 1.
#[must_use]
pub fn unix_seconds(date: [u64; 3], time: [u64; 3]) -> u64 {
    let [year, month, day] = date;
    let [hours, minutes, seconds] = time;
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month > 2 {
        (year, month.wrapping_sub(3))
    } else {
        (year.saturating_sub(1), month.wrapping_add(9))
    };
    let leap_days = (year / 4).wrapping_sub(year / 100).wrapping_add(year / 400);
    let day_of_year = month.wrapping_mul(153).wrapping_add(2) / 5;
    /// Days from the first of March of year 0 to the first day of 1970.
    const TO_1970: u64 = 719_468;
    let days = year
        .wrapping_mul(365)
        .wrapping_add(leap_days)
        .wrapping_add(day_of_year)
        .wrapping_add(day.wrapping_sub(1))
        .saturating_sub(TO_1970);
    let minutes = hours.wrapping_mul(60).wrapping_add(minutes);
    days.wrapping_mul(86_400).wrapping_add(minutes.wrapping_mul(60)).wrapping_add(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(unix_seconds([1970, 1, 1], [0, 0, 0]), 0);
        assert_eq!(unix_seconds([1970, 3, 1], [0, 0, 1]), 59 * 86_400 + 1);
        assert_eq!(unix_seconds([2000, 2, 29], [12, 0, 0]), 951_825_600);
        assert_eq!(unix_seconds([2026, 11, 21], [6, 8, 0]), 1_795_241_280);
        assert_eq!(unix_seconds([2100, 3, 1], [0, 0, 0]), 4_107_542_400);
    }

    #[test]
    fn rates_from_slow_to_fast() {
        for khz in [1, 999, 1_000, 1_000_000, 1_000_001, 2_000_000, 2_596_150, 5_700_000] {
            let clock = Clock::new(khz, 1_000, 0);
            assert!(clock.factor >= 1 << 31, "{khz}: the factor wastes bits");
            let second = clock.time_at(1_000 + khz * 1_000);
            assert!(
                second.abs_diff(NANOSECONDS) <= 1 + NANOSECONDS / khz / 1_000,
                "{khz}: {second}"
            );
            assert_eq!(clock.time_at(1_000), 0);
            assert_eq!(clock.time_at(0), 0);
        }
    }

    /// The guest's formula gives what the kernel's own does.
    #[test]
    fn guests_compute_the_same() {
        let clock = Clock::new(2_596_150, 77, 0);
        let info = clock.for_vcpu(1_000_000);
        let cycles = 5_000_000_000_u64 - info.tsc_timestamp;
        let shifted = cycles >> info.tsc_shift.unsigned_abs();
        assert!(info.tsc_shift < 0);
        let passed = (u128::from(shifted) * u128::from(info.tsc_to_system_mul)) >> 32;
        let guest = info.system_time + u64::try_from(passed).unwrap();
        assert!(guest.abs_diff(clock.time_at(5_000_000_000)) <= 2);
    }
}
