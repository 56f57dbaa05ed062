//! Ports: the virtual I/O privilege level and the map of allowed ports.

use super::trap_control::{fault, refused_at};
use super::trap_stage::{Context, END, KERNEL_CS, SPARE, Stage, USER_CS, user_stage};
use crate::call::{EFAULT, EINVAL, hypercall};
use crate::case::{Case, Outcome, Test, case, equal, equal_at};
use crate::raw::memory::{peek_byte, poke, poke_byte};
use crate::raw::trap_emulation as code;
use crate::raw::trap_snippets::UD2;
use crate::raw::trap_stage::page;
use crate::raw::{Code, Registers};
use crate::tables::mapped_end;

const VM_ASSIST: u64 = 21;
const PHYSDEV_OP: u64 = 33;
const SET_IOPL: u64 = 6;
const SET_IOBITMAP: u64 = 7;
/// The guest's assist number for an I/O privilege level in the flags.
const ARCHITECTURAL_IOPL: u64 = 4;
/// A port that does nothing: the POST code's.
const PORT: u64 = 0x80;
const INS: [Code; 3] = [code::IN_8, code::IN_16, code::IN_32];
const OUTS: [Code; 3] = [code::OUT_8, code::OUT_16, code::OUT_32];

pub(crate) const CASES: &[Case] = &[
    case("ports/level_0", "At level 0 the kernel may use no port.", |t| {
        ports(t, |s| {
            equal("answer", level(0), 0)?;
            for code in INS.into_iter().chain(OUTS).chain([code::IN_80, code::OUT_80]) {
                refused_at(s, code, dx(PORT), 0)?;
            }
            Ok(())
        })
    }),
    case("ports/level_1", "From level 1 on the kernel of the initial domain may.", |t| {
        ports(t, |s| {
            for number in 1..4 {
                equal("answer", level(number), 0)?;
                for code in INS.into_iter().chain(OUTS).chain([code::IN_80, code::OUT_80]) {
                    s.quiet(code, dx(PORT))?;
                }
            }
            Ok(())
        })
    }),
    case("ports/user_level", "User mode may at level 3, not below.", |t| {
        ports(t, |s| {
            for number in 0..4 {
                equal("answer", level(number), 0)?;
                for code in [code::IN_8, code::OUT_8] {
                    let event = s.user(code, dx(PORT))?;
                    if number == 3 {
                        equal("vector at level 3", event.vector, END)?;
                    } else {
                        fault(&event, code, number)?;
                    }
                }
            }
            Ok(())
        })
    }),
    case("ports/level_refused", "Levels above 3 answer -EINVAL.", |t| {
        ports(t, |_| {
            for number in [4, 5, 0x100, 0xffff_ffff] {
                equal_at("answer to", number, level(number), EINVAL)?;
            }
            Ok(())
        })
    }),
    case("ports/level_pointer", "A level that is not mapped answers -EFAULT.", |t| {
        ports(t, |_| {
            let end = mapped_end(t.boot);
            for pointer in [0, 0x1000, end - 2] {
                equal_at("answer", pointer, hypercall(PHYSDEV_OP, &[SET_IOPL, pointer]), EFAULT)?;
            }
            Ok(())
        })
    }),
    case("ports/cli", "At level 1 CLI and STI of the kernel do nothing.", |t| {
        ports(t, |s| {
            equal("answer", level(1), 0)?;
            s.quiet(code::CLI, Registers::new())?;
            equal("mask behind CLI", s.mask(), 1)?;
            s.quiet(code::STI, Registers::new())?;
            equal("mask behind STI", s.mask(), 1)?;
            s.set_mask(0);
            s.quiet(code::CLI, Registers::new())?;
            equal("mask behind the second CLI", s.mask(), 0)
        })
    }),
    case("ports/cli_flags", "They do not change the interrupt flag.", |t| {
        ports(t, |s| {
            equal("answer", level(1), 0)?;
            equal("flags", s.quiet(code::CLI, Registers::new())?.rflags, 0x202)
        })
    }),
    case("ports/user_cli", "For user mode they need level 3.", |t| {
        ports(t, |s| {
            equal("answer", level(1), 0)?;
            fault(&s.user(code::CLI, Registers::new())?, code::CLI, 1)?;
            equal("answer", level(3), 0)?;
            equal("vector", s.user(code::CLI, Registers::new())?.vector, END)?;
            equal("vector", s.user(code::STI, Registers::new())?.vector, END)
        })
    }),
    case("ports/level_hidden", "The level does not stand in the flags.", |t| {
        ports(t, |s| {
            equal("answer", level(3), 0)?;
            equal("rflags", s.kernel(UD2, Registers::new())?.plain().rflags, 2)?;
            equal("rflags of user mode", s.user(UD2, Registers::new())?.plain().rflags, 2)
        })
    }),
    case("ports/level_shown", "With the assist for it, it does.", |t| {
        assisted(t, |s| {
            for number in 0..4 {
                equal("answer", level(number), 0)?;
                let rflags = s.kernel(UD2, Registers::new())?.plain().rflags;
                equal_at("rflags at level", number, rflags, number << 12 | 2)?;
            }
            Ok(())
        })
    }),
    case("ports/level_by_iret", "With the assist iret takes the level from the flags.", |t| {
        assisted(t, |s| {
            for number in 0..4 {
                let rflags = number << 12 | 2;
                let frame = s.iret(Context::to(UD2, KERNEL_CS, rflags))?.plain();
                equal_at("rflags of the kernel", number, frame.rflags, rflags)?;
                let frame = s.iret(Context::to(UD2, USER_CS, rflags))?.plain();
                equal_at("rflags of user mode", number, frame.rflags, rflags)?;
            }
            Ok(())
        })
    }),
    case("ports/level_by_iret_works", "And the level works.", |t| {
        assisted(t, |s| {
            let context = Context::to(code::IN_80, USER_CS, 0x3002);
            equal("vector", s.iret(context)?.vector, END)?;
            fault(&s.iret(Context { rflags: 2, ..context })?, code::IN_80, 0)
        })
    }),
    case("ports/level_kept", "Without the assist iret leaves the level alone.", |t| {
        ports(t, |s| {
            equal("answer", level(3), 0)?;
            let context = Context::to(code::IN_80, USER_CS, 2);
            equal("vector", s.iret(context)?.vector, END)
        })
    }),
    case("ports/map", "The map allows single ports to user mode at level 0.", |t| {
        ports(t, |s| {
            equal("answer", map(8192), 0)?;
            fault(&s.user(code::OUT_8, dx(PORT))?, code::OUT_8, 0)?;
            allow(PORT);
            equal("vector", s.user(code::OUT_8, dx(PORT))?.vector, END)?;
            equal("vector by number", s.user(code::OUT_80, dx(0))?.vector, END)?;
            fault(&s.user(code::OUT_8, dx(PORT + 1))?, code::OUT_8, 1)
        })
    }),
    case("ports/map_kernel", "It does to the kernel, too.", |t| {
        ports(t, |s| {
            equal("answer", map(8192), 0)?;
            allow(PORT);
            s.quiet(code::OUT_8, dx(PORT))?;
            refused_at(s, code::OUT_8, dx(PORT + 1), 0)
        })
    }),
    case("ports/map_width", "A wide access needs all of its ports.", |t| {
        ports(t, |s| {
            equal("answer", map(8192), 0)?;
            allow(PORT);
            fault(&s.user(code::OUT_16, dx(PORT))?, code::OUT_16, 1)?;
            allow(PORT + 1);
            equal("vector of 16", s.user(code::OUT_16, dx(PORT))?.vector, END)?;
            allow(PORT + 2);
            fault(&s.user(code::OUT_32, dx(PORT))?, code::OUT_32, 3)?;
            allow(PORT + 3);
            equal("vector of 32", s.user(code::OUT_32, dx(PORT))?.vector, END)
        })
    }),
    case("ports/map_length", "Ports behind the map's length are refused.", |t| {
        ports(t, |s| {
            allow(PORT);
            equal("answer", map(0x80), 0)?;
            fault(&s.user(code::OUT_8, dx(PORT))?, code::OUT_8, 0)?;
            equal("answer", map(0x81), 0)?;
            equal("vector", s.user(code::OUT_8, dx(PORT))?.vector, END)
        })
    }),
    case("ports/map_read_late", "The map is read at each access.", |t| {
        ports(t, |s| {
            equal("answer", map(8192), 0)?;
            allow(PORT);
            equal("vector", s.user(code::OUT_8, dx(PORT))?.vector, END)?;
            poke_byte(page(SPARE) + 16, 0xff);
            fault(&s.user(code::OUT_8, dx(PORT))?, code::OUT_8, 0)
        })
    }),
    case("ports/map_unmapped", "A map that is not there allows nothing.", |t| {
        ports(t, |s| {
            poke(page(5), 0x1000);
            poke(page(5) + 8, 8192);
            equal("answer", hypercall(PHYSDEV_OP, &[SET_IOBITMAP, page(5)]), 0)?;
            fault(&s.user(code::OUT_8, dx(PORT))?, code::OUT_8, 0)
        })
    }),
    case("ports/map_refused", "A map in the hypervisor or too long answers -EINVAL.", |t| {
        ports(t, |_| {
            equal("answer to 65537 ports", map(65537), EINVAL)?;
            equal("answer to 65536 ports", map(65536), 0)?;
            poke(page(5), 0xffff_8300_0000_0000);
            poke(page(5) + 8, 8);
            equal("answer", hypercall(PHYSDEV_OP, &[SET_IOBITMAP, page(5)]), EINVAL)
        })
    }),
    case("ports/map_pointer", "A structure that is not mapped answers -EFAULT.", |t| {
        ports(t, |_| equal("answer", hypercall(PHYSDEV_OP, &[SET_IOBITMAP, 0x1000]), EFAULT))
    }),
    case("ports/string_out", "OUTSB and REP OUTSB count rsi and rcx.", |t| {
        ports(t, |s| {
            equal("answer", level(1), 0)?;
            let mut registers = dx(PORT);
            (registers.rsi, registers.rcx) = (page(SPARE + 4), 5);
            let after = s.quiet(code::OUTS, registers)?;
            equal("rsi", after.rsi, registers.rsi + 1)?;
            equal("rcx", after.rcx, 5)?;
            let after = s.quiet(code::REP_OUTS, registers)?;
            equal("rsi behind REP", after.rsi, registers.rsi + 5)?;
            equal("rcx behind REP", after.rcx, 0)?;
            let after = s.quiet(code::REP_OUTS_32, registers)?;
            equal("rsi of four bytes", after.rsi, registers.rsi + 20)
        })
    }),
    case("ports/string_in", "INSB and REP INSB store, and count rdi and rcx.", |t| {
        ports(t, |s| {
            equal("answer", level(1), 0)?;
            // A port of nobody reads as ones.
            let mut registers = dx(0xed00);
            (registers.rdi, registers.rcx) = (page(SPARE + 4), 5);
            poke(page(SPARE + 4), 0);
            let after = s.quiet(code::REP_INS, registers)?;
            equal("rdi", after.rdi, registers.rdi + 5)?;
            equal("rcx", after.rcx, 0)?;
            equal("fifth byte", peek_byte(page(SPARE + 4) + 4), 0xff)?;
            equal("sixth byte", peek_byte(page(SPARE + 4) + 5), 0)?;
            equal("rdi of one", s.quiet(code::INS, registers)?.rdi, registers.rdi + 1)
        })
    }),
    case("ports/string_down", "With the direction flag they count down.", |t| {
        ports(t, |s| {
            equal("answer", level(1), 0)?;
            let mut registers = dx(PORT);
            (registers.rsi, registers.rcx) = (page(SPARE + 4) + 100, 5);
            registers.rflags = 0x602;
            equal("rsi", s.quiet(code::REP_OUTS, registers)?.rsi, registers.rsi - 5)
        })
    }),
    case("ports/string_fault", "A page fault in the middle leaves what is done counted.", |t| {
        ports(t, |s| {
            equal("answer", level(1), 0)?;
            let end = mapped_end(t.boot);
            let mut registers = dx(PORT);
            (registers.rsi, registers.rcx) = (end - 3, 8);
            let event = s.kernel(code::REP_OUTS, registers)?;
            equal("vector", event.vector, 14)?;
            equal("error", event.coded().error, 0)?;
            equal("cr2", s.cr2(), end)?;
            equal("rsi", event.registers.rsi, end)?;
            equal("rcx", event.coded().rcx, 5)
        })
    }),
    case("ports/string_refused", "Without privilege they are protection faults.", |t| {
        ports(t, |s| {
            for code in [code::INS, code::OUTS, code::REP_INS, code::REP_OUTS] {
                let mut registers = dx(PORT);
                (registers.rsi, registers.rdi) = (page(SPARE + 4), page(SPARE + 4));
                registers.rcx = 1;
                refused_at(s, code, registers, 0)?;
            }
            Ok(())
        })
    }),
    case("ports/in_widths", "IN changes as much of rax as it should.", |t| {
        ports(t, |s| {
            equal("answer", level(1), 0)?;
            let upper = 0x1111_1111_2222_0000;
            for (code, seen) in [
                (code::IN_8, upper | 0xff),
                (code::IN_16, upper | 0xffff),
                (code::IN_32, 0xffff_ffff),
            ] {
                let mut registers = dx(0xed00);
                registers.rax = upper;
                equal_at("rax", seen, s.quiet(code, registers)?.rax, seen)?;
            }
            Ok(())
        })
    }),
    case("ports/hypervisor", "Ports of the hypervisor are out of reach, and read as ones.", |t| {
        ports(t, |s| {
            equal("answer", level(1), 0)?;
            // The interrupt controllers' masks, the timer.
            for port in [0x21, 0xa1, 0x40] {
                equal_at("port", port, s.quiet(code::IN_8, dx(port))?.rax, 0xff)?;
            }
            Ok(())
        })
    }),
];

