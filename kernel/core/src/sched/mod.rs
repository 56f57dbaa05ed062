//! Which vCPU runs on which CPU, and for how long.
//!
//! **Fairness.** Each unit has a virtual time that advances while it runs, by the time it ran divided
//! by its weight, measured from timestamps: there is no sampling to dodge. A CPU runs the unit of its
//! queue with the earliest one, for a slice. A unit that slept comes back at most `fair::CREDIT`
//! before the others, so it runs soon but can't save up. CPUs level out their queues: an idle one
//! takes what another has waiting, and a busy one takes what is far behind its own.
//!
//! **No lost wake-up.** Whether a unit may run is a word of reasons against it, changed at any time
//! by anybody. Where it is, its *place*, changes only under the lock of the queue of the CPU that the
//! place names. Whoever changes the word, or the affinity, then takes that lock and brings the place
//! into agreement ([`Scheduler::wake`] and the others all end in one function that does); a unit that
//! runs is left to its CPU, whose [`Scheduler::put_back`] reads the word after that, under the same
//! lock. So of a change and a `put_back`, the later one sees what the earlier one did. A unit moves
//! between CPUs under the lock of the one it leaves; it arrives there as *running*, which only the
//! new CPU itself changes, or as *off*, and then everybody who finds it so may queue it.
//!
//! One lock of a queue is held at a time, and under it at most the small one of a [`Share`].
//!
//! The caller does what follows from decisions: it switches registers, sets the timer, and sends the
//! interrupts that a [`Poke`] asks for.

mod fair;
mod queue;
mod runstate;
mod scheduler;
mod share;
#[cfg(test)]
mod tests;
mod unit;

pub(crate) use fair::RATE_LIMIT;
pub use queue::{CAPACITY, CpuQueue};
pub use runstate::up_to;
pub use scheduler::{NoSuchCpu, Scheduler};
pub use share::Share;
pub use unit::{Reasons, Scheduling};

use crate::cpu::{CpuId, CpuSet};

/// Something that can be scheduled; the kernel's is an owner of a vCPU.
pub trait Unit: Clone + Send + Sync + 'static {
    /// The scheduler's record of it.
    fn scheduling(&self) -> &Scheduling;
    /// The share that its domain has of the machine.
    fn share(&self) -> &Share;
    /// Whether both are the same unit.
    fn is(&self, other: &Self) -> bool;
}

/// CPUs that must call [`Scheduler::choose`] again; the CPU that got this may be one of them.
#[must_use = "the CPUs must be interrupted, or a unit that may run does not"]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Poke {
    cpus: CpuSet,
    /// One of them, which need not do so before this time.
    later: Option<(CpuId, u64)>,
}

impl Poke {
    /// No CPU.
    pub const NONE: Self = Self { cpus: CpuSet::EMPTY, later: None };

    const fn all(cpus: CpuSet) -> Self {
        Self { cpus, later: None }
    }

    const fn one(cpu: CpuId) -> Self {
        Self::all(CpuSet::one(cpu))
    }

    /// One that runs something which it may go on with until then.
    const fn by(cpu: CpuId, time: u64) -> Self {
        Self { cpus: CpuSet::one(cpu), later: Some((cpu, time)) }
    }

    /// Both, of which the other is of other CPUs, and at once.
    const fn and(self, other: Self) -> Self {
        Self { cpus: self.cpus.or(other.cpus), later: self.later }
    }

    /// The CPUs.
    #[must_use]
    pub const fn cpus(self) -> CpuSet {
        self.cpus
    }

    /// Until when one of the CPUs may wait, if it sets its timer. Unit: nanoseconds of system time.
    #[must_use]
    pub fn later(self, cpu: CpuId) -> Option<u64> {
        self.later.filter(|(other, _)| *other == cpu).map(|(_, time)| time)
    }
}

/// What a CPU does next. Times are nanoseconds of system time: when to ask again, by a timer, unless
/// something else happens before; `None`: no timer is needed.
#[must_use = "the CPU runs what was chosen"]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Choice<T> {
    /// It continues with what it runs.
    Stay {
        /// When to ask again.
        until: Option<u64>,
    },
    /// It saves what it ran, gives it to [`Scheduler::put_back`], and runs this.
    Switch {
        /// The unit to run.
        next: T,
        /// When to ask again.
        until: Option<u64>,
    },
    /// The same, but there is nothing to run.
    Idle {
        /// When to ask again.
        until: Option<u64>,
    },
}

/// Between any two instructions of this CPU another may act. Tests make it so at these points, which
/// are before each access to what CPUs share; outside of tests there is nothing here.
#[inline]
fn point() {
    #[cfg(test)]
    tests::interleavings::point();
}

/// What a CPU holds while it has a queue's lock, so that tests know. Outside of tests there is
/// nothing here.
#[cfg(test)]
use tests::interleavings::{Turn, turn};
#[cfg(not(test))]
type Turn = ();
#[cfg(not(test))]
const fn turn(_: CpuId) -> Option<Turn> {
    None
}
