//! x87 and SSE: the guest's task-switched flag, and state kept over everything.

use super::trap_stage::{Context, EVENT, KERNEL_CS, Stage, stage, user_stage};
use crate::call::hypercall;
use crate::case::{Case, Outcome, Verdict, case, ends_guest, equal, equal_at};
use crate::raw::trap_snippets as code;
use crate::raw::trap_stage::handler;
use crate::raw::{Code, Registers, snippets};

const FPU_TASKSWITCH: u64 = 5;

pub(crate) const CASES: &[Case] = &[
    case("fpu/x87", "With the flag set an x87 instruction is vector 7, at it.", |t| {
        stage(t, |s| switched(s, code::CALL_X87))
    }),
    case("fpu/sse", "So is an SSE instruction.", |t| stage(t, |s| switched(s, code::CALL_SSE))),
    case("fpu/wait", "So is WAIT.", |t| stage(t, |s| switched(s, code::CALL_WAIT))),
    case("fpu/frame", "Its frame has no error code.", |t| {
        stage(t, |s| {
            let frame = s.kernel(code::CALL_X87, task(1))?.plain();
            equal("cs", frame.cs, KERNEL_CS | 1 << 32)?;
            equal("ss", frame.ss, 0xe02b)
        })
    }),
    case("fpu/once", "The exception clears the flag.", |t| {
        stage(t, |s| {
            switched(s, code::CALL_X87)?;
            s.quiet(code::X87, Registers::new())?;
            Ok(())
        })
    }),
    case("fpu/user", "In user mode it is the same flag.", |t| {
        user_stage(t, |s| {
            let context = Context::user(code::X87);
            let event = s.try_iret_by(code::CALL_IRET, context, &mut task(1));
            equal("vector", event.map_or(0, |event| event.vector), 7)?;
            let rip = event.map_or(0, |event| event.plain().rip);
            equal("rip", rip, code::X87.address())
        })
    }),
    case("fpu/cleared", "The call with 0 clears the flag.", |t| {
        stage(t, |s| {
            s.quiet(code::CALL_TWICE_X87, task(1))?;
            Ok(())
        })
    }),
    case("fpu/answer", "The call answers 0.", |t| {
        stage(t, |s| {
            equal("answer to 0", s.quiet(snippets::SYSCALL, task(0))?.rax, 0)?;
            equal("answer to 1", s.kernel(code::CALL_X87, task(1))?.registers.rax, 0)
        })
    }),
    case("fpu/any_value", "Any value but 0 sets the flag.", |t| {
        stage(t, |s| {
            for value in [2, 0x8000_0000, u64::MAX] {
                let event = s.kernel(code::CALL_X87, task(value))?;
                equal_at("vector for", value, event.vector, 7)?;
            }
            Ok(())
        })
    }),
    case("fpu/width", "The value has 32 bits.", |t| {
        stage(t, |s| {
            s.quiet(code::CALL_X87, task(1 << 32))?;
            Ok(())
        })
    }),
    case("fpu/clts", "CLTS clears the flag.", |t| {
        stage(t, |s| {
            s.quiet(code::CALL_CLTS_X87, task(1))?;
            Ok(())
        })
    }),
    case("fpu/cr0", "CR0, read, shows the flag.", |t| {
        stage(t, |s| {
            let set = s.quiet(code::CALL_READ_CR0, task(1))?.rbx;
            let clear = s.quiet(code::CALL_READ_CR0, task(0))?.rbx;
            equal("bit 3, set", set & 8, 8)?;
            equal("bit 3, clear", clear & 8, 0)
        })
    }),
    case("fpu/smsw", "SMSW shows it where it is not emulated.", |t| {
        stage(t, |s| {
            let status = s.quiet(code::CALL_SMSW, task(1))?.rbx;
            equal("bit 3", status & 8, 8)
        })
    }),
    case("fpu/cr0_write", "CR0, written, sets the flag.", |t| {
        stage(t, |s| {
            let event = s.kernel(code::SET_TS_X87, Registers::new())?;
            equal("vector", event.vector, 7)
        })
    }),
    case("fpu/kept_over_trap", "Traps keep the whole state.", |t| {
        stage(t, |s| {
            let registers = filled();
            kept(&registers, &s.kernel(code::UD2, registers)?.registers)
        })
    }),
    case("fpu/kept_over_user", "iret and a trap from user mode keep the whole state.", |t| {
        user_stage(t, |s| {
            let registers = filled();
            kept(&registers, &s.user(code::UD2, registers)?.registers)
        })
    }),
    case("fpu/kept_over_switch", "Setting and clearing the flag keep the whole state.", |t| {
        stage(t, |s| {
            let mut registers = filled();
            (registers.rax, registers.rdi) = (FPU_TASKSWITCH, 1);
            kept(&registers, &s.kernel(code::CALL_SSE_SAME, registers)?.registers)
        })
    }),
    case("fpu/kept_over_event", "An event keeps the whole state.", |t| {
        stage(t, |s| {
            equal("event", s.callback(0, 0, handler(EVENT)), 0)?;
            s.set_pending(1);
            let mut registers = filled();
            let context = Context::to(code::UD2, KERNEL_CS, 0x202);
            let event = s.try_iret(context, &mut registers);
            s.set_mask(1);
            s.set_pending(0);
            equal("event", s.callback(0, 0, 0), 0)?;
            equal("vector", event.map_or(0, |event| event.vector), EVENT)?;
            kept(&filled(), &registers)
        })
    }),
    case("fpu/kept_over_block", "Waiting for a while keeps the whole state.", |t| {
        stage(t, |s| {
            let mut registers = filled();
            // sched_op yield.
            (registers.rax, registers.rdi) = (29, 0);
            kept(&registers, &s.quiet(snippets::SYSCALL, registers)?)
        })
    }),
    case("fpu/x87_wait", "An unmasked x87 exception waits for the next x87 instruction.", |t| {
        stage(t, |s| {
            let mut registers = Registers::new();
            registers.fx.0[..2].copy_from_slice(&[0x40, 0x03]);
            let event = s.kernel(code::X87_DIVIDE, registers)?;
            equal("vector", event.vector, 16)?;
            equal("rip", event.plain().rip, code::X87_DIVIDE.address() + 6)?;
            // The exception's flag stays, and says division by zero.
            equal("status", event.registers.fx.0[2] & 4, 4)
        })
    }),
    ends_guest("fpu/no_handler", "With the flag set and no handler the guest ends.", |t| {
        equal("null", hypercall(super::trap_stage::SET_TRAP_TABLE, &[0]), 0)?;
        t.crash_at(code::CALL_X87, &mut task(1), code::CALL_X87.address() + 2)
    }),
];

fn task(value: u64) -> Registers {
    crate::call::registers(FPU_TASKSWITCH, &[value])
}

/// Sets the flag, behind which an instruction must be vector 7.
fn switched(s: &Stage, code: Code) -> Result<(), Verdict> {
    let event = s.kernel(code, task(1))?;
    equal("vector", event.vector, 7)?;
    equal("rip", event.plain().rip, code.address() + 2)
}

/// Something recognisable in all x87 and SSE registers and control words.
fn filled() -> Registers {
    let mut registers = Registers::new();
    let fx = &mut registers.fx.0;
    fx[..5].copy_from_slice(&[0x7f, 0x06, 0, 0, 0xff]);
    fx[24..26].copy_from_slice(&[0x80, 0x3f]);
    for (place, byte) in (7..).zip(&mut fx[32..416]) {
        *byte = place;
    }
    for register in fx[32..160].chunks_exact_mut(16) {
        register[10..].fill(0);
    }
    registers
}

fn kept(before: &Registers, after: &Registers) -> Outcome {
    let places = (0..5).chain(24..28).chain(32..416);
    let changed = places.into_iter().find(|&at| before.fx.0[at] != after.fx.0[at]);
    equal("first changed byte", changed.unwrap_or(416), 416)
}
