//! Events, NMIs and timers of another vCPU.

use crate::call::{EINVAL, SCHED_OP, VCPU_OP};
use crate::case::{Case, Outcome, Test, Verdict, case, equal, holds};
use crate::clock::{
    Clock, EVENT_CHANNEL_OP, MS, SET_PERIODIC, SET_SINGLESHOT, STOP_PERIODIC, bind_ipi, bind_timer,
    clock, close, event_op, send,
};
use crate::raw::ap_snippets::{BLOCK, IRET, NOTHING, SYSCALL};
use crate::raw::memory::{arena_address, peek, peek_byte, poke, poke_byte};
use crate::raw::trap_stage::Caught;
use crate::raw::{Registers, ap};
use crate::vcpus::{Ap, EVENT, IS_UP, info_of, vcpu_op, worker, yields};

const SELF: u64 = 0x7ff0;
const SEND_NMI: u64 = 11;

/// vCPU 1, a port bound to it, and the clock.
struct Peer {
    ap: Ap,
    info: u64,
    port: u64,
    clock: Clock,
}

pub(crate) const CASES: &[Case] = &[
    case("ipi/down", "An event for a vCPU that is down waits there, and leaves it down.", |t| {
        with_peer(t, |p| {
            let first = (peek(info_of(t, 0)?), peek(info_of(t, 0)? + 8));
            send(p.port)?;
            equal("at the port", p.clock.pending(p.port), true)?;
            equal("pending, mask", peek(p.info) & 0xffff, 0x101)?;
            equal("selector", peek(p.info + 8), 1 << (p.port / 64))?;
            equal("first's", (peek(info_of(t, 0)?), peek(info_of(t, 0)? + 8)) == first, true)?;
            equal("is up", vcpu_op(IS_UP, p.ap.number(), 0), 0)
        })
    }),
    case("ipi/up", "It is delivered when the vCPU is up again, behind its call.", |t| {
        with_peer(t, |p| {
            poke_byte(p.info + 1, 0);
            send(p.port)?;
            p.ap.run(NOTHING, &Registers::new())?;
            let caught = caught()?;
            equal("vector", caught.vector, EVENT)?;
            equal("cs, mask before", caught.words[3], 0xe030)?;
            equal("pending, mask", peek(p.info) & 0xffff, 0x101)
        })
    }),
    case("ipi/running", "It interrupts a vCPU that waits for the CPU.", |t| {
        with_peer(t, |p| {
            poke_byte(p.info + 1, 0);
            p.ap.spin()?;
            send(p.port)?;
            p.ap.wait()?;
            equal("vector", caught()?.vector, EVENT)?;
            equal("mask", peek_byte(p.info + 1), 1)
        })
    }),
    case("ipi/masked", "It does not interrupt one that holds events back.", |t| {
        with_peer(t, |p| {
            p.ap.spin()?;
            send(p.port)?;
            p.ap.counts_to(peek(ap::page()) + 10)?;
            p.ap.stop()?;
            equal("handlers", ap::caught().is_some(), false)?;
            equal("pending", peek_byte(p.info), 1)
        })
    }),
    case("ipi/port_masked", "A masked port keeps it, until the port is unmasked by a call.", |t| {
        with_peer(t, |p| {
            p.clock.mask(p.port, true);
            send(p.port)?;
            equal("at the port", p.clock.pending(p.port), true)?;
            equal("pending, mask", peek(p.info) & 0xffff, 0x100)?;
            equal("selector", peek(p.info + 8), 0)?;
            equal("unmask", event_op(9, &[p.port]), 0)?;
            equal("pending, mask", peek(p.info) & 0xffff, 0x101)?;
            equal("selector", peek(p.info + 8), 1 << (p.port / 64))
        })
    }),
    case("ipi/block", "It wakes a vCPU that blocks.", |t| {
        with_peer(t, |p| {
            p.ap.start(BLOCK, &Registers::new())?;
            p.ap.sleeps()?;
            equal("mask", peek_byte(p.info + 1), 0)?;
            equal("handlers", ap::caught().is_some(), false)?;
            send(p.port)?;
            let registers = p.ap.finish()?;
            equal("vector", caught()?.vector, EVENT)?;
            equal("block's answer", registers.rax, 0)?;
            equal("rip", caught()?.words[2], BLOCK.address() + 12)
        })
    }),
    case("ipi/poll", "It wakes a vCPU that polls its port, masked or not.", |t| {
        with_peer(t, |p| {
            for masked in [false, true] {
                p.clock.mask(p.port, masked);
                p.clock.take(p.port);
                p.ap.start(SYSCALL, &poll(p.port, 0))?;
                p.ap.sleeps()?;
                equal("is up", vcpu_op(IS_UP, p.ap.number(), 0), 1)?;
                send(p.port)?;
                equal("answer", p.ap.finish()?.rax, 0)?;
                equal("at the port", p.clock.pending(p.port), true)?;
                equal("handlers", ap::caught().is_some(), false)?;
            }
            Ok(())
        })
    }),
    case(
        "ipi/poll_other",
        "The event of another port ends a poll, if it is the first to set the pending flag.",
        |t| {
            with_peer(t, |p| {
                let other = bind_ipi(p.ap.number())?;
                let mut ended = false;
                for pending in 0..2 {
                    p.clock.take(p.port);
                    poke(p.info + 8, 0);
                    poke_byte(p.info, pending);
                    p.ap.start(SYSCALL, &poll(other, 0))?;
                    p.ap.sleeps()?;
                    send(p.port)?;
                    if pending == 0 {
                        p.ap.finish()?;
                        continue;
                    }
                    yields(100);
                    ended = vcpu_op(IS_UP, p.ap.number(), 0) == 0;
                    send(other)?;
                    p.ap.finish()?;
                    p.clock.take(other);
                }
                close(other)?;
                equal("one was pending", ended, false)
            })
        },
    ),
    case("ipi/poll_time", "A poll's time wakes another vCPU, not before it comes.", |t| {
        with_peer(t, |p| {
            let until = p.clock.now() + 10 * MS;
            p.ap.start(SYSCALL, &poll(p.port, until))?;
            equal("answer", p.ap.finish()?.rax, 0)?;
            holds("woken", p.clock.now(), "not before", p.clock.now() >= until)
        })
    }),
    case("ipi/to_first", "Another vCPU wakes the first, which polls.", |t| {
        with_peer(t, |p| {
            let own = Clock { port: bind_ipi(0)?, ..p.clock };
            own.mask(own.port, true);
            poke(ap::page() + 512, own.port);
            let call = [4, ap::page() + 512];
            p.ap.start(SYSCALL, &crate::call::registers(EVENT_CHANNEL_OP, &call))?;
            equal("poll", own.poll(0), 0)?;
            equal("at the port", own.take(own.port), true)?;
            own.mask(own.port, false);
            close(own.port)?;
            equal("send", p.ap.finish()?.rax, 0)
        })
    }),
    case("ipi/itself", "A vCPU interrupts itself, behind the call that sends.", |t| {
        with_peer(t, |p| {
            poke_byte(p.info + 1, 0);
            poke(ap::page() + 512, p.port);
            p.ap.call(EVENT_CHANNEL_OP, &[4, ap::page() + 512])?;
            equal("vector", caught()?.vector, EVENT)?;
            equal("rip", caught()?.words[2], SYSCALL.address() + 2)
        })
    }),
    case("ipi/bind_vcpu", "bind_vcpu has the next event of a channel come to another vCPU.", |t| {
        with_peer(t, |p| {
            equal("alloc_unbound", event_op(6, &[SELF | SELF << 16]), 0)?;
            let near = peek(arena_address()) >> 32;
            equal("bind_interdomain", event_op(0, &[SELF | near << 32, 0]), 0)?;
            let far = peek(arena_address() + 8) & 0xffff_ffff;
            for port in [near, far] {
                p.clock.take(port);
            }
            p.ap.forget_events(t)?;
            equal("bind_vcpu", event_op(8, &[near | p.ap.number() << 32]), 0)?;
            equal("pending, mask", peek(p.info) & 0xffff, 0x100)?;
            send(far)?;
            let (pending, selector) = (peek(p.info) & 0xffff, peek(p.info + 8));
            for port in [near, far] {
                close(port)?;
                p.clock.take(port);
            }
            equal("pending, mask", pending, 0x101)?;
            equal("selector", selector, 1 << (near / 64))
        })
    }),
    case("ipi/rebind", "The port of an interrupt between vCPUs stays where it is: EINVAL.", |t| {
        with_peer(t, |p| {
            equal("bind_vcpu", event_op(8, &[p.port]), EINVAL)?;
            send(p.port)?;
            equal("pending, mask", peek(p.info) & 0xffff, 0x101)
        })
    }),
    case("ipi/timer", "The timer of another vCPU fires at its own port, down as it is.", |t| {
        with_timer_peer(t, |p| {
            // It ticks when it runs, if it has not done so for long.
            equal("stop", vcpu_op(STOP_PERIODIC, p.ap.number(), 0), 0)?;
            let time = p.clock.now() + 5 * MS;
            poke(ap::page() + 512, time);
            poke(ap::page() + 520, 0);
            let call = [SET_SINGLESHOT, p.ap.number(), ap::page() + 512];
            equal("set", p.ap.call(VCPU_OP, &call)?, 0)?;
            let watched = Clock { port: p.port, ..p.clock };
            let fired = watched.fired_by(time + 2000 * MS).unwrap_or(0);
            let (pending, is_up) = (peek_byte(p.info), vcpu_op(IS_UP, p.ap.number(), 0));
            // By itself: one that is down would tick once more.
            poke(ap::page() + 512, 10 * MS);
            let call = [SET_PERIODIC, p.ap.number(), ap::page() + 512];
            equal("tick", p.ap.call(VCPU_OP, &call)?, 0)?;
            holds("fired", fired, "not before its time", fired >= time)?;
            equal("pending", pending, 1)?;
            equal("is up", is_up, 0)
        })
    }),
    case("ipi/ticks", "A vCPU ticks from its start, while it runs.", |t| {
        with_timer_peer(t, |p| {
            p.clock.poll(p.clock.now() + 30 * MS);
            equal("down", p.clock.take(p.port), false)?;
            p.ap.spin()?;
            let end = p.clock.now() + 30 * MS;
            while p.clock.now() < end {
                yields(1);
            }
            p.ap.stop()?;
            equal("up", p.clock.take(p.port), true)?;
            p.clock.poll(p.clock.now() + 30 * MS);
            equal("down again", p.clock.take(p.port), false)
        })
    }),
    case("ipi/nmi", "An NMI for another vCPU comes to its handler, masked as events are.", |t| {
        with_peer(t, |p| {
            p.ap.spin()?;
            equal("answer", vcpu_op(SEND_NMI, p.ap.number(), 0), 0)?;
            p.ap.wait()?;
            let caught = caught()?;
            equal("vector", caught.vector, 2)?;
            equal("cs, mask", caught.words[3], 0x1_0000_e030)?;
            p.ap.run(IRET, &to_nothing())?;
            p.ap.run(NOTHING, &Registers::new())?;
            equal("again", ap::caught().is_some(), false)
        })
    }),
    case("ipi/nmi_twice", "A second NMI waits for the first's iret, a third is lost.", |t| {
        with_peer(t, |p| {
            vcpu_op(SEND_NMI, p.ap.number(), 0);
            p.ap.run(NOTHING, &Registers::new())?;
            equal("first", caught()?.vector, 2)?;
            vcpu_op(SEND_NMI, p.ap.number(), 0);
            vcpu_op(SEND_NMI, p.ap.number(), 0);
            p.ap.run(NOTHING, &Registers::new())?;
            equal("before iret", ap::caught().is_some(), false)?;
            p.ap.run(IRET, &to_nothing())?;
            equal("second", caught()?.vector, 2)?;
            equal("rip", caught()?.words[2], NOTHING.address())?;
            p.ap.run(IRET, &to_nothing())?;
            equal("third", ap::caught().is_some(), false)
        })
    }),
];

