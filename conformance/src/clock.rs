//! The clock that the hypervisor publishes, and its timers as vCPU 0 sees them.

use crate::call::{SCHED_OP, hypercall};
use crate::case::{Outcome, Test, Verdict, equal};
use crate::raw::memory::{arena_address, peek, peek_byte, poke, tsc};
use crate::raw::pages_calls::put_words;
use crate::vcpus::{info_of, shared_page, vcpu_op, vcpu_op_of};

pub(crate) const SET_TIMER_OP: u64 = 15;
pub(crate) const EVENT_CHANNEL_OP: u64 = 32;

pub(crate) const SET_PERIODIC: u64 = 6;
pub(crate) const STOP_PERIODIC: u64 = 7;
pub(crate) const SET_SINGLESHOT: u64 = 8;
pub(crate) const STOP_SINGLESHOT: u64 = 9;

/// A millisecond. Unit: ns.
pub(crate) const MS: u64 = 1_000_000;

/// What makes time of the processor's counter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TimeInfo {
    pub(crate) version: u32,
    pub(crate) tsc: u64,
    /// Unit: ns.
    pub(crate) system: u64,
    pub(crate) mul: u32,
    pub(crate) shift: i8,
    pub(crate) flags: u8,
}

impl TimeInfo {
    /// The 32 bytes at an address, which the hypervisor does not write meanwhile.
    pub(crate) fn at(address: u64) -> Self {
        loop {
            let version = low(peek(address));
            let info = Self {
                version,
                tsc: peek(address + 8),
                system: peek(address + 16),
                mul: low(peek(address + 24)),
                shift: peek_byte(address + 28).cast_signed(),
                flags: peek_byte(address + 29),
            };
            if version.is_multiple_of(2) && low(peek(address)) == version {
                return info;
            }
        }
    }

    /// The system time at a value of the counter. Unit: ns.
    pub(crate) fn time_at(&self, tsc: u64) -> u64 {
        let past = u128::from(tsc.wrapping_sub(self.tsc));
        let shift = u32::from(self.shift.unsigned_abs());
        let ticks = if self.shift < 0 { past >> shift } else { past << shift };
        let ns = (ticks * u128::from(self.mul)) >> 32;
        self.system.wrapping_add(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}

fn low(word: u64) -> u32 {
    u32::try_from(word & 0xffff_ffff).unwrap_or(0)
}

/// The clock of vCPU 0, and an event port for its timers.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) shared: u64,
    /// 0 if none is bound.
    pub(crate) port: u64,
}

/// The clock, with no port for timers.
pub(crate) fn clock(t: &Test<'_>) -> Result<Clock, Verdict> {
    Ok(Clock { shared: shared_page(t)?, port: 0 })
}

/// Makes `event_channel_op` with an argument of 32-bit words, two in each of `words`, at the
/// arena's start.
pub(crate) fn event_op(command: u64, words: &[u64]) -> i64 {
    put_words(0, words);
    hypercall(EVENT_CHANNEL_OP, &[command, arena_address()])
}

/// Binds `VIRQ_TIMER` of a vCPU; the port.
pub(crate) fn bind_timer(vcpu: u64) -> Result<u64, Verdict> {
    equal("bind_virq", event_op(1, &[vcpu << 32, 0]), 0)?;
    Ok(peek(arena_address() + 8) & 0xffff_ffff)
}

/// Binds a port by which others interrupt a vCPU.
pub(crate) fn bind_ipi(vcpu: u64) -> Result<u64, Verdict> {
    equal("bind_ipi", event_op(7, &[vcpu]), 0)?;
    Ok(peek(arena_address()) >> 32)
}

/// Sends an event by a port.
pub(crate) fn send(port: u64) -> Outcome {
    equal("send", event_op(4, &[port]), 0)
}

/// Closes a port.
pub(crate) fn close(port: u64) -> Outcome {
    equal("close", event_op(3, &[port]), 0)
}

/// Runs `body` with no timer set and `VIRQ_TIMER` bound to a port that is masked; then makes the
/// port and the timers as they were, with a tick every 10 ms.
pub(crate) fn with_timer(t: &Test<'_>, body: impl FnOnce(Clock) -> Outcome) -> Outcome {
    equal("stop_periodic", vcpu_op(STOP_PERIODIC, 0, 0), 0)?;
    equal("stop_singleshot", vcpu_op(STOP_SINGLESHOT, 0, 0), 0)?;
    let clock = Clock { port: bind_timer(0)?, ..clock(t)? };
    clock.mask(clock.port, true);
    clock.take(clock.port);
    let outcome = body(clock);
    vcpu_op(STOP_SINGLESHOT, 0, 0);
    let closed = close(clock.port);
    clock.take(clock.port);
    clock.mask(clock.port, false);
    equal("set_periodic", vcpu_op_of(SET_PERIODIC, 0, &[10 * MS]), 0)?;
    outcome.and(closed)
}

/// Sets the timer of vCPU 0 that fires once; the answer.
pub(crate) fn singleshot(time: u64, flags: u64) -> i64 {
    vcpu_op_of(SET_SINGLESHOT, 0, &[time, flags])
}

impl Clock {
    /// The system time of vCPU 0. Unit: ns.
    pub(crate) fn now(self) -> u64 {
        loop {
            let info = TimeInfo::at(self.shared + 32);
            let now = info.time_at(tsc());
            // Across a switch to another CPU, counter and factors may not belong together.
            if TimeInfo::at(self.shared + 32).version == info.version {
                return now;
            }
        }
    }

    /// Whether an event waits at a port.
    pub(crate) fn pending(self, port: u64) -> bool {
        peek(self.shared + 2048 + port / 64 * 8) >> (port % 64) & 1 == 1
    }

    /// Takes a port's event; whether there was one.
    pub(crate) fn take(self, port: u64) -> bool {
        let pending = self.pending(port);
        let word = self.shared + 2048 + port / 64 * 8;
        poke(word, peek(word) & !(1 << (port % 64)));
        pending
    }

    /// Holds a port's events back, or not.
    pub(crate) fn mask(self, port: u64, masked: bool) {
        let word = self.shared + 2560 + port / 64 * 8;
        poke(word, peek(word) & !(1 << (port % 64)) | u64::from(masked) << (port % 64));
    }

    /// Waits for an event at the timer's port, up to a time; when it was seen.
    pub(crate) fn fired_by(self, limit: u64) -> Option<u64> {
        loop {
            let pending = self.take(self.port);
            let now = self.now();
            if pending || now > limit {
                return pending.then_some(now);
            }
        }
    }

    /// Sleeps until a time or an event at the timer's port.
    pub(crate) fn poll(self, until: u64) -> i64 {
        put_words(64, &[self.port]);
        put_words(0, &[arena_address() + 64, u64::from(self.port != 0), until]);
        hypercall(SCHED_OP, &[3, arena_address()])
    }
}

/// The address of a vCPU's time information.
pub(crate) fn time_of(t: &Test<'_>, vcpu: u64) -> Result<u64, Verdict> {
    Ok(info_of(t, vcpu)? + 32)
}
