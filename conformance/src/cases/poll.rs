//! `sched_op` poll: waiting for some ports, masked or not, or for a time.

use super::event_calls::{
    BIND_IPI, CLOSE, NO_PORTS, NOBODY, SEND, State, TIMER, Words, about, event, ipi, pair, ports,
    unbound, virq, word,
};
use super::event_delivery::{one, upcalled};
use super::trap_stage::{KERNEL_CS, Stage, user_stack};
use crate::call::{EFAULT, EINVAL, SCHED_OP, hypercall};
use crate::case::{Case, Outcome, Test, case, equal, equal_at, holds};
use crate::raw::Registers;
use crate::raw::event_upcall::{SET_CALL, count};
use crate::raw::memory::{arena_address, put};
use crate::raw::pages_calls::put_words;
use crate::tables::{M2P, mapped_end};

const POLL: u64 = 3;
const VCPU_OP: u64 = 24;
const SET_TIMER_OP: u64 = 15;
const SET_PERIODIC: u64 = 6;
const STOP_PERIODIC: u64 = 7;
const SET_SINGLESHOT: u64 = 8;
const STOP_SINGLESHOT: u64 = 9;

/// Unit: nanoseconds.
pub(super) const MS: u64 = 1_000_000;
/// A time that has passed.
const PAST: u64 = 1;
/// Longer than any case waits. Unit: nanoseconds.
const LONG: u64 = 20_000 * MS;
/// Where in the arena the list of ports is. Unit: bytes.
const LIST: usize = 1024;

