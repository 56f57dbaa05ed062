//! Control registers, and the flags that only privilege may change.

use super::trap_stage::{Event, Stage, stage, user_stage};
use crate::case::{Case, Outcome, Test, Verdict, case, equal, equal_at};
use crate::raw::trap_emulation as code;
use crate::raw::trap_snippets::{LOAD, UD2};
use crate::raw::{Code, Registers};
use crate::tables::{frame_of, top};

/// CR0 as guests see it: PE MP ET NE WP AM PG.
const CR0: u64 = 0x8005_0033;
const TASK_SWITCHED: u64 = 8;

pub(crate) const CASES: &[Case] = &[
    case("control/cr0", "CR0 reads as 80050033.", |t| {
        stage(t, |s| equal("cr0", read(s, code::READ_CR0)?, CR0))
    }),
    case("control/cr0_any_register", "It goes to any register, whole.", |t| {
        stage(t, |s| equal("r15", s.quiet(code::READ_CR0_R15, Registers::new())?.high[7], CR0))
    }),
    case("control/cr0_same", "Writing CR0 what it is changes nothing.", |t| {
        stage(t, |s| {
            s.quiet(code::WRITE_CR0, rax(CR0))?;
            equal("cr0", read(s, code::READ_CR0)?, CR0)
        })
    }),
    case("control/cr0_bits", "Of CR0's bits only TS can be changed.", |t| {
        stage(t, |s| {
            for bit in (0..64).filter(|bit| 1 << bit != TASK_SWITCHED) {
                refused_at(s, code::WRITE_CR0, rax(CR0 ^ 1 << bit), bit)?;
            }
            equal("cr0", read(s, code::READ_CR0)?, CR0)
        })
    }),
    case("control/lmsw", "LMSW is refused, even if it would change nothing.", |t| {
        stage(t, |s| {
            refused_at(s, code::LMSW, rax(CR0 & 0xf), CR0)?;
            refused_at(s, code::LMSW, rax(CR0 & 0xf | TASK_SWITCHED), CR0)
        })
    }),
    case("control/smsw", "SMSW shows the processor's own CR0, in 16 bits at least.", |t| {
        stage(t, |s| equal("low bits", read(s, code::SMSW)? & 0xf, CR0 & 0xf))
    }),
    case("control/cr2", "CR2 reads as the last page fault's address.", |t| {
        stage(t, |s| {
            let mut registers = Registers::new();
            registers.rsi = 0x4568;
            s.kernel(LOAD, registers)?;
            equal("cr2", read(s, code::READ_CR2)?, 0x4568)
        })
    }),
    case("control/cr2_write", "CR2, written, shows in shared_info, too.", |t| {
        stage(t, |s| {
            for value in [0x1357, 0x8000_0000_0000, u64::MAX] {
                s.quiet(code::WRITE_CR2, rax(value))?;
                equal("cr2", read(s, code::READ_CR2)?, value)?;
                equal("shared cr2", s.cr2(), value)?;
            }
            Ok(())
        })
    }),
    case("control/cr2_memory", "What the guest writes to shared_info does not change CR2.", |t| {
        stage(t, |s| {
            s.quiet(code::WRITE_CR2, rax(0x2468))?;
            crate::raw::memory::poke(s.info() + 16, 1);
            equal("cr2", read(s, code::READ_CR2)?, 0x2468)
        })
    }),
    case("control/cr3", "CR3 reads as the address of the top-level table's frame.", |t| {
        stage(t, |s| equal("cr3", read(s, code::READ_CR3)?, table(t)))
    }),
    case("control/cr3_same", "Writing CR3 what it is changes nothing.", |t| {
        stage(t, |s| {
            s.quiet(code::WRITE_CR3, rax(table(t)))?;
            equal("cr3", read(s, code::READ_CR3)?, table(t))
        })
    }),
    case("control/cr3_low_bits", "The lower 12 bits of what is written to CR3 are lost.", |t| {
        stage(t, |s| {
            s.quiet(code::WRITE_CR3, rax(table(t) | 0x18))?;
            equal("cr3", read(s, code::READ_CR3)?, table(t))
        })
    }),
    case("control/cr3_bad", "CR3 refuses frames that cannot be top-level tables.", |t| {
        stage(t, |s| {
            let wrong = frame_of(t.boot, 0x100) << 12;
            for value in [0, wrong, 1 << 51, u64::MAX] {
                refused_at(s, code::WRITE_CR3, rax(value), value)?;
            }
            equal("cr3", read(s, code::READ_CR3)?, table(t))
        })
    }),
    case("control/cr4_same", "Writing CR4 what it is changes nothing.", |t| {
        stage(t, |s| {
            let before = read(s, code::READ_CR4)?;
            s.quiet(code::WRITE_CR4, rax(before))?;
            equal("cr4", read(s, code::READ_CR4)?, before)
        })
    }),
    case(
        "control/cr4_bits",
        "Any value may be written to CR4; of its bits TSD and DE change.",
        |t| {
            stage(t, |s| {
                let before = read(s, code::READ_CR4)?;
                let (mut taken, mut changed) = (0, 0);
                for bit in 0..64 {
                    let value = before ^ 1 << bit;
                    if s.try_kernel(code::WRITE_CR4, &mut rax(value)).is_none() {
                        taken |= 1_u64 << bit;
                    }
                    changed |= read(s, code::READ_CR4)? ^ before;
                    s.quiet(code::WRITE_CR4, rax(before))?;
                }
                equal("bits taken", taken, u64::MAX)?;
                equal("bits changed", changed, 0xc)
            })
        },
    ),
    case("control/cr4", "CR4 begins as the hypervisor's, without what guests may not see.", |t| {
        stage(t, |s| equal("cr4", read(s, code::READ_CR4)?, 0x660))
    }),
    case("control/other", "CR1 and CR8 are refused, reading and writing.", |t| {
        stage(t, |s| {
            refused(s, code::READ_CR8)?;
            refused(s, code::WRITE_CR8)?;
            refused(s, code::READ_CR1)
        })
    }),
    case("control/user", "User mode may not touch any of them.", |t| {
        user_stage(t, |s| {
            for code in [
                code::READ_CR0,
                code::READ_CR2,
                code::READ_CR3,
                code::READ_CR4,
                code::WRITE_CR0,
                code::WRITE_CR2,
                code::WRITE_CR3,
                code::WRITE_CR4,
                code::CLTS,
                code::LMSW,
            ] {
                let event = s.user(code, rax(CR0))?;
                fault(&event, code, 0)?;
            }
            Ok(())
        })
    }),
    case("control/clts", "CLTS of the kernel goes through.", |t| {
        stage(t, |s| {
            s.quiet(code::CLTS, Registers::new())?;
            s.quiet(code::PREFIXED_CLTS, Registers::new())?;
            Ok(())
        })
    }),
    case("control/cli", "CLI without I/O privilege is refused to the kernel.", |t| {
        stage(t, |s| {
            refused(s, code::CLI)?;
            refused(s, code::PREFIXED_CLI)
        })
    }),
    case("control/sti", "STI without I/O privilege is refused to the kernel.", |t| {
        stage(t, |s| refused(s, code::STI))
    }),
    case("control/flags_interrupt", "POPF changes neither the interrupt flag nor IOPL.", |t| {
        stage(t, |s| {
            for value in [2, 0x3002, 0x3202] {
                let seen = s.quiet(code::POPF, rax(value))?.rbx;
                equal_at("flags from", value, seen, 0x202)?;
            }
            Ok(())
        })
    }),
    case("control/flags_mask", "POPF leaves the event mask alone.", |t| {
        stage(t, |s| {
            s.quiet(code::POPF, rax(0x202))?;
            equal("mask", s.mask(), 1)
        })
    }),
    case("control/flags_frame", "What POPF tried does not stand in frames.", |t| {
        stage(t, |s| {
            let mut registers = Registers::new();
            registers.rflags = 0x3002;
            equal("rflags", s.kernel(UD2, registers)?.plain().rflags, 2)
        })
    }),
];

fn rax(value: u64) -> Registers {
    let mut registers = Registers::new();
    registers.rax = value;
    registers
}

fn read(s: &Stage, code: Code) -> Result<u64, Verdict> {
    Ok(s.quiet(code, Registers::new())?.rax)
}

fn table(t: &Test<'_>) -> u64 {
    frame_of(t.boot, top(t.boot)) << 12
}

/// Checks that `code` is a protection fault of the kernel.
pub(super) fn refused(s: &Stage, code: Code) -> Outcome {
    refused_at(s, code, Registers::new(), 0)
}

/// Checks that `code` is a protection fault with these registers.
pub(super) fn refused_at(s: &Stage, code: Code, mut registers: Registers, place: u64) -> Outcome {
    match s.try_kernel(code, &mut registers) {
        Some(event) => fault(&event, code, place),
        None => equal_at("vector for", place, 0_u64, 13),
    }
}

/// Checks that an event is a protection fault of code 0 at the beginning of `code`.
pub(super) fn fault(event: &Event, code: Code, place: u64) -> Outcome {
    equal_at("vector for", place, event.vector, 13)?;
    equal_at("error for", place, event.coded().error, 0)?;
    equal_at("rip for", place, event.coded().rip, code.address())
}
