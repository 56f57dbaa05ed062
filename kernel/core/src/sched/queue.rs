//! The units that wait for one CPU, and what the CPU is doing.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hypercall_abi::vcpu::RUNNING;

use super::unit::Presence;
use super::{Scheduling, Turn, Unit, fair, point, turn};
use crate::cpu::{CpuId, CpuSet};
use crate::lock::{Guard, Lock};
use crate::platform::Platform;

/// How many units can wait for one CPU. There must not be more vCPUs than that.
pub const CAPACITY: usize = 1024;

/// When a CPU asks that has no timer set.
pub(super) const NEVER: u64 = u64::MAX;

/// What one CPU has to do.
#[derive(Debug)]
pub struct CpuQueue<T> {
    cpu: CpuId,
    /// The virtual time below which no unit of this CPU is; never goes back. Changed under the lock.
    base: AtomicU64,
    /// How many units wait. Changed under the lock.
    load: AtomicU32,
    inner: Lock<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    units: heapless::Vec<T, CAPACITY>,
    running: Option<Running>,
    /// When the CPU will ask again; earlier, if it has been poked.
    until: u64,
    /// When it compares itself with others again.
    balance: u64,
    /// Whether it is doing so.
    pulling: bool,
}

/// What is known of the unit that a CPU runs. Kept here, not in the unit's record, to be at hand for
/// those who put others into the queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    /// Beginning of its slice.
    pub(super) since: u64,
    /// Until when it has been charged.
    charged: u64,
    /// Its virtual time then.
    pub(super) time: u64,
    inverse: u64,
    pub(super) weight: u32,
}

impl Running {
    fn time_at(&self, now: u64) -> u64 {
        fair::advance(self.time, now.saturating_sub(self.charged), self.inverse)
    }

    /// The end of its slice.
    pub(super) fn slice_end(&self) -> u64 {
        self.since.saturating_add(fair::slice(self.weight))
    }

    /// When a woken unit may take its place; only its slice's end comes earlier.
    pub(super) fn makes_way(&self, woken: u64, now: u64) -> u64 {
        let behind = fair::later(self.time_at(now), woken);
        let missing = i64::try_from(fair::PREEMPT).unwrap_or(0).saturating_sub(behind);
        let enough = now.saturating_add(fair::time_to(missing, self.weight));
        enough.max(self.since.saturating_add(fair::RATE_LIMIT))
    }
}

/// What a look at the waiting units shows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    /// Index and position of the first one that may run.
    pub(super) best: Option<(usize, u64)>,
    /// Position of the first one that was woken.
    pub(super) woken: Option<u64>,
    /// When there is time again for one whose domain has none.
    pub(super) refill: Option<u64>,
}

impl<T: Unit> CpuQueue<T> {
    pub(super) const fn new(cpu: CpuId) -> Self {
        let inner = Inner {
            units: heapless::Vec::new(),
            running: None,
            until: NEVER,
            balance: 0,
            pulling: false,
        };
        Self { cpu, base: AtomicU64::new(0), load: AtomicU32::new(0), inner: Lock::new(inner) }
    }

    pub(super) const fn cpu(&self) -> CpuId {
        self.cpu
    }

    /// How many units wait, as far as one can know without the lock.
    pub(super) fn load(&self) -> u32 {
        point();
        self.load.load(Ordering::SeqCst)
    }

    /// The virtual time below which none of them is; may be a little old.
    pub(super) fn base(&self) -> u64 {
        self.base.load(Ordering::Relaxed)
    }

    /// Takes the lock, at this time.
    pub(super) fn lock<'a, P: Platform>(&'a self, platform: &'a P, now: u64) -> Locked<'a, P, T> {
        point();
        let turn = turn(self.cpu);
        Locked { queue: self, platform, now, inner: self.inner.lock(platform), _turn: turn }
    }
}

/// A queue whose lock is held, and the time.
pub(super) struct Locked<'a, P, T> {
    queue: &'a CpuQueue<T>,
    pub(super) platform: &'a P,
    pub(super) now: u64,
    inner: Guard<'a, Inner<T>>,
    _turn: Option<Turn>,
}

