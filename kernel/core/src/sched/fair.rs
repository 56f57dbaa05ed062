//! Virtual time.
//!
//! Its unit is 1/256 of a nanosecond at the default weight, so that rounding, which is down and at
//! most one such unit each time, is nothing to live on. It wraps around; two virtual times are
//! compared by their difference, which stays far below half the range: a single advance is limited,
//! and units of one queue are kept together.

/// The weight of a domain that has not been given one.
pub(super) const DEFAULT_WEIGHT: u32 = 256;
/// The highest weight.
pub(super) const MAX_WEIGHT: u32 = 65_535;

/// What a nanosecond at the highest weight comes to, but for 1/65536. Virtual time is `ran * ONE /
/// weight`.
const ONE: u64 = 1 << 16;
/// A millisecond at the default weight.
const MILLISECOND: u64 = 256_000_000;

/// How far before the others of a CPU a unit can be that comes back from waiting, or that yields.
pub(super) const CREDIT: u64 = 2 * MILLISECOND;
/// How far behind a woken unit the running one must be to make way.
pub(super) const PREEMPT: u64 = MILLISECOND / 20;
/// How far behind a unit must be for a busy CPU to take it from another one.
pub(super) const IMBALANCE: u64 = 4 * MILLISECOND;
/// How far before the others a unit can be for other reasons: it was taken so, or its domain had no
/// time. Beyond, it is forgotten.
pub(super) const FAR: u64 = 50 * MILLISECOND;

/// A unit runs at least this long before a woken one takes its place. Unit: nanoseconds.
pub(crate) const RATE_LIMIT: u64 = 100_000;
/// How often a busy CPU compares itself with others. Unit: nanoseconds.
pub(super) const BALANCE: u64 = 4_000_000;
/// The longest and the shortest slice. Unit: nanoseconds.
const SLICE: u64 = 4_000_000;
const SHORT_SLICE: u64 = 500_000;
/// The longest advance at once: 18 minutes. Who ran longer had no competitor. Unit: nanoseconds.
const LONGEST: u64 = 1 << 40;

/// Virtual time per nanosecond, in units of 2^-32. `weight` is not 0.
pub(super) fn inverse(weight: u32) -> u64 {
    (ONE << 32).checked_div(u64::from(weight)).unwrap_or(ONE << 32)
}

/// `time`, advanced by `ran` nanoseconds.
pub(super) fn advance(time: u64, ran: u64, inverse: u64) -> u64 {
    let by = u128::from(ran.min(LONGEST)).wrapping_mul(u128::from(inverse)).wrapping_shr(32);
    // 40 and 48 bits, less 32: it fits.
    time.wrapping_add(u64::try_from(by).unwrap_or(0))
}

/// How long a unit of this weight takes to advance so far; 0 if it is there. Unit: nanoseconds.
pub(super) fn time_to(distance: i64, weight: u32) -> u64 {
    let distance = u64::try_from(distance).unwrap_or(0);
    distance.saturating_mul(u64::from(weight)) >> 16
}

/// How long a unit of this weight runs while others wait: the lighter, the shorter, so that those of
/// one CPU take about equal steps in virtual time. Unit: nanoseconds.
pub(super) fn slice(weight: u32) -> u64 {
    (SLICE >> DEFAULT_WEIGHT.trailing_zeros())
        .wrapping_mul(u64::from(weight))
        .clamp(SHORT_SLICE, SLICE)
}

/// How much later `a` is than `b`.
pub(super) const fn later(a: u64, b: u64) -> i64 {
    a.wrapping_sub(b).cast_signed()
}

/// The later of both.
pub(super) const fn max(a: u64, b: u64) -> u64 {
    if later(a, b) > 0 { a } else { b }
}

/// The earlier of both.
pub(super) const fn min(a: u64, b: u64) -> u64 {
    if later(a, b) < 0 { a } else { b }
}

/// Whether `time` is so far before `base` that a unit that is woken with it is preferred.
pub(super) const fn is_behind(time: u64, base: u64) -> bool {
    later(base.wrapping_sub(PREEMPT), time) >= 0
}