pub(crate) const CASES: &[Case] = &[
    case("poll/bad_pointer", "A structure that is not mapped answers -EFAULT.", |t| {
        let end = mapped_end(t.boot);
        for pointer in [0, 0x1000, M2P, 0x8000_0000_0000, end, end - 23, u64::MAX] {
            equal_at("pointer", pointer, hypercall(SCHED_OP, &[POLL, pointer]), EFAULT)?;
        }
        Ok(())
    }),
    case("poll/too_many", "More than 128 ports are refused first: -EINVAL.", |t| {
        ports(t, |_| {
            for number in [129, 130, 4096, 0x8000_0000, 0xffff_ffff] {
                for list in [0x1000, M2P, list()] {
                    equal_at("ports", number, poll_at(list, number, PAST), EINVAL)?;
                }
            }
            Ok(())
        })
    }),
    case("poll/bad_list", "A list that is not mapped answers -EFAULT.", |t| {
        ports(t, |_| {
            for pointer in [0x1000, M2P, 0x8000_0000_0000, mapped_end(t.boot)] {
                for number in [1, 2, 128] {
                    equal_at("list", pointer, poll_at(pointer, number, PAST), EFAULT)?;
                }
            }
            Ok(())
        })
    }),
    case("poll/list_extent", "A list may end where mapped memory does, or is cut there.", |t| {
        ports(t, |_| {
            let port = unbound(NOBODY)?;
            let at = mapped_end(t.boot) - 4;
            (0..4).zip(port.to_le_bytes()).for_each(|(place, byte)| {
                crate::raw::memory::poke_byte(at + place, byte);
            });
            equal("one", poll_at(at, 1, PAST), 0)?;
            equal("two", poll_at(at, 2, PAST), EFAULT)
        })
    }),
    case("poll/bad_port", "A port that cannot be is refused: -EINVAL.", |t| {
        ports(t, |_| {
            let port = unbound(NOBODY)?;
            for bad in NO_PORTS {
                for list in [&[bad][..], &[port, bad], &[bad, port], &[port, port, bad]] {
                    equal_at("port", bad.into(), poll(list, PAST), EINVAL)?;
                }
            }
            Ok(())
        })
    }),
    case("poll/closed_port", "A port that is closed is refused, pending or not: -EINVAL.", |t| {
        ports(t, |words| {
            for pending in [false, true] {
                for port in [0, 1, 40] {
                    words.set_pending(port, pending);
                    equal_at("port", port.into(), poll(&[port], PAST), EINVAL)?;
                }
            }
            Ok(())
        })
    }),
    case("poll/order", "Ports are looked at in order, up to the first that is pending.", |t| {
        ports(t, |words| {
            let port = ipi()?;
            words.set_pending(port, true);
            equal("pending first", poll(&[port, 4096], 0), 0)?;
            equal("bad first", poll(&[4096, port], 0), EINVAL)
        })
    }),
    case("poll/nothing", "A poll for nothing until a time that has passed answers 0.", |t| {
        ports(t, |_| {
            for pointer in [0, 0x1000, list()] {
                equal_at("list", pointer, poll_at(pointer, 0, PAST), 0)?;
            }
            Ok(())
        })
    }),
    case("poll/past", "A time that has passed answers 0, with any number of ports.", |t| {
        ports(t, |_| {
            let port = unbound(NOBODY)?;
            for number in [1, 2, 64, 128] {
                equal_at("ports", number as u64, poll(&[port; 128][..number], PAST), 0)?;
            }
            Ok(())
        })
    }),
    case("poll/after_error", "Behind an error nothing is waited for.", |t| {
        ports(t, |words| {
            let before = words.now();
            equal("bad port", poll(&[4096], before + LONG), EINVAL)?;
            equal("bad list", poll_at(0x1000, 1, before + LONG), EFAULT)?;
            holds("waited", words.now() - before, "no time", words.now() - before < LONG / 4)
        })
    }),
    case("poll/timeout", "A poll ends at its time, not before.", |t| {
        ports(t, |words| {
            let port = unbound(NOBODY)?;
            for list in [&[][..], &[port], &[port, port], &[port; 128]] {
                until(words, list, 3 * MS)?;
            }
            Ok(())
        })
    }),
    case("poll/timeout_states", "Whatever else is pending, as long as it calls nobody.", |t| {
        ports(t, |words| {
            let (port, other) = (ipi()?, ipi()?);
            words.set_pending(other, true);
            until(words, &[port], 2 * MS)?;
            words.set(port, State::number(6));
            until(words, &[port], 2 * MS)?;
            words.set_upcall(true);
            until(words, &[port], 2 * MS)
        })
    }),
    case("poll/pending", "A port that is pending ends the poll at once, without a time.", |t| {
        ports(t, |words| {
            let (port, other) = (ipi()?, ipi()?);
            words.set_pending(port, true);
            for number in [1, 2, 127, 128] {
                let mut list = [other; 128];
                list[number - 1] = port;
                equal_at("ports", number as u64, poll(&list[..number], 0), 0)?;
            }
            Ok(())
        })
    }),
    case("poll/pending_states", "It does so masked or not, selected or not.", |t| {
        ports(t, |words| {
            let port = ipi()?;
            for bits in 0..16 {
                let state = State { pending: true, ..State::number(bits) };
                words.set(port, state);
                words.set_upcall(state.upcall);
                equal_at("state", state.bits(), poll(&[port], 0), 0)?;
                equal("state behind", words.state(port).bits(), state.bits())?;
            }
            Ok(())
        })
    }),
    case("poll/other_vcpu", "It does so if it is another vCPU's port.", |t| {
        ports(t, |_| {
            equal("bind_ipi", event(BIND_IPI, &[2]), 0)?;
            let port = word(1);
            equal("send", about(SEND, port), 0)?;
            equal("poll", poll(&[port], 0), 0)
        })
    }),
    case("poll/sent", "What was sent before ends the poll at once.", |t| {
        ports(t, |words| {
            let (first, second) = pair()?;
            words.clear();
            words.set_masked(second, true);
            equal("send", about(SEND, first), 0)?;
            equal("poll", poll(&[second], 0), 0)?;
            equal("state", words.state(second).bits(), 3)
        })
    }),
    case("poll/negative", "A time with bit 63 set has passed.", |t| {
        ports(t, |_| {
            let port = unbound(NOBODY)?;
            for time in [1 << 63, u64::MAX] {
                equal_at("time", time, poll(&[port], time), 0)?;
            }
            Ok(())
        })
    }),
    case("poll/mask_kept", "A poll leaves the mask of upcalls as it is.", |t| {
        upcalled(t, |s, words| {
            let port = unbound(NOBODY)?;
            for (mask, time) in [(1, PAST), (0xff, PAST), (0, PAST), (1, MS), (0, MS)] {
                let time = if time == PAST { PAST } else { words.now() + time };
                let after = s.quiet(SET_CALL, registers(s, port, time, mask << 8))?;
                equal("answer", after.rax, 0)?;
                equal("mask", words.upcall_mask(), mask)?;
                s.set_mask(1);
            }
            equal("upcalls", count(), 0)
        })
    }),
    case("poll/upcall", "With an upcall to come the poll ends, and it comes.", |t| {
        upcalled(t, |s, _| {
            let port = unbound(NOBODY)?;
            let after = s.quiet(SET_CALL, registers(s, port, 0, 1))?;
            s.set_mask(1);
            equal("answer", after.rax, 0)?;
            let frame = one()?.frame;
            equal("rip", frame[2], SET_CALL.address() + 5)?;
            equal("cs", frame[3], KERNEL_CS)
        })
    }),
    case("poll/upcall_bad_port", "With an upcall to come no port is looked at.", |t| {
        upcalled(t, |s, _| {
            let after = s.quiet(SET_CALL, registers(s, 4096, 0, 1))?;
            s.set_mask(1);
            equal("answer", after.rax, 0)?;
            one().map(|_| ())
        })
    }),
];

