//! Wrong moves of a guest that has no handlers: each ends the guest, with a dump, and nothing else.

use crate::case::{Case, Test, ends_guest, equal};
use crate::raw::{Code, Registers, snippets};
use crate::tables::{M2P, VIRT_BASE, frame_of, mapped_end};

/// In the hypervisor's part of the address space, behind what guests may read.
const HYPERVISOR: u64 = 0xffff_8300_0000_0000;
const NON_CANONICAL: u64 = 0x0000_8000_0000_0000;

pub(crate) const CASES: &[Case] = &[
    ends_guest(
        "crash/undefined_instruction",
        "An undefined instruction ends a guest without a handler for it.",
        |t| t.crash(snippets::UD2, &mut Registers::new()),
    ),
    ends_guest("crash/read_null", "A read of address 0 ends the guest.", |t| {
        pointed(t, snippets::LOAD, 0)
    }),
    ends_guest("crash/read_behind_window", "A read behind the mapped end ends the guest.", |t| {
        pointed(t, snippets::LOAD, mapped_end(t.boot))
    }),
    ends_guest(
        "crash/read_hypervisor",
        "A read of the hypervisor's own memory ends the guest.",
        |t| pointed(t, snippets::LOAD, HYPERVISOR),
    ),
    ends_guest(
        "crash/read_m2p_hole",
        "A read of the table of machine frames where it has no memory ends the guest.",
        |t| pointed(t, snippets::LOAD, M2P + 0x3f_ffff_f000),
    ),
    ends_guest("crash/read_non_canonical", "A read of no address at all ends the guest.", |t| {
        pointed(t, snippets::LOAD, NON_CANONICAL)
    }),
    ends_guest("crash/stack_non_canonical", "A push to no address at all ends the guest.", |t| {
        let mut registers = Registers::new();
        registers.rsp = NON_CANONICAL + 8;
        t.crash(snippets::PUSH, &mut registers)
    }),
    ends_guest("crash/write_m2p", "A write to the table of machine frames ends the guest.", |t| {
        pointed(t, snippets::STORE, M2P)
    }),
    ends_guest("crash/write_hypervisor", "A write to the hypervisor ends the guest.", |t| {
        pointed(t, snippets::STORE, HYPERVISOR)
    }),
    ends_guest("crash/write_null", "A write to address 0 ends the guest.", |t| {
        pointed(t, snippets::STORE, 0)
    }),
    ends_guest(
        "crash/write_top_table",
        "A write to the top-level page table ends the guest.",
        |t| pointed(t, snippets::STORE, t.boot.start_info().pt_base),
    ),
    ends_guest(
        "crash/write_hypervisor_slot",
        "A write to a top-level entry that is the hypervisor's ends the guest.",
        |t| pointed(t, snippets::STORE, t.boot.start_info().pt_base + 260 * 8),
    ),
    ends_guest(
        "crash/stack_into_tables",
        "A push of something that is no entry onto a last-level table ends the guest.",
        |t| {
            let mut registers = Registers::new();
            registers.rsp = t.entry.general[7] - 4096;
            registers.rax = u64::MAX;
            t.crash(snippets::PUSH, &mut registers)
        },
    ),
    ends_guest(
        "crash/map_table_by_write",
        "A write to a last-level table that would map a page table writable ends the guest.",
        |t| {
            let table = t.boot.start_info().pt_base;
            let mut registers = Registers::new();
            registers.rsi = table + 4096;
            registers.rax = frame_of(t.boot, (table - VIRT_BASE) >> 12) << 12 | 0x67;
            t.crash(snippets::STORE, &mut registers)
        },
    ),
    // Where the processor notices depends on its kind: at the jump, or at its target.
    ends_guest("crash/jump_non_canonical", "A jump to no address at all ends the guest.", |t| {
        let mut registers = Registers::new();
        registers.rsi = NON_CANONICAL;
        t.end("crash", snippets::JUMP, &mut registers)
    }),
    ends_guest(
        "crash/return_non_canonical",
        "A return to no address at all ends the guest.",
        |t| {
            let mut registers = Registers::new();
            registers.rsi = NON_CANONICAL;
            t.end("crash", snippets::RETURN, &mut registers)
        },
    ),
    ends_guest("crash/sysenter", "SYSENTER ends a guest that has no handler for it.", |t| {
        t.end("crash", snippets::SYSENTER, &mut Registers::new())
    }),
    ends_guest("crash/jump_unmapped", "A jump to an unmapped address ends the guest there.", |t| {
        jump(t, 0x1000)
    }),
    ends_guest("crash/jump_hypervisor", "A jump into the hypervisor ends the guest there.", |t| {
        jump(t, HYPERVISOR)
    }),
    ends_guest("crash/jump_m2p", "The table of machine frames cannot be executed.", |t| {
        jump(t, M2P)
    }),
    ends_guest("crash/divide_error", "A division by zero ends the guest.", |t| {
        t.crash(snippets::DIVIDE, &mut Registers::new())
    }),
    ends_guest("crash/int3", "A breakpoint ends the guest, behind the instruction.", |t| {
        t.crash_at(snippets::INT3, &mut Registers::new(), snippets::INT3.address() + 1)
    }),
    ends_guest("crash/single_step", "A single step ends the guest.", |t| {
        let mut registers = Registers::new();
        registers.rsi = snippets::NOTHING.address();
        t.crash_at(snippets::SINGLE_STEP, &mut registers, snippets::NOTHING.address())
    }),
    ends_guest("crash/int_80", "Software interrupt 80 ends the guest, at it.", |t| {
        t.crash(snippets::INT_80, &mut Registers::new())
    }),
    ends_guest("crash/int_82", "Software interrupt 82 is no hypercall in 64 bits.", |t| {
        t.crash(snippets::INT_82, &mut Registers::new())
    }),
    ends_guest("crash/int_page_fault", "Software interrupt 14 is refused, at it.", |t| {
        t.crash(snippets::INT_14, &mut Registers::new())
    }),
    ends_guest("crash/int_ff", "Software interrupt 255 is refused, at it.", |t| {
        t.crash(snippets::INT_FF, &mut Registers::new())
    }),
    ends_guest("crash/hlt", "HLT ends the guest.", |t| {
        t.crash(snippets::HLT, &mut Registers::new())
    }),
    ends_guest("crash/cli", "CLI ends a guest that was given no I/O privilege.", |t| {
        t.crash(snippets::CLI, &mut Registers::new())
    }),
    ends_guest("crash/sti", "STI ends a guest that was given no I/O privilege.", |t| {
        t.crash(snippets::STI, &mut Registers::new())
    }),
    ends_guest("crash/lgdt", "LGDT ends the guest.", |t| pointed(t, snippets::LGDT, M2P)),
    ends_guest("crash/lidt", "LIDT ends the guest.", |t| pointed(t, snippets::LIDT, M2P)),
    ends_guest("crash/ltr", "LTR ends the guest.", |t| {
        t.crash(snippets::LTR, &mut Registers::new())
    }),
    ends_guest("crash/invlpg", "INVLPG ends the guest.", |t| pointed(t, snippets::INVLPG, M2P)),
    ends_guest("crash/swapgs", "SWAPGS ends the guest.", |t| {
        t.crash(snippets::SWAPGS, &mut Registers::new())
    }),
    ends_guest("crash/sysret", "SYSRET ends the guest.", |t| {
        t.crash(snippets::SYSRET, &mut Registers::new())
    }),
    ends_guest(
        "crash/wrmsr_unknown",
        "A write of an unknown register (MSR) ends the guest.",
        |t| {
            let mut registers = Registers::new();
            registers.rcx = 0xdead_0000;
            t.crash(snippets::WRMSR, &mut registers)
        },
    ),
    ends_guest(
        "crash/far_selector",
        "Loading a selector with no descriptor ends the guest.",
        |t| {
            let mut registers = Registers::new();
            registers.rax = 0x1234;
            t.crash(snippets::LOAD_DS, &mut registers)
        },
    ),
    ends_guest(
        "crash/hypervisor_selector",
        "Loading ring 0's data selector ends the guest.",
        |t| {
            let mut registers = Registers::new();
            registers.rax = 0xe010;
            t.crash(snippets::LOAD_SS, &mut registers)
        },
    ),
    ends_guest("crash/iretq_ring_0", "IRETQ to ring 0's code selector ends the guest.", |t| {
        iretq(t, 0xe008, 0xe02b)
    }),
    ends_guest("crash/iretq_null_cs", "IRETQ to a null code selector ends the guest.", |t| {
        iretq(t, 0, 0xe02b)
    }),
    ends_guest("crash/iretq_null_ss", "IRETQ to a null stack selector ends the guest.", |t| {
        iretq(t, 0xe033, 0)
    }),
    ends_guest(
        "crash/iretq_behind_table",
        "IRETQ to a selector behind the descriptor table ends the guest.",
        |t| iretq(t, 0xfffb, 0xe02b),
    ),
    ends_guest("crash/x87", "An unmasked x87 exception ends the guest.", |t| {
        let mut registers = Registers::new();
        registers.fx.0[0] = 0x40;
        t.crash_at(snippets::X87_DIVIDE, &mut registers, snippets::X87_DIVIDE.address() + 6)
    }),
    ends_guest("crash/in", "Reading a port ends a guest that has no I/O privilege.", |t| {
        t.crash(snippets::IN, &mut Registers::new())
    }),
    ends_guest(
        "crash/fault_without_stack",
        "A fault with the stack unmapped ends the guest, at the instruction.",
        |t| {
            let mut registers = Registers::new();
            registers.rsp = 0x1000;
            t.crash(snippets::UD2, &mut registers)
        },
    ),
    ends_guest(
        "crash/fault_on_hypervisor_stack",
        "A fault with the stack in the hypervisor ends the guest, at the instruction.",
        |t| {
            let mut registers = Registers::new();
            registers.rsp = HYPERVISOR + 0x1000;
            t.crash(snippets::UD2, &mut registers)
        },
    ),
    ends_guest(
        "crash/iret_bad_stack",
        "The iret call with an unmapped stack ends the guest.",
        |t| {
            let mut registers = Registers::new();
            registers.rax = 23;
            registers.rsp = 0x1000;
            t.crash_at(snippets::SYSCALL, &mut registers, snippets::SYSCALL.address() + 2)
        },
    ),
];

/// Crashes at an instruction that uses rsi as an address.
fn pointed(t: &Test<'_>, code: Code, address: u64) -> crate::case::Outcome {
    let mut registers = Registers::new();
    registers.rsi = address;
    t.crash(code, &mut registers)
}

/// Crashes at the target of a jump.
fn jump(t: &Test<'_>, target: u64) -> crate::case::Outcome {
    let mut registers = Registers::new();
    registers.rsi = target;
    t.crash_at(snippets::JUMP, &mut registers, target)
}

/// Crashes at an IRETQ to the next snippet with these selectors.
fn iretq(t: &Test<'_>, code: u64, stack: u64) -> crate::case::Outcome {
    let mut registers = Registers::new();
    registers.rax = code;
    registers.rbx = stack;
    registers.rsi = snippets::NOTHING.address();
    equal("rsp given", registers.rsp, 0)?;
    t.crash_at(snippets::IRETQ, &mut registers, snippets::IRETQ.address() + 12)
}
