//! `sched_op` block and yield, and the timer's event for a guest that waits or runs.

use super::event_calls::{CLOSE, NOBODY, SEND, State, TIMER, Words, about, ipi, unbound, virq};
use super::event_delivery::{one, upcalled};
use super::poll::{MS, behind, periodic, singleshot, timer};
use super::trap_stage::{END, KERNEL_CS, Stage, USER_CS, kernel_stack, user_stack};
use crate::call::{SCHED_OP, registers};
use crate::case::{Case, Outcome, Test, case, equal, equal_at, holds};
use crate::raw::Registers;
use crate::raw::event_upcall::{OPEN_SPIN, SET_CALL, SPIN, arm, count};
use crate::raw::trap_snippets::SYSCALL;

const YIELD: u64 = 0;
pub(super) const BLOCK: u64 = 1;
const SCHED_OP_COMPAT: u64 = 6;

pub(crate) const CASES: &[Case] = &[
    case("block/pending", "With an upcall to come block ends at once, whatever the mask.", |t| {
        upcalled(t, |s, words| {
            for mask in [0, 1, 2, 0xff] {
                arm(s.info(), 0, false);
                let after = s.quiet(SET_CALL, block(s, BLOCK, 1 | mask << 8))?;
                equal("answer", after.rax, 0)?;
                let frame = one()?.frame;
                equal("rip", frame[2], SET_CALL.address() + 5)?;
                equal("cs", frame[3], KERNEL_CS)?;
                equal("rflags", frame[4], 0x202)?;
                equal_at("mask behind", mask, words.upcall_mask(), 0)?;
                s.set_mask(1);
            }
            Ok(())
        })
    }),
    case("block/pending_any", "Any value of pending but 0 is an upcall to come.", |t| {
        upcalled(t, |s, _| {
            for pending in [1, 2, 0x80, 0xff] {
                arm(s.info(), 0, false);
                s.quiet(SET_CALL, block(s, BLOCK, pending | 0x100))?;
                s.set_mask(1);
                one()?;
            }
            Ok(())
        })
    }),
    case("block/sent", "What was sent while masked ends block at once.", |t| {
        upcalled(t, |s, words| {
            let port = ipi()?;
            equal("send", about(SEND, port), 0)?;
            s.quiet(SET_CALL, block(s, BLOCK, 0x101))?;
            s.set_mask(1);
            one()?;
            equal("state", words.state(port).bits(), 5)
        })
    }),
    case("block/pointer", "Block ignores its pointer.", |t| {
        upcalled(t, |s, _| {
            for pointer in [0x1000, crate::tables::M2P, u64::MAX] {
                arm(s.info(), 0, false);
                let mut registers = block(s, BLOCK, 0x101);
                registers.rsi = pointer;
                equal_at("answer", pointer, s.quiet(SET_CALL, registers)?.rax, 0)?;
                s.set_mask(1);
                one()?;
            }
            Ok(())
        })
    }),
    case("block/timer", "Block ends when the timer is due, and the upcall comes.", |t| {
        timed(t, |s, words, port| {
            let due = timer(words, 3 * MS)?;
            let after = s.quiet(SYSCALL, block(s, BLOCK, 0))?;
            equal("mask", words.upcall_mask(), 0)?;
            s.set_mask(1);
            behind(words, due)?;
            equal("answer", after.rax, 0)?;
            equal("rip", one()?.frame[2], SYSCALL.address() + 2)?;
            equal("state", words.state(port).bits(), 5)
        })
    }),
    case("block/timer_singleshot", "The timer may be vcpu_op's.", |t| {
        timed(t, |s, words, _| {
            let due = words.now() + 3 * MS;
            equal("set_singleshot", singleshot(due), 0)?;
            s.quiet(SYSCALL, block(s, BLOCK, 0))?;
            s.set_mask(1);
            behind(words, due)?;
            one().map(|_| ())
        })
    }),
    case("block/timer_past", "A timer that is due already ends block as well.", |t| {
        timed(t, |s, words, _| {
            equal("set_singleshot", singleshot(1), 0)?;
            s.quiet(SYSCALL, block(s, BLOCK, 0))?;
            s.set_mask(1);
            one()?;
            behind(words, words.now())
        })
    }),
    case("block/bits_alone", "Bits of ports without an upcall to come do not end it.", |t| {
        timed(t, |s, words, _| {
            while ipi()? < 70 {}
            let other = ipi()?;
            for bits in 0..8 {
                arm(s.info(), 0, false);
                words.clear();
                words.set(other, State::number(bits));
                let due = timer(words, 2 * MS)?;
                s.quiet(SYSCALL, block(s, BLOCK, 0))?;
                s.set_mask(1);
                behind(words, due)?;
                one()?;
            }
            Ok(())
        })
    }),
    case("block/again", "A second block waits for the second time.", |t| {
        timed(t, |s, words, _| {
            for _ in 0..3 {
                arm(s.info(), 0, false);
                words.clear();
                let due = timer(words, 2 * MS)?;
                s.quiet(SYSCALL, block(s, BLOCK, 0))?;
                s.set_mask(1);
                behind(words, due)?;
                one()?;
            }
            Ok(())
        })
    }),
    case("block/compat", "The old call's operation 1 blocks, too.", |t| {
        timed(t, |s, words, _| {
            let due = timer(words, 3 * MS)?;
            let mut registers = block(s, BLOCK, 0);
            registers.rax = SCHED_OP_COMPAT;
            equal("answer", s.quiet(SYSCALL, registers)?.rax, 0)?;
            s.set_mask(1);
            behind(words, due)?;
            one().map(|_| ())
        })
    }),
    case("yield/mask_kept", "Yield leaves the mask of upcalls as it is.", |t| {
        upcalled(t, |s, words| {
            for mask in [0, 1, 2, 0xff] {
                let after = s.quiet(SET_CALL, block(s, YIELD, mask << 8))?;
                equal("answer", after.rax, 0)?;
                equal("mask", words.upcall_mask(), mask)?;
                s.set_mask(1);
            }
            equal("upcalls", count(), 0)
        })
    }),
    case("yield/upcall", "An upcall that waits comes behind yield.", |t| {
        upcalled(t, |s, _| {
            s.quiet(SET_CALL, block(s, YIELD, 1))?;
            s.set_mask(1);
            equal("rip", one()?.frame[2], SET_CALL.address() + 5)
        })
    }),
];

