//! Descriptors of the guest's own: a local table with segments that are not there, have a base, or
//! are code.

use super::trap_stage::{Context, END, SPARE, Stage, USER_CS, user_stage};
use crate::call::{EINVAL, UPDATE_VA_MAPPING, hypercall};
use crate::case::{Case, Outcome, Test, case, equal, equal_at, holds};
use crate::raw::memory::poke;
use crate::raw::trap_emulation::SLDT;
use crate::raw::trap_snippets::{
    FS_LOAD, GS_LOAD, LOAD_DS, LOAD_ES, LOAD_FS, LOAD_GS, LOAD_SS, NOTHING, SELECTORS, UD2,
};
use crate::raw::trap_stage::page;
use crate::raw::{Code, Registers};
use crate::tables::{WRITABLE, mapping};

const MMUEXT_OP: u64 = 26;
const SET_SEGMENT_BASE: u64 = 25;
/// The page that becomes the table.
const TABLE: u64 = 12;
/// Data, privilege 3, present, 4 GiB.
const DATA: u64 = 0x00cf_f300_0000_ffff;
/// 64-bit code, privilege 3, present.
const CODE: u64 = 0x00af_fb00_0000_ffff;
const PRESENT: u64 = 1 << 47;
/// Bits 5 and 6 of the access byte.
const PRIVILEGE: u64 = 3 << 45;
/// The selectors of the table's entries.
const DATA_SELECTOR: u64 = 7;
const ABSENT_DATA: u64 = 0xf;
const CODE_SELECTOR: u64 = 0x17;
const ABSENT_CODE: u64 = 0x1f;
const BASED: u64 = 0x27;
const NULL: u64 = 0x2f;
const LAST: u64 = 0x37;

