//! The state of a virtual processor: segment bases, control and debug registers, the x87 switch,
//! privileged instructions that are emulated, multicalls, the iret call.

use crate::call::{
    CALLBACK_OP, EFAULT, EINVAL, ENODEV, ENOSYS, EPERM, GET_DEBUGREG, MULTICALL, SET_DEBUGREG,
    SET_SEGMENT_BASE, STACK_SWITCH, VM_ASSIST, XEN_VERSION, hypercall,
};
use crate::case::{Case, Outcome, case, ends_guest, equal, equal_at, holds};
use crate::raw::memory::{arena_address, fill_arena, get, peek, put};
use crate::raw::{Code, Registers, run, snippets};
use crate::tables::{M2P, frame_of, top};
use crate::traps::trapped;

const FS: u64 = 0;
const GS_KERNEL: u64 = 2;
const NON_CANONICAL: u64 = 0x0000_8000_0000_0000;

pub(crate) const CASES: &[Case] = &[
    case("cpu/fs_base", "The base of fs can be set.", |_| base(FS, snippets::LOAD_FS)),
    case("cpu/gs_base", "The base of gs in kernel mode can be set.", |_| {
        base(GS_KERNEL, snippets::LOAD_GS)
    }),
    case("cpu/gs_user_base", "The base of gs in user mode is another one.", |_| {
        equal("answer", hypercall(SET_SEGMENT_BASE, &[1, arena_address() + 64]), 0)?;
        let mut registers = Registers::new();
        registers.rsi = arena_address();
        put(0, &1_u64.to_le_bytes());
        run(snippets::LOAD_GS, &mut registers);
        equal("answer", hypercall(SET_SEGMENT_BASE, &[1, 0]), 0)?;
        equal("gs:[arena]", registers.rax, 1)
    }),
    case("cpu/base_non_canonical", "A base that is no address is refused with -EINVAL.", |_| {
        for which in [0, 1, 2] {
            let answer = hypercall(SET_SEGMENT_BASE, &[which, NON_CANONICAL]);
            equal_at("answer for", which, answer, EINVAL)?;
        }
        Ok(())
    }),
    case(
        "cpu/base_hypervisor",
        "A base within the hypervisor is taken: it gives no access.",
        |_| {
            for which in [0, 1, 2] {
                let answer = hypercall(SET_SEGMENT_BASE, &[which, M2P]);
                equal("back", hypercall(SET_SEGMENT_BASE, &[which, 0]), 0)?;
                equal_at("answer for", which, answer, 0)?;
            }
            Ok(())
        },
    ),
    case("cpu/base_unknown", "There are four bases to set; others answer -EINVAL.", |_| {
        for which in [4, 5, 0xffff_ffff] {
            let answer = hypercall(SET_SEGMENT_BASE, &[which, 0]);
            equal_at("answer for", which, answer, EINVAL)?;
        }
        Ok(())
    }),
    case("cpu/base_truncation", "Which base has 32 bits, the base 64.", |_| {
        equal("answer", hypercall(SET_SEGMENT_BASE, &[1 << 32, arena_address()]), 0)?;
        equal("back", hypercall(SET_SEGMENT_BASE, &[0, 0]), 0)
    }),
    case("cpu/user_gs_selector", "A bad selector for gs in user mode is taken as null.", |_| {
        equal("answer", hypercall(SET_SEGMENT_BASE, &[3, 0x1233]), 0)?;
        equal("null", hypercall(SET_SEGMENT_BASE, &[3, 0]), 0)
    }),
    case(
        "cpu/cr0",
        "CR0 reads with paging, protection and numeric errors on, and TS clear.",
        |_| {
            let cr0 = read(snippets::READ_CR0);
            equal("PG NE PE", cr0 & 0x8000_0021, 0x8000_0021)?;
            equal("TS", cr0 & 8, 0)
        },
    ),
    case("cpu/cr2", "CR2 reads the guest's last fault address.", |_| {
        let mut registers = Registers::new();
        registers.rsi = 0x1238;
        trapped(14, snippets::LOAD, &mut registers)?;
        equal("cr2", read(snippets::READ_CR2), 0x1238)
    }),
    case("cpu/cr3", "CR3 reads the machine address of the top-level table.", |t| {
        equal("cr3", read(snippets::READ_CR3), frame_of(t.boot, top(t.boot)) << 12)
    }),
    case("cpu/cr4", "CR4 reads with PAE and SSE on.", |_| {
        equal("PAE OSFXSR OSXMMEXCPT", read(snippets::READ_CR4) & 0x620, 0x620)
    }),
    case("cpu/task_switched", "The x87 switch can be set: the next use is vector 7.", |_| {
        let frame = trapped(7, snippets::SWITCHED_X87, &mut Registers::new())?;
        equal("rip", frame.rip, snippets::SWITCHED_X87.address() + 12)
    }),
    case("cpu/task_switched_once", "Delivery of that exception clears the switch.", |_| {
        trapped(7, snippets::SWITCHED_X87, &mut Registers::new())?;
        equal("TS", read(snippets::READ_CR0) & 8, 0)
    }),
    case("cpu/task_switched_shown", "CR0 shows the x87 switch.", |_| {
        let mut registers = Registers::new();
        run(snippets::SWITCHED_CR0, &mut registers);
        equal("TS", registers.rbx & 8, 8)?;
        equal("TS behind", read(snippets::READ_CR0) & 8, 0)
    }),
    case("cpu/clts", "CLTS clears the x87 switch.", |_| {
        equal("TS", read(snippets::SWITCHED_CLTS) & 8, 0)
    }),
    case("cpu/rdmsr_fs_base", "RDMSR of c0000100 reads the base of fs.", |_| {
        equal("answer", hypercall(SET_SEGMENT_BASE, &[FS, arena_address()]), 0)?;
        let value = rdmsr(0xc000_0100);
        equal("back", hypercall(SET_SEGMENT_BASE, &[FS, 0]), 0)?;
        equal("fs base", value, arena_address())
    }),
    case("cpu/wrmsr_gs_base", "WRMSR of c0000101 sets the base of gs.", |_| {
        put(128, &0x55_u64.to_le_bytes());
        wrmsr(0xc000_0101, arena_address());
        let mut registers = Registers::new();
        registers.rsi = 128;
        run(snippets::LOAD_GS, &mut registers);
        wrmsr(0xc000_0101, 0);
        equal("gs:[128]", registers.rax, 0x55)
    }),
    case("cpu/wrmsr_non_canonical", "WRMSR of a base that is no address is a fault.", |_| {
        let mut registers = Registers::new();
        registers.rcx = 0xc000_0101;
        registers.rdx = 0x8000;
        let frame = trapped(13, snippets::WRMSR, &mut registers)?;
        equal("rip", frame.rip, snippets::WRMSR.address())
    }),
    case("cpu/rdmsr_efer", "RDMSR of c0000080 shows SCE, LME, LMA and NXE.", |_| {
        equal("efer", rdmsr(0xc000_0080) & 0xd01, 0xd01)
    }),
    case("cpu/debug_address", "A debug address register keeps what it was given.", |_| {
        equal("answer", hypercall(SET_DEBUGREG, &[0, arena_address()]), 0)?;
        let seen = hypercall(GET_DEBUGREG, &[0]).cast_unsigned();
        equal("answer", hypercall(SET_DEBUGREG, &[0, 0]), 0)?;
        equal("dr0", seen, arena_address())
    }),
    case(
        "cpu/debug_hypervisor",
        "A debug address within the hypervisor is refused: -EPERM.",
        |_| {
            for register in [0, 1, 2, 3] {
                let answer = hypercall(SET_DEBUGREG, &[register, M2P]);
                equal_at("answer for dr", register, answer, EPERM)?;
            }
            Ok(())
        },
    ),
    case("cpu/debug_status", "dr6 reads ffff0ff0 at first.", |_| {
        equal("dr6", hypercall(GET_DEBUGREG, &[6]), 0xffff_0ff0)
    }),
    case("cpu/debug_control", "dr7 reads 400 at first.", |_| {
        equal("dr7", hypercall(GET_DEBUGREG, &[7]), 0x400)
    }),
    case("cpu/debug_unknown", "Debug registers from 8 on: setting answers -ENODEV.", |_| {
        for register in [8, 9, 0xffff_ffff] {
            let answer = hypercall(SET_DEBUGREG, &[register, 0]);
            equal_at("answer for dr", register, answer, ENODEV)?;
        }
        Ok(())
    }),
    case("cpu/debug_unknown_read", "Debug registers from 8 on: reading answers -ENODEV.", |_| {
        for register in [8, 9, 0xffff_ffff] {
            let answer = hypercall(GET_DEBUGREG, &[register]);
            equal_at("answer for dr", register, answer, ENODEV)?;
        }
        Ok(())
    }),
    case("cpu/debug_alias", "dr4 reads as dr6, and dr5 as dr7.", |_| {
        equal("dr4", hypercall(GET_DEBUGREG, &[4]), 0xffff_0ff0)?;
        equal("dr5", hypercall(GET_DEBUGREG, &[5]), 0x400)
    }),
    case("cpu/debug_io", "A breakpoint on ports is refused: the extension is off.", |_| {
        equal("answer", hypercall(SET_DEBUGREG, &[7, 0x2_0402]), EPERM)
    }),
    case("cpu/debug_detect", "General detection is refused or not kept.", |_| {
        let answer = hypercall(SET_DEBUGREG, &[7, 0x2400]);
        let kept = hypercall(GET_DEBUGREG, &[7]) & 0x2000;
        hypercall(SET_DEBUGREG, &[7, 0x400]);
        holds("answer", answer, "an error, or not kept", answer < 0 || kept == 0)
    }),
    case("cpu/assist_unknown", "Unknown commands of vm_assist answer -ENOSYS.", |_| {
        for command in [2, 3, 0xffff_ffff] {
            let answer = hypercall(VM_ASSIST, &[command, 0]);
            equal_at("answer of", command, answer, ENOSYS)?;
        }
        Ok(())
    }),
    case("cpu/assist_known", "The assists of 64-bit guests can be switched on and off.", |_| {
        for kind in [0, 1, 2, 3, 4, 5] {
            equal_at("enable", kind, hypercall(VM_ASSIST, &[0, kind]), 0)?;
        }
        for kind in [0, 1, 3, 4, 5] {
            equal_at("disable", kind, hypercall(VM_ASSIST, &[1, kind]), 0)?;
        }
        Ok(())
    }),
    case("cpu/assist_other", "Assists that 64-bit guests do not have answer -EINVAL.", |_| {
        for kind in [6, 31, 64, 0xffff_ffff] {
            equal_at("answer for", kind, hypercall(VM_ASSIST, &[0, kind]), EINVAL)?;
        }
        Ok(())
    }),
    case("cpu/stack_switch", "A kernel stack can be named; its selector gets ring 3.", |_| {
        equal("answer", hypercall(STACK_SWITCH, &[0xe02b, arena_address() + 4096]), 0)?;
        equal("ring 0", hypercall(STACK_SWITCH, &[0xe028, arena_address() + 4096]), 0)
    }),
    case("cpu/callback_unknown", "Callbacks of an unknown kind answer -ENOSYS.", |_| {
        put(0, &[0; 16]);
        put(0, &99_u16.to_le_bytes());
        equal("answer", hypercall(CALLBACK_OP, &[0, arena_address()]), ENOSYS)
    }),
    case("cpu/callback_non_canonical", "A callback at no address is refused: -EINVAL.", |_| {
        put(0, &[0; 16]);
        put(8, &NON_CANONICAL.to_le_bytes());
        equal("answer", hypercall(CALLBACK_OP, &[0, arena_address()]), EINVAL)
    }),
    case("cpu/callback_unmapped", "A callback structure at an unmapped address: -EFAULT.", |_| {
        equal("answer", hypercall(CALLBACK_OP, &[0, 0x1000]), EFAULT)
    }),
    case("cpu/callback_command", "Unknown commands of callback_op answer -ENOSYS.", |_| {
        for command in [2, 3, 0xffff_ffff] {
            let answer = hypercall(CALLBACK_OP, &[command, arena_address()]);
            equal_at("answer of", command, answer, ENOSYS)?;
        }
        Ok(())
    }),
    case("multicall/none", "No calls are done at once.", |_| {
        equal("answer", hypercall(MULTICALL, &[0x1000, 0]), 0)
    }),
    case("multicall/unmapped", "Calls at an unmapped address answer -EFAULT.", |_| {
        equal("answer", hypercall(MULTICALL, &[0x1000, 1]), EFAULT)
    }),
    case("multicall/results", "Each call's answer is stored with it.", |_| {
        entries(&[(XEN_VERSION, 0), (XEN_VERSION, 7), (63, 0), (XEN_VERSION, 99)]);
        equal("answer", hypercall(MULTICALL, &[arena_address(), 4]), 0)?;
        equal("version", u64::from_le_bytes(get(8)), 0x4_0011)?;
        equal("pagesize", u64::from_le_bytes(get(72)), 4096)?;
        equal("unknown", i64::from_le_bytes(get(136)), ENOSYS)?;
        equal("sub-operation", i64::from_le_bytes(get(200)), ENOSYS)
    }),
    case("multicall/goes_on", "A refused call stops nothing.", |_| {
        entries(&[(XEN_VERSION, 99), (XEN_VERSION, 0)]);
        equal("answer", hypercall(MULTICALL, &[arena_address(), 2]), 0)?;
        equal("second", u64::from_le_bytes(get(72)), 0x4_0011)
    }),
    case(
        "multicall/arguments_kept",
        "Numbers and arguments of the calls are left as they are.",
        |_| {
            entries(&[(XEN_VERSION, 7)]);
            equal("answer", hypercall(MULTICALL, &[arena_address(), 1]), 0)?;
            equal("number", u64::from_le_bytes(get(0)), XEN_VERSION)?;
            equal("argument", u64::from_le_bytes(get(16)), 7)
        },
    ),
    case("multicall/number", "The number of a call within has 64 bits.", |_| {
        entries(&[(1 << 32 | XEN_VERSION, 0)]);
        equal("answer", hypercall(MULTICALL, &[arena_address(), 1]), 0)?;
        equal("result", i64::from_le_bytes(get(8)), ENOSYS)
    }),
    case("multicall/nested", "A multicall within a multicall is refused.", |_| {
        entries(&[(MULTICALL, 0)]);
        equal("answer", hypercall(MULTICALL, &[arena_address(), 1]), 0)?;
        equal("result", i64::from_le_bytes(get(8)), EINVAL)
    }),
    case("iret/kernel", "The iret call goes on at the frame's address.", |_| {
        let registers = iret(0x202, 0xe030);
        equal("rax", registers.rax, 0x3333)
    }),
    case("iret/registers", "Without the flag for syscalls it restores r11 and rcx too.", |_| {
        let registers = iret(0x202, 0xe030);
        equal("rcx", registers.rcx, 0x1111)?;
        equal("r11", registers.high[3], 0x2222)
    }),
    case("iret/flags", "It restores arithmetic flags.", |_| {
        equal("flags", iret(0xad7, 0xe030).rflags & 0xcd5, 0xad7 & 0xcd5)
    }),
    case("iret/interrupts_stay", "It never clears the processor's interrupt flag.", |_| {
        equal("flags", iret(2, 0xe030).rflags & 0x200, 0x200)
    }),
    case("iret/io_privilege", "It gives no I/O privilege.", |_| {
        equal("IOPL", iret(0x3202, 0xe030).rflags & 0x3000, 0)
    }),
    case("iret/nested_task", "It restores the flag for nested tasks as it is asked.", |_| {
        equal("NT", iret(0x4202, 0xe030).rflags & 0x4000, 0x4000)
    }),
    ends_guest("iret/user_without_table", "To user mode without a table for it: a crash.", |t| {
        let mut registers = Registers::new();
        registers.rbx = 0x202;
        registers.rcx = 0x33;
        registers.rsi = snippets::NOTHING.address();
        t.end("crash", snippets::IRET, &mut registers)
    }),
    case("cpu/arena_kept", "None of this writes outside what it was given.", |_| {
        fill_arena(0);
        equal("first word", peek(arena_address()), 0)
    }),
];

