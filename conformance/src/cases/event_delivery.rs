//! What an event does to the shared page's words, and when the guest is called.

use super::callback::called;
use super::event_calls::{
    BIND_INTERDOMAIN, CLOSE, EVENT_CHANNEL_OP, IPI, SELF, SEND, State, UNMASK, Words, about, event,
    ipi, is, pair, ports, unbound, word,
};
use super::trap_stage::{Context, END, KERNEL_CS, Stage, USER_CS, kernel_stack, stage, user_stack};
use crate::call::MULTICALL;
use crate::case::{Case, Outcome, Test, Verdict, case, ends_guest, equal, equal_at, holds};
use crate::raw::Registers;
use crate::raw::event_upcall::{
    self as upcalls, CALL_OPEN_CALL, SET_CALL, SET_CALL_CALL, Upcall, arm, count, upcall,
};
use crate::raw::memory::{arena_address, put};
use crate::raw::pages_calls::put_words;
use crate::raw::trap_snippets::{NOTHING, RAISE_CPUID};

/// The values of the upcall mask: open, and some of those that mask.
const MASKS: [u64; 4] = [0, 1, 2, 0xff];

/// How a port can be raised.
#[derive(Clone, Copy)]
enum Way {
    /// By sending to a vCPU's own port.
    Ipi,
    /// By sending by the port that it is connected to.
    Pair,
    /// By binding it to another.
    Bind,
}

