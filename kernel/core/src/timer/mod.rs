//! A vCPU's timers, and what each CPU has to wake up for.
//!
//! Every vCPU has a one-shot timer, a periodic one, and the end of a poll. The earliest of the three
//! stands in the list of one CPU, the *home* of the vCPU's timers: the last one that set any of
//! them. A CPU sets its hardware timer for the first of its list, or the end of a time slice. It is
//! not taken back when a timer is: it goes off and finds nothing to do.

#[cfg(test)]
mod tests;

use core::sync::atomic::Ordering;

use hypercall_abi::errno::Errno;
use hypercall_abi::{sched, virq};

use crate::cpu::CpuId;
use crate::domain::ShutdownReason;
use crate::lock::{Guard, Lock};
use crate::platform::Platform;
use crate::sched::Reasons;
use crate::system::{DomainVcpu, System};

/// The time that does not come. Unit: nanoseconds of system time.
pub const NEVER: u64 = u64::MAX;

/// The period that a vCPU's timer has until the guest says another. Unit: nanoseconds.
const FIRST_PERIOD: u64 = 10_000_000;
/// vCPUs there can be in the system, all domains together.
pub const MAX_VCPUS: usize = 1024;

/// A time as guests give it, which is signed: one before all time has passed.
#[must_use]
pub const fn instant(time: u64) -> u64 {
    if time.cast_signed() < 0 { 0 } else { time }
}

/// When what of a vCPU is due. Unit: nanoseconds of system time.
#[derive(Debug)]
pub struct Deadlines {
    /// The one-shot timer.
    pub once: u64,
    /// The periodic timer.
    next: u64,
    /// Its period; 0: it is off.
    period: u64,
    /// When it ticked last.
    last: u64,
    /// The end of a poll.
    pub poll: u64,
    /// The domain's watchdogs, which the first vCPU keeps.
    watchdogs: [u64; 2],
    home: Option<CpuId>,
}

impl Deadlines {
    /// What a vCPU starts with: a periodic timer, that rests.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            once: NEVER,
            next: NEVER,
            period: FIRST_PERIOD,
            last: 0,
            poll: NEVER,
            watchdogs: [NEVER; 2],
            home: None,
        }
    }

    /// Sets the periodic timer, from its last tick on; 0 stops it.
    pub(crate) fn set_period(&mut self, period: u64) {
        self.period = period;
        self.next = if period == 0 { NEVER } else { self.last.saturating_add(period) };
    }

    /// The periodic timer ticks.
    fn tick(&mut self, now: u64) {
        self.last = now;
        self.set_period(self.period);
    }

    /// Stops all of them, for ever.
    pub(crate) const fn end(&mut self) {
        *self = Self { next: NEVER, period: 0, home: self.home, ..Self::new() };
    }

    fn earliest(&self) -> u64 {
        let [first, second] = self.watchdogs;
        self.once.min(self.next).min(self.poll).min(first).min(second)
    }

    /// Sets the domain's watchdog number `id`, or the first that is free for 0, or takes it back
    /// with [`NEVER`]. Returns the number of a new one, else 0.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: no such watchdog.
    /// - `ENOSPC`: all are in use.
    pub(crate) fn set_watchdog(&mut self, id: u32, end: u64) -> Result<u32, Errno> {
        if id == 0 {
            let numbered = (1..).zip(&mut self.watchdogs);
            let (id, free) = { numbered }.find(|(_, end)| **end == NEVER).ok_or(Errno::ENOSPC)?;
            *free = end;
            return Ok(id);
        }
        let at = usize::try_from(id.wrapping_sub(1)).unwrap_or(usize::MAX);
        let used = self.watchdogs.get_mut(at).filter(|end| **end != NEVER);
        *used.ok_or(Errno::EINVAL)? = end;
        Ok(0)
    }
}

/// The vCPUs whose timers a CPU looks after, with the earliest time of each.
pub struct TimerList<P: Platform> {
    entries: Lock<heapless::Vec<(u64, DomainVcpu<P>), MAX_VCPUS>>,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Platform> TimerList<P> {
    /// Nobody.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Lock::new(heapless::Vec::new()) }
    }

