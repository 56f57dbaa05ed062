//! Breakpoints on ports, and what CR4.DE does to the debug registers' names.

use super::debug::{ENODEV, EPERM, STATUS, debugged, get, set};
use super::trap_stage::Stage;
use crate::call::hypercall;
use crate::case::{Case, Outcome, Test, case, equal, equal_at};
use crate::raw::memory::poke;
use crate::raw::trap_emulation as code;
use crate::raw::trap_snippets::{
    READ_DR4, READ_DR5, READ_DR7, STEP_CLI, STEP_OUT, WRITE_DR4, WRITE_DR5,
};
use crate::raw::trap_stage::page;
use crate::raw::{Code, Registers};

const PHYSDEV_OP: u64 = 33;
const SET_IOPL: u64 = 6;
/// A port that does nothing: the POST code's.
const PORT: u64 = 0x80;
/// CR4's bit.
const DE: u64 = 1 << 3;
/// Register 7: the first breakpoint is on a port of one byte, two, four.
const BYTE: u64 = 0x2_0001;
const TWO: u64 = 0x6_0001;
const FOUR: u64 = 0xe_0001;

pub(crate) const CASES: &[Case] = &[
    case("debug_port/taken", "With CR4.DE breakpoints on ports are taken.", |t| {
        watched(t, |_| {
            for slot in 0..4 {
                let value = 2 << (16 + 4 * slot) | 3 << (2 * slot);
                equal_at("set", slot, set(7, value), 0)?;
                equal_at("get", slot, get(7), value.cast_signed() | 0x400)?;
            }
            Ok(())
        })
    }),
    case("debug_port/in", "IN and OUT of the port are followed by vector 1.", |t| {
        watched(t, |s| {
            for code in [code::IN_8, code::OUT_8, code::IN_80, code::OUT_80] {
                arm(PORT, BYTE)?;
                strikes(s, code, PORT, 1)?;
            }
            Ok(())
        })
    }),
    case("debug_port/width", "It is enough that one byte of both is the same.", |t| {
        watched(t, |s| {
            for (control, at, code, port) in [
                (BYTE, PORT + 3, code::OUT_32, PORT),
                (TWO, PORT + 1, code::OUT_8, PORT),
                (FOUR, PORT, code::OUT_8, PORT + 3),
            ] {
                arm(at, control)?;
                strikes(s, code, port, 1)?;
            }
            for (control, at, code, port) in [
                (BYTE, PORT + 4, code::OUT_32, PORT),
                (TWO, PORT + 2, code::OUT_16, PORT),
                (FOUR, PORT + 7, code::OUT_32, PORT),
            ] {
                arm(at, control)?;
                s.quiet(code, dx(port))?;
            }
            Ok(())
        })
    }),
    case("debug_port/each", "Each of the four has its bit; both can strike at once.", |t| {
        watched(t, |s| {
            for slot in [1, 2, 3] {
                equal("address", set(0, PORT), 0)?;
                equal("address", set(slot, PORT), 0)?;
                equal("control", set(7, 2 << (16 + 4 * slot) | 1 << (2 * slot) | BYTE), 0)?;
                strikes(s, code::OUT_8, PORT, 1 | 1 << slot)?;
            }
            Ok(())
        })
    }),
    case("debug_port/step", "Behind OUT the breakpoint alone is told of, no single step.", |t| {
        watched(t, |s| {
            arm(PORT, BYTE)?;
            let event = s.kernel(STEP_OUT, dx(PORT))?;
            equal("vector", event.vector, 1)?;
            equal("rip", event.plain().rip, STEP_OUT.address() + 7)?;
            equal("count", event.count, 1)?;
            equal("6", get(6), STATUS | 1)
        })
    }),
    case("debug_port/step_only", "Single steps over OUT and CLI come one instruction on.", |t| {
        watched(t, |s| {
            for code in [STEP_OUT, STEP_CLI] {
                let event = s.kernel(code, dx(PORT))?;
                equal("vector", event.vector, 1)?;
                equal("rip", event.plain().rip, code.address() + 8)?;
                equal("6", get(6), STATUS | 0x4000)?;
                equal("clear", set(6, 0), 0)?;
            }
            Ok(())
        })
    }),
    case("debug_port/string", "REP OUTSB stops behind each byte.", |t| {
        watched(t, |s| {
            arm(PORT, BYTE)?;
            let mut registers = dx(PORT);
            (registers.rsi, registers.rcx) = (page(8), 3);
            let event = s.kernel(code::REP_OUTS, registers)?;
            equal("vector", event.vector, 1)?;
            equal("rcx", event.plain().rcx, 2)?;
            equal("rsi", event.registers.rsi, page(8) + 1)?;
            equal("rip", event.plain().rip, code::REP_OUTS.address())
        })
    }),
    case("debug_port/off", "They do not strike while CR4.DE is clear.", |t| {
        watched(t, |s| {
            arm(PORT, BYTE)?;
            control_4(s, 0)?;
            s.quiet(code::OUT_8, dx(PORT))?;
            control_4(s, DE)?;
            strikes(s, code::OUT_8, PORT, 1)
        })
    }),
    case("debug_port/refused", "IN without a right to the port is no breakpoint.", |t| {
        watched(t, |s| {
            arm(PORT, BYTE)?;
            level(0)?;
            let event = s.kernel(code::IN_8, dx(PORT))?;
            equal("vector", event.vector, 13)?;
            equal("6", get(6), STATUS)
        })
    }),
    case("debug_port/disabled", "Register 7 without any enable bit forgets them.", |t| {
        watched(t, |s| {
            arm(PORT, BYTE)?;
            equal("set", set(7, BYTE & !1), 0)?;
            equal("get", get(7), 0x2_0400)?;
            s.quiet(code::OUT_8, dx(PORT))?;
            Ok(())
        })
    }),
    case("debug_port/names", "With CR4.DE there are no registers 4 and 5: -ENODEV.", |t| {
        watched(t, |_| {
            for register in [4, 5] {
                equal_at("set", register, set(register, 0), ENODEV)?;
                equal_at("get", register, get(register), ENODEV)?;
            }
            Ok(())
        })
    }),
    case("debug_port/names_instruction", "Instructions that name them are undefined.", |t| {
        watched(t, |s| {
            for code in [READ_DR4, READ_DR5, WRITE_DR4, WRITE_DR5] {
                let event = s.kernel(code, Registers::new())?;
                equal("vector", event.vector, 6)?;
                equal("rip", event.plain().rip, code.address())?;
            }
            Ok(())
        })
    }),
    case("debug_port/read", "Reading register 7 shows what enables them.", |t| {
        watched(t, |s| {
            equal("set", set(7, BYTE), 0)?;
            equal("rax", s.quiet(READ_DR7, Registers::new())?.rax, BYTE | 0x400)
        })
    }),
    case("debug_port/general", "The general-detect bit is refused all the same.", |t| {
        watched(t, |_| equal("set", set(7, BYTE | 1 << 13), EPERM))
    }),
];

