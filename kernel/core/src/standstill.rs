//! All CPUs but one held still, for what has to see the whole system at one moment.
//!
//! A CPU stands still where it asks the scheduler: there nothing is half done and no lock is held.
//! Each comes there soon, because hypercalls are bounded and an interrupt is not missed: it waits
//! until ring 0 is left.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::cpu::{CpuId, CpuSet};
use crate::platform::Platform;
use crate::system::System;

/// Who stands still, and whether anybody is to.
#[derive(Debug)]
pub(crate) struct Standstill {
    /// Odd while CPUs are to stand still; another value each time.
    round: AtomicU64,
    /// The CPUs that do, one a bit. Only in an odd round.
    standing: AtomicU64,
}

impl Standstill {
    pub(crate) const fn new() -> Self {
        Self { round: AtomicU64::new(0), standing: AtomicU64::new(0) }
    }

    /// These CPUs stand still: for tests on one thread.
    #[cfg(test)]
    pub(crate) fn pretend(&self, cpus: u64) {
        self.standing.store(cpus, Ordering::Relaxed);
    }

    fn stands(&self, cpu: CpuId) -> bool {
        CpuSet::from_bits(self.standing.load(Ordering::Acquire)).contains(cpu)
    }
}

impl<P: Platform> System<P> {
    /// Stands still if another CPU wants it, until it does no more. For a CPU that holds no lock and
    /// has nothing half done.
    #[inline]
    pub(crate) fn stand_still(&self) {
        let Standstill { round, standing } = &self.standstill;
        let mut now = round.load(Ordering::Acquire);
        while now & 1 != 0 {
            standing.fetch_or(CpuSet::one(self.platform.cpu()).bits(), Ordering::AcqRel);
            while round.load(Ordering::Acquire) == now {
                self.platform.spin_wait();
            }
            now = round.load(Ordering::Acquire);
        }
    }

    /// Does something while all other CPUs stand still. `None` if another CPU does already: this one
    /// must go to where it stands still.
    pub(crate) fn alone<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let Standstill { round, standing } = &self.standstill;
        let last = round.load(Ordering::Relaxed);
        let (ordering, fail) = (Ordering::AcqRel, Ordering::Relaxed);
        let next = last.wrapping_add(1);
        if last & 1 != 0 || round.compare_exchange(last, next, ordering, fail).is_err() {
            return None;
        }
        let this = self.platform.cpu();
        let all = (0..CpuSet::CAPACITY).filter_map(CpuId::new);
        for cpu in all.filter(|&cpu| cpu != this && self.cpus.get(cpu).is_some()) {
            self.platform.poke(cpu);
            while !self.standstill.stands(cpu) {
                self.platform.spin_wait();
            }
        }
        let done = work();
        // Nobody stands up or comes before the round is over.
        standing.store(0, Ordering::Relaxed);
        round.store(next.wrapping_add(1), Ordering::Release);
        Some(done)
    }
}
