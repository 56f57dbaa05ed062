//! Timers: the one that fires once (by `vcpu_op` and by `set_timer_op`) and the one that ticks.

use crate::call::{EFAULT, EINVAL, hypercall};
use crate::case::{Case, Outcome, Verdict, case, equal, equal_at, holds};
use crate::clock::{
    Clock, MS, SET_PERIODIC, SET_SINGLESHOT, SET_TIMER_OP, STOP_PERIODIC, STOP_SINGLESHOT,
    bind_timer, clock, close, singleshot, with_timer,
};
use crate::tables::{M2P, mapped_end};
use crate::vcpus::{ENOENT, VCPUS, shared_page, vcpu_op, vcpu_op_of};

/// The flag that asks to refuse times that are past.
const FUTURE: u64 = 1;

pub(crate) const CASES: &[Case] = &[
    case("timer/once", "A timer fires not before its time.", |t| {
        with_timer(t, |c| {
            for ms in 1..=10 {
                let time = c.now() + ms * MS;
                equal("answer", singleshot(time, 0), 0)?;
                fires_at(c, time)?;
            }
            Ok(())
        })
    }),
    case("timer/once_soon", "A timer of a system with nothing else to do fires in time.", |t| {
        with_timer(t, |c| {
            // Another program may have the processor meanwhile: the best of many counts.
            let mut best = u64::MAX;
            for _ in 0..20 {
                let time = c.now() + MS;
                equal("answer", singleshot(time, 0), 0)?;
                let fired = c.fired_by(time + 1000 * MS).unwrap_or(u64::MAX);
                best = best.min(fired - time);
            }
            holds("delay", best, "below 1 ms", best < MS)
        })
    }),
    case("timer/once_only", "It fires once.", |t| {
        with_timer(t, |c| {
            let time = c.now() + MS;
            equal("answer", singleshot(time, 0), 0)?;
            fires_at(c, time)?;
            silent(c, 20)
        })
    }),
    case("timer/past", "A time that is past fires at once, 0 and 1 too.", |t| {
        with_timer(t, |c| {
            for time in [0, 1, c.now() - MS, c.now()] {
                equal_at("answer for", time, singleshot(time, 0), 0)?;
                equal_at("fired at", time, c.take(c.port), true)?;
            }
            Ok(())
        })
    }),
    case("timer/negative", "A time with the highest bit set is past.", |t| {
        with_timer(t, |c| {
            for time in [1 << 63, u64::MAX] {
                equal_at("answer for", time, singleshot(time, 0), 0)?;
                equal_at("fired at", time, c.take(c.port), true)?;
            }
            Ok(())
        })
    }),
    case("timer/far", "A time far away does not come.", |t| {
        with_timer(t, |c| {
            for time in [c.now() + 3_600_000 * MS, 1 << 51, (1 << 63) - 1] {
                equal_at("answer for", time, singleshot(time, 0), 0)?;
                silent(c, 10)?;
            }
            Ok(())
        })
    }),
    case("timer/flags", "Flags are ignored, the one that asks to refuse the past too.", |t| {
        with_timer(t, |c| {
            for flags in [FUTURE, 2, 0xffff_ffff, 1 << 32, u64::MAX] {
                let time = c.now() + 2 * MS;
                equal_at("answer for", flags, singleshot(time, flags), 0)?;
                fires_at(c, time)?;
                for past in [0, c.now() - MS, u64::MAX] {
                    equal_at("past for", flags, singleshot(past, flags), 0)?;
                    equal_at("fired for", flags, c.take(c.port), true)?;
                }
            }
            Ok(())
        })
    }),
    case("timer/later", "A later time replaces an earlier one.", |t| {
        with_timer(t, |c| {
            let time = c.now() + 100 * MS;
            equal("first", singleshot(time, 0), 0)?;
            equal("second", singleshot(time + 10 * MS, 0), 0)?;
            fires_at(c, time + 10 * MS)?;
            silent(c, 5)
        })
    }),
    case("timer/earlier", "An earlier time replaces a later one.", |t| {
        with_timer(t, |c| {
            let time = c.now() + 5 * MS;
            equal("first", singleshot(time + 20 * MS, 0), 0)?;
            equal("second", singleshot(time, 0), 0)?;
            fires_at(c, time)?;
            silent(c, 30)
        })
    }),
    case("timer/stop", "A timer that is stopped does not fire.", |t| {
        with_timer(t, |c| {
            in_time(c, |time| {
                equal("answer", singleshot(time, 0), 0)?;
                equal("stop", vcpu_op(STOP_SINGLESHOT, 0, M2P), 0)
            })?;
            silent(c, 15)
        })
    }),
    case("timer/stop_none", "Stopping a timer that is not set answers 0.", |_| {
        equal("answer", vcpu_op(STOP_SINGLESHOT, 0, 0), 0)
    }),
    case("timer/others", "The timer of another vCPU: EINVAL, whatever the pointer.", |_| {
        for vcpu in 1..VCPUS {
            equal_at("set of", vcpu, vcpu_op_of(SET_SINGLESHOT, vcpu, &[1, 0]), EINVAL)?;
            equal_at("unmapped, of", vcpu, vcpu_op(SET_SINGLESHOT, vcpu, 0x1000), EINVAL)?;
            equal_at("stop of", vcpu, vcpu_op(STOP_SINGLESHOT, vcpu, 0), EINVAL)?;
        }
        equal("beyond", vcpu_op(STOP_SINGLESHOT, VCPUS, 0), ENOENT)
    }),
    case("timer/pointer", "A time that cannot be read: EFAULT.", |t| {
        for pointer in [0, 0x1000, M2P, 1 << 47, mapped_end(t.boot) - 4, u64::MAX - 3] {
            equal_at("answer for", pointer, vcpu_op(SET_SINGLESHOT, 0, pointer), EFAULT)?;
            equal_at("period at", pointer, vcpu_op(SET_PERIODIC, 0, pointer), EFAULT)?;
        }
        Ok(())
    }),
    case("timer/unbound", "Without a port, a timer's end is lost.", |t| {
        let c = clock(t)?;
        equal("answer", singleshot(1, 0), 0)?;
        equal("answer", singleshot(c.now() + MS, 0), 0)?;
        let end = c.now() + 5 * MS;
        while c.now() < end {}
        let shared = shared_page(t)?;
        for word in 0..64 {
            let pending = crate::raw::memory::peek(shared + 2048 + 8 * word);
            equal_at("pending word", word, pending, 0)?;
        }
        with_timer(t, |c| equal("pending", c.pending(c.port), false))
    }),
    case("timer/bound_later", "A port bound before the time gets the event.", |t| {
        let c = clock(t)?;
        vcpu_op(STOP_PERIODIC, 0, 0);
        // Long, for another program may have the processor until it is bound.
        let time = c.now() + 200 * MS;
        equal("answer", singleshot(time, 0), 0)?;
        let c = Clock { port: bind_timer(0)?, ..c };
        let outcome = fires_at(c, time);
        close(c.port)?;
        equal("ticks", vcpu_op_of(SET_PERIODIC, 0, &[10 * MS]), 0)?;
        outcome
    }),
    case("timer/wakes", "A timer's event wakes a vCPU that polls its port.", |t| {
        with_timer(t, |c| {
            for _ in 0..10 {
                let time = c.now() + 3 * MS;
                equal("answer", singleshot(time, 0), 0)?;
                equal("poll", c.poll(0), 0)?;
                equal("fired", c.take(c.port), true)?;
                holds("woken", c.now(), "not before the time", c.now() >= time)?;
            }
            Ok(())
        })
    }),
    case("timer/op", "set_timer_op sets that timer: not before its time.", |t| {
        with_timer(t, |c| {
            for ms in 1..=5 {
                let time = c.now() + ms * MS;
                equal("answer", set_timer(time), 0)?;
                fires_at(c, time)?;
            }
            silent(c, 10)
        })
    }),
    case("timer/op_past", "set_timer_op with a time that is past fires at once.", |t| {
        with_timer(t, |c| {
            for time in [1, c.now() - MS, c.now()] {
                equal_at("answer for", time, set_timer(time), 0)?;
                equal_at("fired at", time, c.take(c.port), true)?;
            }
            Ok(())
        })
    }),
    case("timer/op_zero", "set_timer_op with 0 stops the timer, whoever set it.", |t| {
        with_timer(t, |c| {
            in_time(c, |time| {
                equal("answer", set_timer(time), 0)?;
                equal("stop", set_timer(0), 0)?;
                equal("answer", singleshot(time, 0), 0)?;
                equal("stop", set_timer(0), 0)
            })?;
            silent(c, 15)
        })
    }),
    case(
        "timer/op_same",
        "It is the timer of vcpu_op: each replaces and stops the other's.",
        |t| {
            with_timer(t, |c| {
                let later = in_time(c, |time| {
                    equal("answer", singleshot(time, 0), 0)?;
                    equal("answer", set_timer(time + 10 * MS), 0)
                })?;
                fires_at(c, later + 10 * MS)?;
                in_time(c, |time| {
                    equal("answer", set_timer(time), 0)?;
                    equal("stop", vcpu_op(STOP_SINGLESHOT, 0, 0), 0)
                })?;
                silent(c, 15)
            })
        },
    ),
    case(
        "timer/op_far",
        "set_timer_op with a negative time, or more than 13 days away, fires in 100 ms.",
        |t| {
            with_timer(t, |c| {
                for far in [1 << 63, u64::MAX, (1 << 50) + 600_000 * MS, (1 << 63) - 1] {
                    let before = c.now();
                    equal_at("answer for", far, set_timer(far), 0)?;
                    fires_at(c, before + 100 * MS)?;
                }
                Ok(())
            })
        },
    ),
    case("timer/op_not_far", "A time less than 13 days away is kept.", |t| {
        with_timer(t, |c| {
            equal("answer", set_timer(1 << 50), 0)?;
            silent(c, 150)
        })
    }),
    case("timer/period", "Ticks are at least a period apart.", |t| {
        with_timer(t, |c| {
            equal("answer", vcpu_op_of(SET_PERIODIC, 0, &[2 * MS]), 0)?;
            let begin = c.now();
            for tick in 0..10 {
                equal_at("tick", tick, c.fired_by(c.now() + 2000 * MS).is_some(), true)?;
            }
            let lasted = c.now() - begin;
            holds("10 ticks", lasted, "at least 9 periods", lasted >= 9 * 2 * MS)
        })
    }),
    case("timer/period_soon", "Ticks of a vCPU that runs come in time.", |t| {
        with_timer(t, |c| {
            equal("answer", vcpu_op_of(SET_PERIODIC, 0, &[2 * MS]), 0)?;
            // As for the other timer, the best of many counts.
            let mut best = u64::MAX;
            for _ in 0..20 {
                let begin = c.fired_by(c.now() + 2000 * MS).unwrap_or(0);
                let end = c.fired_by(c.now() + 2000 * MS).unwrap_or(u64::MAX);
                best = best.min(end - begin);
            }
            holds("distance", best, "below 3 ms", best < 3 * MS)
        })
    }),
    case("timer/period_from_last", "A new period counts from the last tick.", |t| {
        with_timer(t, |c| {
            let begin = c.now();
            equal("answer", vcpu_op_of(SET_PERIODIC, 0, &[2 * MS]), 0)?;
            c.fired_by(begin + 2000 * MS);
            equal("answer", vcpu_op_of(SET_PERIODIC, 0, &[40 * MS]), 0)?;
            c.take(c.port);
            fires_at(c, begin + 40 * MS)
        })
    }),
    case("timer/period_at_once", "If the last tick is longer ago, one comes at once.", |t| {
        with_timer(t, |c| {
            silent(c, 30)?;
            equal("answer", vcpu_op_of(SET_PERIODIC, 0, &[10 * MS]), 0)?;
            equal("ticked", c.take(c.port), true)
        })
    }),
    case("timer/period_least", "Periods below 1 ms: EINVAL; 1 ms is taken.", |t| {
        with_timer(t, |_| {
            for period in [0, 1, MS - 1] {
                let answer = vcpu_op_of(SET_PERIODIC, 0, &[period]);
                equal_at("answer for", period, answer, EINVAL)?;
            }
            equal("answer", vcpu_op_of(SET_PERIODIC, 0, &[MS]), 0)
        })
    }),
    case("timer/period_most", "Periods from 2^62 on: EINVAL.", |t| {
        with_timer(t, |_| {
            for period in [1 << 62, 1 << 63, u64::MAX] {
                let answer = vcpu_op_of(SET_PERIODIC, 0, &[period]);
                equal_at("answer for", period, answer, EINVAL)?;
            }
            equal("answer", vcpu_op_of(SET_PERIODIC, 0, &[(1 << 62) - 1]), 0)
        })
    }),
    case("timer/period_refused", "A refused period leaves the ticks as they were.", |t| {
        with_timer(t, |c| {
            equal("answer", vcpu_op_of(SET_PERIODIC, 0, &[2 * MS]), 0)?;
            equal("refused", vcpu_op_of(SET_PERIODIC, 0, &[1]), EINVAL)?;
            c.take(c.port);
            equal("ticks", c.fired_by(c.now() + 1000 * MS).is_some(), true)
        })
    }),
    case("timer/period_stop", "Ticks that are stopped end, and can be stopped again.", |t| {
        with_timer(t, |c| {
            equal("answer", vcpu_op_of(SET_PERIODIC, 0, &[2 * MS]), 0)?;
            equal("stop", vcpu_op(STOP_PERIODIC, 0, M2P), 0)?;
            c.take(c.port);
            silent(c, 20)?;
            equal("stop", vcpu_op(STOP_PERIODIC, 0, 0), 0)
        })
    }),
    case("timer/period_others", "Ticks of another vCPU can be set and stopped, up or not.", |_| {
        for vcpu in 1..VCPUS {
            equal_at("stop of", vcpu, vcpu_op(STOP_PERIODIC, vcpu, 0), 0)?;
            equal_at("set of", vcpu, vcpu_op_of(SET_PERIODIC, vcpu, &[10 * MS]), 0)?;
        }
        equal("beyond", vcpu_op_of(SET_PERIODIC, VCPUS, &[10 * MS]), ENOENT)
    }),
    case("timer/period_asleep", "Ticks do not wake a vCPU that sleeps; one comes with it.", |t| {
        with_timer(t, |c| {
            equal("answer", vcpu_op_of(SET_PERIODIC, 0, &[200 * MS]), 0)?;
            c.fired_by(c.now() + 1000 * MS);
            let until = c.now() + 500 * MS;
            equal("poll", c.poll(until), 0)?;
            let now = c.now();
            holds("woken", now, "not before the poll's time", now >= until)?;
            equal("tick", c.take(c.port), true)
        })
    }),
    case("timer/both", "The timer that fires once does not disturb the ticks.", |t| {
        with_timer(t, |c| {
            equal("answer", vcpu_op_of(SET_PERIODIC, 0, &[20 * MS]), 0)?;
            c.fired_by(c.now() + 1000 * MS);
            equal("answer", singleshot(1, 0), 0)?;
            equal("fired", c.take(c.port), true)?;
            equal("tick", c.fired_by(c.now() + 1000 * MS).is_some(), true)?;
            equal("tick", c.fired_by(c.now() + 1000 * MS).is_some(), true)
        })
    }),
    case("timer/from_start", "A vCPU ticks every 10 ms from its start, when it has a port.", |t| {
        let c = clock(t)?;
        let c = Clock { port: bind_timer(0)?, ..c };
        c.mask(c.port, true);
        let mut ticks = 0;
        let end = c.now() + 95 * MS;
        while c.now() < end {
            ticks += u64::from(c.take(c.port));
        }
        close(c.port)?;
        c.mask(c.port, false);
        c.take(c.port);
        // Some may be lost while another program has the processor.
        holds("ticks in 95 ms", ticks, "1 to 10", (1..=10).contains(&ticks))
    }),
];

/// Makes `set_timer_op`.
fn set_timer(time: u64) -> i64 {
    hypercall(SET_TIMER_OP, &[time])
}

/// Does what must be done before a time, which it is told; anew where another program had the processor
/// until then. The time.
fn in_time(c: Clock, does: impl Fn(u64) -> Outcome) -> Result<u64, Verdict> {
    loop {
        c.take(c.port);
        let time = c.now() + 5 * MS;
        does(time)?;
        if c.now() < time {
            return Ok(time);
        }
    }
}

/// Waits for a timer, which must fire at its time or later.
fn fires_at(c: Clock, time: u64) -> Outcome {
    match c.fired_by(time + 2000 * MS) {
        Some(now) => holds("fired at", now, "not before its time", now >= time),
        None => equal("timer", "silent", "fires"),
    }
}

/// Waits for some milliseconds, in which no timer may fire.
fn silent(c: Clock, ms: u64) -> Outcome {
    equal("fired", c.fired_by(c.now() + ms * MS).is_some(), false)
}