/// Does something with CR4.DE set, and ports for the kernel.
fn watched(t: &Test<'_>, does: impl FnOnce(&Stage) -> Outcome) -> Outcome {
    debugged(t, |s| {
        control_4(s, DE)?;
        level(1)?;
        let outcome = does(s);
        level(0)?;
        outcome.and(control_4(s, 0))
    })
}

fn control_4(s: &Stage, value: u64) -> Outcome {
    let mut registers = Registers::new();
    registers.rax = value;
    s.quiet(code::WRITE_CR4, registers)?;
    Ok(())
}

fn level(number: u64) -> Outcome {
    poke(page(5), number);
    equal("set_iopl", hypercall(PHYSDEV_OP, &[SET_IOPL, page(5)]), 0)
}

fn dx(port: u64) -> Registers {
    let mut registers = Registers::new();
    registers.rdx = port;
    registers
}

/// The first breakpoint, and no cause yet.
fn arm(address: u64, control: u64) -> Outcome {
    equal("status", set(6, 0), 0)?;
    equal("address", set(0, address), 0)?;
    equal("control", set(7, control), 0)
}

/// Checks that an access is made, and followed by vector 1 with these causes.
fn strikes(s: &Stage, code: Code, port: u64, causes: i64) -> Outcome {
    let by_number = [code::IN_80, code::OUT_80].iter().any(|at| at.address() == code.address());
    let length = if by_number { 2 } else { 1 };
    let event = s.kernel(code, dx(port))?;
    equal_at("vector", port, event.vector, 1)?;
    equal_at("rip", port, event.plain().rip, code.address() + length)?;
    equal_at("6", port, get(6), STATUS | causes)?;
    equal("clear", set(6, 0), 0)
}