pub(crate) const CASES: &[Case] = &[
    case("local/data", "ds, es, fs, gs and ss take a data segment of the table.", |t| {
        local(t, |s| {
            for code in [LOAD_DS, LOAD_ES, LOAD_FS, LOAD_GS] {
                s.quiet(code, rax(DATA_SELECTOR))?;
            }
            let selectors = s.quiet(SELECTORS, Registers::new())?;
            equal("ds", selectors.rax, DATA_SELECTOR)?;
            equal("gs", selectors.rdx, DATA_SELECTOR)?;
            s.quiet(LOAD_SS, rax(DATA_SELECTOR))?;
            s.quiet(LOAD_SS, rax(0xe02b))?;
            Ok(())
        })
    }),
    case("local/absent", "A data segment that is not there is vector 11, with its number.", |t| {
        local(t, |s| {
            for code in [LOAD_DS, LOAD_ES, LOAD_FS, LOAD_GS] {
                faults(s, code, ABSENT_DATA, 11)?;
            }
            Ok(())
        })
    }),
    case("local/absent_frame", "Its frame has the error code, and points at the load.", |t| {
        local(t, |s| {
            let event = s.kernel(LOAD_DS, rax(ABSENT_DATA))?;
            equal("rip", event.coded().rip, LOAD_DS.address())?;
            equal("cs", event.coded().cs, 0x1_0000_e030)?;
            equal("ss", event.coded().ss, 0xe02b)
        })
    }),
    case("local/absent_user", "It is in user mode, too.", |t| {
        local(t, |s| {
            let event = s.user(LOAD_DS, rax(ABSENT_DATA))?;
            equal("vector", event.vector, 11)?;
            equal("error", event.coded().error, ABSENT_DATA & !3)?;
            equal("cs", event.coded().cs, USER_CS | 1 << 32)
        })
    }),
    case("local/absent_stack", "For ss it is vector 12.", |t| {
        local(t, |s| {
            faults(s, LOAD_SS, ABSENT_DATA, 12)?;
            let event = s.user(LOAD_SS, rax(ABSENT_DATA))?;
            equal("vector of user mode", event.vector, 12)?;
            equal("error of user mode", event.coded().error, ABSENT_DATA & !3)
        })
    }),
    case("local/null", "An empty descriptor is a protection fault.", |t| {
        local(t, |s| faults(s, LOAD_DS, NULL, 13))
    }),
    case("local/behind", "So is one behind the table's end.", |t| {
        local(t, |s| {
            faults(s, LOAD_DS, LAST, 13)?;
            faults(s, LOAD_DS, 0xffff, 13)
        })
    }),
    case("local/code", "iret takes a code segment of the table, and frames have it.", |t| {
        local(t, |s| {
            let event = s.iret(Context { cs: CODE_SELECTOR, ..Context::user(UD2) })?;
            equal("vector", event.vector, 6)?;
            equal("cs", event.plain().cs, CODE_SELECTOR | 1 << 32)
        })
    }),
    case("local/code_absent", "iret to a code segment that is not there is vector 11.", |t| {
        local(t, |s| {
            let event = s.iret(Context { cs: ABSENT_CODE, ..Context::user(UD2) })?;
            equal("vector", event.vector, 11)?;
            equal("error", event.coded().error, ABSENT_CODE & !3)?;
            equal("rip", event.coded().rip, UD2.address())
        })
    }),
    case("local/stack", "iret takes a stack segment of the table.", |t| {
        local(t, |s| {
            let frame = s.iret(Context { ss: DATA_SELECTOR, ..Context::user(UD2) })?.plain();
            equal("ss", frame.ss, DATA_SELECTOR)
        })
    }),
    case("local/stack_absent", "iret to a stack segment that is not there is a fault.", |t| {
        local(t, |s| {
            let event = s.iret(Context { ss: ABSENT_DATA, ..Context::user(UD2) })?;
            // The emulator says 11.
            holds("vector", event.vector, "12", matches!(event.vector, 11 | 12))?;
            equal("error", event.coded().error, ABSENT_DATA & !3)
        })
    }),
    case("local/base", "fs and gs get the base of their segment.", |t| {
        local(t, |s| {
            poke(page(SPARE), 0x3333);
            let mut registers = rax(BASED);
            registers.rsi = page(SPARE).wrapping_sub(0x1000);
            s.quiet(LOAD_FS, registers)?;
            equal("fs", s.quiet(FS_LOAD, registers)?.rax, 0x3333)?;
            s.quiet(LOAD_GS, registers)?;
            equal("gs", s.quiet(GS_LOAD, registers)?.rax, 0x3333)
        })
    }),
    case("local/user_selector", "The call for user mode's gs takes one, with its base.", |t| {
        local(t, |s| {
            poke(page(SPARE), 0x3333);
            equal("answer", hypercall(SET_SEGMENT_BASE, &[3, BASED]), 0)?;
            let mut registers = Registers::new();
            registers.rsi = page(SPARE).wrapping_sub(0x1000);
            let event = s.user(GS_LOAD, registers)?;
            equal("vector", event.vector, END)?;
            equal("read", event.registers.rax, 0x3333)?;
            equal("answer", hypercall(SET_SEGMENT_BASE, &[3, 0]), 0)
        })
    }),
    case("local/stays_over_trap", "Traps and changes of mode keep the table.", |t| {
        local(t, |s| {
            s.user(NOTHING, Registers::new())?;
            s.quiet(LOAD_DS, rax(DATA_SELECTOR))?;
            Ok(())
        })
    }),
    case("local/shown", "SLDT shows that there is a table.", |t| {
        local(t, |s| equal("none", s.quiet(SLDT, Registers::new())?.rax == 0, false))
    }),
    case("local/removed", "Without the table its selectors are protection faults.", |t| {
        local(t, |s| {
            equal("answer", set_table(0, 0), 0)?;
            faults(s, LOAD_DS, DATA_SELECTOR, 13)?;
            equal("sldt", s.quiet(SLDT, Registers::new())?.rax, 0)
        })
    }),
    case(
        "local/removed_in_use",
        "A selector in use when the table goes stays in its register.",
        |t| {
            local(t, |s| {
                s.quiet(LOAD_DS, rax(DATA_SELECTOR))?;
                equal("answer", set_table(0, 0), 0)?;
                equal("ds", s.quiet(SELECTORS, Registers::new())?.rax, DATA_SELECTOR)
            })
        },
    ),
    case("local/refused", "Too many entries and odd addresses answer -EINVAL.", |t| {
        local(t, |_| {
            equal("8193 entries", set_table(page(TABLE), 8193), EINVAL)?;
            equal("8192 entries", set_table(page(TABLE), 8192), 0)?;
            for offset in [1, 8, 0x800] {
                equal_at("offset", offset, set_table(page(TABLE) + offset, 1), EINVAL)?;
            }
            equal("in the hypervisor", set_table(0xffff_8300_0000_0000, 1), EINVAL)
        })
    }),
    case(
        "local/privilege",
        "Privilege 0 in a descriptor becomes the guest's, or is refused.",
        |t| {
            with_table(t, &[DATA & !PRIVILEGE], |s| {
                let event = s.try_kernel(LOAD_DS, &mut rax(7));
                equal("vector", event.map_or(0, |event| event.vector), 0)
            })
        },
    ),
    case("local/gate", "A page with a gate is no table: a load is a page fault on it.", |t| {
        // A call gate of privilege 3 to e008.
        with_table(t, &[0x0000_ec00_e008_1000, 0], |s| {
            let event = s.try_kernel(LOAD_DS, &mut rax(7));
            equal("vector", event.map_or(0, |event| event.vector), 14)?;
            equal("cr2", s.cr2(), page(TABLE))
        })
    }),
];

