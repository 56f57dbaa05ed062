//! `multicall`: several calls at once.

use super::trap_stage::{Context, KERNEL_CS, Stage, stage, user_stack};
use crate::call::{EFAULT, EINVAL, ENOSYS, SCHED_OP, UPDATE_VA_MAPPING, XEN_VERSION, hypercall};
use crate::case::{Case, Outcome, Test, Verdict, case, equal, equal_at};
use crate::raw::memory::{peek, poke};
use crate::raw::trap_snippets::UD2;
use crate::raw::trap_stage::page;
use crate::raw::{Registers, snippets};
use crate::tables::{M2P, WRITABLE, mapped_end, mapping};

const SET_DEBUGREG: u64 = 8;
const GET_DEBUGREG: u64 = 9;
const MULTICALL: u64 = 13;
const IRET: u64 = 23;
const VERSION: i64 = 0x4_0011;
/// What a result holds before its call.
const UNTOUCHED: i64 = 0x7777;

pub(crate) const CASES: &[Case] = &[
    case(
        "multicall/order",
        "Calls are made in their order: a later one sees an earlier's.",
        |_| {
            list(
                page(8),
                &[
                    (SET_DEBUGREG, &[0, 0x1230]),
                    (GET_DEBUGREG, &[0]),
                    (SET_DEBUGREG, &[0, 0]),
                    (GET_DEBUGREG, &[0]),
                ],
            );
            equal("answer", hypercall(MULTICALL, &[page(8), 4]), 0)?;
            results(page(8), &[0, 0x1230, 0, 0])
        },
    ),
    case("multicall/unknown", "An unknown call's result is -ENOSYS, the others are made.", |_| {
        for number in [63, 64, 99, 1 << 32 | XEN_VERSION, u64::MAX] {
            list(page(8), &[(XEN_VERSION, &[0]), (number, &[]), (XEN_VERSION, &[0])]);
            equal_at("answer", number, hypercall(MULTICALL, &[page(8), 3]), 0)?;
            results(page(8), &[VERSION, ENOSYS, VERSION])?;
        }
        Ok(())
    }),
    case("multicall/count_zero", "No calls answer 0, be the list mapped or not.", |_| {
        for at in [0, 0x1000, page(8), u64::MAX] {
            equal_at("answer for", at, hypercall(MULTICALL, &[at, 0]), 0)?;
        }
        Ok(())
    }),
    case("multicall/count_zero_hypervisor", "But -EFAULT if it is the hypervisor's.", |_| {
        equal("answer", hypercall(MULTICALL, &[M2P, 0]), EFAULT)
    }),
    case("multicall/count_only", "Only as many calls are made as the count says.", |_| {
        list(page(8), &[(XEN_VERSION, &[0]), (XEN_VERSION, &[0])]);
        equal("answer", hypercall(MULTICALL, &[page(8), 1]), 0)?;
        results(page(8), &[VERSION, UNTOUCHED])
    }),
    case("multicall/count_width", "The count has 32 bits.", |_| {
        list(page(8), &[(XEN_VERSION, &[0]), (XEN_VERSION, &[0])]);
        equal("answer", hypercall(MULTICALL, &[page(8), 1 << 32 | 1]), 0)?;
        results(page(8), &[VERSION, UNTOUCHED])
    }),
    case("multicall/runs_out", "A list that runs into unmapped memory answers -EFAULT.", |t| {
        let at = mapped_end(t.boot) - 128;
        list(at, &[(XEN_VERSION, &[0]), (XEN_VERSION, &[0])]);
        equal("answer", hypercall(MULTICALL, &[at, 3]), EFAULT)?;
        results(at, &[VERSION, VERSION])
    }),
    case("multicall/huge", "A huge count does, too, with all calls made that are there.", |t| {
        for count in [0x3ff_ffff, 0x400_0000, 0xffff_ffff] {
            let at = mapped_end(t.boot) - 64;
            list(at, &[(XEN_VERSION, &[0])]);
            equal_at("answer to", count, hypercall(MULTICALL, &[at, count]), EFAULT)?;
            results(at, &[VERSION])?;
        }
        Ok(())
    }),
    case("multicall/half_entry", "A call that is mapped in half is not made.", |t| {
        let at = mapped_end(t.boot) - 32;
        poke(at, SET_DEBUGREG);
        poke(at + 8, UNTOUCHED.cast_unsigned());
        poke(at + 16, 0);
        poke(at + 24, 0x4560);
        equal("answer", hypercall(MULTICALL, &[at, 1]), EFAULT)?;
        equal("register", hypercall(GET_DEBUGREG, &[0]), 0)
    }),
    case("multicall/hypervisor", "A list in the hypervisor answers -EFAULT.", |_| {
        for at in [M2P, 0xffff_8300_0000_0000, 0x8000_0000_0000] {
            equal_at("answer for", at, hypercall(MULTICALL, &[at, 1]), EFAULT)?;
        }
        Ok(())
    }),
    case("multicall/read_only", "A result that cannot be written answers -EFAULT.", |t| {
        list(page(8), &[(SET_DEBUGREG, &[0, 0x1230]), (SET_DEBUGREG, &[1, 0x1230])]);
        read_only(t, page(8), || {
            let answer = hypercall(MULTICALL, &[page(8), 2]);
            let done = (hypercall(GET_DEBUGREG, &[0]), hypercall(GET_DEBUGREG, &[1]));
            hypercall(SET_DEBUGREG, &[0, 0]);
            hypercall(SET_DEBUGREG, &[1, 0]);
            equal("answer", answer, EFAULT)?;
            equal("the first", done.0, 0x1230)?;
            equal("the second", done.1, 0)
        })
    }),
    case(
        "multicall/nested_within",
        "A multicall within one is -EINVAL, and makes nothing.",
        |_| {
            list(page(9), &[(XEN_VERSION, &[0])]);
            list(page(8), &[(MULTICALL, &[page(9), 1]), (XEN_VERSION, &[0])]);
            equal("answer", hypercall(MULTICALL, &[page(8), 2]), 0)?;
            results(page(8), &[EINVAL, VERSION])?;
            results(page(9), &[UNTOUCHED])
        },
    ),
    case("multicall/error_goes_on", "A failing call does not stop the others.", |_| {
        list(
            page(8),
            &[
                (XEN_VERSION, &[5, 0x1000]),
                (SCHED_OP, &[63]),
                (GET_DEBUGREG, &[99]),
                (XEN_VERSION, &[0]),
            ],
        );
        equal("answer", hypercall(MULTICALL, &[page(8), 4]), 0)?;
        results(page(8), &[EFAULT, ENOSYS, -19, VERSION])
    }),
    case("multicall/long", "A list of 1000 calls is done to its end.", |_| {
        let at = page(8);
        // 64 to a page: as many as there is room for, again and again.
        for _ in 0..5 {
            for place in 0..200 {
                entry(at + 64 * place, XEN_VERSION, &[0]);
            }
            equal("answer", hypercall(MULTICALL, &[at, 200]), 0)?;
            for place in 0..200 {
                equal_at("result", place, peek(at + 64 * place + 8).cast_signed(), VERSION)?;
            }
        }
        Ok(())
    }),
    case("multicall/yield", "Giving up the processor within a list comes back to it.", |_| {
        list(page(8), &[(SCHED_OP, &[0]), (XEN_VERSION, &[0]), (SCHED_OP, &[0])]);
        equal("answer", hypercall(MULTICALL, &[page(8), 3]), 0)?;
        results(page(8), &[0, VERSION, 0])
    }),
    case("multicall/entry_kept", "Numbers and arguments stay as they were.", |_| {
        list(page(8), &[(XEN_VERSION, &[0, 1, 2, 3, 4, 5])]);
        equal("answer", hypercall(MULTICALL, &[page(8), 1]), 0)?;
        equal("number", peek(page(8)), XEN_VERSION)?;
        for place in 0..6 {
            equal_at("argument", place, peek(page(8) + 16 + 8 * place), place)?;
        }
        Ok(())
    }),
    case("multicall/unaligned", "The list needs no alignment.", |_| {
        list(page(8) + 3, &[(XEN_VERSION, &[0]), (XEN_VERSION, &[0])]);
        equal("answer", hypercall(MULTICALL, &[page(8) + 3, 2]), 0)?;
        results(page(8) + 3, &[VERSION, VERSION])
    }),
    case(
        "multicall/own_result",
        "A call may write into the list: the next is read behind it.",
        |_| {
            // The second call's number is 17 already; its argument becomes what the first writes.
            list(page(8), &[(XEN_VERSION, &[7]), (XEN_VERSION, &[0])]);
            equal("answer", hypercall(MULTICALL, &[page(8), 2]), 0)?;
            results(page(8), &[4096, VERSION])
        },
    ),
    case("multicall/iret", "iret within a list returns where its frame says.", |t| {
        stage(t, |s| {
            list(page(8), &[(IRET, &[]), (XEN_VERSION, &[0])]);
            let event = iret(s)?;
            equal("rip", event.plain().rip, UD2.address())?;
            equal("cs", event.plain().cs, KERNEL_CS)?;
            equal("mask", s.mask(), 0)
        })
    }),
    case("multicall/iret_last", "The calls behind it are not made.", |t| {
        stage(t, |s| {
            list(page(8), &[(IRET, &[]), (XEN_VERSION, &[0])]);
            iret(s)?;
            results(page(8) + 64, &[UNTOUCHED])
        })
    }),
    case("multicall/iret_first", "The calls in front of it are.", |t| {
        stage(t, |s| {
            list(page(8), &[(XEN_VERSION, &[0]), (IRET, &[])]);
            iret(s)?;
            results(page(8), &[VERSION])
        })
    }),
    case("multicall/iret_rax", "Behind it rax comes from the frame.", |t| {
        stage(t, |s| {
            list(page(8), &[(IRET, &[])]);
            equal("rax", iret(s)?.registers.rax, 55)
        })
    }),
    case("assist/known", "Assists 0 to 5 and 32 are taken and given up.", |_| {
        for assist in [0, 1, 3, 4, 5] {
            equal_at("enable", assist, hypercall(VM_ASSIST, &[0, assist]), 0)?;
            equal_at("disable", assist, hypercall(VM_ASSIST, &[1, assist]), 0)?;
        }
        equal("disable 2", hypercall(VM_ASSIST, &[1, 2]), 0)?;
        equal("enable 2", hypercall(VM_ASSIST, &[0, 2]), 0)?;
        equal("enable 32", hypercall(VM_ASSIST, &[0, 32]), 0)?;
        equal("disable 32", hypercall(VM_ASSIST, &[1, 32]), 0)
    }),
    case("assist/unknown", "Others answer -EINVAL.", |_| {
        for assist in [6, 7, 31, 33, 63, 64, 96, 0xffff_ffff] {
            equal_at("enable", assist, hypercall(VM_ASSIST, &[0, assist]), EINVAL)?;
            equal_at("disable", assist, hypercall(VM_ASSIST, &[1, assist]), EINVAL)?;
        }
        Ok(())
    }),
    case("assist/command", "Other commands answer -ENOSYS for known assists.", |_| {
        for command in [2, 3, 0xffff_ffff] {
            equal_at("command", command, hypercall(VM_ASSIST, &[command, 0]), ENOSYS)?;
        }
        Ok(())
    }),
    case("assist/command_unknown", "And -EINVAL for unknown ones.", |_| {
        equal("answer", hypercall(VM_ASSIST, &[2, 99]), EINVAL)
    }),
    case("assist/width", "Command and assist have 32 bits.", |_| {
        equal("command", hypercall(VM_ASSIST, &[1 << 32, 5]), 0)?;
        equal("assist", hypercall(VM_ASSIST, &[1, 1 << 32 | 5]), 0)
    }),
];

