//! The scheduler's record of one unit.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use bitflags::bitflags;
use hypercall_abi::vcpu::{BLOCKED, OFFLINE, RUNNABLE};

use super::point;
use super::runstate::Runstate;
use crate::cpu::{CpuId, CpuSet};

bitflags! {
    /// Why a unit does not run. It may run if there is no reason.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct Reasons: u32 {
        /// It waits for an event, by `block` or `poll`.
        const WAITING = 1;
        /// It has not been brought up, or was taken down.
        const DOWN = 2;
        /// Somebody paused it. How many did is counted elsewhere.
        const PAUSED = 4;
        /// Its domain has been shut down or is dying.
        const STOPPED = 8;
    }
}

impl Reasons {
    /// What a unit is doing that does not run (ABI: `RUNSTATE_*`).
    pub(super) const fn runstate(self) -> u32 {
        if self.is_empty() {
            RUNNABLE
        } else if self.contains(Self::WAITING) {
            BLOCKED
        } else {
            OFFLINE
        }
    }
}

/// How a unit and a CPU are related.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Presence {
    /// It neither runs nor may run.
    Off,
    /// It is in the CPU's queue.
    Queued,
    /// The CPU runs it, or has its registers still to save.
    Running,
}

/// Where a unit is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place {
    pub(super) presence: Presence,
    pub(super) cpu: CpuId,
}

/// The scheduler's record of one unit; part of the vCPU.
#[derive(Debug)]
pub struct Scheduling {
    reasons: AtomicU32,
    place: AtomicU32,
    affinity: AtomicU64,
    soft_affinity: AtomicU64,
    yielding: AtomicBool,
    // These belong to whoever holds the lock of the place's queue:
    woken: AtomicBool,
    time: AtomicU64,
    position: AtomicU64,
    pub(super) runstate: Runstate,
}

impl Scheduling {
    /// A unit that is off for these `reasons`, of which there is at least one, since `now`; every CPU
    /// will do. Unit: nanoseconds of system time.
    #[must_use]
    pub const fn new(reasons: Reasons, now: u64) -> Self {
        Self {
            reasons: AtomicU32::new(reasons.bits()),
            place: AtomicU32::new(0),
            affinity: AtomicU64::new(u64::MAX),
            soft_affinity: AtomicU64::new(u64::MAX),
            yielding: AtomicBool::new(false),
            woken: AtomicBool::new(false),
            time: AtomicU64::new(0),
            position: AtomicU64::new(0),
            runstate: Runstate::new(now),
        }
    }

    /// Why it may not run, at this moment.
    #[must_use]
    pub fn reasons(&self) -> Reasons {
        point();
        Reasons::from_bits_retain(self.reasons.load(Ordering::SeqCst))
    }

    /// The CPUs it may run on.
    #[must_use]
    pub fn affinity(&self) -> CpuSet {
        point();
        CpuSet::from_bits(self.affinity.load(Ordering::SeqCst))
    }

    /// Of the CPUs it may run on, those it would best run on; of no meaning if it may run on none of
    /// them.
    #[must_use]
    pub fn soft_affinity(&self) -> CpuSet {
        CpuSet::from_bits(self.soft_affinity.load(Ordering::Relaxed))
    }

    /// Says where it would best run, from when it is placed next.
    pub(crate) fn set_soft_affinity(&self, cpus: CpuSet) {
        self.soft_affinity.store(cpus.bits(), Ordering::Relaxed);
    }

    /// Whether a CPU runs it or has its registers still to save. Once
    /// [`super::Scheduler::hold`] has returned and this is false, it stays false until the reason is
    /// gone.
    #[must_use]
    pub fn is_on_cpu(&self) -> bool {
        self.place().presence == Presence::Running
    }

    /// The CPU that runs it, or ran it last.
    #[must_use]
    pub fn cpu(&self) -> CpuId {
        self.place().cpu
    }

    /// The unit, which runs, begins to wait. The CPU that runs it must then look once more for what
    /// it might have to wait for, and call [`super::Scheduler::choose`].
    pub fn wait(&self, reason: Reasons) {
        self.add(reason);
    }

    /// The unit, which runs, lets others go first. Its CPU must call [`super::Scheduler::choose`].
    pub fn yield_turn(&self) {
        self.yielding.store(true, Ordering::Relaxed);
    }

    pub(super) fn yields(&self) -> bool {
        self.yielding.load(Ordering::Relaxed)
    }

    /// Whether it was yielding, which is over.
    pub(super) fn end_yield(&self) -> bool {
        let yielding = self.yields();
        if yielding {
            self.yielding.store(false, Ordering::Relaxed);
        }
        yielding
    }

    pub(super) fn add(&self, reason: Reasons) {
        point();
        self.reasons.fetch_or(reason.bits(), Ordering::SeqCst);
    }

    /// Whether there was such a reason.
    pub(super) fn remove(&self, reason: Reasons) -> bool {
        self.reasons().intersects(reason) && {
            point();
            self.reasons.fetch_and(!reason.bits(), Ordering::SeqCst) & reason.bits() != 0
        }
    }

    pub(super) fn set_affinity(&self, cpus: CpuSet) {
        point();
        self.affinity.store(cpus.bits(), Ordering::SeqCst);
    }

    /// Whether nothing is against its running on this CPU.
    pub(super) fn may_run_on(&self, cpu: CpuId) -> bool {
        self.reasons().is_empty() && self.affinity().contains(cpu)
    }

    pub(super) fn place(&self) -> Place {
        point();
        let [presence, cpu, ..] = self.place.load(Ordering::Acquire).to_le_bytes();
        let presence = match presence {
            0 => Presence::Off,
            1 => Presence::Queued,
            _ => Presence::Running,
        };
        Place { presence, cpu: CpuId::new(cpu).unwrap_or(CpuId::BOOT) }
    }

    /// To be called under the lock of the queue that the place names until now.
    pub(super) fn set_place(&self, presence: Presence, cpu: CpuId) {
        point();
        let place = u32::from_le_bytes([presence as u8, cpu.number(), 0, 0]);
        self.place.store(place, Ordering::Release);
    }

    pub(super) fn time(&self) -> u64 {
        self.time.load(Ordering::Relaxed)
    }

    pub(super) fn set_time(&self, time: u64) {
        self.time.store(time, Ordering::Relaxed);
    }

    /// What it is ordered by in a queue: its virtual time, or a later one if it yielded.
    pub(super) fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    pub(super) fn set_position(&self, position: u64) {
        self.position.store(position, Ordering::Relaxed);
    }

    /// Whether it is in a queue because it was woken, not because its slice was over.
    pub(super) fn woken(&self) -> bool {
        self.woken.load(Ordering::Relaxed)
    }

    pub(super) fn set_woken(&self, woken: bool) {
        self.woken.store(woken, Ordering::Relaxed);
    }
}
