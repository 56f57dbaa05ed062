//! The share of the machine that a domain's units have: a weight each, and a limit together.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::fair;
use crate::lock::Lock;
use crate::platform::Platform;

/// How often a limited domain gets new time. Unit: nanoseconds.
const PERIOD: u64 = 10_000_000;
/// What one percent of one CPU is in a period. Unit: nanoseconds.
const PERCENT: u64 = PERIOD / 100;
/// A unit of a limited domain is looked at this often: others of the domain spend from the same
/// time. Unit: nanoseconds.
const CHECK: u64 = 1_000_000;
/// What a domain took too much it must give back, but no more than this many periods' time.
const MAX_DEBT: i64 = 64;

/// The share of one domain; part of the domain.
#[derive(Debug)]
pub struct Share {
    weight: AtomicU32,
    inverse: AtomicU64,
    cap: AtomicU32,
    budget: Lock<Budget>,
}

/// The time that a limited domain may still use. Unit: nanoseconds.
#[derive(Debug)]
struct Budget {
    left: i64,
    refill: u64,
}

impl Share {
    /// The default: weight 256, no limit.
    #[must_use]
    pub fn new() -> Self {
        Self {
            weight: AtomicU32::new(fair::DEFAULT_WEIGHT),
            inverse: AtomicU64::new(fair::inverse(fair::DEFAULT_WEIGHT)),
            cap: AtomicU32::new(0),
            budget: Lock::new(Budget { left: 0, refill: 0 }),
        }
    }

    /// The weight of each of the domain's units.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    /// Sets the weight, at least 1 and at most 65535; beyond, it is the nearest of these. Units that
    /// run have it from their next turn on.
    pub fn set_weight(&self, weight: u32) {
        let weight = weight.clamp(1, fair::MAX_WEIGHT);
        self.weight.store(weight, Relaxed);
        self.inverse.store(fair::inverse(weight), Relaxed);
    }

    /// What the domain's units may use together, in percent of one CPU; 0: there is no limit.
    #[must_use]
    pub fn cap(&self) -> u32 {
        self.cap.load(Relaxed)
    }

    /// Sets the limit, in percent of one CPU; 0: none. A CPU that runs one of the units has to be
    /// told, with what [`super::Scheduler::reconsider`] returns; one that waits for the end of the
    /// old limit knows within 10 ms.
    pub fn set_cap(&self, platform: &impl Platform, cap: u32, now: u64) {
        let mut budget = self.budget.lock(platform);
        *budget = Budget { left: quota(cap), refill: now.saturating_add(PERIOD) };
        self.cap.store(cap, Relaxed);
    }

    pub(super) fn inverse(&self) -> u64 {
        self.inverse.load(Relaxed)
    }

    /// A unit ran for so many nanoseconds.
    #[inline]
    pub(super) fn spend(&self, platform: &impl Platform, ran: u64) {
        let cap = self.cap();
        if cap != 0 {
            let mut budget = self.budget.lock(platform);
            let least = quota(cap).saturating_mul(MAX_DEBT).saturating_neg();
            let ran = i64::try_from(ran).unwrap_or(i64::MAX);
            budget.left = budget.left.saturating_sub(ran).max(least);
        }
    }

    /// Until when a unit may run at most, if there is a limit.
    ///
    /// # Errors
    ///
    /// When there is time again, if there is none.
    #[inline]
    pub(super) fn time_left(&self, platform: &impl Platform, now: u64) -> Result<Option<u64>, u64> {
        let cap = self.cap();
        if cap == 0 {
            return Ok(None);
        }
        let mut budget = self.budget.lock(platform);
        budget.refill(quota(cap), now);
        match u64::try_from(budget.left) {
            Ok(left @ 1..) => Ok(Some(now.saturating_add(left.min(CHECK)))),
            _ => Err(budget.refill),
        }
    }
}

impl Budget {
    /// Adds what has become due. Nothing is saved for later, but what was used too much is owed.
    fn refill(&mut self, quota: i64, now: u64) {
        let Some(late) = now.checked_sub(self.refill) else { return };
        let periods = (late / PERIOD).saturating_add(1);
        let due = quota.saturating_mul(i64::try_from(periods).unwrap_or(i64::MAX));
        self.left = self.left.saturating_add(due).min(quota);
        self.refill = self.refill.saturating_add(periods.saturating_mul(PERIOD));
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::new()
    }
}

/// The time of one period. Unit: nanoseconds.
fn quota(cap: u32) -> i64 {
    i64::try_from(u64::from(cap).saturating_mul(PERCENT)).unwrap_or(i64::MAX)
}
