//! A machine of some CPUs in virtual time: every event happens at an exact nanosecond, so shares and
//! delays can be measured. After each event nothing may be lost, doubled, or where it must not be.

use std::boxed::Box;
use std::sync::Arc;
use std::vec::Vec;

use crate::cpu::{CpuId, CpuSet};
use crate::fake::Machine;
use crate::sched::unit::Presence;
use crate::sched::{Choice, Poke, Reasons, Scheduler, Scheduling, Share, Unit, up_to};

pub(super) const MS: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1000 * MS;
/// How long an interrupt of another CPU takes.
const LATENCY: u64 = 1_000;

/// What a unit does with its time. All in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Life {
    /// Computes.
    Hog,
    /// Runs for so long, then waits for so long.
    Bursts { run: u64, wait: u64 },
    /// Runs for so long, then yields.
    Yields { run: u64 },
}

pub(super) struct Virtual {
    pub(super) number: usize,
    record: Scheduling,
    share: Arc<Share>,
}

impl Unit for Arc<Virtual> {
    fn scheduling(&self) -> &Scheduling {
        &self.record
    }

    fn share(&self) -> &Share {
        &self.share
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(self, other)
    }
}

/// A unit, and what was seen of it.
pub(super) struct Seen {
    pub(super) unit: Arc<Virtual>,
    pub(super) life: Life,
    /// How long it ran.
    pub(super) ran: u64,
    /// The longest time from waking up to running.
    pub(super) delay: u64,
    /// The longest time from being able to run to running.
    pub(super) starved: u64,
    born: u64,
    left: u64,
    wake: Option<u64>,
    woken: Option<u64>,
    ready: Option<u64>,
}

#[derive(Default)]
struct Cpu {
    current: Option<Arc<Virtual>>,
    ask: Option<u64>,
}

pub(super) struct Simulation {
    pub(super) now: u64,
    pub(super) seen: Vec<Seen>,
    pub(super) switches: u64,
    /// Until then a CPU may still wait for the end of a limit that is no more.
    old_caps: u64,
    machine: Machine,
    scheduler: Box<Scheduler<Machine, Arc<Virtual>>>,
    cpus: Vec<Cpu>,
}

pub(super) fn cpu(number: usize) -> CpuId {
    CpuId::new(u8::try_from(number).unwrap()).unwrap()
}

impl Simulation {
    pub(super) fn new(cpus: u8) -> Self {
        let machine = Machine::new(1, cpus);
        let scheduler = Box::new(Scheduler::new());
        (0..usize::from(cpus)).for_each(|n| scheduler.cpu_online(&machine, cpu(n)).unwrap());
        let cpus = (0..cpus).map(|_| Cpu::default()).collect();
        Self { now: 0, seen: Vec::new(), switches: 0, old_caps: 0, machine, scheduler, cpus }
    }

    /// A new unit of a domain, which starts.
    pub(super) fn add(&mut self, share: &Arc<Share>, life: Life) -> usize {
        let number = self.seen.len();
        let record = Scheduling::new(Reasons::DOWN, self.now);
        let unit = Arc::new(Virtual { number, record, share: Arc::clone(share) });
        let left = match life {
            Life::Hog => u64::MAX,
            Life::Bursts { run, .. } | Life::Yields { run } => run,
        };
        let (wake, woken, ready) = (None, None, None);
        let (ran, delay, starved) = (0, 0, 0);
        let born = self.now;
        self.seen.push(Seen { unit, life, ran, delay, starved, born, left, wake, woken, ready });
        self.release(number, Reasons::DOWN);
        number
    }

    pub(super) fn share(&mut self, weight: u32, cap: u32) -> Arc<Share> {
        let share = Share::new();
        share.set_weight(weight);
        self.set_cap(&share, cap);
        Arc::new(share)
    }

    pub(super) fn set_cap(&mut self, share: &Share, cap: u32) {
        self.old_caps = self.now + 11 * MS;
        share.set_cap(&self.machine, cap, self.now);
    }

    pub(super) fn release(&mut self, number: usize, reason: Reasons) {
        let seen = &mut self.seen[number];
        let before = seen.unit.record.reasons();
        let poke = self.scheduler.wake(&self.machine, &seen.unit, reason, self.now);
        if !before.is_empty() && seen.unit.record.reasons().is_empty() {
            seen.woken = Some(self.now);
            seen.ready = Some(self.now);
        }
        self.apply(poke);
    }

    pub(super) fn hold(&mut self, number: usize, reason: Reasons) {
        let seen = &mut self.seen[number];
        let poke = self.scheduler.hold(&self.machine, &seen.unit, reason, self.now);
        (seen.woken, seen.ready) = (None, None);
        self.apply(poke);
    }

    pub(super) fn pin(&mut self, number: usize, cpus: u64) {
        let cpus = CpuSet::from_bits(cpus);
        let unit = &self.seen[number].unit;
        let poke = self.scheduler.set_affinity(&self.machine, unit, cpus, self.now).unwrap();
        self.apply(poke);
    }

    pub(super) fn prefer(&mut self, number: usize, cpus: u64) {
        self.seen[number].unit.scheduling().set_soft_affinity(CpuSet::from_bits(cpus));
    }

    pub(super) fn reconsider(&mut self, number: usize) {
        let poke = self.scheduler.reconsider(&self.seen[number].unit);
        self.apply(poke);
    }