pub(crate) const TIMERS: &[Case] = &[
    case("poll/timer", "A poll for the timer's port ends when the timer is due.", |t| {
        timed(t, |words, port| {
            let due = timer(words, 3 * MS)?;
            equal("poll", poll(&[port], 0), 0)?;
            behind(words, due)?;
            equal("state", words.state(port).bits(), State::number(0).raised().bits())
        })
    }),
    case("poll/timer_masked", "It does so if the port is masked.", |t| {
        timed(t, |words, port| {
            words.set_masked(port, true);
            let due = timer(words, 3 * MS)?;
            equal("poll", poll(&[port], 0), 0)?;
            behind(words, due)?;
            equal("state", words.state(port).bits(), 3)
        })
    }),
    case("poll/timer_among", "It does so if the port is one of many, wherever.", |t| {
        timed(t, |words, port| {
            let other = unbound(NOBODY)?;
            words.set_masked(port, true);
            for place in [0, 64, 127] {
                let mut list = [other; 128];
                list[place] = port;
                words.set_pending(port, false);
                let due = timer(words, 3 * MS)?;
                equal("poll", poll(&list, 0), 0)?;
                behind(words, due)?;
                equal("pending", words.pending(port), true)?;
            }
            Ok(())
        })
    }),
    case("poll/timer_first", "It does not wait for its own time then.", |t| {
        timed(t, |words, port| {
            let due = timer(words, 3 * MS)?;
            equal("poll", poll(&[port], due + LONG), 0)?;
            behind(words, due)
        })
    }),
    case("poll/timer_other", "A masked port that is not asked for ends no poll for one.", |t| {
        timed(t, |words, port| {
            let other = unbound(NOBODY)?;
            words.set_masked(port, true);
            timer(words, 2 * MS)?;
            until(words, &[other], 10 * MS)?;
            equal("state", words.state(port).bits(), 3)
        })
    }),
    case("poll/timer_singleshot", "The timer may be vcpu_op's.", |t| {
        timed(t, |words, port| {
            let due = words.now() + 3 * MS;
            equal("set_singleshot", singleshot(due), 0)?;
            equal("poll", poll(&[port], 0), 0)?;
            behind(words, due)
        })
    }),
    case("poll/timer_upcall", "An upcall's event ends the poll, and the upcall comes.", |t| {
        upcalled(t, |s, words| {
            periodic(false)?;
            let (port, other) = (virq(TIMER)?, unbound(NOBODY)?);
            let due = timer(words, 100 * MS)?;
            let after = s.quiet(SET_CALL, registers(s, other, due + LONG, 0))?;
            s.set_mask(1);
            equal("answer", after.rax, 0)?;
            behind(words, due)?;
            equal("rip", one()?.frame[2], SET_CALL.address() + 5)?;
            equal("pending", words.pending(port), true)?;
            equal("close", about(CLOSE, port), 0)?;
            periodic(true)
        })
    }),
];

