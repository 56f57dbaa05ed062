//! All queues together: where units go, and what a CPU does next.

use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::vcpu::{RUNNABLE, RunstateInfo};

use super::queue::{CpuQueue, Locked, NEVER, Scan, rebased};
use super::unit::Presence;
use super::{Choice, Poke, Reasons, Scheduling, Unit, fair, point};
use crate::cpu::{CpuId, CpuSet};
use crate::platform::{NoMemory, Platform};

/// None of the CPUs given is in use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoSuchCpu;

/// The scheduler of all CPUs.
#[derive(Debug)]
pub struct Scheduler<P: Platform, T: Unit> {
    queues: [spin::Once<P::Arc<CpuQueue<T>>>; CpuSet::CAPACITY as usize],
    online: Flags,
    /// CPUs that have nothing to run. A CPU's flag changes under its queue's lock.
    idle: Flags,
    /// CPUs that run something and will not ask again by themselves. The same holds.
    untimed: Flags,
}

/// What a CPU has decided.
enum Turn {
    /// To go on, until then.
    Stay(u64),
    /// To run the unit with this index and position instead.
    Next(usize, u64),
    /// There is nothing it could run.
    Nothing,
}

impl<P: Platform, T: Unit> Scheduler<P, T> {
    /// A scheduler without CPUs.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            queues: [const { spin::Once::new() }; CpuSet::CAPACITY as usize],
            online: Flags::new(),
            idle: Flags::new(),
            untimed: Flags::new(),
        }
    }

    /// A CPU joins, idle, and can be poked from now on; before it first sleeps it must choose. The
    /// boot CPU must be the first, before there are units.
    ///
    /// # Errors
    ///
    /// [`NoMemory`] when there is none for its queue.
    pub fn cpu_online(&self, platform: &P, cpu: CpuId) -> Result<(), NoMemory> {
        if let Some(slot) = self.queues.get(usize::from(cpu.number())) {
            slot.try_call_once(|| platform.arc_with(|| CpuQueue::new(cpu)))?;
            self.online.set(cpu);
            self.idle.set(cpu);
        }
        Ok(())
    }

    /// Adds a reason why a unit may not run, which may run at this moment: the CPU that it runs on has
    /// to be told. Once that has put it back, [`super::Scheduling::is_on_cpu`] is false.
    pub fn hold(&self, platform: &P, unit: &T, reason: Reasons, now: u64) -> Poke {
        unit.scheduling().add(reason);
        self.settle(platform, unit, now)
    }

    /// Takes away reasons why a unit did not run.
    pub fn wake(&self, platform: &P, unit: &T, reason: Reasons, now: u64) -> Poke {
        if unit.scheduling().remove(reason) { self.settle(platform, unit, now) } else { Poke::NONE }
    }

    /// Says on which CPUs a unit may run; at once, except for the time that a CPU needs to leave it.
    ///
    /// # Errors
    ///
    /// [`NoSuchCpu`] if none of `cpus` is in use.
    pub fn set_affinity(
        &self,
        platform: &P,
        unit: &T,
        cpus: CpuSet,
        now: u64,
    ) -> Result<Poke, NoSuchCpu> {
        if cpus.and(self.online.get()).is_empty() {
            return Err(NoSuchCpu);
        }
        unit.scheduling().set_affinity(cpus);
        Ok(self.settle(platform, unit, now))
    }

    /// The CPU that runs a unit, if one does, must ask again, because its share has changed.
    pub fn reconsider(&self, unit: &T) -> Poke {
        let place = unit.scheduling().place();
        if place.presence == Presence::Running { Poke::one(place.cpu) } else { Poke::NONE }
    }

    /// What a unit is doing, and how long it did what until it began to. Unit: nanoseconds.
    pub fn runstate(&self, platform: &P, unit: &Scheduling) -> RunstateInfo {
        loop {
            let place = unit.place();
            let _queue = self.queue(place.cpu).map(|queue| queue.lock(platform, 0));
            if unit.place().cpu == place.cpu {
                return unit.runstate.info();
            }
        }
    }

    /// Decides what `cpu`, which calls this, does next; `current` is what it runs. Unless the answer
    /// is to stay, the CPU must save the registers of `current`, if any, and put it back.
    pub fn choose(&self, platform: &P, cpu: CpuId, now: u64, current: Option<&T>) -> Choice<T> {
        let Some(here) = self.queue(cpu) else { return Choice::Idle { until: None } };
        let mut queue = here.lock(platform, now);
        queue.charge(current);
        let (mut scan, mut turn) = Self::turn(&mut queue, current);
        if let Some(limit) = self.compare(&mut queue, &scan, &turn)
            && self.others(cpu, limit).next().is_some()
        {
            queue.set_pulling(true);
            drop(queue);
            let pulled = self.pull(platform, here, limit, now);
            queue = here.lock(platform, now);
            queue.set_pulling(false);
            let elsewhere = match pulled {
                Ok(next) => return self.switch(&mut queue, current, next),
                Err(refill) => refill,
            };
            (scan, turn) = Self::turn(&mut queue, current);
            scan.refill = earlier(scan.refill, elsewhere);
        }
        match turn {
            Turn::Stay(until) => {
                let until = self.arm(&mut queue, until.min(scan.refill.unwrap_or(NEVER)));
                if let Some(current) = current {
                    current.scheduling().end_yield();
                }
                Choice::Stay { until }
            }
            Turn::Next(index, _) => match queue.take(index, cpu) {
                Some(next) => self.switch(&mut queue, current, next),
                None => self.rest(&mut queue, scan, current),
            },
            Turn::Nothing => self.rest(&mut queue, scan, current),
        }
    }

    /// Takes back what `cpu`, which calls this, ran until its last choice, now that the registers have
    /// been saved. Only from now on another CPU may run it.
    pub fn put_back(&self, platform: &P, cpu: CpuId, now: u64, unit: &T) -> Poke {
        let Some(here) = self.queue(cpu) else { return Poke::NONE };
        let queue = here.lock(platform, now);
        unit.scheduling().set_place(Presence::Off, cpu);
        self.settle_off(queue, unit, true).unwrap_or_else(|| self.settle(platform, unit, now))
    }

    // --- Bringing a unit's place into agreement ---

    /// Makes a unit's place what its reasons and its affinity say. To be called after a change of
    /// these. Each round that has to be repeated is one in which another CPU got further.
    fn settle(&self, platform: &P, unit: &T, now: u64) -> Poke {
        let record = unit.scheduling();
        let mut may_move = true;
        loop {
            let place = record.place();
            let Some(queue) = self.queue(place.cpu) else { return Poke::NONE };
            let mut queue = queue.lock(platform, now);
            if record.place() != place {
                continue;
            }
            let fits = record.may_run_on(place.cpu);
            match place.presence {
                Presence::Running if fits => return Poke::NONE,
                Presence::Running => return Poke::one(place.cpu),
                Presence::Queued if fits => {
                    return self.helpers(record.affinity(), place.cpu);
                }
                Presence::Queued => queue.leave(unit),
                Presence::Off => {}
            }
            if let Some(poke) = self.settle_off(queue, unit, may_move) {
                return poke;
            }
            may_move = false;
        }
    }

    /// The same for a unit that is off and names the CPU of `queue`. `None`: it now names another CPU,
    /// and is to be settled there.
    fn settle_off(&self, mut queue: Locked<'_, P, T>, unit: &T, may_move: bool) -> Option<Poke> {
        let record = unit.scheduling();
        let cpu = queue.cpu();
        let reasons = record.reasons();
        let woken = record.runstate.state() != RUNNABLE;
        record.runstate.enter(reasons.runstate(), queue.now);
        if !reasons.is_empty() {
            record.end_yield();
            return Some(Poke::NONE);
        }
        let target = self.target(unit, cpu, may_move);
        if target != cpu
            && let Some(there) = self.queue(target)
        {
            record.set_time(rebased(record.time(), queue.base(), there.base()));
            record.set_woken(woken || record.woken());
            record.set_place(Presence::Off, target);
            return None;
        }
        record.set_woken(woken || record.woken());
        queue.enter(unit);
        let time = Self::asked_for(&queue, unit);
        let poke = match queue.asks_after(time) {
            true if time > queue.now => Poke::by(cpu, time),
            true => Poke::one(cpu),
            false => Poke::NONE,
        };
        self.idle.clear(cpu);
        self.untimed.clear(cpu);
        Some(poke.and(self.helpers(queue.wanted_on(unit), cpu)))
    }

    /// When a CPU must look at a unit that has just been put into its queue.
    fn asked_for(queue: &Locked<'_, P, T>, unit: &T) -> u64 {
        let Some(running) = queue.running() else { return 0 };
        let record = unit.scheduling();
        if record.woken() {
            running.makes_way(record.position(), queue.now).min(running.slice_end())
        } else {
            running.slice_end()
        }
    }

    /// Where a unit shall wait that was on `cpu`: there, unless it must not be, or would better be
    /// elsewhere, or another one is idle. An idle CPU comes before one that it would best run on.
    fn target(&self, unit: &T, cpu: CpuId, may_move: bool) -> CpuId {
        let record = unit.scheduling();
        let allowed = record.affinity().and(self.online.get());
        let best = |cpus: CpuSet| {
            let best = cpus.and(record.soft_affinity());
            if best.is_empty() { cpus } else { best }
        };
        if !may_move && allowed.contains(cpu) {
            return cpu;
        }
        let idle = best(self.idle.get().and(allowed));
        let wanted = if idle.is_empty() { best(allowed) } else { idle };
        if wanted.contains(cpu) {
            return cpu;
        }
        let load = |cpu: &CpuId| self.queue(*cpu).map_or(u32::MAX, CpuQueue::load);
        idle.iter().next().or_else(|| wanted.iter().min_by_key(load)).unwrap_or(cpu)
    }

    /// Those of `cpus` that could take a unit that waits for `cpu`, but do not come to see it by
    /// themselves: the idle ones, or one that is not but has no timer.
    fn helpers(&self, cpus: CpuSet, cpu: CpuId) -> Poke {
        let others = cpus.without(cpu);
        let idle = self.idle.get().and(others);
        if !idle.is_empty() {
            return Poke::all(idle);
        }
        self.untimed.get().and(others).iter().next().map_or(Poke::NONE, Poke::one)
    }

    // --- Choosing ---

    /// What a CPU would do on its own.
    fn turn(queue: &mut Locked<'_, P, T>, current: Option<&T>) -> (Scan, Turn) {
        let scan = queue.scan(|_| true);
        let running = queue.running();
        let first = scan.best.map(|(_, position)| position);
        let times = running.map(|running| running.time).into_iter().chain(first);
        if let Some(time) = times.reduce(fair::min) {
            queue.raise_base(time);
        }
        let limit = current
            .filter(|current| current.scheduling().may_run_on(queue.cpu()))
            .map(|current| (current, current.share().time_left(queue.platform, queue.now)));
        let (Some(running), Some((current, Ok(limit)))) = (running, limit) else {
            return (scan, scan.best.map_or(Turn::Nothing, |(at, first)| Turn::Next(at, first)));
        };
        let limit = limit.unwrap_or(NEVER);
        let Some((at, first)) = scan.best else {
            queue.renew(current);
            return (scan, Turn::Stay(limit));
        };
        let over = queue.now >= running.slice_end();
        let makes_way = scan.woken.map_or(NEVER, |woken| running.makes_way(woken, queue.now));
        let turn = if current.scheduling().yields()
            || makes_way <= queue.now
            || (over && fair::later(running.time, first) > 0)
        {
            Turn::Next(at, first)
        } else if over {
            queue.renew(current);
            let end = queue.now.saturating_add(fair::slice(current.share().weight()));
            Turn::Stay(end.min(makes_way).min(limit))
        } else {
            Turn::Stay(running.slice_end().min(makes_way).min(limit))
        };
        (scan, turn)
    }

    /// Whether to look at other CPUs' queues before doing that: the time before which a unit must be
    /// to be taken, or none if all will do. Then this CPU is already known to be idle, so that who
    /// queues something after the look tells it.
    #[expect(clippy::option_option, reason = "the inner one is what the others understand")]
    fn compare(
        &self,
        queue: &mut Locked<'_, P, T>,
        scan: &Scan,
        turn: &Turn,
    ) -> Option<Option<u64>> {
        let time = match turn {
            Turn::Nothing => {
                self.idle.set(queue.cpu());
                return Some(None);
            }
            Turn::Next(_, first) => *first,
            Turn::Stay(_) => queue.running()?.time,
        };
        // One that was woken comes first, and would not if there were one that is further behind. An
        // idle CPU takes what was queued for it: other idle ones have not been told of that.
        let due = scan.woken.is_none() && queue.running().is_some() && queue.balance_due();
        due.then(|| Some(time.wrapping_sub(fair::IMBALANCE)))
    }

    /// The queues of other CPUs in which something waits that may be before the limit.
    fn others(&self, cpu: CpuId, limit: Option<u64>) -> impl Iterator<Item = &CpuQueue<T>> {
        let others = self.online.get().without(cpu);
        others.iter().filter_map(|cpu| self.queue(cpu)).filter(move |queue| {
            queue.load() != 0 && limit.is_none_or(|limit| fair::later(limit, queue.base()) > 0)
        })
    }

    /// Takes a unit of another CPU to run it here, from the longest queue if that has one.
    ///
    /// # Errors
    ///
    /// If there is none, when there may be one because its domain has time again.
    fn pull(
        &self,
        platform: &P,
        here: &CpuQueue<T>,
        limit: Option<u64>,
        now: u64,
    ) -> Result<T, Option<u64>> {
        let cpu = here.cpu();
        let busiest = self.others(cpu, limit).max_by_key(|queue| queue.load());
        let mut refill = None;
        for queue in busiest.into_iter().chain(self.others(cpu, limit)) {
            match queue.lock(platform, now).give(here, limit) {
                Ok(unit) => return Ok(unit),
                Err(at) => refill = earlier(refill, at),
            }
        }
        Err(refill)
    }

    /// The CPU runs `next` instead of what it ran.
    fn switch(&self, queue: &mut Locked<'_, P, T>, current: Option<&T>, next: T) -> Choice<T> {
        self.idle.clear(queue.cpu());
        if let Some(current) = current {
            queue.stop(current);
        }
        queue.start(&next);
        let scan = queue.scan(|_| true);
        let limit =
            next.share().time_left(queue.platform, queue.now).ok().flatten().unwrap_or(NEVER);
        let competes = scan.best.is_some()
            || current.is_some_and(|current| current.scheduling().reasons().is_empty());
        let slice = fair::slice(next.share().weight());
        let wait = if scan.woken.is_some() { fair::RATE_LIMIT } else { slice };
        let end = if competes { queue.now.saturating_add(wait) } else { NEVER };
        let until = self.arm(queue, end.min(limit).min(scan.refill.unwrap_or(NEVER)));
        Choice::Switch { next, until }
    }

    /// The CPU stops what it ran, and has nothing to run.
    fn rest(&self, queue: &mut Locked<'_, P, T>, scan: Scan, current: Option<&T>) -> Choice<T> {
        if let Some(current) = current {
            queue.stop(current);
        }
        self.idle.set(queue.cpu());
        self.untimed.clear(queue.cpu());
        queue.set_until(scan.refill.unwrap_or(NEVER));
        Choice::Idle { until: scan.refill }
    }

    /// Sets when a CPU that runs something asks again. If it has no reason to, others can give it one:
    /// it says so before it looks at them, and who queues something looks after that.
    fn arm(&self, queue: &mut Locked<'_, P, T>, mut until: u64) -> Option<u64> {
        let cpu = queue.cpu();
        self.idle.clear(cpu);
        if until == NEVER {
            self.untimed.set(cpu);
            if self.others(cpu, None).next().is_some() {
                until = queue.now.saturating_add(fair::BALANCE);
            }
        }
        if until != NEVER {
            self.untimed.clear(cpu);
        }
        queue.set_until(until);
        (until != NEVER).then_some(until)
    }

    fn queue(&self, cpu: CpuId) -> Option<&CpuQueue<T>> {
        self.queues.get(usize::from(cpu.number()))?.get().map(|queue| &**queue)
    }
}

impl<P: Platform, T: Unit> Default for Scheduler<P, T> {
    fn default() -> Self {
        Self::new()
    }
}

/// The earlier of two times that may not be set.
fn earlier(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.into_iter().chain(b).min()
}

/// One bit for each CPU.
#[derive(Debug)]
struct Flags(AtomicU64);

impl Flags {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    fn get(&self) -> CpuSet {
        point();
        CpuSet::from_bits(self.0.load(Ordering::SeqCst))
    }

    /// Only one CPU at a time changes a flag, so it need not be written if it is right.
    fn set(&self, cpu: CpuId) {
        if !self.get().contains(cpu) {
            self.0.fetch_or(CpuSet::one(cpu).bits(), Ordering::SeqCst);
        }
    }

    fn clear(&self, cpu: CpuId) {
        if self.get().contains(cpu) {
            self.0.fetch_and(!CpuSet::one(cpu).bits(), Ordering::SeqCst);
        }
    }
}
