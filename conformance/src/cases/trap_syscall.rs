//! Callbacks for system calls of user mode, and for interrupts that cannot be masked.

use super::callback::{SET_CALLBACKS, called};
use super::trap_stage::{
    Context, KERNEL_CS, NMI, SYSCALL, SYSENTER, USER_CS, USER_SS, kernel_stack, user_stack,
    user_stage,
};
use crate::call::{EFAULT, EINVAL, ENOSYS, hypercall, registers};
use crate::case::{Case, case, equal, equal_at};
use crate::raw::memory::poke;
use crate::raw::trap_snippets::{self as code, UD2};
use crate::raw::trap_stage::{handler, page};
use crate::raw::{Registers, snippets};
use crate::tables::M2P;

const STACK_SWITCH: u64 = 3;
const VCPU_OP: u64 = 24;
const NMI_OP: u64 = 28;
const NON_CANONICAL: u64 = 0x0000_8000_0000_0000;

pub(crate) const CASES: &[Case] = &[
    case("syscall/frame", "User mode's SYSCALL: all words of the frame.", |t| {
        called(t, |s| {
            let mut registers = Registers::new();
            registers.rflags = 0x24_0cd7;
            registers.rax = 99;
            registers.rcx = 1;
            registers.high[3] = 2;
            registers.rsp = user_stack() - 77;
            let event = s.user(code::SYSCALL, registers)?;
            let frame = event.plain();
            equal("vector", event.vector, SYSCALL)?;
            equal("frame", event.at, kernel_stack() - 56)?;
            equal("rcx", frame.rcx, code::SYSCALL.address() + 2)?;
            equal("r11", frame.r11, 0x24_0ed7)?;
            equal("rip", frame.rip, code::SYSCALL.address() + 2)?;
            equal("cs", frame.cs, USER_CS | 1 << 32)?;
            equal("rflags", frame.rflags, 0x24_0cd7)?;
            equal("rsp", frame.rsp, user_stack() - 77)?;
            equal("ss", frame.ss, 0xe02b)?;
            equal("rax", event.registers.rax, 99)?;
            // Of the others Xen 4.17.7 clears what the low half of the stack pointer has clear.
            equal("handler's AC, NT, IF, TF", event.registers.rflags & 0x4_4300, 0x200)
        })
    }),
    case("syscall/mask", "Without the flag a system call leaves the event mask alone.", |t| {
        called(t, |s| {
            let mut registers = Registers::new();
            registers.rflags = 0x206;
            let frame = s.user(code::SYSCALL, registers)?.plain();
            equal("mask", s.mask(), 0)?;
            equal("cs", frame.cs, USER_CS)?;
            equal("rflags", frame.rflags, 0x206)
        })
    }),
    case("syscall/direction", "Its handler runs with the direction flag clear.", |t| {
        called(t, |s| {
            // Xen 4.17.5 clears every flag for which the frame's address has no bit.
            let stack = page(3) + 0x400;
            equal("stack_switch", hypercall(STACK_SWITCH, &[USER_SS, stack]), 0)?;
            let mut registers = Registers::new();
            registers.rflags = 0x602;
            let event = s.user(code::SYSCALL, registers)?;
            equal("rflags", event.plain().rflags, 0x602)?;
            equal("handler's DF", event.registers.rflags & 0x400, 0)
        })
    }),
    case("syscall/masks", "With flag 1 a system call masks events.", |t| {
        called(t, |s| {
            equal("answer", s.callback(2, 1, handler(SYSCALL)), 0)?;
            let mut registers = Registers::new();
            registers.rflags = 0x206;
            let frame = s.user(code::SYSCALL, registers)?.plain();
            equal("mask", s.mask(), 1)?;
            equal("cs", frame.cs, USER_CS)
        })
    }),
    case("syscall/set_callbacks_mask", "set_callbacks takes that flag away.", |t| {
        called(t, |s| {
            equal("answer", s.callback(2, 1, handler(SYSCALL)), 0)?;
            equal("answer", hypercall(SET_CALLBACKS, &[0, 0, handler(SYSCALL)]), 0)?;
            let mut registers = Registers::new();
            registers.rflags = 0x206;
            s.user(code::SYSCALL, registers)?;
            equal("mask", s.mask(), 0)
        })
    }),
    case("syscall/selectors", "The frame says e033 and e02b, whatever user mode ran with.", |t| {
        called(t, |s| {
            let context = Context { ss: 0xe028, ..Context::user(code::SYSCALL) };
            let frame = s.iret(context)?.plain();
            equal("cs", frame.cs, USER_CS | 1 << 32)?;
            equal("ss", frame.ss, 0xe02b)
        })
    }),
    case("syscall/absent", "Without a callback SYSCALL is an undefined instruction.", |t| {
        user_stage(t, |s| {
            let event = s.user(code::SYSCALL, Registers::new())?;
            equal("vector", event.vector, 6)?;
            equal("rip", event.plain().rip, code::SYSCALL.address())?;
            equal("cs", event.plain().cs, USER_CS | 1 << 32)
        })
    }),
    case("syscall/any_stack", "A system call does not touch user mode's stack.", |t| {
        called(t, |s| {
            for rsp in [8, NON_CANONICAL, M2P] {
                let mut registers = Registers::new();
                registers.rsp = rsp;
                let event = s.user(code::SYSCALL, registers)?;
                equal_at("vector", rsp, event.vector, SYSCALL)?;
                equal("rsp", event.plain().rsp, rsp)?;
            }
            Ok(())
        })
    }),
    case("syscall/sysenter", "SYSENTER of user mode calls its callback.", |t| {
        called(t, |s| {
            let event = s.user(code::SYSENTER, Registers::new())?;
            equal("vector", event.vector, SYSENTER)?;
            equal("frame", event.at, kernel_stack() - 56)?;
            equal("rip", event.plain().rip, 0)?;
            equal("cs", event.plain().cs, 3 | 1 << 32)?;
            equal("rsp", event.plain().rsp, 0)?;
            equal("ss", event.plain().ss, 0xe02b)
        })
    }),
    case("syscall/sysenter_stepped", "Its frame has the flag that single-steps.", |t| {
        called(t, |s| {
            let mut registers = Registers::new();
            registers.rflags = 0x302;
            let event = s.user(code::SYSENTER, registers)?;
            equal("vector", event.vector, SYSENTER)?;
            equal("flags", event.plain().rflags & 0x100, 0x100)?;
            equal("flags of the handler", event.registers.rflags & 0x100, 0)
        })
    }),
    case("syscall/sysenter_masks", "With flag 1 SYSENTER masks events.", |t| {
        called(t, |s| {
            equal("answer", s.callback(5, 1, handler(SYSENTER)), 0)?;
            let mut registers = Registers::new();
            registers.rflags = 0x206;
            s.user(code::SYSENTER, registers)?;
            equal("mask", s.mask(), 1)
        })
    }),
    case("syscall/sysenter_absent", "Without a callback SYSENTER is a protection fault.", |t| {
        user_stage(t, |s| {
            let event = s.user(code::SYSENTER, Registers::new())?;
            equal("vector", event.vector, 13)?;
            equal("error", event.coded().error, 0)?;
            equal("rip", event.coded().rip, 0)
        })
    }),
    case("nmi/deliver", "An NMI the guest sends itself calls vector 2's handler.", |t| {
        called(t, |s| {
            equal("answer", s.callback(4, 0, handler(NMI)), 0)?;
            let mut registers = Registers::new();
            registers.rax = VCPU_OP;
            registers.rdi = 11;
            let event = s.kernel(snippets::SYSCALL, registers)?;
            equal("vector", event.vector, NMI)?;
            equal("rax", event.registers.rax, 0)?;
            equal("rip", event.plain().rip, snippets::SYSCALL.address() + 2)?;
            // The iret call ends the NMI.
            equal("vector", s.iret(Context::to(UD2, KERNEL_CS, 2))?.vector, 6)
        })
    }),
    case("nmi/lost", "Without a handler it is lost; one that comes later hears nothing.", |t| {
        called(t, |s| {
            equal("remove", hypercall(NMI_OP, &[1, 0]), 0)?;
            equal("send", hypercall(VCPU_OP, &[11, 0, 0]), 0)?;
            poke(page(5), handler(NMI));
            let after = s.quiet(snippets::SYSCALL, registers(NMI_OP, &[0, page(5)]))?;
            equal("register", after.rax, 0)?;
            equal("remove", hypercall(NMI_OP, &[1, 0]), 0)
        })
    }),
    case("nmi/operation", "nmi_op registers and removes the handler, -ENOSYS for others.", |t| {
        called(t, |_| {
            poke(page(5), handler(NMI));
            equal("register", hypercall(NMI_OP, &[0, page(5)]), 0)?;
            equal("remove", hypercall(NMI_OP, &[1, 0]), 0)?;
            for operation in [2, 3, 0xffff_ffff] {
                equal_at("operation", operation, hypercall(NMI_OP, &[operation, 0]), ENOSYS)?;
            }
            Ok(())
        })
    }),
    case("nmi/operation_bad", "nmi_op refuses wrong pointers and wrong addresses.", |t| {
        called(t, |_| {
            equal("pointer", hypercall(NMI_OP, &[0, 0x1000]), EFAULT)?;
            poke(page(5), NON_CANONICAL);
            equal("address", hypercall(NMI_OP, &[0, page(5)]), EINVAL)
        })
    }),
];