pub(super) fn dx(port: u64) -> Registers {
    let mut registers = Registers::new();
    registers.rdx = port;
    registers
}

pub(super) fn level(number: u64) -> i64 {
    poke(page(5), number);
    hypercall(PHYSDEV_OP, &[SET_IOPL, page(5)])
}

/// Registers the map, of so many ports.
fn map(ports: u64) -> i64 {
    poke(page(5), page(SPARE));
    poke(page(5) + 8, ports);
    hypercall(PHYSDEV_OP, &[SET_IOBITMAP, page(5)])
}

/// Allows a port in the map.
fn allow(port: u64) {
    let at = page(SPARE) + port / 8;
    poke_byte(at, peek_byte(at) & !(1 << (port % 8)));
}

/// Does something with a map that allows nothing, not registered, then takes all rights away.
pub(super) fn ports(t: &Test<'_>, does: impl FnOnce(&Stage) -> Outcome) -> Outcome {
    for place in 0..1024 + 1 {
        poke(page(SPARE) + place * 8, u64::MAX);
    }
    let outcome = user_stage(t, does);
    equal("level 0", level(0), 0)?;
    equal("no map", map(0), 0)?;
    outcome
}

/// As [`ports`], with the I/O privilege level in the flags.
fn assisted(t: &Test<'_>, does: impl FnOnce(&Stage) -> Outcome) -> Outcome {
    equal("enable", hypercall(VM_ASSIST, &[0, ARCHITECTURAL_IOPL]), 0)?;
    let outcome = ports(t, does);
    equal("disable", hypercall(VM_ASSIST, &[1, ARCHITECTURAL_IOPL]), 0)?;
    outcome
}