fn rax(value: u64) -> Registers {
    let mut registers = Registers::new();
    registers.rax = value;
    registers
}

fn set_table(address: u64, entries: u64) -> i64 {
    poke(page(5), 13);
    poke(page(5) + 8, address);
    poke(page(5) + 16, entries);
    hypercall(MMUEXT_OP, &[page(5), 1, 0, 0x7ff0])
}

/// Checks that loading a selector is this vector with the selector's number.
fn faults(s: &Stage, code: Code, selector: u64, vector: u64) -> Outcome {
    match s.try_kernel(code, &mut rax(selector)) {
        None => equal_at("vector for", selector, 0, vector),
        Some(event) => {
            equal_at("vector for", selector, event.vector, vector)?;
            equal_at("error for", selector, event.coded().error, selector & !3)
        }
    }
}

/// Does something with the table that the selectors above are made for.
fn local(t: &Test<'_>, does: impl FnOnce(&Stage) -> Outcome) -> Outcome {
    let low = 0x1000_u64 << 16;
    with_table(t, &[DATA, DATA & !PRESENT, CODE, CODE & !PRESENT, DATA | low, 0], does)
}

/// Does something with a local table, then takes it away, and all selectors of it.
fn with_table(t: &Test<'_>, entries: &[u64], does: impl FnOnce(&Stage) -> Outcome) -> Outcome {
    user_stage(t, |s| {
        for place in 0..512 {
            poke(page(TABLE) + 8 * place, 0);
        }
        for (place, &entry) in (0..).zip(entries) {
            poke(page(TABLE) + 8 * place, entry);
        }
        let old = mapping(t.boot, page(TABLE)).unwrap_or(0);
        let read_only = hypercall(UPDATE_VA_MAPPING, &[page(TABLE), old & !WRITABLE, 2]);
        equal("read only", read_only, 0)?;
        equal("set_ldt", set_table(page(TABLE), entries.len() as u64), 0)?;
        let outcome = does(s);
        for code in [LOAD_DS, LOAD_ES, LOAD_FS, LOAD_GS] {
            s.quiet(code, rax(0))?;
        }
        s.quiet(LOAD_SS, rax(0xe02b))?;
        equal("no table", set_table(0, 0), 0)?;
        equal("writable", hypercall(UPDATE_VA_MAPPING, &[page(TABLE), old, 2]), 0)?;
        outcome
    })
}
