//! What the kernel keeps for each physical CPU.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spin::Once;

use crate::cpu::{CpuId, CpuSet};
use crate::platform::{NoMemory, Platform};
use crate::system::System;
use crate::timer::{NEVER, TimerList};

/// One CPU.
pub struct CpuState<P: Platform> {
    /// Before a guest goes on there is more to do than to look at its events.
    attention: AtomicBool,
    /// Timers this CPU looks after.
    pub(crate) timers: TimerList<P>,
    /// How long it had no guest to run. Unit: nanoseconds.
    pub(crate) idle_time: AtomicU64,
    /// What the hardware timer is set for. Unit: nanoseconds of system time.
    alarm: AtomicU64,
}

impl<P: Platform> CpuState<P> {
    const fn new() -> Self {
        Self {
            attention: AtomicBool::new(false),
            timers: TimerList::new(),
            idle_time: AtomicU64::new(0),
            alarm: AtomicU64::new(NEVER),
        }
    }

    /// The scheduler is asked before this CPU's guest goes on. For the CPU itself.
    #[inline]
    pub(crate) fn call_attention(&self) {
        self.attention.store(true, Ordering::Relaxed);
    }

    /// Whether there is more to do than to look at events.
    #[inline]
    pub(crate) fn wants_attention(&self) -> bool {
        self.attention.load(Ordering::Relaxed)
    }

    /// Takes the request for attention back, to serve it.
    pub(crate) fn take_attention(&self) -> bool {
        let wanted = self.wants_attention();
        self.attention.store(false, Ordering::Relaxed);
        wanted
    }

    /// The hardware timer must go off no later than at `deadline`. For the CPU itself.
    pub(crate) fn set_alarm(&self, system: &System<P>, deadline: u64) {
        if deadline < self.alarm.load(Ordering::Relaxed) {
            self.alarm.store(deadline, Ordering::Relaxed);
            system.platform.set_alarm(deadline.saturating_sub(system.now()));
        }
    }

    /// The hardware timer must go off for the first timer, and when the scheduler wants to be asked
    /// again.
    pub(crate) fn arm(&self, system: &System<P>, until: Option<u64>) {
        let first = self.timers.first(&system.platform);
        self.set_alarm(system, until.unwrap_or(NEVER).min(first));
    }

    /// The hardware timer has gone off, or another CPU wants this one to look.
    pub fn interrupted(&self, by: Interrupt) {
        if by == Interrupt::Alarm {
            self.alarm.store(NEVER, Ordering::Relaxed);
        }
        self.call_attention();
    }
}

/// What interrupted a CPU on the kernel's own behalf.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Interrupt {
    /// The hardware timer.
    Alarm,
    /// Another CPU.
    Poke,
}

/// The CPUs that run guests, by number.
pub struct Cpus<P: Platform> {
    states: [Once<P::Arc<CpuState<P>>>; CpuSet::CAPACITY as usize],
}

impl<P: Platform> Cpus<P> {
    /// No CPU.
    #[must_use]
    pub const fn new() -> Self {
        Self { states: [const { Once::new() }; CpuSet::CAPACITY as usize] }
    }

    /// A CPU, once it runs guests.
    #[inline]
    #[must_use]
    pub fn get(&self, cpu: CpuId) -> Option<&P::Arc<CpuState<P>>> {
        self.states.get(usize::from(cpu.number()))?.get()
    }

    /// Adds a CPU.
    ///
    /// # Errors
    ///
    /// [`NoMemory`].
    pub(crate) fn add(&self, platform: &P, cpu: CpuId) -> Result<(), NoMemory> {
        let state = platform.arc_with(CpuState::new)?;
        if let Some(place) = self.states.get(usize::from(cpu.number())) {
            place.call_once(|| state);
        }
        Ok(())
    }
}

impl<P: Platform> Default for Cpus<P> {
    fn default() -> Self {
        Self::new()
    }
}