    fn set(&self, platform: &P, target: &DomainVcpu<P>, deadline: u64) {
        let mut entries = self.entries.lock(platform);
        let place = entries.iter().position(|(_, vcpu)| vcpu.is(target));
        match place.and_then(|at| entries.get_mut(at)) {
            Some(entry) => entry.0 = deadline,
            // There is room for every vCPU of the system.
            None => drop(entries.push((deadline, target.clone()))),
        }
    }

    fn remove(&self, platform: &P, target: &DomainVcpu<P>) {
        let mut entries = self.entries.lock(platform);
        let place = entries.iter().position(|(_, vcpu)| vcpu.is(target));
        let removed = place.map(|at| entries.swap_remove(at));
        drop(entries);
        drop(removed);
    }

    /// Takes one vCPU whose time has come.
    fn take_due(&self, platform: &P, now: u64) -> Option<DomainVcpu<P>> {
        let mut entries = self.entries.lock(platform);
        let place = entries.iter().position(|&(deadline, _)| deadline <= now)?;
        Some(entries.swap_remove(place).1)
    }

    /// The first time at which something is due.
    pub(crate) fn first(&self, platform: &P) -> u64 {
        let entries = self.entries.lock(platform);
        entries.iter().map(|&(deadline, _)| deadline).min().unwrap_or(NEVER)
    }
}

impl<P: Platform> Default for TimerList<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Platform> System<P> {
    /// Changes a vCPU's timers.
    pub(crate) fn set_timers(&self, target: &DomainVcpu<P>, change: impl FnOnce(&mut Deadlines)) {
        let mut deadlines = target.vcpu.deadlines.lock(&self.platform);
        let before = deadlines.earliest();
        change(&mut deadlines);
        if deadlines.earliest() != before || deadlines.home.is_none() {
            self.enlist(target, deadlines);
        }
    }

    /// Enters the earliest of a vCPU's timers into this CPU's list.
    fn enlist(&self, target: &DomainVcpu<P>, mut deadlines: Guard<'_, Deadlines>) {
        let platform = &self.platform;
        let cpu = platform.cpu();
        let earliest = deadlines.earliest();
        let next_home = (earliest != NEVER).then_some(cpu);
        let home = core::mem::replace(&mut deadlines.home, next_home);
        if let Some(old) = home.filter(|_| home != next_home).and_then(|home| self.cpus.get(home)) {
            old.timers.remove(platform, target);
        }
        if let Some(here) = next_home.and_then(|home| self.cpus.get(home)) {
            here.timers.set(platform, target, earliest);
            here.set_alarm(self, earliest);
        }
    }

    /// A vCPU runs again whose periodic timer went off while it did not.
    pub(crate) fn resume_periodic(&self, target: &DomainVcpu<P>) {
        if !target.vcpu.periodic_rests.swap(false, Ordering::Relaxed) {
            return;
        }
        let now = self.now();
        self.set_timers(target, |timers| timers.set_period(timers.period));
        self.serve_timers(now);
    }

    /// Serves all timers of this CPU's list that are due.
    pub(crate) fn serve_timers(&self, now: u64) {
        let Some(here) = self.cpus.get(self.platform.cpu()) else { return };
        // Who is served is due again later than now: the loop ends.
        while let Some(target) = here.timers.take_due(&self.platform, now) {
            self.serve(&target, now);
        }
    }

    fn serve(&self, target: &DomainVcpu<P>, now: u64) {
        let mut deadlines = target.vcpu.deadlines.lock(&self.platform);
        let (once, next) = (deadlines.once <= now, deadlines.next <= now);
        let poll = deadlines.poll <= now;
        if once {
            deadlines.once = NEVER;
        }
        let runs = target.vcpu.scheduling.is_on_cpu();
        if next && !runs {
            // It goes on when the vCPU does: a vCPU that waits is not disturbed.
            deadlines.next = NEVER;
            target.vcpu.periodic_rests.store(true, Ordering::Relaxed);
        } else if next {
            deadlines.tick(now);
        }
        if poll {
            deadlines.poll = NEVER;
        }
        let bitten = deadlines.watchdogs.iter().any(|&end| end <= now);
        if bitten {
            deadlines.watchdogs = [NEVER; 2];
        }
        self.enlist(target, deadlines);
        if bitten {
            self.shut_down(&target.domain, ShutdownReason(sched::REASON_WATCHDOG));
        }
        if once || next && runs {
            self.send_virq(&target.domain, &target.vcpu, virq::TIMER);
        }
        if poll {
            self.wake(target, Reasons::WAITING);
        }
    }
}