/// Sets a base and reads through it.
fn base(which: u64, load: Code) -> Outcome {
    put(72, &0x77_u64.to_le_bytes());
    equal("answer", hypercall(SET_SEGMENT_BASE, &[which, arena_address() + 64]), 0)?;
    let mut registers = Registers::new();
    registers.rsi = 8;
    run(load, &mut registers);
    equal("back", hypercall(SET_SEGMENT_BASE, &[which, 0]), 0)?;
    equal("word", registers.rax, 0x77)
}

/// What a snippet leaves in rax.
fn read(code: Code) -> u64 {
    let mut registers = Registers::new();
    run(code, &mut registers);
    registers.rax
}

fn rdmsr(register: u64) -> u64 {
    let mut registers = Registers::new();
    registers.rcx = register;
    run(snippets::RDMSR, &mut registers);
    registers.rdx << 32 | registers.rax
}

fn wrmsr(register: u64, value: u64) {
    let mut registers = Registers::new();
    registers.rcx = register;
    registers.rax = value & 0xffff_ffff;
    registers.rdx = value >> 32;
    run(snippets::WRMSR, &mut registers);
}

/// Puts calls with one argument each into the arena.
fn entries(calls: &[(u64, u64)]) {
    fill_arena(0);
    for (offset, (number, argument)) in (0..).step_by(64).zip(calls) {
        put(offset, &number.to_le_bytes());
        put(offset + 8, &[0xaa; 8]);
        put(offset + 16, &argument.to_le_bytes());
    }
}

/// Returns by the iret call to an empty snippet, with these flags and cs.
fn iret(flags: u64, cs: u64) -> Registers {
    let mut registers = Registers::new();
    registers.rbx = flags;
    registers.rcx = cs;
    registers.rsi = snippets::NOTHING.address();
    run(snippets::IRET, &mut registers);
    registers
}
