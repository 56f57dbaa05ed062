//! Callbacks: registering them, and events that the guest raises itself.

use super::trap_stage::{
    Context, EVENT, Event, KERNEL_CS, NMI, SYSCALL, SYSENTER, Stage, USER_CS, kernel_stack, stage,
    user_stack, user_stage,
};
use crate::call::{EFAULT, EINVAL, ENOSYS, SCHED_OP, XEN_VERSION, hypercall};
use crate::case::{Case, Outcome, Test, case, ends_guest, equal, equal_at};
use crate::raw::memory::poke;
use crate::raw::trap_snippets::{
    self as code, RAISE, RAISE_CALL, RAISE_CPUID, RAISE_MASKED_CALL, RAISE_TRAP, RAISE_WAIT, UD2,
};
use crate::raw::trap_stage::{handler, page};
use crate::raw::{Code, Registers, snippets};
use crate::tables::{M2P, mapped_end};

pub(super) const SET_CALLBACKS: u64 = 4;
const CALLBACK_OP: u64 = 30;
const NON_CANONICAL: u64 = 0x0000_8000_0000_0000;
/// The ABI's types: event, failsafe, syscall, sysenter (old), NMI, sysenter, 32-bit syscall.
const TYPES: [u16; 7] = [0, 1, 2, 3, 4, 5, 7];

