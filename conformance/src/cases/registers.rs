//! What the processor holds at a guest's first instruction.

use crate::case::{Case, Outcome, Test, case, equal, equal_at, holds};
use crate::raw::memory::{arena_address, peek};
use crate::raw::{Registers, run, snippets};

pub(crate) const CASES: &[Case] = &[
    case(
        "start/general_registers",
        "All general registers but rsi and rsp are zero at the first instruction.",
        general_registers,
    ),
    case(
        "start/rsi",
        "At the first instruction rsi holds the address of the start_info page.",
        |t| equal("magic", peek(t.entry.general[4]), u64::from_le_bytes(*b"xen-3.0-")),
    ),
    case(
        "start/rflags",
        "At the first instruction the flags are as the hypervisor's loader leaves them.",
        |t| equal("rflags", t.entry.rflags, 0x202),
    ),
    case("start/cs", "cs is the flat 64-bit code selector e033.", |t| {
        equal("cs", t.entry.selectors[0], 0xe033)
    }),
    case("start/ss", "ss is the flat data selector e02b.", |t| {
        equal("ss", t.entry.selectors[1], 0xe02b)
    }),
    case("start/data_selectors", "ds, es, fs and gs are null.", |t| {
        equal("ds", t.entry.selectors[2], 0)?;
        equal("es", t.entry.selectors[3], 0)?;
        equal("fs", t.entry.selectors[4], 0)?;
        equal("gs", t.entry.selectors[5], 0)
    }),
    case("start/rsp", "rsp is the end of the page behind the page tables.", |t| {
        let info = t.boot.start_info();
        let end = info.pt_base + (info.nr_pt_frames + 1) * 4096;
        equal("rsp", t.entry.general[7], end)
    }),
    case("start/fs_base", "The base of fs is 0.", |_| {
        let mut registers = Registers::new();
        registers.rsi = arena_address();
        run(snippets::LOAD_FS, &mut registers);
        equal("fs:[arena]", registers.rax, peek(arena_address()))
    }),
    case("start/gs_base", "The base of gs is 0.", |_| {
        let mut registers = Registers::new();
        registers.rsi = arena_address();
        run(snippets::LOAD_GS, &mut registers);
        equal("gs:[arena]", registers.rax, peek(arena_address()))
    }),
    case(
        "start/x87",
        "The x87 unit is as FNINIT leaves it: control word 37f, no status, all registers empty.",
        |t| {
            equal("control word", half(&t.entry.fx, 0), 0x37f)?;
            equal("status word", half(&t.entry.fx, 2), 0)?;
            equal("tags in use", half(&t.entry.fx, 4), 0)
        },
    ),
    case("start/mxcsr", "MXCSR is 1f80: all SSE exceptions masked.", |t| {
        equal("mxcsr", half(&t.entry.fx, 24), 0x1f80)
    }),
    case("start/xmm", "All SSE registers are zero.", |t| {
        let xmm = &t.entry.fx[160..416];
        let used = xmm.iter().position(|&byte| byte != 0);
        equal("first used byte", used.unwrap_or(256), 256)
    }),
    case("start/x87_registers", "The contents of the x87 registers are zero.", |t| {
        let used = t.entry.fx[32..160].iter().position(|&byte| byte != 0);
        equal("first used byte", used.unwrap_or(128), 128)
    }),
    case(
        "start/machine_status",
        "SMSW shows protected mode, a coprocessor, no emulation, and no task switched.",
        |t| equal("PE MP EM TS", t.entry.machine_status & 0xf, 3),
    ),
    case(
        "start/gdt_limit",
        "SGDT shows the limit of 16 pages of descriptors less one: efff.",
        |t| equal("limit", half(&t.entry.gdtr, 0), 0xefff),
    ),
    case(
        "start/gdt_base",
        "SGDT shows a table in the hypervisor's part of the address space.",
        |t| {
            let base =
                t.entry.gdtr[2..10].iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
            let slot = base >> 39 & 511;
            holds("base", base, "slot 256..271", (256..272).contains(&slot))
        },
    ),
];

fn general_registers(t: &Test<'_>) -> Outcome {
    for (number, &value) in (0..).zip(&t.entry.general) {
        if number != 4 && number != 7 {
            equal_at("register", number, value, 0)?;
        }
    }
    Ok(())
}

fn half(bytes: &[u8], at: usize) -> u64 {
    u64::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}