/// Runs `body` with vCPU 1 and a port bound to it by which it is interrupted.
fn with_peer(t: &Test<'_>, body: impl FnOnce(&Peer) -> Outcome) -> Outcome {
    let ap = worker(t)?;
    let port = bind_ipi(ap.number())?;
    on_port(t, ap, port, body)
}

/// The same with the port of its timers.
fn with_timer_peer(t: &Test<'_>, body: impl FnOnce(&Peer) -> Outcome) -> Outcome {
    let ap = worker(t)?;
    let port = bind_timer(ap.number())?;
    on_port(t, ap, port, body)
}

fn on_port(t: &Test<'_>, ap: Ap, port: u64, body: impl FnOnce(&Peer) -> Outcome) -> Outcome {
    let peer = Peer { ap, info: info_of(t, ap.number())?, port, clock: clock(t)? };
    peer.clock.mask(port, false);
    peer.clock.take(port);
    ap.forget_events(t)?;
    let outcome = body(&peer);
    close(port)?;
    peer.clock.take(port);
    peer.clock.mask(port, false);
    ap.forget_events(t)?;
    outcome
}

/// What came to vCPU 1.
fn caught() -> Result<Caught, Verdict> {
    if let Some(caught) = ap::caught() {
        return Ok(caught);
    }
    equal("the vCPU", "goes on", "traps")?;
    Err(Verdict::Skip("cannot happen: both words are different"))
}

/// Registers with which a vCPU polls a port.
fn poll(port: u64, until: u64) -> Registers {
    let at = ap::page() + 512;
    for (place, word) in (0..).zip([at + 64, 1, until]) {
        poke(at + 8 * place, word);
    }
    poke(at + 64, port);
    crate::call::registers(SCHED_OP, &[3, at])
}

/// Registers with which the `iret` call goes to a snippet that does nothing, events masked.
fn to_nothing() -> Registers {
    let at = ap::page() + 1024;
    let frame = [0, 0, 0, 0, NOTHING.address(), 0xe030, 2, ap::stack_end(), 0xe02b];
    for (place, word) in (0..).zip(frame) {
        poke(at + 8 * place, word);
    }
    let mut registers = Registers::new();
    registers.rsp = at;
    registers
}