pub(crate) const CASES: &[Case] = &[
    case("callback/register", "Registering any known type answers 0.", |t| {
        called(t, |s| {
            for kind in [0, 1, 2, 4, 5, 7] {
                equal_at("type", kind.into(), s.callback(kind, 0, handler(EVENT)), 0)?;
            }
            Ok(())
        })
    }),
    case("callback/register_unknown", "Types 6 and from 8 on answer -ENOSYS.", |t| {
        called(t, |s| {
            for kind in [6, 8, 9, 255, 0xffff] {
                equal_at("type", kind.into(), s.callback(kind, 0, handler(EVENT)), ENOSYS)?;
            }
            Ok(())
        })
    }),
    case("callback/register_old_sysenter", "The old type 3 of sysenter is unknown.", |t| {
        called(t, |s| equal("answer", s.callback(3, 0, handler(SYSENTER)), ENOSYS))
    }),
    case("callback/register_non_canonical", "No address answers -EINVAL, of any type.", |t| {
        called(t, |s| {
            for kind in TYPES.into_iter().chain([6, 99]) {
                equal_at("type", kind.into(), s.callback(kind, 0, NON_CANONICAL), EINVAL)?;
            }
            Ok(())
        })
    }),
    case("callback/register_zero", "Address 0 answers 0.", |t| {
        called(t, |s| {
            for kind in [0, 1, 2, 5, 7] {
                equal_at("type", kind.into(), s.callback(kind, 0, 0), 0)?;
            }
            Ok(())
        })
    }),
    case("callback/register_hypervisor", "An address in the hypervisor answers 0.", |t| {
        called(t, |s| equal("answer", s.callback(1, 0, M2P), 0))
    }),
    case("callback/register_flags", "Unknown flags do not matter.", |t| {
        called(t, |s| equal("answer", s.callback(1, 0xffff, handler(EVENT)), 0))
    }),
    case("callback/bad_pointer", "A structure that is not mapped answers -EFAULT.", |t| {
        let end = mapped_end(t.boot);
        for pointer in [0, 0x1000, M2P, end - 8, NON_CANONICAL, u64::MAX - 4] {
            equal_at("register", pointer, hypercall(CALLBACK_OP, &[0, pointer]), EFAULT)?;
        }
        equal("unregister", hypercall(CALLBACK_OP, &[1, 0x1000]), EFAULT)
    }),
    case("callback/unregister", "Only the NMI's callback can be removed.", |t| {
        called(t, |s| {
            for kind in [0, 1, 2, 5, 7] {
                equal_at("type", kind.into(), unregister(kind), EINVAL)?;
            }
            equal("NMI", s.callback(4, 0, handler(NMI)), 0)?;
            equal("NMI's", unregister(4), 0)?;
            equal("NMI's again", unregister(4), 0)
        })
    }),
    case("callback/unregister_unknown", "Removing unknown types answers -ENOSYS.", |_| {
        for kind in [6, 8, 255, 0xffff] {
            equal_at("type", kind.into(), unregister(kind), ENOSYS)?;
        }
        Ok(())
    }),
    case("callback/unregister_extent", "Four bytes are enough to name the type.", |t| {
        let at = mapped_end(t.boot) - 4;
        crate::raw::memory::poke_byte(at, 0);
        crate::raw::memory::poke_byte(at + 1, 0);
        equal("answer", hypercall(CALLBACK_OP, &[1, at]), EINVAL)
    }),
    case("callback/unknown", "Other commands answer -ENOSYS, whatever the pointer.", |_| {
        for command in [2, 3, 99, 0xffff_ffff] {
            equal_at("command", command, hypercall(CALLBACK_OP, &[command, 0x1000]), ENOSYS)?;
        }
        Ok(())
    }),
    case("callback/set_callbacks", "set_callbacks registers three at once.", |t| {
        called(t, |s| {
            let handlers = [handler(EVENT), handler(EVENT), handler(SYSCALL)];
            equal("answer", hypercall(SET_CALLBACKS, &handlers), 0)?;
            equal("vector", s.kernel(RAISE_CALL, raise(s))?.vector, EVENT)?;
            s.set_pending(0);
            equal("syscall", s.user(code::SYSCALL, Registers::new())?.vector, SYSCALL)
        })
    }),
    case("callback/set_callbacks_bad", "set_callbacks answers 0 to wrong addresses, too.", |t| {
        called(t, |s| {
            equal("answer", hypercall(SET_CALLBACKS, &[handler(EVENT), 0, 0]), 0)?;
            equal("answer", hypercall(SET_CALLBACKS, &[NON_CANONICAL; 3]), 0)?;
            equal("vector", s.kernel(RAISE_CALL, raise(s))?.vector, EVENT)
        })
    }),
    case("event/call", "An event is delivered behind the next call.", |t| {
        raised(t, RAISE_CALL, |event| {
            equal("rip", event.plain().rip, RAISE_CALL.address() + 7)?;
            equal("cs", event.plain().cs, KERNEL_CS)?;
            equal("rflags", event.plain().rflags, 0x202)?;
            equal("frame", event.at, user_stack() - 256 - 7 * 8)?;
            equal("rax", event.registers.rax, 0x4_0011)
        })
    }),
    case("event/mask", "An event's delivery sets the mask and leaves pending alone.", |t| {
        called(t, |s| {
            equal("vector", s.kernel(RAISE_CALL, raise(s))?.vector, EVENT)?;
            equal("mask", s.mask(), 1)?;
            equal("pending", s.pending(), 1)
        })
    }),
    case("event/masked", "While masked no event is delivered.", |t| {
        called(t, |s| {
            s.quiet(RAISE_MASKED_CALL, raise(s))?;
            equal("pending", s.pending(), 1)
        })
    }),
    case("event/mask_any", "Any value of the mask but 0 holds events back.", |t| {
        called(t, |s| {
            for mask in [2, 0x80, 0xff] {
                s.set_mask(mask);
                s.set_pending(1);
                let mut registers = Registers::new();
                registers.rax = XEN_VERSION;
                s.quiet(snippets::SYSCALL, registers)?;
                s.set_pending(0);
            }
            Ok(())
        })
    }),
    case("event/pending_any", "Any value of pending but 0 is an event.", |t| {
        called(t, |s| {
            for pending in [2, 0x80, 0xff] {
                s.set_pending(pending);
                let event = s.iret(Context::to(UD2, KERNEL_CS, 0x202))?;
                equal_at("vector for", pending.into(), event.vector, EVENT)?;
            }
            Ok(())
        })
    }),
    case("event/trap", "An event that waits at a trap comes on top of the handler.", |t| {
        raised(t, RAISE_TRAP, |event| {
            equal("rip", event.plain().rip, handler(6))?;
            equal("cs", event.plain().cs, KERNEL_CS)?;
            equal("rsp", event.plain().rsp, user_stack() - 256 - 56)?;
            equal("frame", event.at, ((user_stack() - 256 - 56) & !15) - 56)?;
            equal("handlers run", event.count, 1)
        })
    }),
    case("event/trap_masks", "Not if the handler's entry masks events.", |t| {
        called(t, |s| {
            s.entry(6, 4)?;
            let event = s.kernel(RAISE_TRAP, raise(s))?;
            equal("vector", event.vector, 6)?;
            equal("pending", s.pending(), 1)
        })
    }),
    case("event/emulated", "An event is delivered behind an emulated instruction.", |t| {
        raised(t, RAISE_CPUID, |event| equal("rip", event.plain().rip, RAISE_CPUID.address() + 12))
    }),
    case("event/user", "User mode is interrupted on the kernel's stack.", |t| {
        called(t, |s| {
            let mut registers = raise(s);
            registers.rflags = 0x206;
            let event = s.user(RAISE_CPUID, registers)?;
            equal("vector", event.vector, EVENT)?;
            equal("rip", event.plain().rip, RAISE_CPUID.address() + 12)?;
            equal("cs", event.plain().cs, USER_CS)?;
            equal("rsp", event.plain().rsp, user_stack() - 256)?;
            equal("frame", event.at, kernel_stack() - 56)
        })
    }),
    case("event/user_trap", "An event at user mode's trap comes on top of the handler.", |t| {
        called(t, |s| {
            let mut registers = raise(s);
            registers.rflags = 0x206;
            let event = s.user(RAISE_TRAP, registers)?;
            equal("vector", event.vector, EVENT)?;
            equal("rip", event.plain().rip, handler(6))?;
            equal("cs", event.plain().cs, KERNEL_CS)?;
            equal("frame", event.at, ((kernel_stack() - 56) & !15) - 56)
        })
    }),
    case("event/no_exit", "Without an exit to the hypervisor nothing happens.", |t| {
        called(t, |s| {
            s.set_mask(1);
            let mut registers = raise(s);
            registers.rbx = page(8);
            s.quiet(RAISE, registers)?;
            Ok(())
        })
    }),
    case("event/interrupt", "A running guest sees the event at the next interrupt.", |t| {
        called(t, |s| {
            let mut registers = raise(s);
            registers.high[4] = 20_000_000_000;
            let event = s.kernel(RAISE_WAIT, registers)?;
            equal("vector", event.vector, EVENT)
        })
    }),
    case(
        "event/iret_kernel",
        "iret with the interrupt flag delivers in front of its target.",
        |t| {
            called(t, |s| {
                s.set_pending(1);
                let event = s.iret(Context::to(UD2, KERNEL_CS, 0x202))?;
                equal("vector", event.vector, EVENT)?;
                equal("rip", event.plain().rip, UD2.address())?;
                equal("cs", event.plain().cs, KERNEL_CS)?;
                equal("rflags", event.plain().rflags, 0x202)
            })
        },
    ),
    case("event/iret_user", "It does in front of user mode's first instruction, too.", |t| {
        called(t, |s| {
            s.set_pending(1);
            let event = s.iret(Context::to(UD2, USER_CS, 0x202))?;
            equal("vector", event.vector, EVENT)?;
            equal("rip", event.plain().rip, UD2.address())?;
            equal("cs", event.plain().cs, USER_CS)?;
            equal("frame", event.at, kernel_stack() - 56)
        })
    }),
    case("event/iret_masked", "iret with a clear flag delivers nothing.", |t| {
        called(t, |s| {
            s.set_pending(1);
            equal("vector", s.iret(Context::user(UD2))?.vector, 6)?;
            equal("pending", s.pending(), 1)
        })
    }),
    case("event/block", "Blocking with an event pending unmasks, returns, and delivers.", |t| {
        called(t, |s| {
            let mut registers = raise(s);
            registers.rax = SCHED_OP;
            registers.rdi = 1;
            let event = s.kernel(RAISE_MASKED_CALL, registers)?;
            equal("vector", event.vector, EVENT)?;
            equal("rax", event.registers.rax, 0)?;
            equal("cs", event.plain().cs, KERNEL_CS)
        })
    }),
    case("event/flags", "An event's handler runs with TF, NT and AC clear, DF as it was.", |t| {
        called(t, |s| {
            s.set_pending(1);
            let event = s.iret(Context::to(UD2, KERNEL_CS, 0x4_4702))?;
            equal("vector", event.vector, EVENT)?;
            equal("rflags", event.plain().rflags, 0x4_4702)?;
            equal("handler's", event.registers.rflags, 0x602)
        })
    }),
    ends_guest("event/no_callback", "An event without a callback ends the guest.", |t| {
        stage(t, |s| t.crash_at(RAISE_CALL, &mut raise(s), RAISE_CALL.address() + 7))
    }),
];

