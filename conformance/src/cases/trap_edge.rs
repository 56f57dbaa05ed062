//! Code at the edge of user mode's addresses, and in 32-bit mode.

use super::callback::called;
use super::trap_stage::{Context, SYSCALL, SYSENTER, Stage, USER_CS};
use crate::call::{UPDATE_VA_MAPPING, XEN_VERSION, hypercall};
use crate::case::{Case, Outcome, Test, case, equal, equal_at, holds};
use crate::raw::Registers;
use crate::raw::memory::{poke, poke_byte};
use crate::raw::trap_snippets::{UD2, code_at};
use crate::raw::trap_stage::{handler, page};
use crate::tables::{FRAME, VIRT_BASE, WRITABLE, frame_of, index, mapping, top};

const MMU_UPDATE: u64 = 1;
const EDGE: u64 = 0x0000_8000_0000_0000;
/// A page below 4 GiB, for 32-bit code.
const LOW: u64 = 0x4000_0000;
const CS_32: u64 = 0xe023;
/// Present, user, accessed, dirty.
const BITS: u64 = 0x65;
/// The pages of the stage that become tables, and the one with the code.
const L3: u64 = 12;
const L2: u64 = 13;
const L1: u64 = 14;
const CODE: u64 = 15;
/// The stack of 32-bit code, behind it.
const STACK: u64 = 16;

pub(crate) const CASES: &[Case] = &[
    case("edge/syscall", "User mode's SYSCALL at the edge shows the address behind it.", |t| {
        at_edge(t, &[0x0f, 0x05], |s, code| {
            let event = s.iret(Context { rip: code, ..Context::user(UD2) })?;
            equal("vector", event.vector, SYSCALL)?;
            equal("rip", event.plain().rip, EDGE)?;
            equal("rcx", event.plain().rcx, EDGE)?;
            equal("cs", event.plain().cs, USER_CS | 1 << 32)
        })
    }),
    case("edge/hypercall", "The kernel's call there is made, and ends in a fault there.", |t| {
        at_edge(t, &[0x0f, 0x05], |s, code| {
            let mut registers = Registers::new();
            registers.rax = XEN_VERSION;
            let event = s.kernel(code_at(code), registers)?;
            holds("vector", event.vector, "13 or 14", matches!(event.vector, 13 | 14))?;
            equal("rip", event.coded().rip, EDGE)?;
            equal("rax", event.registers.rax, 0x4_0011)
        })
    }),
    case("edge/breakpoint", "User mode's INT3 there shows the address behind it.", |t| {
        at_edge(t, &[0xcc], |s, code| {
            let event = s.iret(Context { rip: code, ..Context::user(UD2) })?;
            equal("vector", event.vector, 3)?;
            equal("rip", event.plain().rip, EDGE)
        })
    }),
    case("edge/int_80", "And its INT 80.", |t| {
        at_edge(t, &[0xcd, 0x80], |s, code| {
            s.entry(0x80, 3)?;
            let event = s.iret(Context { rip: code, ..Context::user(UD2) })?;
            equal("vector", event.vector, 0x80)?;
            equal("rip", event.plain().rip, EDGE)
        })
    }),
    case("edge/runs_over", "An instruction behind the edge is a fault there.", |t| {
        at_edge(t, &[0x90], |s, code| {
            let event = s.iret(Context { rip: code, ..Context::user(UD2) })?;
            holds("vector", event.vector, "13 or 14", matches!(event.vector, 13 | 14))?;
            equal("rip", event.coded().rip, EDGE)
        })
    }),
    case("edge/prefix", "A forced CPUID that ends there is done.", |t| {
        at_edge(t, &[0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2], |s, code| {
            let mut context = Context { rip: code, ..Context::user(UD2) };
            context.rax = 0x4000_0000;
            let event = s.iret(context)?;
            equal("rip", event.coded().rip, EDGE)?;
            equal("rbx", event.registers.rbx, 0x566e_6558)
        })
    }),
    case("compatibility/undefined", "32-bit user mode's UD2: its frame has cs e023.", |t| {
        in_32_bits(t, &[0x0f, 0x0b], |s, context| {
            let event = s.iret(context)?;
            equal("vector", event.vector, 6)?;
            equal("rip", event.plain().rip, LOW)?;
            equal("cs", event.plain().cs, CS_32 | 1 << 32)?;
            equal("ss", event.plain().ss, 0xe02b)
        })
    }),
    case("compatibility/overflow", "INTO with the flag set is vector 4, and points behind.", |t| {
        in_32_bits(t, &[0xce], |s, context| {
            let event = s.iret(Context { rflags: 0x802, ..context })?;
            equal("vector", event.vector, 4)?;
            equal("rip", event.plain().rip, LOW + 1)?;
            equal("cs", event.plain().cs, CS_32 | 1 << 32)
        })
    }),
    case("compatibility/bound", "BOUND beyond its limits is vector 5, at it.", |t| {
        // bound eax, [LOW + 64]: both limits are 0.
        in_32_bits(t, &[0x62, 0x05, 0x40, 0, 0, 0x40], |s, context| {
            let event = s.iret(Context { rax: 5, ..context })?;
            equal("vector", event.vector, 5)?;
            equal("rip", event.plain().rip, LOW)
        })
    }),
    case("compatibility/int_80", "INT 80 is as in 64-bit mode.", |t| {
        in_32_bits(t, &[0xcd, 0x80], |s, context| {
            s.entry(0x80, 3)?;
            let event = s.iret(context)?;
            equal("vector", event.vector, 0x80)?;
            equal("rip", event.plain().rip, LOW + 2)
        })
    }),
    case("compatibility/int_82", "INT 82 is no call there, either.", |t| {
        in_32_bits(t, &[0xcd, 0x82], |s, context| {
            let event = s.iret(context)?;
            equal("vector", event.vector, 13)?;
            equal("rip", event.coded().rip, LOW)
        })
    }),
    case("compatibility/privileged", "HLT, CLI, IN and moves of CR0 are refused.", |t| {
        let codes: [&[u8]; 4] = [&[0xf4], &[0xfa], &[0xec], &[0x0f, 0x20, 0xc0]];
        codes.into_iter().try_for_each(|bytes| {
            in_32_bits(t, bytes, |s, context| {
                let event = s.iret(context)?;
                equal("vector", event.vector, 13)?;
                equal("error", event.coded().error, 0)?;
                equal("rip", event.coded().rip, LOW)
            })
        })
    }),
    case("compatibility/page_fault", "A page fault's address has 32 bits.", |t| {
        // mov eax, [eax]
        in_32_bits(t, &[0x8b, 0x00], |s, context| {
            let event = s.iret(Context { rax: 0xffff_ffff_8123_4568, ..context })?;
            equal("vector", event.vector, 14)?;
            equal("cr2", s.cr2(), 0x8123_4568)
        })
    }),
    case("compatibility/sysenter", "SYSENTER of 32-bit user mode calls its callback.", |t| {
        in_32_bits(t, &[0x0f, 0x34], |s, context| {
            let event = s.iret(context)?;
            equal("vector", event.vector, SYSENTER)?;
            equal("rip", event.plain().rip, 0)
        })
    }),
    case("compatibility/syscall", "SYSCALL of 32-bit user mode is undefined or a callback.", |t| {
        in_32_bits(t, &[0x0f, 0x05], |s, context| {
            equal("answer", s.callback(7, 0, handler(SYSENTER + 2)), 0)?;
            let event = s.iret(context)?;
            let known = event.vector == 6 || event.vector == SYSENTER + 2;
            equal("answer", s.callback(7, 0, 0), 0)?;
            holds("vector", event.vector, "6 or the callback", known)?;
            equal("cs", event.plain().cs, CS_32 | 1 << 32)
        })
    }),
    case("compatibility/prefix", "A forced CPUID works in 32-bit mode.", |t| {
        in_32_bits(t, &[0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2, 0x0f, 0x0b], |s, context| {
            let event = s.iret(Context { rax: 0x4000_0000, ..context })?;
            equal("vector", event.vector, 6)?;
            equal("rip", event.plain().rip, LOW + 7)?;
            equal("rbx", event.registers.rbx, 0x566e_6558)
        })
    }),
];

