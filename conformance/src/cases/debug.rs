//! Debug registers, breakpoints, single steps.

use super::trap_stage::{END, Event, KERNEL_CS, SPARE, Stage, USER_CS, user_stage};
use crate::call::{EFAULT, EINVAL, XEN_VERSION, hypercall};
use crate::case::{Case, Outcome, case, equal, equal_at, holds};
use crate::raw::memory::poke;
use crate::raw::trap_snippets as code;
use crate::raw::trap_stage::page;
use crate::raw::{Code, Registers, snippets};
use crate::tables::M2P;

const SET_DEBUGREG: u64 = 8;
const GET_DEBUGREG: u64 = 9;
pub(super) const EPERM: i64 = -1;
pub(super) const ENODEV: i64 = -19;
/// What is always set in register 6.
pub(super) const STATUS: i64 = 0xffff_0ff0;

pub(crate) const CASES: &[Case] = &[
    case("debug/addresses", "Registers 0 to 3 hold what was set.", |t| {
        debugged(t, |_| {
            for register in 0..4 {
                let address = page(SPARE) + register;
                equal_at("set", register, set(register, address), 0)?;
                equal_at("get", register, get(register), address.cast_signed())?;
            }
            Ok(())
        })
    }),
    case("debug/address_hypervisor", "An address in the hypervisor answers -EPERM.", |t| {
        debugged(t, |_| {
            for address in [M2P, 0xffff_8300_0000_0000, 0xffff_87ff_ffff_ffff] {
                equal_at("set", address, set(0, address), EPERM)?;
            }
            equal("get", get(0), 0)
        })
    }),
    case("debug/address_any", "Any guest address will do, mapped or not.", |t| {
        debugged(t, |_| {
            for address in [1, 0x7fff_ffff_ffff, 0xffff_8800_0000_0000, u64::MAX] {
                equal_at("set", address, set(1, address), 0)?;
                equal_at("get", address, get(1), address.cast_signed())?;
            }
            Ok(())
        })
    }),
    case("debug/address_non_canonical", "What is no address at all is refused.", |t| {
        debugged(t, |_| {
            for address in [0x0000_8000_0000_0000, 1 << 63, 0xffff_7fff_ffff_ffff] {
                equal_at("set", address, set(0, address), EPERM)?;
            }
            Ok(())
        })
    }),
    case("debug/unknown", "Registers from 8 on answer -ENODEV.", |_| {
        for register in [8, 9, 15, 255, 0xffff_ffff] {
            equal_at("set", register, set(register, 0), ENODEV)?;
            equal_at("get", register, get(register), ENODEV)?;
        }
        Ok(())
    }),
    case("debug/width", "The register's number has 32 bits.", |t| {
        debugged(t, |_| {
            equal("set", set(1 << 32 | 2, 0x1234), 0)?;
            equal("get", get(1 << 32 | 2), 0x1234)
        })
    }),
    case("debug/status", "Register 6 has its fixed bits, whatever is set.", |t| {
        debugged(t, |_| {
            for (value, seen) in [(0, STATUS), (0xf, STATUS | 0xf), (0xffff_ffff, STATUS | 0xe00f)]
            {
                equal_at("set", value, set(6, value), 0)?;
                equal_at("get", value, get(6), seen)?;
            }
            Ok(())
        })
    }),
    case("debug/status_upper", "A bit in the upper half of register 6 is refused.", |t| {
        debugged(t, |_| {
            equal("set", set(6, 1 << 32), EINVAL)?;
            equal("set", set(6, 1 << 63), EINVAL)
        })
    }),
    case("debug/status_alias", "Register 4 is register 6.", |t| {
        debugged(t, |_| {
            equal("set", set(4, 3), 0)?;
            equal("get", get(4), STATUS | 3)?;
            equal("get 6", get(6), STATUS | 3)
        })
    }),
    case("debug/control", "Register 7 has bit 10, and loses reserved ones.", |t| {
        debugged(t, |_| {
            for (value, seen) in [(0, 0x400), (0xd800, 0x400), (0x300, 0x700), (0x400, 0x400)] {
                equal_at("set", value, set(7, value), 0)?;
                equal_at("get", value, get(7), seen)?;
            }
            Ok(())
        })
    }),
    case("debug/control_alias", "Register 5 is register 7.", |t| {
        debugged(t, |_| {
            equal("set", set(5, 0x300), 0)?;
            equal("get", get(5), 0x700)?;
            equal("get 7", get(7), 0x700)
        })
    }),
    case("debug/control_upper", "A bit in the upper half of register 7 is refused.", |t| {
        debugged(t, |_| equal("set", set(7, 1 << 32), EINVAL))
    }),
    case("debug/control_general", "The general-detect bit is refused.", |t| {
        debugged(t, |_| {
            equal("set", set(7, 1 << 13), EPERM)?;
            equal("get", get(7), 0x400)
        })
    }),
    case("debug/control_io", "Breakpoints on ports are refused while CR4.DE is clear.", |t| {
        debugged(t, |_| {
            for slot in 0..4 {
                equal_at("set", slot, set(7, 2 << (16 + 4 * slot) | 1), EPERM)?;
            }
            Ok(())
        })
    }),
    case("debug/control_disabled", "Not if no breakpoint at all is enabled.", |t| {
        debugged(t, |_| {
            equal("set", set(7, 0x2_0000), 0)?;
            equal("get", get(7), 0x2_0400)
        })
    }),
    case("debug/execute", "A breakpoint on an instruction comes in front of it.", |t| {
        debugged(t, |s| {
            arm(code::NOTHING.address(), 0x1)?;
            let event = s.kernel(code::NOTHING, Registers::new())?;
            breakpoint(&event, code::NOTHING.address(), 1)?;
            equal("cs", event.plain().cs, KERNEL_CS | 1 << 32)
        })
    }),
    case("debug/execute_user", "It does in user mode.", |t| {
        debugged(t, |s| {
            arm(code::NOTHING.address(), 0x1)?;
            let event = s.user(code::NOTHING, Registers::new())?;
            breakpoint(&event, code::NOTHING.address(), 1)?;
            equal("cs", event.plain().cs, USER_CS | 1 << 32)
        })
    }),
    case("debug/execute_resume", "With RF set iret gets past it.", |t| {
        debugged(t, |s| {
            arm(code::NOTHING.address(), 0x1)?;
            let mut registers = Registers::new();
            registers.rflags = 0x1_0202;
            equal("vector", s.user(code::NOTHING, registers)?.vector, END)
        })
    }),
    case("debug/execute_each", "Each of the four registers works, and has its status bit.", |t| {
        debugged(t, |s| {
            for slot in 0..4 {
                equal("set", set(slot, code::NOTHING.address()), 0)?;
                equal("set", set(7, 1 << (2 * slot)), 0)?;
                let event = s.kernel(code::NOTHING, Registers::new())?;
                breakpoint(&event, code::NOTHING.address(), 1 << slot)?;
                equal("clear", set(6, 0), 0)?;
                equal("clear", set(slot, 0), 0)?;
            }
            Ok(())
        })
    }),
    case("debug/execute_global", "The global bits enable, too.", |t| {
        debugged(t, |s| {
            arm(code::NOTHING.address(), 0x2)?;
            let event = s.kernel(code::NOTHING, Registers::new())?;
            breakpoint(&event, code::NOTHING.address(), 1)
        })
    }),
    case("debug/write", "A breakpoint on a write comes behind it.", |t| {
        debugged(t, |s| {
            arm(page(SPARE), 0xd_0001)?;
            let event = s.kernel(code::STORE, at(page(SPARE)))?;
            breakpoint(&event, code::STORE.address() + 3, 1)
        })
    }),
    case("debug/write_only", "A breakpoint on writes ignores reads.", |t| {
        debugged(t, |s| {
            arm(page(SPARE), 0xd_0001)?;
            s.quiet(code::LOAD, at(page(SPARE)))?;
            Ok(())
        })
    }),
    case("debug/access", "A breakpoint on accesses comes behind a read.", |t| {
        debugged(t, |s| {
            arm(page(SPARE), 0xf_0001)?;
            let event = s.kernel(code::LOAD, at(page(SPARE)))?;
            breakpoint(&event, code::LOAD.address() + 3, 1)
        })
    }),
    case("debug/off", "Cleared, they do not come any more.", |t| {
        debugged(t, |s| {
            arm(code::NOTHING.address(), 0x1)?;
            equal("set", set(7, 0), 0)?;
            s.quiet(code::NOTHING, Registers::new())?;
            Ok(())
        })
    }),
    case("debug/status_adds", "Causes add up in register 6 until it is cleared.", |t| {
        debugged(t, |s| {
            arm(code::NOTHING.address(), 0x1)?;
            s.kernel(code::NOTHING, Registers::new())?;
            equal("set", set(7, 0), 0)?;
            s.kernel(code::STEP_NOP, Registers::new())?;
            equal("get", get(6), STATUS | 0x4001)
        })
    }),
    case("debug/by_hypervisor", "The hypervisor's own writes cause none.", |t| {
        debugged(t, |s| {
            arm(page(SPARE), 0xd_0001)?;
            let mut registers = crate::call::registers(XEN_VERSION, &[5, page(SPARE)]);
            registers.rbx = 0;
            let after = s.quiet(snippets::SYSCALL, registers)?;
            equal("answer", after.rax, 0)
        })
    }),
    case("debug/fault_by_hypervisor", "A call that fails there still answers -EFAULT.", |t| {
        debugged(t, |_| {
            arm(0x1000, 0xd_0001)?;
            equal("answer", hypercall(XEN_VERSION, &[5, 0x1000]), EFAULT)
        })
    }),
    case("debug/read", "Instructions read the registers.", |t| {
        debugged(t, |s| {
            equal("set", set(0, 0x1230), 0)?;
            equal("set", set(3, 0x1233), 0)?;
            equal("set", set(6, 0xf), 0)?;
            equal("set", set(7, 0x300), 0)?;
            for (code, value) in [
                (code::READ_DR0, 0x1230),
                (code::READ_DR3, 0x1233),
                (code::READ_DR4, 0xffff_0fff),
                (code::READ_DR5, 0x700),
                (code::READ_DR6, 0xffff_0fff),
                (code::READ_DR7, 0x700),
            ] {
                equal_at("rax", value, s.quiet(code, Registers::new())?.rax, value)?;
            }
            Ok(())
        })
    }),
    case("debug/instruction_write", "Instructions write the registers.", |t| {
        debugged(t, |s| {
            s.quiet(code::WRITE_DR0, rax(0x5678))?;
            s.quiet(code::WRITE_DR6, rax(3))?;
            s.quiet(code::WRITE_DR7, rax(0x300))?;
            equal("0", get(0), 0x5678)?;
            equal("6", get(6), STATUS | 3)?;
            equal("7", get(7), 0x700)?;
            s.quiet(code::WRITE_DR4, rax(5))?;
            s.quiet(code::WRITE_DR5, rax(0))?;
            equal("4", get(6), STATUS | 5)?;
            equal("5", get(7), 0x400)
        })
    }),
    case("debug/instruction_refused", "What the call refuses is a protection fault.", |t| {
        debugged(t, |s| {
            for (code, value) in [
                (code::WRITE_DR0, M2P),
                (code::WRITE_DR6, 1 << 32),
                (code::WRITE_DR7, 1 << 32),
                (code::WRITE_DR7, 1 << 13),
                (code::WRITE_DR7, 0x2_0001),
            ] {
                let event = s.try_kernel(code, &mut rax(value));
                equal_at("vector for", value, event.map_or(0, |event| event.vector), 13)?;
                let rip = event.map_or(0, |event| event.coded().rip);
                equal_at("rip for", value, rip, code.address())?;
            }
            Ok(())
        })
    }),
    case("debug/instruction_user", "In user mode they are protection faults.", |t| {
        debugged(t, |s| {
            for code in [code::READ_DR0, code::READ_DR7, code::WRITE_DR0, code::WRITE_DR7] {
                equal("vector", s.user(code, Registers::new())?.vector, 13)?;
            }
            Ok(())
        })
    }),
    case("step/instruction", "A single step comes behind the instruction, with bit 14.", |t| {
        debugged(t, |s| {
            let event = s.kernel(code::STEP_NOP, Registers::new())?;
            breakpoint(&event, code::STEP_NOP.address() + 7, 0x4000)?;
            equal("TF", event.plain().rflags & 0x100, 0x100)?;
            equal("TF of the handler", event.registers.rflags & 0x100, 0)
        })
    }),
    case("step/user", "It does in user mode.", |t| {
        debugged(t, |s| {
            let event = s.user(code::STEP_NOP, Registers::new())?;
            breakpoint(&event, code::STEP_NOP.address() + 7, 0x4000)
        })
    }),
    case("step/call", "A single step over a hypercall comes at once.", |t| {
        debugged(t, |s| {
            let mut registers = Registers::new();
            registers.rax = XEN_VERSION;
            let event = s.kernel(code::STEP_SYSCALL, registers)?;
            near(&event, code::STEP_SYSCALL, 8..9)
        })
    }),
    case("step/emulated", "A single step over CPUID by the hypervisor comes behind it.", |t| {
        debugged(t, |s| {
            let event = s.kernel(code::STEP_CPUID, Registers::new())?;
            near(&event, code::STEP_CPUID, 13..14)
        })
    }),
    case("step/clts", "A single step over CLTS comes behind it.", |t| {
        debugged(t, |s| near(&s.kernel(code::STEP_CLTS, Registers::new())?, code::STEP_CLTS, 8..9))
    }),
    case("step/control_register", "A single step over a read of CR0 comes behind it.", |t| {
        debugged(t, |s| {
            near(&s.kernel(code::STEP_READ_CR0, Registers::new())?, code::STEP_READ_CR0, 9..10)
        })
    }),
    case("step/breakpoint", "A single step over INT3 is the breakpoint's frame, with TF.", |t| {
        debugged(t, |s| {
            let event = s.kernel(code::STEP_INT3, Registers::new())?;
            equal("vector", event.vector, 3)?;
            equal("TF", event.plain().rflags & 0x100, 0x100)?;
            equal("TF of the handler", event.registers.rflags & 0x100, 0)
        })
    }),
    case("mov_ss/nop", "A breakpoint on what MOV SS reads is a trap, at most one on.", |t| {
        shadowed(t, code::MOV_SS_NOP, |event| near(event, code::MOV_SS_NOP, 2..4))
    }),
    case("mov_ss/int3", "With INT3 behind it the guest sees a trap and lives.", |t| {
        shadowed(t, code::MOV_SS_INT3, |event| {
            holds("vector", event.vector, "1 or 3", matches!(event.vector, 1 | 3))
        })
    }),
    case("mov_ss/undefined", "With UD2 behind it too.", |t| {
        shadowed(t, code::MOV_SS_UD2, |event| {
            holds("vector", event.vector, "1 or 6", matches!(event.vector, 1 | 6))
        })
    }),
    case("mov_ss/syscall", "With SYSCALL behind it too.", |t| {
        shadowed(t, code::MOV_SS_SYSCALL, |event| near(event, code::MOV_SS_SYSCALL, 2..6))
    }),
];