    fn apply(&mut self, poke: Poke) {
        for cpu in poke.cpus().iter() {
            let ask = &mut self.cpus[usize::from(cpu.number())].ask;
            let at = (self.now + LATENCY).max(poke.later(cpu).unwrap_or(0));
            *ask = Some(ask.map_or(at, |ask| ask.min(at)));
        }
    }

    /// Lets everything happen until then.
    pub(super) fn run_until(&mut self, end: u64) {
        while let Some(next) = self.next_event().filter(|&next| next < end) {
            self.pass(next);
            self.wakes();
            for number in 0..self.cpus.len() {
                if self.burst_ends(number) || self.cpus[number].ask.is_some_and(|at| at <= next) {
                    self.ask(number);
                }
            }
            self.check();
        }
        self.pass(end);
    }

    fn next_event(&self) -> Option<u64> {
        let asks = self.cpus.iter().filter_map(|cpu| cpu.ask);
        let wakes = self.seen.iter().filter_map(|seen| seen.wake);
        let running = self.cpus.iter().filter_map(|cpu| cpu.current.as_ref());
        let ends = running.map(|unit| self.now.saturating_add(self.seen[unit.number].left));
        asks.chain(wakes).chain(ends).min()
    }

    fn pass(&mut self, to: u64) {
        assert!(to >= self.now);
        for unit in self.cpus.iter().filter_map(|cpu| cpu.current.as_ref()) {
            let seen = &mut self.seen[unit.number];
            seen.ran += to - self.now;
            seen.left -= to - self.now;
        }
        self.now = to;
    }

    fn wakes(&mut self) {
        for number in 0..self.seen.len() {
            if self.seen[number].wake.is_some_and(|at| at <= self.now) {
                self.seen[number].wake = None;
                self.release(number, Reasons::WAITING);
            }
        }
    }

    /// Whether the unit that runs there does something now that makes its CPU choose.
    fn burst_ends(&mut self, number: usize) -> bool {
        let Some(unit) = &self.cpus[number].current else { return false };
        let seen = &mut self.seen[unit.number];
        if seen.left > 0 {
            return false;
        }
        match seen.life {
            Life::Hog => {
                seen.left = u64::MAX;
                return false;
            }
            Life::Bursts { run, wait } => {
                unit.record.wait(Reasons::WAITING);
                (seen.wake, seen.left) = (Some(self.now + wait), run);
            }
            Life::Yields { run } => {
                unit.record.yield_turn();
                seen.left = run;
            }
        }
        true
    }

    fn ask(&mut self, number: usize) {
        let here = cpu(number);
        let current = self.cpus[number].current.clone();
        let (next, until) =
            match self.scheduler.choose(&self.machine, here, self.now, current.as_ref()) {
                Choice::Stay { until } => {
                    self.cpus[number].ask = until;
                    assert!(until.is_none_or(|until| until > self.now), "no time to run");
                    return;
                }
                Choice::Switch { next, until } => (Some(next), until),
                Choice::Idle { until } => (None, until),
            };
        assert!(until.is_none_or(|until| until > self.now), "no time to run");
        self.cpus[number].ask = until;
        self.switches += 1;
        if let Some(next) = &next {
            assert!(next.record.affinity().contains(here), "it must not run here");
            let seen = &mut self.seen[next.number];
            seen.delay = seen.delay.max(seen.woken.take().map_or(0, |at| self.now - at));
            seen.starved = seen.starved.max(seen.ready.take().map_or(0, |at| self.now - at));
        }
        self.cpus[number].current = next;
        if let Some(old) = current {
            if old.record.reasons().is_empty() {
                self.seen[old.number].ready = Some(self.now);
            }
            let poke = self.scheduler.put_back(&self.machine, here, self.now, &old);
            self.apply(poke);
        }
    }

    fn check(&self) {
        for seen in &self.seen {
            let record = &seen.unit.record;
            let on = |cpu: &&Cpu| cpu.current.as_ref().is_some_and(|unit| unit.is(&seen.unit));
            let times = self.cpus.iter().filter(on).count();
            let expected = match record.place().presence {
                Presence::Running => 1,
                Presence::Queued | Presence::Off => 0,
            };
            assert_eq!(times, expected, "unit {} runs {times} times", seen.unit.number);
            let is_off = record.place().presence == Presence::Off;
            assert_eq!(is_off, times == 0 && !record.reasons().is_empty(), "a unit is lost");
            let info = up_to(self.scheduler.runstate(&self.machine, &seen.unit.record), self.now);
            assert_eq!(info.time.iter().sum::<u64>(), self.now - seen.born, "{info:?}");
            assert_eq!(info.time[0], seen.ran, "{info:?}");
        }
        // Who has been poked is about to look.
        let looks = |cpu: &Cpu| cpu.ask.is_some_and(|at| at <= self.now + LATENCY);
        let idle = |cpu: &Cpu| cpu.current.is_none() && !looks(cpu);
        for (number, _) in self.cpus.iter().enumerate().filter(|(_, cpu)| idle(cpu)) {
            for seen in &self.seen {
                let record = &seen.unit.record;
                let waits = record.place().presence == Presence::Queued
                    && !looks(&self.cpus[usize::from(record.cpu().number())])
                    && record.affinity().contains(cpu(number))
                    && seen.unit.share.time_left(&self.machine, self.now).is_ok()
                    && self.now > self.old_caps;
                assert!(!waits, "cpu {number} is idle while unit {} waits", seen.unit.number);
            }
        }
    }
}
