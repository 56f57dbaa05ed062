//! What a hypercall leaves in the registers.

use crate::call::{CONSOLE_IO, SCHED_OP, XEN_VERSION, registers};
use crate::case::{Case, case, equal, equal_at, holds};
use crate::raw::memory::{arena_address, put};
use crate::raw::{Registers, run, snippets};

pub(crate) const CASES: &[Case] = &[
    case(
        "preserve/general",
        "A hypercall keeps rbx, rbp, rsp, r12 to r15, whatever it does.",
        |_| {
            for (call, mut registers) in calls() {
                let before = fill(&mut registers);
                run(snippets::SYSCALL, &mut registers);
                equal_at("rbx of call", call, registers.rbx, before.rbx)?;
                equal_at("rbp of call", call, registers.rbp, before.rbp)?;
                equal_at("rsp of call", call, registers.rsp, before.rsp)?;
                let pairs = registers.high[4..].iter().zip(&before.high[4..]);
                for (place, (&now, &then)) in (12..).zip(pairs) {
                    equal_at("r12 to r15", place, now, then)?;
                }
            }
            Ok(())
        },
    ),
    case(
        "preserve/arguments",
        "A hypercall keeps its six argument registers, used or not.",
        |_| {
            for (call, mut registers) in calls() {
                let before = fill(&mut registers);
                run(snippets::SYSCALL, &mut registers);
                equal_at("rdi of call", call, registers.rdi, before.rdi)?;
                equal_at("rsi of call", call, registers.rsi, before.rsi)?;
                equal_at("rdx of call", call, registers.rdx, before.rdx)?;
                equal_at("r10 of call", call, registers.high[2], before.high[2])?;
                equal_at("r8 of call", call, registers.high[0], before.high[0])?;
                equal_at("r9 of call", call, registers.high[1], before.high[1])?;
            }
            Ok(())
        },
    ),
    case("preserve/rcx", "Behind a hypercall rcx holds the address behind SYSCALL.", |_| {
        for (call, mut registers) in calls() {
            run(snippets::SYSCALL, &mut registers);
            let behind = snippets::SYSCALL.address() + 2;
            equal_at("rcx of call", call, registers.rcx, behind)?;
        }
        Ok(())
    }),
    case("preserve/r11", "Behind a hypercall r11 holds the flags.", |_| {
        for (call, mut registers) in calls() {
            run(snippets::SYSCALL, &mut registers);
            equal_at("r11 of call", call, registers.high[3], registers.rflags)?;
        }
        Ok(())
    }),
    case("preserve/flags", "A hypercall keeps the arithmetic flags, direction too.", |_| {
        for (call, registers) in calls() {
            for flags in [0x202, 0xed7, 0x602, 0xad7] {
                let mut registers = registers;
                registers.rflags = flags;
                run(snippets::SYSCALL, &mut registers);
                equal_at("flags of call", call, registers.rflags, flags)?;
            }
        }
        Ok(())
    }),
    case("preserve/flags_id", "A hypercall keeps the flags AC and ID.", |_| {
        for (call, mut registers) in calls() {
            registers.rflags = 0x24_0202;
            run(snippets::SYSCALL, &mut registers);
            equal_at("flags of call", call, registers.rflags, 0x24_0202)?;
        }
        Ok(())
    }),
    case("preserve/fpu", "A hypercall keeps x87 and SSE registers and control words.", |_| {
        for (call, mut registers) in calls() {
            fill_fpu(&mut registers);
            let before = registers.fx.0;
            run(snippets::SYSCALL, &mut registers);
            // Control, status, tags; MXCSR; the registers. Addresses of x87 faults may vary.
            let kept = (0..5).chain(24..28).chain(32..416);
            let changed = kept.into_iter().find(|&at| before[at] != registers.fx.0[at]);
            equal_at("first changed byte, call", call, changed.unwrap_or(416), 416)?;
        }
        Ok(())
    }),
    case("preserve/nothing_leaks", "No register holds an address of the hypervisor.", |_| {
        for (call, mut registers) in calls() {
            run(snippets::SYSCALL, &mut registers);
            let low = [registers.rax, registers.rcx, registers.rdx, registers.rsi, registers.rdi];
            for value in low.into_iter().chain(registers.high) {
                let slot = value >> 39 & 511;
                let ours = value >> 47 == 0x1_ffff && (256..272).contains(&slot);
                holds("register", value, "no address of the hypervisor", !ours)?;
            }
            equal_at("sign of call", call, registers.rax >> 62 == 2, false)?;
        }
        Ok(())
    }),
    case("preserve/trap_flag", "The interrupt flag stays set behind a hypercall.", |_| {
        for (call, mut registers) in calls() {
            registers.rflags = 2;
            run(snippets::SYSCALL, &mut registers);
            equal_at("flags of call", call, registers.rflags & 0x200, 0x200)?;
        }
        Ok(())
    }),
    case("preserve/bad_stack", "A hypercall does not touch the guest's stack.", |_| {
        for rsp in [8, 0x1000, 0x8000_0000_0000, 0xffff_8300_0000_0000, u64::MAX] {
            let mut registers = registers(XEN_VERSION, &[0]);
            registers.rsp = rsp;
            run(snippets::SYSCALL, &mut registers);
            equal_at("answer with rsp", rsp, registers.rax, 0x4_0011)?;
            equal_at("rsp", rsp, registers.rsp, rsp)?;
        }
        Ok(())
    }),
    case("preserve/selectors", "A hypercall keeps null in ds, es, fs and gs.", |_| {
        let mut registers = registers(XEN_VERSION, &[0]);
        run(snippets::SYSCALL, &mut registers);
        let mut selectors = Registers::new();
        run(snippets::SELECTORS, &mut selectors);
        equal("ds", selectors.rax, 0)?;
        equal("es", selectors.rbx, 0)?;
        equal("fs", selectors.rcx, 0)?;
        equal("gs", selectors.rdx, 0)
    }),
    case("preserve/cs_ss", "Behind a hypercall cs is e033 and ss is e02b.", |_| {
        let mut registers = registers(XEN_VERSION, &[0]);
        run(snippets::SYSCALL, &mut registers);
        let mut selectors = Registers::new();
        run(snippets::SELECTORS, &mut selectors);
        equal("cs", selectors.rsi, 0xe033)?;
        equal("ss", selectors.rdi, 0xe02b)
    }),
];

