//! Privileged instructions that are emulated, refused, or let through.

use super::trap_control::{fault, refused, refused_at};
use super::trap_stage::{END, SPARE, Stage, stage, user_stage};
use crate::case::{Case, Verdict, case, equal, equal_at, holds};
use crate::raw::memory::{peek, poke};
use crate::raw::trap_emulation as code;
use crate::raw::trap_stage::page;
use crate::raw::{Code, Registers};
use crate::tables::M2P;

pub(crate) const CASES: &[Case] = &[
    case("emulation/wbinvd", "WBINVD of the kernel goes through.", |t| {
        stage(t, |s| {
            s.quiet(code::WBINVD, Registers::new())?;
            Ok(())
        })
    }),
    case("emulation/refused", "INVD, HLT, SWAPGS, SYSRET and SYSEXIT are refused.", |t| {
        stage(t, |s| {
            let codes = [code::INVD, code::HLT, code::SWAPGS, code::SYSRET, code::SYSEXIT];
            codes.into_iter().try_for_each(|code| refused(s, code))
        })
    }),
    case("emulation/invlpg", "INVLPG of the kernel is refused, whatever the address.", |t| {
        stage(t, |s| {
            for address in [0x1000, page(SPARE), M2P] {
                refused_at(s, code::INVLPG, at(address), address)?;
            }
            Ok(())
        })
    }),
    case("emulation/tables", "LGDT, LIDT, LLDT and LTR are refused.", |t| {
        stage(t, |s| {
            for code in [code::LGDT, code::LIDT, code::LLDT, code::LTR] {
                refused_at(s, code, at(page(SPARE)), 0)?;
            }
            Ok(())
        })
    }),
    case("emulation/tables_user", "And so they are to user mode.", |t| {
        user_stage(t, |s| {
            for code in [code::LGDT, code::LIDT, code::LLDT, code::LTR, code::INVLPG] {
                fault(&s.user(code, at(page(SPARE)))?, code, 0)?;
            }
            Ok(())
        })
    }),
    case("emulation/user", "WBINVD, INVD, HLT, CLI, STI, SWAPGS are refused to user mode.", |t| {
        user_stage(t, |s| {
            for code in [
                code::WBINVD,
                code::INVD,
                code::HLT,
                code::CLI,
                code::STI,
                code::SWAPGS,
                code::RDMSR,
                code::WRMSR,
            ] {
                fault(&s.user(code, Registers::new())?, code, 0)?;
            }
            Ok(())
        })
    }),
    case("emulation/store_tables", "SGDT, SIDT, SLDT and STR run on the processor.", |t| {
        user_stage(t, |s| {
            for code in [code::SGDT, code::SIDT, code::SLDT, code::STR, code::SMSW_MEMORY] {
                s.quiet(code, at(page(SPARE)))?;
                equal("vector of user mode", s.user(code, at(page(SPARE)))?.vector, END)?;
            }
            Ok(())
        })
    }),
    case("emulation/local_table", "SLDT says 0 while there is no local table.", |t| {
        stage(t, |s| equal("sldt", s.quiet(code::SLDT, Registers::new())?.rax, 0))
    }),
    case("emulation/interrupt_table", "SIDT shows a table of 256 gates of the hypervisor.", |t| {
        stage(t, |s| {
            s.quiet(code::SIDT, at(page(SPARE)))?;
            equal("limit", peek(page(SPARE)) & 0xffff, 0xfff)?;
            let slot = peek(page(SPARE) + 2) >> 39 & 511;
            holds("slot", slot, "256..272", (256..272).contains(&slot))
        })
    }),
    case("emulation/undefined", "VMCALL, VMMCALL and RSM are undefined instructions.", |t| {
        stage(t, |s| {
            for code in [code::VMCALL, code::VMMCALL, code::RSM] {
                let event = s.kernel(code, Registers::new())?;
                equal("vector", event.vector, 6)?;
                equal("rip", event.plain().rip, code.address())?;
            }
            Ok(())
        })
    }),
    case("emulation/locked", "With LOCK they are undefined instructions, in both modes.", |t| {
        user_stage(t, |s| {
            for code in [code::LOCK_CLTS, code::LOCK_OUT] {
                let event = s.kernel(code, Registers::new())?;
                equal("vector", event.vector, 6)?;
                equal("rip", event.plain().rip, code.address())?;
                equal("vector of user mode", s.user(code, Registers::new())?.vector, 6)?;
            }
            Ok(())
        })
    }),
    case("emulation/waiting", "MONITOR and MWAIT are faults, of this kind or that.", |t| {
        stage(t, |s| {
            for code in [code::MONITOR, code::MWAIT] {
                let event = s.kernel(code, at(page(SPARE)))?;
                holds("vector", event.vector, "6 or 13", matches!(event.vector, 6 | 13))?;
            }
            Ok(())
        })
    }),
    case("emulation/access_control", "CLAC, STAC and INVPCID are undefined instructions.", |t| {
        stage(t, |s| {
            for code in [code::CLAC, code::STAC, code::INVPCID] {
                equal("vector", s.kernel(code, at(page(SPARE)))?.vector, 6)?;
            }
            Ok(())
        })
    }),
    case("emulation/cpuid", "Plain CPUID runs on the processor, in both modes.", |t| {
        user_stage(t, |s| {
            let kernel = s.quiet(code::CPUID, rax(0))?;
            let user = s.user(code::CPUID, rax(0))?;
            equal("vector", user.vector, END)?;
            equal("rbx", user.registers.rbx, kernel.rbx)
        })
    }),
    case(
        "emulation/forced_cpuid",
        "CPUID with the prefix is the hypervisor's, in both modes.",
        |t| {
            user_stage(t, |s| {
                let kernel = s.quiet(code::FORCED_CPUID, rax(0x4000_0000))?;
                let user = s.user(code::FORCED_CPUID, rax(0x4000_0000))?;
                equal("rbx", kernel.rbx, 0x566e_6558)?;
                equal("vector", user.vector, END)?;
                equal("rbx of user mode", user.registers.rbx, 0x566e_6558)
            })
        },
    ),
    case("emulation/forced_upper", "It clears the upper halves.", |t| {
        stage(t, |s| {
            let mut registers = rax(0xffff_ffff_4000_0000);
            (registers.rbx, registers.rcx, registers.rdx) = (u64::MAX, u64::MAX, u64::MAX);
            let after = s.quiet(code::FORCED_CPUID, registers)?;
            let all = [after.rax, after.rbx, after.rcx, after.rdx];
            equal("upper half", all.into_iter().fold(0, |sum, value| sum | value >> 32), 0)
        })
    }),
    case("emulation/forced_flags", "It keeps the flags.", |t| {
        stage(t, |s| {
            let mut registers = rax(0x4000_0000);
            registers.rflags = 0x20_0ed7;
            equal("flags", s.quiet(code::FORCED_CPUID, registers)?.rflags, 0x20_0ed7)
        })
    }),
    case("emulation/forced_other", "The prefix before other instructions is UD2 alone.", |t| {
        user_stage(t, |s| {
            for code in [code::FORCED_RDMSR, code::FORCED_LOAD] {
                let event = s.kernel(code, at(page(SPARE)))?;
                equal("vector", event.vector, 6)?;
                equal("rip", event.plain().rip, code.address())?;
                equal("vector of user mode", s.user(code, at(page(SPARE)))?.vector, 6)?;
            }
            Ok(())
        })
    }),
    case("emulation/xgetbv", "XGETBV of register 0 works where CPUID says OSXSAVE.", |t| {
        stage(t, |s| {
            let known = s.quiet(code::FORCED_CPUID, rax(1))?.rcx >> 27 & 1 != 0;
            let event = s.try_kernel(code::XGETBV, &mut Registers::new());
            equal("undefined", event.is_some_and(|event| event.vector == 6), !known)
        })
    }),
    case("emulation/xsetbv", "XSETBV is undefined as long as CR4.OSXSAVE is not set.", |t| {
        stage(t, |s| equal("vector", s.kernel(code::XSETBV, rax(3))?.vector, 6))
    }),
    case("emulation/time", "RDTSC goes forward, in both modes.", |t| {
        user_stage(t, |s| {
            let one = time(&s.quiet(code::RDTSC, Registers::new())?);
            let two = time(&s.user(code::RDTSC, Registers::new())?.registers);
            let three = time(&s.quiet(code::RDTSC, Registers::new())?);
            holds("second", two, "behind the first", two > one)?;
            holds("third", three, "behind the second", three > two)
        })
    }),
    case("emulation/time_disabled", "With CR4.TSD user mode's RDTSC is refused.", |t| {
        user_stage(t, |s| {
            let cr4 = s.quiet(code::READ_CR4, Registers::new())?.rax;
            s.quiet(code::WRITE_CR4, rax(cr4 | 4))?;
            let user = s.user(code::RDTSC, Registers::new());
            let kernel = s.try_kernel(code::RDTSC, &mut Registers::new());
            s.quiet(code::WRITE_CR4, rax(cr4))?;
            fault(&user?, code::RDTSC, 0)?;
            equal("refused to the kernel", kernel.is_some(), false)
        })
    }),
    case("emulation/counters", "RDPMC is a protection fault in both modes.", |t| {
        user_stage(t, |s| {
            refused(s, code::RDPMC)?;
            fault(&s.user(code::RDPMC, Registers::new())?, code::RDPMC, 0)
        })
    }),
    case("emulation/access_rights", "LAR finds the guest's flat selectors, and not null.", |t| {
        stage(t, |s| {
            for (selector, found) in [(0xe033, 1), (0xe02b, 1), (0xe023, 1), (0, 0), (0xfffb, 0)] {
                equal_at("found", selector, looked_up(s, code::LAR, selector)?, found)?;
            }
            Ok(())
        })
    }),
    case("emulation/access_rights_hypervisor", "LAR finds nothing of the hypervisor's.", |t| {
        stage(t, |s| {
            for selector in [0xe008, 0xe00b, 0xe010, 0xe013, 0xe040] {
                equal_at("found", selector, looked_up(s, code::LAR, selector)?, 0)?;
            }
            Ok(())
        })
    }),
    case("emulation/verify", "VERR and VERW know the flat selectors.", |t| {
        stage(t, |s| {
            equal("VERR of data", looked_up(s, code::VERR, 0xe02b)?, 1)?;
            equal("VERW of data", looked_up(s, code::VERW, 0xe02b)?, 1)?;
            equal("VERR of code", looked_up(s, code::VERR, 0xe033)?, 1)?;
            equal("VERW of code", looked_up(s, code::VERW, 0xe033)?, 0)?;
            equal("VERR behind the table", looked_up(s, code::VERR, 0xfffb)?, 0)
        })
    }),
];

fn rax(value: u64) -> Registers {
    let mut registers = Registers::new();
    registers.rax = value;
    registers
}

/// Registers with an address, at which eight zeros lie.
fn at(address: u64) -> Registers {
    if address == page(SPARE) {
        poke(address, 0);
    }
    let mut registers = Registers::new();
    registers.rsi = address;
    registers
}

fn time(registers: &Registers) -> u64 {
    registers.rdx << 32 | registers.rax
}

fn looked_up(s: &Stage, code: Code, selector: u64) -> Result<u64, Verdict> {
    let mut registers = Registers::new();
    registers.rbx = selector;
    Ok(s.quiet(code, registers)?.rcx)
}
