//! Segment bases and selectors.

use super::trap_stage::{SPARE, Stage, user_stage};
use crate::call::{EINVAL, hypercall};
use crate::case::{Case, Outcome, case, equal, equal_at};
use crate::raw::memory::{peek, poke};
use crate::raw::trap_snippets::{
    FS_LOAD, GS_LOAD, LOAD_DS, LOAD_ES, LOAD_FS, LOAD_GS, LOAD_SS, NOTHING, SELECTORS,
};
use crate::raw::trap_stage::page;
use crate::raw::{Code, Registers};
use crate::tables::M2P;

const SET_SEGMENT_BASE: u64 = 25;
const FS: u64 = 0;
const GS_USER: u64 = 1;
const GS_KERNEL: u64 = 2;
const GS_USER_SELECTOR: u64 = 3;
const NON_CANONICAL: [u64; 3] = [0x0000_8000_0000_0000, 0xffff_7fff_ffff_ffff, 1 << 63];

pub(crate) const CASES: &[Case] = &[
    case("segments/fs", "Base 0 is that of fs.", |t| {
        based(t, |s| {
            equal("answer", set(FS, page(SPARE)), 0)?;
            equal("read", s.quiet(FS_LOAD, Registers::new())?.rax, 0x1111)
        })
    }),
    case("segments/gs_kernel", "Base 2 is that of the kernel's gs.", |t| {
        based(t, |s| {
            equal("answer", set(GS_KERNEL, page(SPARE)), 0)?;
            equal("read", s.quiet(GS_LOAD, Registers::new())?.rax, 0x1111)
        })
    }),
    case("segments/gs_user", "Base 1 is that of user mode's gs, not the kernel's.", |t| {
        based(t, |s| {
            equal("answer", set(GS_KERNEL, page(SPARE)), 0)?;
            equal("answer", set(GS_USER, page(SPARE) + 8), 0)?;
            equal("kernel", s.quiet(GS_LOAD, Registers::new())?.rax, 0x1111)?;
            equal("user", s.user(GS_LOAD, Registers::new())?.registers.rax, 0x2222)
        })
    }),
    case("segments/fs_shared", "Both modes have the same base of fs.", |t| {
        based(t, |s| {
            equal("answer", set(FS, page(SPARE) + 8), 0)?;
            equal("user", s.user(FS_LOAD, Registers::new())?.registers.rax, 0x2222)?;
            equal("kernel", s.quiet(FS_LOAD, Registers::new())?.rax, 0x2222)
        })
    }),
    case("segments/gs_back", "Behind a trap from user mode gs is the kernel's again.", |t| {
        based(t, |s| {
            equal("answer", set(GS_KERNEL, page(SPARE)), 0)?;
            equal("answer", set(GS_USER, page(SPARE) + 8), 0)?;
            for _ in 0..3 {
                s.user(NOTHING, Registers::new())?;
                equal("kernel", s.quiet(GS_LOAD, Registers::new())?.rax, 0x1111)?;
            }
            Ok(())
        })
    }),
    case("segments/non_canonical", "A base that is no address answers -EINVAL.", |t| {
        based(t, |_| {
            for which in [FS, GS_USER, GS_KERNEL] {
                for base in NON_CANONICAL {
                    equal_at("base", which, set(which, base), EINVAL)?;
                }
            }
            Ok(())
        })
    }),
    case("segments/refused_keeps", "A refused base leaves the old one.", |t| {
        based(t, |s| {
            equal("answer", set(FS, page(SPARE)), 0)?;
            equal("answer", set(FS, NON_CANONICAL[0]), EINVAL)?;
            equal("read", s.quiet(FS_LOAD, Registers::new())?.rax, 0x1111)
        })
    }),
    case("segments/hypervisor", "A base in the hypervisor is taken, and of no use.", |t| {
        based(t, |s| {
            equal("answer", set(FS, 0xffff_8300_0000_0000), 0)?;
            equal("vector", s.kernel(FS_LOAD, Registers::new())?.vector, 14)?;
            equal("answer", set(FS, M2P), 0)?;
            equal("read", s.quiet(FS_LOAD, Registers::new())?.rax, peek(M2P))
        })
    }),
    case("segments/unknown", "Other numbers of bases answer -EINVAL.", |_| {
        for which in [4, 5, 99, 0xffff_ffff] {
            equal_at("answer for", which, set(which, 0), EINVAL)?;
        }
        Ok(())
    }),
    case("segments/user_selector", "Number 3 loads user mode's gs.", |t| {
        based(t, |s| {
            equal("answer", set(GS_USER_SELECTOR, 0xe02b), 0)?;
            let gs = s.user(SELECTORS, Registers::new())?.registers.rdx;
            equal("gs", gs, 0xe02b)?;
            equal("answer", set(GS_USER_SELECTOR, 0), 0)?;
            let gs = s.user(SELECTORS, Registers::new())?.registers.rdx;
            equal("gs", gs, 0)
        })
    }),
    case("segments/user_selector_bad", "A bad selector of number 3 becomes null.", |t| {
        based(t, |s| {
            for selector in [0xe010, 0xfffb, 0xe008, 7, 0xffff] {
                equal_at("answer", selector, set(GS_USER_SELECTOR, selector), 0)?;
                let gs = s.user(SELECTORS, Registers::new())?.registers.rdx;
                equal_at("gs for", selector, gs, 0)?;
            }
            Ok(())
        })
    }),
    case("segments/user_selector_width", "Only 16 bits of number 3's selector count.", |t| {
        based(t, |s| {
            equal("answer", set(GS_USER_SELECTOR, 0xffff_ffff_0000_0000 | 0xe02b), 0)?;
            let gs = s.user(SELECTORS, Registers::new())?.registers.rdx;
            equal("gs", gs, 0xe02b)?;
            equal("answer", set(GS_USER_SELECTOR, 0), 0)
        })
    }),
    case(
        "segments/user_selector_base",
        "Number 3 also sets user mode's base, to the table's.",
        |t| {
            based(t, |s| {
                equal("answer", set(GS_USER, page(SPARE) + 8), 0)?;
                equal("answer", set(GS_USER_SELECTOR, 0xe02b), 0)?;
                let mut registers = Registers::new();
                registers.rsi = page(SPARE);
                equal("user", s.user(GS_LOAD, registers)?.registers.rax, 0x1111)?;
                equal("answer", set(GS_USER_SELECTOR, 0), 0)
            })
        },
    ),
    case("segments/load", "ds, es, fs and gs take the flat data selector and null.", |t| {
        based(t, |s| {
            for (place, code) in LOADS {
                for selector in [0xe02b, 0xe028, 3, 0] {
                    s.quiet(code, rax(selector))?;
                    let selectors = s.quiet(SELECTORS, Registers::new())?;
                    let all = [selectors.rax, selectors.rbx, selectors.rcx, selectors.rdx];
                    equal_at("selector", selector, all[place], selector)?;
                }
            }
            Ok(())
        })
    }),
    case("segments/load_code", "They take the flat code selectors, too.", |t| {
        based(t, |s| {
            for (_, code) in LOADS {
                s.quiet(code, rax(0xe033))?;
                s.quiet(code, rax(0xe023))?;
                s.quiet(code, rax(0))?;
            }
            Ok(())
        })
    }),
    case("segments/load_refused", "Others are protection faults that name them.", |t| {
        based(t, |s| {
            for (_, code) in LOADS {
                for selector in [0xe008, 0xe010, 0xe013, 0xfffb, 0xffff, 7, 0xe043, 0x1b] {
                    refused(s, code, selector)?;
                }
            }
            Ok(())
        })
    }),
    case("segments/load_ss_refused", "ss refuses null, code, and privilege 0.", |t| {
        based(t, |s| {
            for selector in [0, 3, 0xe028, 0xe033, 0xe008, 0xe010, 0xfffb] {
                refused(s, LOAD_SS, selector)?;
            }
            Ok(())
        })
    }),
    case("segments/kept_over_trap", "ds, es, fs and gs stay over traps and mode changes.", |t| {
        based(t, |s| {
            for (_, code) in LOADS {
                s.quiet(code, rax(0xe02b))?;
            }
            s.user(NOTHING, Registers::new())?;
            let selectors = s.quiet(SELECTORS, Registers::new());
            for (_, code) in LOADS {
                s.quiet(code, rax(0))?;
            }
            let selectors = selectors?;
            equal("ds", selectors.rax, 0xe02b)?;
            equal("es", selectors.rbx, 0xe02b)?;
            equal("fs", selectors.rcx, 0xe02b)?;
            equal("gs", selectors.rdx, 0xe02b)
        })
    }),
];

const LOADS: [(usize, Code); 4] = [(0, LOAD_DS), (1, LOAD_ES), (2, LOAD_FS), (3, LOAD_GS)];

fn rax(value: u64) -> Registers {
    let mut registers = Registers::new();
    registers.rax = value;
    registers
}

fn set(which: u64, base: u64) -> i64 {
    hypercall(SET_SEGMENT_BASE, &[which, base])
}

/// Checks that a load is a fault whose code is the selector without its privilege.
fn refused(s: &Stage, code: Code, selector: u64) -> Outcome {
    let event = s.kernel(code, rax(selector))?;
    equal_at("vector for", selector, event.vector, 13)?;
    equal_at("error for", selector, event.coded().error, selector & !3)
}

/// Does something with two words to find, and clears all bases.
fn based(t: &crate::case::Test<'_>, does: impl FnOnce(&Stage) -> Outcome) -> Outcome {
    poke(page(SPARE), 0x1111);
    poke(page(SPARE) + 8, 0x2222);
    let outcome = user_stage(t, does);
    for which in [FS, GS_USER, GS_KERNEL] {
        equal_at("clearing base", which, set(which, 0), 0)?;
    }
    outcome
}