impl<P: Platform, T: Unit> Locked<'_, P, T> {
    pub(super) fn cpu(&self) -> CpuId {
        self.queue.cpu
    }

    pub(super) fn base(&self) -> u64 {
        self.queue.base()
    }

    pub(super) fn running(&self) -> Option<Running> {
        self.inner.running
    }

    /// The CPU is about to look at the queues of others, without this lock.
    pub(super) fn set_pulling(&mut self, pulling: bool) {
        self.inner.pulling = pulling;
    }

    /// Where units may run that the CPU might not come to after `unit` was put into its queue, or not
    /// at once. If the CPU runs something, others know of those that were there before.
    pub(super) fn wanted_on(&self, unit: &T) -> CpuSet {
        let busy = self.inner.running.is_some() || self.inner.pulling;
        if busy || unit.share().time_left(self.platform, self.now).is_err() {
            unit.scheduling().affinity()
        } else if self.inner.units.len() > 1 {
            let all = self.inner.units.iter().map(|unit| unit.scheduling().affinity());
            all.fold(CpuSet::EMPTY, CpuSet::or)
        } else {
            CpuSet::EMPTY
        }
    }

    /// Sets when the CPU asks again.
    pub(super) fn set_until(&mut self, until: u64) {
        self.inner.until = until;
    }

    /// Whether the CPU must be told to ask at this time, because it would do so later.
    pub(super) fn asks_after(&mut self, at: u64) -> bool {
        let later = at < self.inner.until;
        if later {
            self.inner.until = at;
        }
        later
    }

    /// Whether it is time to compare this CPU with others.
    pub(super) fn balance_due(&mut self) -> bool {
        let due = self.now >= self.inner.balance;
        if due {
            self.inner.balance = self.now.saturating_add(fair::BALANCE);
        }
        due
    }

    /// Charges the unit that runs for its time until now.
    pub(super) fn charge(&mut self, current: Option<&T>) {
        let now = self.now;
        let Some(running) = &mut self.inner.running else { return };
        let ran = now.saturating_sub(running.charged);
        running.time = running.time_at(now);
        running.charged = running.charged.max(now);
        if let Some(current) = current {
            current.share().spend(self.platform, ran);
        }
    }

    /// Gives the unit that runs a new slice.
    pub(super) fn renew(&mut self, current: &T) {
        let now = self.now;
        if let Some(running) = &mut self.inner.running {
            running.since = now;
            running.weight = current.share().weight();
            running.inverse = current.share().inverse();
        }
    }

    /// The unit that ran, and has been charged, does so no longer. It keeps its place.
    pub(super) fn stop(&mut self, current: &T) {
        if let Some(running) = self.inner.running.take() {
            let record = current.scheduling();
            record.set_time(running.time);
            record.runstate.enter(record.reasons().runstate(), self.now);
        }
    }

    /// Looks at all that wait and fit.
    pub(super) fn scan(&self, fits: impl Fn(&Scheduling) -> bool) -> Scan {
        let mut scan = Scan::default();
        for (index, unit) in self.inner.units.iter().enumerate() {
            if !fits(unit.scheduling()) {
                continue;
            }
            if let Err(refill) = unit.share().time_left(self.platform, self.now) {
                scan.refill = Some(scan.refill.map_or(refill, |other| other.min(refill)));
                continue;
            }
            let position = unit.scheduling().position();
            if scan.best.is_none_or(|(_, best)| fair::later(best, position) > 0) {
                scan.best = Some((index, position));
            }
            if unit.scheduling().woken() {
                scan.woken = Some(scan.woken.map_or(position, |other| fair::min(other, position)));
            }
        }
        scan
    }

    /// The virtual time has come this far.
    pub(super) fn raise_base(&mut self, time: u64) {
        self.queue.base.store(fair::max(self.base(), time), Ordering::Relaxed);
    }

    /// Puts a unit into the queue that is off, or has just run, here. One that yielded goes behind
    /// all others.
    pub(super) fn enter(&mut self, unit: &T) {
        let record = unit.scheduling();
        if let (Some(running), true) = (self.running(), self.inner.units.is_empty()) {
            self.raise_base(running.time_at(self.now));
        }
        let yielded = record.end_yield();
        let credit = if yielded || record.woken() { fair::CREDIT } else { fair::FAR };
        let time = fair::max(record.time(), self.base().wrapping_sub(credit));
        record.set_time(time);
        record.set_position(if yielded {
            // Its virtual time stays what it is, so it has no advantage from going last.
            self.all().reduce(fair::max).map_or(time, |last| fair::max(time, last.wrapping_add(1)))
        } else if record.woken() && fair::is_behind(time, self.base()) {
            // It has had less than its share. One that has been taken from another CPU, and has more
            // to catch up, is not behind because it waited, and must not make this one wait long.
            self.all()
                .reduce(fair::min)
                .map_or(time, |first| fair::min(time, first.wrapping_sub(fair::PREEMPT)))
        } else {
            time
        });
        if self.inner.units.push(unit.clone()).is_err() {
            // More vCPUs than there may be: this one waits until something else happens to it.
            log::error!("the queue of cpu {} is full, a vcpu does not run", self.cpu().number());
            return;
        }
        record.set_place(Presence::Queued, self.cpu());
        self.publish_load();
    }

    /// Where all are that run or wait here.
    fn all(&self) -> impl Iterator<Item = u64> {
        let running = self.running().map(|running| running.time_at(self.now));
        running.into_iter().chain(self.inner.units.iter().map(|unit| unit.scheduling().position()))
    }

    /// Takes a unit out of the queue; it is off.
    pub(super) fn leave(&mut self, unit: &T) {
        if let Some(index) = self.inner.units.iter().position(|other| other.is(unit)) {
            self.inner.units.swap_remove(index);
            self.publish_load();
        }
        unit.scheduling().set_place(Presence::Off, self.cpu());
    }

    /// Takes the unit with this index, of a scan just made, to run it on a CPU, this or another one.
    pub(super) fn take(&mut self, index: usize, cpu: CpuId) -> Option<T> {
        if index >= self.inner.units.len() {
            return None;
        }
        let unit = self.inner.units.swap_remove(index);
        self.publish_load();
        unit.scheduling().set_woken(false);
        unit.scheduling().runstate.enter(RUNNING, self.now);
        unit.scheduling().set_place(Presence::Running, cpu);
        Some(unit)
    }

    /// The CPU runs a unit from now on that was taken for it.
    pub(super) fn start(&mut self, unit: &T) {
        let time = fair::max(unit.scheduling().time(), self.base().wrapping_sub(fair::FAR));
        self.inner.running = Some(Running {
            since: self.now,
            charged: self.now,
            time,
            inverse: unit.share().inverse(),
            weight: unit.share().weight(),
        });
    }

    /// Gives another CPU the first unit that may run there; with a `limit`, one that is before it and
    /// would as soon run there.
    ///
    /// # Errors
    ///
    /// If there is none, when there may be one because its domain has time again.
    pub(super) fn give(&mut self, to: &CpuQueue<T>, limit: Option<u64>) -> Result<T, Option<u64>> {
        let scan = self.scan(|record| {
            record.affinity().contains(to.cpu)
                && limit.is_none_or(|limit| {
                    let best = record.soft_affinity();
                    let as_soon = best.contains(to.cpu) || !best.contains(self.cpu());
                    as_soon && fair::later(limit, record.position()) > 0
                })
        });
        let (index, _) = scan.best.ok_or(scan.refill)?;
        let base = self.base();
        let unit = self.take(index, to.cpu).ok_or(None)?;
        let time = unit.scheduling().time();
        unit.scheduling().set_time(match limit {
            // Levelling out: it is behind, and shall make up for that.
            Some(_) => time,
            None => rebased(time, base, to.base()),
        });
        Ok(unit)
    }

    fn publish_load(&self) {
        let load = u32::try_from(self.inner.units.len()).unwrap_or(u32::MAX);
        point();
        self.queue.load.store(load, Ordering::SeqCst);
    }
}

/// A virtual time of one CPU, as far from the base of another.
pub(super) const fn rebased(time: u64, from: u64, to: u64) -> u64 {
    to.wrapping_add(time.wrapping_sub(from))
}