fn at(address: u64) -> Registers {
    let mut registers = Registers::new();
    registers.rsi = address;
    registers
}

fn rax(value: u64) -> Registers {
    let mut registers = Registers::new();
    registers.rax = value;
    registers
}

pub(super) fn set(register: u64, value: u64) -> i64 {
    hypercall(SET_DEBUGREG, &[register, value])
}

pub(super) fn get(register: u64) -> i64 {
    hypercall(GET_DEBUGREG, &[register])
}

fn arm(address: u64, control: u64) -> Outcome {
    equal("set the address", set(0, address), 0)?;
    equal("set the control", set(7, control), 0)
}

/// Checks a debug exception's place and the causes in register 6.
fn breakpoint(event: &Event, rip: u64, causes: i64) -> Outcome {
    equal("vector", event.vector, 1)?;
    equal("rip", event.plain().rip, rip)?;
    equal("register 6", get(6), STATUS | causes)
}

/// Checks that a debug exception comes within some bytes of a snippet.
fn near(event: &Event, code: Code, place: core::ops::Range<u64>) -> Outcome {
    equal("vector", event.vector, 1)?;
    let rip = event.plain().rip;
    holds("rip", rip, "behind the instruction", place.contains(&(rip - code.address())))
}

/// Runs a snippet whose MOV SS reads a word with a breakpoint on it.
fn shadowed(
    t: &crate::case::Test<'_>,
    code: Code,
    check: impl FnOnce(&Event) -> Outcome,
) -> Outcome {
    debugged(t, |s| {
        poke(page(SPARE), 0xe02b);
        equal("set the address", set(0, page(SPARE)), 0)?;
        equal("set the control", set(7, 0x7_0001), 0)?;
        let mut registers = at(page(SPARE));
        registers.rax = XEN_VERSION;
        check(&s.kernel(code, registers)?)
    })
}

/// Does something on the stage, then clears all debug registers.
pub(super) fn debugged(t: &crate::case::Test<'_>, does: impl FnOnce(&Stage) -> Outcome) -> Outcome {
    let outcome = user_stage(t, does);
    for register in [7, 6, 0, 1, 2, 3] {
        equal_at("clearing register", register, set(register, 0), 0)?;
    }
    outcome
}