fn unregister(kind: u16) -> i64 {
    poke(page(5), kind.into());
    hypercall(CALLBACK_OP, &[1, page(5)])
}

/// Does something with callbacks for events, SYSCALL and SYSENTER registered.
pub(super) fn called(t: &Test<'_>, does: impl FnOnce(&Stage) -> Outcome) -> Outcome {
    user_stage(t, |s| {
        equal("event", s.callback(0, 0, handler(EVENT)), 0)?;
        equal("syscall", s.callback(2, 0, handler(SYSCALL)), 0)?;
        equal("sysenter", s.callback(5, 0, handler(SYSENTER)), 0)?;
        let outcome = does(s);
        s.set_mask(1);
        s.set_pending(0);
        equal("sysenter", s.callback(5, 0, 0), 0)?;
        equal("set_callbacks", hypercall(SET_CALLBACKS, &[0; 3]), 0)?;
        outcome
    })
}

/// Registers for the snippets that raise an event, calling `xen_version`.
fn raise(s: &Stage) -> Registers {
    s.set_mask(0);
    let mut registers = Registers::new();
    registers.rax = XEN_VERSION;
    registers.rbx = s.info();
    registers.rsp = user_stack() - 256;
    registers
}

/// Runs a snippet that raises an event, whose frame `check` looks at.
fn raised(t: &Test<'_>, code: Code, check: fn(&Event) -> Outcome) -> Outcome {
    called(t, |s| {
        let event = s.kernel(code, raise(s))?;
        equal("vector", event.vector, EVENT)?;
        check(&event)
    })
}