/// Calls that end in different ways: an answer, a written structure, a refusal, an unknown number.
fn calls() -> impl Iterator<Item = (u64, Registers)> {
    put(0, b"# preserved\n");
    let calls: [(u64, &[u64]); 7] = [
        (XEN_VERSION, &[0]),
        (XEN_VERSION, &[9, arena_address() + 4096]),
        (XEN_VERSION, &[9, 0x1000]),
        (CONSOLE_IO, &[0, 12, arena_address()]),
        (SCHED_OP, &[0]),
        (SCHED_OP, &[2, 0]),
        (63, &[]),
    ];
    calls.map(|(number, args)| (number, registers(number, args))).into_iter()
}

/// Puts something recognisable into every register that no call of [`calls`] uses.
fn fill(registers: &mut Registers) -> Registers {
    registers.rbx = 0x1111_2222_3333_4444;
    registers.rbp = 0x5555_6666_7777_8888;
    registers.rcx = 0x9999_aaaa_bbbb_cccc;
    for (value, register) in (0xdddd_0000_0000_0008..).zip(&mut registers.high) {
        *register = value;
    }
    *registers
}

fn fill_fpu(registers: &mut Registers) {
    let fx = &mut registers.fx.0;
    // All eight x87 registers in use, double precision, rounding down.
    fx[..5].copy_from_slice(&[0x7f, 0x06, 0, 0, 0xff]);
    fx[24..26].copy_from_slice(&[0x80, 0x3f]);
    for (place, byte) in (0..).zip(&mut fx[32..416]) {
        *byte = place;
    }
    // The last six bytes of each x87 register's place are reserved.
    for register in fx[32..160].chunks_exact_mut(16) {
        register[10..].fill(0);
    }
}
