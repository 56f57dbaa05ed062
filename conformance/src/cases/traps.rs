//! Exceptions that a guest handles: which vector, which frame, which registers.

use pv_guest_sdk::Machine;
use pv_guest_sdk::raw::shared::shared_info;

use crate::call::{EFAULT, GET_DEBUGREG, SET_DEBUGREG, SET_TRAP_TABLE, hypercall};
use crate::case::{Case, Outcome, Test, case, equal, equal_at};
use crate::raw::memory::{arena_address, peek, poke_byte, put};
use crate::raw::{Code, Registers, snippets, trap};
use crate::tables::{M2P, mapped_end};
use crate::traps::{Frame, install, remove, trapped, trapped_with};

const HYPERVISOR: u64 = 0xffff_8300_0000_0000;
const NON_CANONICAL: u64 = 0x0000_8000_0000_0000;

pub(crate) const CASES: &[Case] = &[
    case("traps/rip", "A fault's frame points at the instruction.", |_| {
        let frame = undefined()?;
        equal("rip", frame.rip, snippets::UD2.address())
    }),
    case("traps/cs", "A frame from kernel mode has cs e030, and the event mask above it.", |_| {
        equal("cs", undefined()?.cs, 0x1_0000_e030)
    }),
    case("traps/ss", "A frame from kernel mode has ss e02b.", |_| {
        equal("ss", undefined()?.ss, 0xe02b)
    }),
    case("traps/rflags", "With events masked the frame's interrupt flag is clear.", |_| {
        equal("rflags", undefined()?.rflags, 2)
    }),
    case("traps/rsp", "A frame from kernel mode lies below the stack it interrupts.", |_| {
        let mut registers = Registers::new();
        registers.rsp = stack();
        let frame = trapped(6, snippets::UD2, &mut registers)?;
        equal("rsp", frame.rsp, stack())?;
        equal("frame at", frame.at, stack() - 7 * 8)
    }),
    case("traps/alignment", "A frame ends at a multiple of 16.", |_| {
        for offset in 1..16 {
            let mut registers = Registers::new();
            registers.rsp = stack() - offset;
            let frame = trapped(6, snippets::UD2, &mut registers)?;
            equal_at("rsp less", offset, frame.rsp, stack() - offset)?;
            equal_at("end of frame less", offset, frame.at + 7 * 8, stack() - 16)?;
        }
        Ok(())
    }),
    case("traps/rcx_r11", "A frame begins with rcx and r11.", |_| {
        let mut registers = Registers::new();
        registers.rcx = 0x1111;
        registers.high[3] = 0x2222;
        let frame = trapped(6, snippets::UD2, &mut registers)?;
        equal("rcx", frame.rcx, 0x1111)?;
        equal("r11", frame.r11, 0x2222)
    }),
    case(
        "traps/registers",
        "A handler finds all registers but rcx, r11 and rsp as they were.",
        |_| {
            let mut registers = Registers::new();
            registers.rax = 1;
            registers.rbx = 2;
            registers.rdx = 3;
            registers.rsi = 4;
            registers.rdi = 5;
            registers.rbp = 6;
            registers.high = [8, 9, 10, 0, 12, 13, 14, 15];
            let before = registers;
            trapped(6, snippets::UD2, &mut registers)?;
            equal("rax", registers.rax, before.rax)?;
            equal("rbx", registers.rbx, before.rbx)?;
            equal("rdx", registers.rdx, before.rdx)?;
            equal("rsi", registers.rsi, before.rsi)?;
            equal("rdi", registers.rdi, before.rdi)?;
            equal("rbp", registers.rbp, before.rbp)?;
            for place in [0_usize, 1, 2, 4, 5, 6, 7] {
                let (now, then) = (registers.high[place], before.high[place]);
                equal_at("r8 and", place as u64, now, then)?;
            }
            Ok(())
        },
    ),
    case("traps/kept_flags", "A handler runs with the arithmetic flags as they were.", |_| {
        let mut registers = Registers::new();
        registers.rflags = 0xad7;
        trapped(6, snippets::UD2, &mut registers)?;
        equal("rflags", registers.rflags, 0xad7)
    }),
    case("traps/direction_flag", "A handler finds the direction flag as it was.", |_| {
        let mut registers = Registers::new();
        registers.rflags = 0x602;
        trapped(6, snippets::UD2, &mut registers)?;
        equal("rflags", registers.rflags, 0x602)
    }),
    case("traps/cleared_flags", "A handler runs with AC clear; its frame has it.", |_| {
        let mut registers = Registers::new();
        registers.rflags = 0x4_0202;
        let frame = trapped(6, snippets::UD2, &mut registers)?;
        equal("AC of the handler", registers.rflags & 0x4_0000, 0)?;
        equal("AC of the frame", frame.rflags & 0x4_0000, 0x4_0000)
    }),
    case("traps/nested_task", "A handler runs with NT clear; its frame has it.", |_| {
        let mut registers = Registers::new();
        registers.rflags = 0x4202;
        let frame = trapped(6, snippets::UD2, &mut registers)?;
        equal("NT of the handler", registers.rflags & 0x4000, 0)?;
        equal("NT of the frame", frame.rflags & 0x4000, 0x4000)
    }),
    case(
        "traps/events_on",
        "With events not masked the frame has the interrupt flag, no mask.",
        |t| {
            with_mask(t, 0, |_| {
                let frame = undefined()?;
                equal("cs", frame.cs, 0xe030)?;
                equal("rflags", frame.rflags, 0x202)
            })
        },
    ),
    case("traps/mask_kept", "An entry without that flag leaves the event mask alone.", |t| {
        with_mask(t, 0, |mask| {
            undefined()?;
            equal("mask", peek(mask - 1) >> 8 & 0xff, 0)
        })
    }),
    case("traps/mask_set", "An entry with flag 4 masks events.", |t| {
        with_mask(t, 0, |mask| {
            let frame = trapped_with(6, 4, snippets::UD2, &mut Registers::new())?;
            equal("mask", peek(mask - 1) >> 8 & 0xff, 1)?;
            equal("cs", frame.cs, 0xe030)
        })
    }),
    case("traps/mask_any_bit", "Any bits of the event mask show in the frame as they are.", |t| {
        with_mask(t, 0x82, |_| equal("cs", undefined()?.cs, 0x82_0000_e030))
    }),
    case("traps/page_fault_read", "A read of nothing has error code 0.", |_| {
        page_fault(snippets::LOAD, 0x1000, 0)
    }),
    case("traps/page_fault_write", "A write to nothing has error code 2.", |_| {
        page_fault(snippets::STORE, 0x1000, 2)
    }),
    case("traps/page_fault_read_only", "A write to the top-level table has error code 3.", |t| {
        page_fault(snippets::STORE, t.boot.start_info().pt_base, 3)
    }),
    case("traps/page_fault_hypervisor", "A read of the hypervisor has error code 0 or 1.", |_| {
        let frame = fault(14, snippets::LOAD, HYPERVISOR)?;
        equal("error but P", frame.error & !1, 0)
    }),
    case(
        "traps/page_fault_m2p",
        "A write to the table of machine frames has error code 3.",
        |_| page_fault(snippets::STORE, M2P, 3),
    ),
    case("traps/page_fault_jump", "A jump to nothing says that it was a fetch: 10.", |_| {
        page_fault(snippets::JUMP, 0x1000, 0x10)
    }),
    case(
        "traps/page_fault_address",
        "The fault's address is in vCPU 0's part of shared_info.",
        |t| {
            fault(14, snippets::LOAD, 0x1238)?;
            equal("cr2", peek(vcpu_info(t)? + 16), 0x1238)
        },
    ),
    case("traps/page_fault_hypervisor_address", "A fault in the hypervisor's part too.", |t| {
        fault(14, snippets::LOAD, HYPERVISOR + 0x128)?;
        equal("cr2", peek(vcpu_info(t)? + 16), HYPERVISOR + 0x128)
    }),
    case("traps/page_fault_behind_end", "A fault behind the mapped end says where.", |t| {
        let end = mapped_end(t.boot);
        fault(14, snippets::LOAD, end + 8)?;
        equal("cr2", peek(vcpu_info(t)? + 16), end + 8)
    }),
    case(
        "traps/non_canonical",
        "A read of no address is a general protection fault, code 0.",
        |_| equal("error", fault(13, snippets::LOAD, NON_CANONICAL)?.error, 0),
    ),
    case("traps/divide", "A division by zero is vector 0.", |_| at_once(0, snippets::DIVIDE)),
    case("traps/hlt", "HLT is a general protection fault, code 0.", |_| {
        at_once(13, snippets::HLT)?;
        equal("error", trapped(13, snippets::HLT, &mut Registers::new())?.error, 0)
    }),
    case("traps/cli", "CLI is a general protection fault without I/O privilege.", |_| {
        at_once(13, snippets::CLI)
    }),
    case("traps/sti", "STI is a general protection fault without I/O privilege.", |_| {
        at_once(13, snippets::STI)
    }),
    case("traps/in", "IN is a general protection fault without I/O privilege.", |_| {
        at_once(13, snippets::IN)
    }),
    case("traps/swapgs", "SWAPGS is a general protection fault.", |_| {
        at_once(13, snippets::SWAPGS)
    }),
    case("traps/lgdt", "LGDT is a general protection fault.", |_| {
        equal("error", fault(13, snippets::LGDT, M2P)?.error, 0)
    }),
    case(
        "traps/bad_selector",
        "A bad selector is a general protection fault that names it.",
        |_| {
            let mut registers = Registers::new();
            registers.rax = 0x1234;
            let frame = trapped(13, snippets::LOAD_DS, &mut registers)?;
            equal("error", frame.error, 0x1234)
        },
    ),
    case("traps/ring_0_selector", "Ring 0's data selector is refused by its number.", |_| {
        let mut registers = Registers::new();
        registers.rax = 0xe010;
        let frame = trapped(13, snippets::LOAD_SS, &mut registers)?;
        equal("error", frame.error, 0xe010)
    }),
    case("traps/iretq_ring_0", "IRETQ to ring 0's code selector is a fault at the IRETQ.", |_| {
        let mut registers = Registers::new();
        registers.rax = 0xe008;
        registers.rbx = 0xe02b;
        registers.rsi = snippets::NOTHING.address();
        let frame = trapped(13, snippets::IRETQ, &mut registers)?;
        equal("rip", frame.rip, snippets::IRETQ.address() + 12)?;
        equal("error", frame.error, 0xe008)
    }),
    case("traps/breakpoint", "INT3 is vector 3, and its frame points behind it.", |_| {
        let frame = trapped(3, snippets::INT3, &mut Registers::new())?;
        equal("rip", frame.rip, snippets::INT3.address() + 1)
    }),
    case("traps/single_step", "A single step is vector 1; frame and dr6 tell of it.", |_| {
        let mut registers = Registers::new();
        registers.rsi = snippets::NOTHING.address();
        let frame = trapped(1, snippets::SINGLE_STEP, &mut registers)?;
        let status = hypercall(GET_DEBUGREG, &[6]) & 0x4000;
        equal("clearing dr6", hypercall(SET_DEBUGREG, &[6, 0xffff_0ff0]), 0)?;
        equal("BS in dr6", status, 0x4000)?;
        equal("rip", frame.rip, snippets::NOTHING.address())?;
        equal("TF of the frame", frame.rflags & 0x100, 0x100)?;
        equal("TF of the handler", registers.rflags & 0x100, 0)
    }),
    case("traps/x87", "An x87 exception is vector 16.", |_| {
        let mut registers = Registers::new();
        registers.fx.0[0] = 0x40;
        let frame = trapped(16, snippets::X87_DIVIDE, &mut registers)?;
        equal("rip", frame.rip, snippets::X87_DIVIDE.address() + 6)
    }),
    case("traps/int_80", "INT 80 is vector 80, and its frame points behind it.", |_| {
        let frame = trapped(0x80, snippets::INT_80, &mut Registers::new())?;
        equal("rip", frame.rip, snippets::INT_80.address() + 2)
    }),
    case("traps/int_80_alone", "INT 80 without a handler is a fault with code 402, at it.", |_| {
        let frame = trapped(13, snippets::INT_80, &mut Registers::new())?;
        equal("rip", frame.rip, snippets::INT_80.address())?;
        equal("error", frame.error, 0x402)
    }),
    case("traps/prefix_broken", "A broken prefix of CPUID is an undefined instruction.", |_| {
        at_once(6, snippets::PREFIX_2)
    }),
    case("traps/prefix_no_trap", "The forced-emulation prefix reaches no handler.", |_| {
        install(6, 0)?;
        trap::forget();
        let mut registers = Registers::new();
        registers.rax = 0x4000_0001;
        crate::raw::run(snippets::FORCED_CPUID, &mut registers);
        remove()?;
        equal("trapped", trap::last().is_some(), false)
    }),
    case("traps/table_unmapped", "A trap table at an unmapped address answers -EFAULT.", |_| {
        equal("answer", hypercall(SET_TRAP_TABLE, &[0x1000]), EFAULT)
    }),
    case("traps/table_hypervisor", "A trap table in the hypervisor answers -EFAULT.", |_| {
        equal("answer", hypercall(SET_TRAP_TABLE, &[M2P]), EFAULT)
    }),
    case("traps/table_empty", "A table whose first entry has no address changes nothing.", |_| {
        install(6, 0)?;
        put(64, &[0; 16]);
        equal("answer", hypercall(SET_TRAP_TABLE, &[arena_address() + 64]), 0)?;
        trap::forget();
        crate::raw::run(snippets::UD2, &mut Registers::new());
        remove()?;
        equal("trapped", trap::last().is_some(), true)
    }),
    case("traps/table_non_canonical", "A handler at no address is refused with -EINVAL.", |_| {
        put(0, &[0; 32]);
        put(0, &[6, 0, 0x33, 0xe0]);
        put(8, &NON_CANONICAL.to_le_bytes());
        let answer = hypercall(SET_TRAP_TABLE, &[arena_address()]);
        remove()?;
        equal("answer", answer, crate::call::EINVAL)
    }),
    case("traps/table_selector", "A handler's selector gets the guest's privilege.", |_| {
        put(0, &[0; 32]);
        put(0, &[6, 0, 0x30, 0xe0]);
        put(8, &trap::handler().to_le_bytes());
        equal("answer", hypercall(SET_TRAP_TABLE, &[arena_address()]), 0)?;
        trap::forget();
        crate::raw::run(snippets::UD2, &mut Registers::new());
        remove()?;
        equal("trapped", trap::last().is_some(), true)
    }),
];