const VM_ASSIST: u64 = 21;

fn entry(at: u64, number: u64, args: &[u64]) {
    poke(at, number);
    poke(at + 8, UNTOUCHED.cast_unsigned());
    let all = args.iter().copied().chain(core::iter::repeat(0));
    for (place, arg) in (0..6).zip(all) {
        poke(at + 16 + 8 * place, arg);
    }
}

fn list(mut at: u64, calls: &[(u64, &[u64])]) {
    for (number, args) in calls {
        entry(at, *number, args);
        at += 64;
    }
}

fn results(at: u64, expected: &[i64]) -> Outcome {
    for (place, &expected) in (0..).zip(expected) {
        equal_at("result", place, peek(at + 64 * place + 8).cast_signed(), expected)?;
    }
    Ok(())
}

/// Makes the list with a frame for `iret` at the stack pointer: to an undefined instruction.
fn iret(s: &Stage) -> Result<super::trap_stage::Event, Verdict> {
    let count = if peek(page(8) + 64) == XEN_VERSION || peek(page(8) + 64) == IRET { 2 } else { 1 };
    let mut registers: Registers = crate::call::registers(MULTICALL, &[page(8), count]);
    let mut context = Context::to(UD2, KERNEL_CS, 0x202);
    (context.rax, context.rsp) = (55, user_stack() - 512);
    let event = s.try_iret_by(snippets::SYSCALL, context, &mut registers);
    event.map_or_else(|| Err(Verdict::Skip("nothing came")), Ok)
}

/// Does something with a page mapped without the right to write.
fn read_only(t: &Test<'_>, address: u64, does: impl FnOnce() -> Outcome) -> Outcome {
    let entry = mapping(t.boot, address).unwrap_or(0);
    let without = hypercall(UPDATE_VA_MAPPING, &[address, entry & !WRITABLE, 2]);
    equal("update_va_mapping", without, 0)?;
    let outcome = does();
    equal("update_va_mapping", hypercall(UPDATE_VA_MAPPING, &[address, entry, 2]), 0)?;
    outcome
}