/// Does something with `bytes` as the last instruction below the edge, whose address it gets.
fn at_edge(t: &Test<'_>, bytes: &[u8], does: impl FnOnce(&Stage, u64) -> Outcome) -> Outcome {
    let offset = 4096 - bytes.len() as u64;
    mapped(t, EDGE - 4096, offset, bytes, |s| does(s, EDGE - 4096 + offset))
}

/// Does something with a context that runs `bytes` as 32-bit code at `LOW`.
fn in_32_bits(
    t: &Test<'_>,
    bytes: &[u8],
    does: impl FnOnce(&Stage, Context) -> Outcome,
) -> Outcome {
    let context = Context { rip: LOW, cs: CS_32, rsp: LOW + 4096 + 2048, ..Context::user(UD2) };
    mapped(t, LOW, 0, bytes, |s| does(s, context))
}

/// Does something with a page mapped at `address` (read only), which holds `bytes` at `offset`.
fn mapped(
    t: &Test<'_>,
    address: u64,
    offset: u64,
    bytes: &[u8],
    does: impl FnOnce(&Stage) -> Outcome,
) -> Outcome {
    for table in [L3, L2, L1, CODE] {
        (0..512).for_each(|place| poke(page(table) + 8 * place, 0));
    }
    for (place, &byte) in (offset..).zip(bytes) {
        poke_byte(page(CODE) + place, byte);
    }
    for (level, table, below) in [(3, L3, L2), (2, L2, L1), (1, L1, CODE)] {
        poke(page(table) + 8 * index(level, address), entry(t, below));
    }
    if address == LOW {
        poke(page(L1) + 8 * (index(1, LOW) + 1), entry(t, STACK) | WRITABLE);
    }
    for table in [L3, L2, L1] {
        writable(t, table, false)?;
    }
    equal("set the top", set_top(t, address, entry(t, L3)), 0)?;
    let outcome = called(t, does);
    equal("clear the top", set_top(t, address, 0), 0)?;
    for table in [L3, L2, L1] {
        writable(t, table, true)?;
    }
    outcome
}

/// An entry for a page of the stage.
fn entry(t: &Test<'_>, number: u64) -> u64 {
    frame_of(t.boot, (page(number) - VIRT_BASE) >> 12) << 12 | BITS
}

/// Maps a page of the stage with or without the right to write.
fn writable(t: &Test<'_>, number: u64, yes: bool) -> Outcome {
    let old = mapping(t.boot, page(number)).unwrap_or(0);
    let new = if yes { old | WRITABLE } else { old & !WRITABLE };
    let answer = hypercall(UPDATE_VA_MAPPING, &[page(number), new, 2]);
    equal_at("update_va_mapping", number, answer, 0)
}

/// Sets the top-level table's entry for `address`.
fn set_top(t: &Test<'_>, address: u64, entry: u64) -> i64 {
    let table = frame_of(t.boot, top(t.boot)) << 12 & FRAME;
    poke(page(5), table + 8 * index(4, address));
    poke(page(5) + 8, entry);
    hypercall(MMU_UPDATE, &[page(5), 1, 0, 0x7ff0])
}