/// Does something with the timer's port, no timer running.
pub(super) fn timed(t: &Test<'_>, does: impl FnOnce(Words, u32) -> Outcome) -> Outcome {
    periodic(false)?;
    let outcome = ports(t, |words| {
        let port = virq(TIMER)?;
        words.clear();
        does(words, port)
    });
    equal("stop_singleshot", hypercall(VCPU_OP, &[STOP_SINGLESHOT, 0]), 0)?;
    periodic(true)?;
    outcome
}

/// Stops the periodic timer, or makes it what it was: every vCPU begins with one of 100 Hz.
pub(super) fn periodic(runs: bool) -> Outcome {
    if !runs {
        return equal("stop_periodic", hypercall(VCPU_OP, &[STOP_PERIODIC, 0]), 0);
    }
    put_words(0, &[10 * MS]);
    equal("set_periodic", hypercall(VCPU_OP, &[SET_PERIODIC, 0, arena_address()]), 0)
}

/// Sets the timer to so long from now. The time. Unit: nanoseconds.
pub(super) fn timer(words: Words, wait: u64) -> Result<u64, crate::case::Verdict> {
    let due = words.now() + wait;
    equal("set_timer_op", hypercall(SET_TIMER_OP, &[due]), 0)?;
    Ok(due)
}

/// Sets `vcpu_op`'s timer; the answer.
pub(super) fn singleshot(due: u64) -> i64 {
    put_words(0, &[due, 0]);
    hypercall(VCPU_OP, &[SET_SINGLESHOT, 0, arena_address()])
}

/// Checks that a time has come, and not long ago.
pub(super) fn behind(words: Words, due: u64) -> Outcome {
    let now = words.now();
    holds("now", now, "not before the time", now >= due)?;
    holds("now", now, "not long behind the time", now - due < LONG / 4)
}

/// Polls until so long from now, and checks that it took so long.
fn until(words: Words, list: &[u32], wait: u64) -> Outcome {
    let due = words.now() + wait;
    equal("poll", poll(list, due), 0)?;
    behind(words, due)
}

fn list() -> u64 {
    arena_address() + LIST as u64
}

fn put_list(list: &[u32]) {
    for (index, port) in list.iter().enumerate() {
        put(LIST + index * 4, &port.to_le_bytes());
    }
}

/// Polls for ports until a time; the answer.
pub(crate) fn poll(ports: &[u32], timeout: u64) -> i64 {
    put_list(ports);
    poll_at(list(), ports.len() as u64, timeout)
}

/// Polls for ports listed at an address; the answer.
fn poll_at(address: u64, number: u64, timeout: u64) -> i64 {
    put_words(0, &[address, number | 0xabcd << 32, timeout]);
    hypercall(SCHED_OP, &[POLL, arena_address()])
}

/// Registers for [`SET_CALL`] with a poll for one port.
fn registers(s: &Stage, port: u32, timeout: u64, bytes: u64) -> Registers {
    put_list(&[port]);
    put_words(0, &[list(), 1, timeout]);
    let mut registers = crate::call::registers(SCHED_OP, &[POLL, arena_address()]);
    (registers.rbx, registers.rbp) = (s.info(), bytes);
    registers.rsp = user_stack() - 256;
    registers
}