pub(crate) const CASES: &[Case] = &[
    case("event_delivery/ipi", "A send by a vCPU's own port: all states and masks.", |t| {
        raised(t, Way::Ipi, 0)
    }),
    case("event_delivery/pair", "A send by a connected port: all states and masks.", |t| {
        raised(t, Way::Pair, 0)
    }),
    case("event_delivery/bind", "What binding raises: all states and masks.", |t| {
        raised(t, Way::Bind, 0)
    }),
    case("event_delivery/ipi_second", "The same in the second word of ports.", |t| {
        raised(t, Way::Ipi, 66)
    }),
    case("event_delivery/pair_second", "A connected port in the second word.", |t| {
        raised(t, Way::Pair, 66)
    }),
    case("event_delivery/unmask", "The unmask call: all states and masks.", |t| {
        upcalled(t, |s, words| {
            let port = ipi()?;
            each_state(|state, mask| {
                words.set(port, state);
                call(s, UNMASK, &[port], state, mask)?;
                after(words, port, state.unmasked(), mask)
            })
        })
    }),
    case("event_delivery/closed_unmask", "The unmask call for a closed port.", |t| {
        upcalled(t, |s, words| {
            each_state(|state, mask| {
                words.set(40, state);
                call(s, UNMASK, &[40], state, mask)?;
                after(words, 40, state, mask)
            })
        })
    }),
    case("event_delivery/other_call", "Other calls raise nothing: all states and masks.", |t| {
        upcalled(t, |s, words| {
            let (port, other) = (ipi()?, unbound(SELF)?);
            each_state(|state, mask| {
                words.set(port, state);
                call(s, SEND, &[other], state, mask)?;
                after(words, port, state, mask)
            })
        })
    }),
    case("event_delivery/frame", "The upcall's frame is that of the call's return.", |t| {
        upcalled(t, |s, _| {
            let port = ipi()?;
            call(s, SEND, &[port], State::number(0), 0)?;
            let Upcall { at, frame: [rcx, r11, rip, cs, rflags, rsp, ss], bytes, selector } =
                one()?;
            let behind = SET_CALL.address() + 5;
            equal("rip", rip, behind)?;
            equal("rcx", rcx, behind)?;
            equal("r11", r11, 0x202)?;
            equal("cs", cs, KERNEL_CS)?;
            equal("rflags", rflags, 0x202)?;
            equal("rsp", rsp, user_stack() - 256)?;
            equal("ss", ss, 0xe02b)?;
            equal("frame", at, user_stack() - 256 - 56)?;
            equal("pending and masked", bytes & 0xffff, 0x101)?;
            equal("selector", selector, 1)
        })
    }),
    case("event_delivery/opened", "The handler's iret opens the guest to upcalls again.", |t| {
        upcalled(t, |s, words| {
            let port = ipi()?;
            for nest in [false, true] {
                words.clear();
                arm(s.info(), nest.into(), nest);
                s.quiet(SET_CALL, registers(s, SEND, &[port], State::number(0), 0))?;
                equal("mask", words.upcall_mask(), 0)?;
                equal("pending", words.state(port).upcall, false)?;
                s.set_mask(1);
            }
            Ok(())
        })
    }),
    case("event_delivery/registers", "The call's answer is in rax, the rest as it was.", |t| {
        upcalled(t, |s, _| {
            let port = ipi()?;
            let mut before = registers(s, SEND, &[port], State::number(0), 0);
            let after = s.quiet(SET_CALL, before)?;
            equal("upcalls", count(), 1)?;
            equal("rax", after.rax, 0)?;
            (before.rax, before.rflags, before.rcx) = (0, after.rflags, after.rcx);
            (before.high[3], before.fx) = (after.high[3], after.fx);
            equal("all but rcx, r11 the same", after == before, true)
        })
    }),
    case(
        "event_delivery/error",
        "An upcall that waits comes behind a call that fails, too.",
        |t| {
            upcalled(t, |s, _| {
                let registers = registers(s, SEND, &[4096], State::number(8), 0);
                let after = s.quiet(SET_CALL, registers)?;
                equal("rax", after.rax, crate::call::EINVAL.cast_unsigned())?;
                equal("rip", one()?.frame[2], SET_CALL.address() + 5)
            })
        },
    ),
    case(
        "event_delivery/open",
        "Opened behind the send, the upcall comes with the next call.",
        |t| {
            upcalled(t, |s, words| {
                let port = ipi()?;
                let registers = registers(s, SEND, &[port], State::number(0), 1);
                words.set_upcall(false);
                s.quiet(CALL_OPEN_CALL, registers)?;
                equal("rip", one()?.frame[2], CALL_OPEN_CALL.address() + 18)
            })
        },
    ),
    case("event_delivery/twice", "A port that stays pending is not raised again.", |t| {
        upcalled(t, |s, words| {
            let port = ipi()?;
            call(s, SEND, &[port], State::number(0), 0)?;
            one()?;
            let state = words.state(port);
            equal("state", state.bits(), State::number(5).bits())?;
            arm(s.info(), 0, false);
            call(s, SEND, &[port], state, 0)?;
            equal("upcalls", count(), 0)
        })
    }),
    case("event_delivery/again", "With its bits cleared it is.", |t| {
        upcalled(t, |s, words| {
            let port = ipi()?;
            for _ in 0..3 {
                words.clear();
                arm(s.info(), 0, false);
                call(s, SEND, &[port], State::number(0), 0)?;
                one()?;
            }
            Ok(())
        })
    }),
    case("event_delivery/selected", "A word that is selected raises no upcall again.", |t| {
        upcalled(t, |s, words| {
            let (first, second) = (ipi()?, ipi()?);
            call(s, SEND, &[first], State::number(0), 0)?;
            one()?;
            arm(s.info(), 0, false);
            call(s, SEND, &[second], State::number(4), 0)?;
            equal("upcalls", count(), 0)?;
            equal("pending", words.pending(second), true)
        })
    }),
    case(
        "event_delivery/kept",
        "A handler that leaves it pending is called behind its iret.",
        |t| {
            upcalled(t, |s, _| {
                let port = ipi()?;
                arm(s.info(), 2, false);
                call(s, SEND, &[port], State::number(0), 0)?;
                equal("upcalls", count(), 3)?;
                for number in 0..3 {
                    let Upcall { at, frame, .. } = upcall(number);
                    equal("rip", frame[2], SET_CALL.address() + 5)?;
                    equal("rflags", frame[4], 0x202)?;
                    equal("frame", at, user_stack() - 256 - 56)?;
                }
                Ok(())
            })
        },
    ),
    case("event_delivery/nested", "A handler that opens itself is called behind its call.", |t| {
        upcalled(t, |s, _| {
            let port = ipi()?;
            arm(s.info(), 1, true);
            call(s, SEND, &[port], State::number(0), 0)?;
            equal("upcalls", count(), 2)?;
            let (outer, inner) = (upcall(0), upcall(1));
            equal("rip", outer.frame[2], SET_CALL.address() + 5)?;
            equal("rip of the inner", inner.frame[2], upcalls::nested())?;
            equal("cs of the inner", inner.frame[3], KERNEL_CS)?;
            equal("stack of the inner", inner.frame[5], outer.at - 32)
        })
    }),
    case("event_delivery/bit_alone", "Unmasking a port by its bit alone raises nothing.", |t| {
        upcalled(t, |s, words| {
            let port = ipi()?;
            words.set_masked(port, true);
            equal("send", about(SEND, port), 0)?;
            words.set_masked(port, false);
            let registers = registers(s, UNMASK, &[port], State::number(0), 0);
            s.quiet(SET_CALL_CALL, registers)?;
            equal("upcalls", count(), 0)?;
            equal("state", words.state(port).bits(), 1)
        })
    }),
    case("event_delivery/own_bits", "Bits that the guest sets itself raise nothing.", |t| {
        upcalled(t, |s, words| {
            let port = ipi()?;
            words.set(port, State::number(5));
            let registers = registers(s, UNMASK, &[port], State::number(0), 0);
            s.quiet(SET_CALL_CALL, registers)?;
            equal("upcalls", count(), 0)?;
            equal("state", words.state(port).bits(), 5)
        })
    }),
    case(
        "event_delivery/bound_later",
        "What was sent before the port was bound is not lost.",
        |t| {
            upcalled(t, |s, words| {
                let first = unbound(SELF)?;
                equal("send", about(SEND, first), 0)?;
                equal("state", words.state(first).bits(), 0)?;
                call(s, BIND_INTERDOMAIN, &[SELF, first], State::number(0), 0)?;
                one()?;
                equal("pending", words.pending(word(2)), true)
            })
        },
    ),
    case("event_delivery/closed_pending", "An upcall comes though its port was closed.", |t| {
        upcalled(t, |s, words| {
            let port = ipi()?;
            equal("send", about(SEND, port), 0)?;
            call(s, CLOSE, &[port], State::number(8), 0)?;
            one()?;
            equal("pending", words.pending(port), false)?;
            equal("selector", words.selector(), 1)
        })
    }),
    case(
        "event_delivery/multicall",
        "A multicall's upcall comes before or behind the rest.",
        |t| {
            upcalled(t, |s, words| {
                let ports = [ipi()?, ipi()?, ipi()?];
                for (place, port) in ports.into_iter().enumerate() {
                    let (at, argument) = (place * 64, 512 + place * 8);
                    let pointer = arena_address() + argument as u64;
                    put_words(at, &[EVENT_CHANNEL_OP, 1, SEND, pointer, 0, 0, 0, 0]);
                    put_words(argument, &[port.into()]);
                }
                let mut registers = registers(s, 0, &[], State::number(0), 0);
                (registers.rax, registers.rdi, registers.rsi) = (MULTICALL, arena_address(), 3);
                let after = s.quiet(SET_CALL, registers)?;
                equal("rax", after.rax, 0)?;
                let rip = one()?.frame[2].wrapping_sub(SET_CALL.address());
                holds("rip", rip, "at the call or behind it", matches!(rip, 3 | 5))?;
                for port in ports {
                    equal_at("pending", port.into(), words.pending(port), true)?;
                }
                Ok(())
            })
        },
    ),
    case("event_delivery/user", "User mode is interrupted, and goes on behind the upcall.", |t| {
        upcalled(t, |s, _| {
            let mut registers = Registers::new();
            (registers.rbx, registers.rflags, registers.rbp) = (s.info(), 0x206, 0x1234);
            let end = s.user(RAISE_CPUID, registers)?;
            equal("end", end.vector, END)?;
            equal("rbp", end.registers.rbp, 0x1234)?;
            let Upcall { at, frame, .. } = one()?;
            equal("rip", frame[2], RAISE_CPUID.address() + 12)?;
            equal("cs", frame[3], USER_CS)?;
            equal("rsp", frame[5], user_stack() - 256)?;
            equal("frame", at, kernel_stack() - 56)
        })
    }),
    case("event_delivery/iret", "What was sent while masked comes with an iret that opens.", |t| {
        upcalled(t, |s, words| {
            let port = ipi()?;
            equal("send", about(SEND, port), 0)?;
            let mut registers = Registers::new();
            s.try_iret(Context::to(NOTHING, KERNEL_CS, 2), &mut registers);
            equal("upcalls while masked", count(), 0)?;
            s.try_iret(Context::to(NOTHING, KERNEL_CS, 0x202), &mut registers);
            s.set_mask(1);
            equal("rip", one()?.frame[2], NOTHING.address())?;
            equal("state", words.state(port).bits(), 5)
        })
    }),
    ends_guest("event_delivery/no_callback", "An upcall without a callback ends the guest.", |t| {
        stage(t, |s| {
            let port = ipi()?;
            let mut registers = registers(s, SEND, &[port], State::number(0), 0);
            t.crash_at(SET_CALL, &mut registers, SET_CALL.address() + 5)
        })
    }),
    case("event_delivery/user_waiting", "User mode's start is behind what waits for it.", |t| {
        upcalled(t, |s, words| {
            let port = ipi()?;
            equal("send", about(SEND, port), 0)?;
            equal("state", words.state(port).bits(), State::number(0).raised().bits())?;
            let mut registers = Registers::new();
            registers.rflags = 0x206;
            equal("end", s.user(NOTHING, registers)?.vector, END)?;
            let Upcall { frame, .. } = one()?;
            equal("rip", frame[2], NOTHING.address())?;
            equal("cs", frame[3], USER_CS)?;
            is(port, IPI)
        })
    }),
];