fn undefined() -> Result<Frame, crate::case::Verdict> {
    trapped(6, snippets::UD2, &mut Registers::new())
}

/// The trap that `code` with `address` in rsi makes.
fn fault(vector: u8, code: Code, address: u64) -> Result<Frame, crate::case::Verdict> {
    let mut registers = Registers::new();
    registers.rsi = address;
    trapped(vector, code, &mut registers)
}

fn page_fault(code: Code, address: u64, error: u64) -> Outcome {
    equal("error", fault(14, code, address)?.error, error)
}

/// Checks that a snippet traps at its first instruction.
fn at_once(vector: u8, code: Code) -> Outcome {
    equal("rip", trapped(vector, code, &mut Registers::new())?.rip, code.address())
}

/// A stack of its own: the end of the arena's third page.
fn stack() -> u64 {
    arena_address() + 3 * 4096
}

/// The address of vCPU 0's part of the shared page.
fn vcpu_info(t: &Test<'_>) -> Result<u64, crate::case::Verdict> {
    match shared_info(&Machine, t.boot) {
        Ok(page) => Ok(core::ptr::from_ref(page).expose_provenance() as u64),
        Err(_) => {
            equal("the shared page", "refused", "mapped")?;
            Ok(0)
        }
    }
}

/// Does something with the event mask of vCPU 0 at this value; it gets the mask's address.
fn with_mask(t: &Test<'_>, mask: u8, does: impl FnOnce(u64) -> Outcome) -> Outcome {
    let address = vcpu_info(t)? + 1;
    poke_byte(address, mask);
    let outcome = does(address);
    poke_byte(address, 1);
    outcome
}