pub(crate) const TIMERS: &[Case] = &[
    case("event_timer/kernel", "The timer interrupts a kernel that runs.", |t| {
        timed(t, |s, words, port| {
            // While events are held back it must not be due.
            let due = timer(words, 200 * MS)?;
            let mut registers = spin(s);
            registers.rsp = user_stack() - 256;
            let after = s.quiet(OPEN_SPIN, registers)?;
            s.set_mask(1);
            behind(words, due)?;
            let upcall = one()?;
            let rip = upcall.frame[2].wrapping_sub(OPEN_SPIN.address());
            holds("rip", rip, "in the loop", (1..64).contains(&rip))?;
            equal("cs", upcall.frame[3], KERNEL_CS)?;
            equal("rflags", upcall.frame[4] & !0x8d5, 0x202)?;
            equal("rsp", upcall.frame[5], user_stack() - 256)?;
            equal("frame", upcall.at, user_stack() - 256 - 56)?;
            equal("pending and masked", upcall.bytes & 0xffff, 0x101)?;
            equal("rbp", after.rbp, 0x1234)?;
            equal("state", words.state(port).bits(), 5)
        })
    }),
    case("event_timer/user", "The timer interrupts user mode that runs.", |t| {
        timed(t, |s, words, port| {
            let due = timer(words, 3 * MS)?;
            let mut registers = spin(s);
            registers.rflags = 0x206;
            let end = s.user(SPIN, registers)?;
            s.set_mask(1);
            behind(words, due)?;
            equal("end", end.vector, END)?;
            equal("rbp", end.registers.rbp, 0x1234)?;
            let upcall = one()?;
            equal("cs", upcall.frame[3], USER_CS)?;
            equal("rsp", upcall.frame[5], user_stack() - 256)?;
            equal("frame", upcall.at, kernel_stack() - 56)?;
            equal("state", words.state(port).bits(), 5)
        })
    }),
    case(
        "event_timer/masked_vcpu",
        "While upcalls are masked the port becomes pending alone.",
        |t| {
            timed(t, |s, words, port| {
                let due = timer(words, 2 * MS)?;
                while !words.pending(port) && words.now() < due + 1000 * MS {}
                behind(words, due)?;
                equal("state", words.state(port).bits(), State::number(0).raised().bits())?;
                equal("upcalls", count(), 0)?;
                s.quiet(SET_CALL, block(s, YIELD, 1))?;
                s.set_mask(1);
                equal("rip", one()?.frame[2], SET_CALL.address() + 5)
            })
        },
    ),
    case("event_timer/states", "The timer raises its port as a send does: all states.", |t| {
        timed(t, |_, words, port| {
            for bits in 0..16 {
                let state = State { pending: false, ..State::number(bits) };
                words.set(port, state);
                words.set_upcall(state.upcall);
                let due = timer(words, MS)?;
                while !words.pending(port) && words.now() < due + 1000 * MS {}
                behind(words, due)?;
                equal("state", words.state(port).bits(), state.raised().bits())?;
                words.clear();
            }
            Ok(())
        })
    }),
    case("event_timer/unbound", "Without a port the timer raises nothing.", |t| {
        timed(t, |_, words, port| {
            equal("close", about(CLOSE, port), 0)?;
            let other = unbound(NOBODY)?;
            let due = timer(words, MS)?;
            equal("poll", super::poll::poll(&[other], due + 3 * MS), 0)?;
            equal("state", words.state(port).bits(), 0)
        })
    }),
    case("event_timer/lost", "What the timer raised without a port is not kept for one.", |t| {
        timed(t, |_, words, port| {
            equal("close", about(CLOSE, port), 0)?;
            let other = unbound(NOBODY)?;
            let due = timer(words, MS)?;
            equal("poll", super::poll::poll(&[other], due + 2 * MS), 0)?;
            let port = virq(TIMER)?;
            equal("poll", super::poll::poll(&[other], due + 4 * MS), 0)?;
            equal("state", words.state(port).bits(), 0)
        })
    }),
    case("event_timer/rebound", "The timer raises the port that it is bound to when due.", |t| {
        timed(t, |_, words, port| {
            let due = timer(words, 100 * MS)?;
            equal("close", about(CLOSE, port), 0)?;
            equal("another", ipi()?, port)?;
            let rebound = virq(TIMER)?;
            equal("poll", super::poll::poll(&[rebound], due + 5000 * MS), 0)?;
            behind(words, due)?;
            equal("pending", words.pending(rebound), true)?;
            equal("pending before", words.pending(port), false)
        })
    }),
    case("event_timer/periodic", "Every vCPU begins with a periodic timer, of some 100 Hz.", |t| {
        upcalled(t, |_, words| {
            let port = virq(TIMER)?;
            let before = words.now();
            for _ in 0..3 {
                words.set_pending(port, false);
                while !words.pending(port) && words.now() < before + 1000 * MS {}
                equal("pending", words.pending(port), true)?;
            }
            let took = words.now() - before;
            holds("took", took, "more than two periods", took >= 20 * MS)
        })
    }),
];

/// As [`upcalled`], with the timer's port, no timer running.
fn timed(t: &Test<'_>, does: impl FnOnce(&Stage, Words, u32) -> Outcome) -> Outcome {
    upcalled(t, |s, words| {
        periodic(false)?;
        let port = virq(TIMER)?;
        words.clear();
        let outcome = does(s, words, port);
        s.set_mask(1);
        // A time that has passed raises the port at once, if it is bound, and leaves no timer.
        equal("set_timer_op", crate::call::hypercall(15, &[0]), 0)?;
        periodic(true)?;
        outcome
    })
}

/// Registers for [`SET_CALL`] with an operation of `sched_op`.
pub(super) fn block(s: &Stage, operation: u64, bytes: u64) -> Registers {
    let mut registers = registers(SCHED_OP, &[operation]);
    (registers.rbx, registers.rbp) = (s.info(), bytes);
    registers.rsp = user_stack() - 256;
    registers
}

/// Registers for [`SPIN`], which ends some time.
fn spin(s: &Stage) -> Registers {
    let mut registers = Registers::new();
    (registers.rbx, registers.rbp) = (s.info(), 0x1234);
    registers.high[4] = 20_000_000_000;
    registers
}