/// As [`called`] and [`ports`], with the handler that returns.
pub(super) fn upcalled(t: &Test<'_>, does: impl FnOnce(&Stage, Words) -> Outcome) -> Outcome {
    called(t, |s| {
        equal("event", s.callback(0, 0, upcalls::handler()), 0)?;
        arm(s.info(), 0, false);
        ports(t, |words| {
            let outcome = does(s, words);
            s.set_mask(1);
            outcome
        })
    })
}

/// The one upcall that must have come.
pub(super) fn one() -> Result<Upcall, Verdict> {
    equal("upcalls", count(), 1)?;
    Ok(upcall(0))
}

/// Registers for [`SET_CALL`] with a call on events and its argument.
fn registers(s: &Stage, command: u64, argument: &[u32], state: State, mask: u64) -> Registers {
    for (index, word) in argument.iter().enumerate() {
        put(index * 4, &word.to_le_bytes());
    }
    let mut registers = Registers::new();
    registers.rax = EVENT_CHANNEL_OP;
    registers.rdi = command;
    registers.rsi = arena_address();
    registers.rbx = s.info();
    registers.rbp = u64::from(state.upcall) | mask << 8;
    registers.rsp = user_stack() - 256;
    registers
}

/// Makes a call with the upcall's bytes as they are told.
fn call(s: &Stage, command: u64, argument: &[u32], state: State, mask: u64) -> Outcome {
    let after = s.quiet(SET_CALL, registers(s, command, argument, state, mask))?;
    s.set_mask(1);
    equal("answer", after.rax, 0)
}

/// Tries all states of a port and masks of upcalls.
fn each_state(mut tries: impl FnMut(State, u64) -> Outcome) -> Outcome {
    for bits in 0..16 {
        for mask in MASKS {
            tries(State::number(bits), mask)?;
        }
    }
    Ok(())
}

/// Checks the state of a port, and that the guest was called if there was cause.
fn after(words: Words, port: u32, expected: State, mask: u64) -> Outcome {
    let calls = expected.upcall && mask == 0;
    equal_at("upcalls", expected.bits(), count(), calls.into())?;
    if calls {
        equal("rip", upcall(0).frame[2], SET_CALL.address() + 5)?;
        equal("selector", upcall(0).selector != 0, expected.selected)?;
    }
    // The handler forgets the upcall.
    let expected = State { upcall: expected.upcall && !calls, ..expected };
    equal("state", words.state(port).bits(), expected.bits())?;
    words.clear();
    upcalls::forget();
    Ok(())
}

/// Raises a port in all states, with so many other ports before it.
fn raised(t: &Test<'_>, way: Way, before: u32) -> Outcome {
    upcalled(t, |s, words| {
        for _ in 0..before {
            ipi()?;
        }
        let (first, port) = match way {
            Way::Ipi => ipi().map(|port| (port, port))?,
            Way::Pair => pair()?,
            Way::Bind => unbound(SELF).map(|port| (port, port + 1))?,
        };
        words.clear();
        each_state(|state, mask| {
            words.set(port, state);
            match way {
                Way::Ipi | Way::Pair => call(s, SEND, &[first], state, mask)?,
                Way::Bind => call(s, BIND_INTERDOMAIN, &[SELF, first], state, mask)?,
            }
            after(words, port, state.raised(), mask)?;
            if matches!(way, Way::Bind) {
                equal("close", event(CLOSE, &[port]), 0)?;
            }
            Ok(())
        })
    })
}
