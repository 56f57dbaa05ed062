//! The `iret` call in all forms.

use super::trap_stage::{
    Context, Event, KERNEL_CS, Stage, USER_CS, kernel_stack, stage, user_stack, user_stage,
};
use crate::case::{Case, Outcome, Test, case, ends_guest, equal, equal_at, holds};
use crate::raw::Registers;
use crate::raw::memory::poke;
use crate::raw::trap_snippets::{NOTHING, SELECTORS, UD2, code_at};
use crate::raw::trap_stage::page;
use crate::raw::{Code, snippets};
use crate::tables::mapped_end;

const NON_CANONICAL: u64 = 0x0000_8000_0000_0000;
const HYPERVISOR: u64 = 0xffff_8300_0000_0000;
/// Keep rcx and r11 as the call left them.
const IN_SYSCALL: u64 = 0x100;

pub(crate) const CASES: &[Case] = &[
    case("iret_call/kernel", "A selector of privilege 0 returns to kernel mode.", |t| {
        stage(t, |s| {
            let frame = s.iret(kernel())?.plain();
            equal("rip", frame.rip, UD2.address())?;
            equal("cs", frame.cs, KERNEL_CS | 1 << 32)?;
            equal("rsp", frame.rsp, user_stack() - 256)
        })
    }),
    case("iret_call/kernel_privileges", "Privileges 1 and 2 return to kernel mode, too.", |t| {
        stage(t, |s| {
            for cs in [0xe031, 0xe032] {
                let event = s.iret(Context { cs, ..kernel() })?;
                equal_at("cs from", cs, event.plain().cs, KERNEL_CS | 1 << 32)?;
                equal_at("frame from", cs, event.at, user_stack() - 256 - 64 + 8)?;
            }
            Ok(())
        })
    }),
    case("iret_call/user", "A selector of privilege 3 returns to user mode.", |t| {
        user_stage(t, |s| {
            let event = s.iret(Context::user(UD2))?;
            equal("cs", event.plain().cs, USER_CS | 1 << 32)?;
            equal("frame", event.at, kernel_stack() - 64 + 8)
        })
    }),
    case("iret_call/registers", "rax, rcx and r11 come from the frame.", |t| {
        user_stage(t, |s| {
            for cs in [KERNEL_CS, USER_CS] {
                let context = Context { rax: 1 << 63 | 1, rcx: 2, r11: 3, cs, ..kernel() };
                let event = s.iret(context)?;
                equal_at("rax by", cs, event.registers.rax, 1 << 63 | 1)?;
                equal_at("rcx by", cs, event.plain().rcx, 2)?;
                equal_at("r11 by", cs, event.plain().r11, 3)?;
            }
            Ok(())
        })
    }),
    case("iret_call/other_registers", "All other registers stay.", |t| {
        user_stage(t, |s| {
            let mut registers = Registers::new();
            registers.rbx = 1;
            registers.rdx = 2;
            registers.rsi = 3;
            registers.rdi = 4;
            registers.rbp = 5;
            registers.high = [8, 9, 10, 11, 12, 13, 14, 15];
            s.try_iret(Context::user(UD2), &mut registers);
            equal("rbx", registers.rbx, 1)?;
            equal("rdx", registers.rdx, 2)?;
            equal("rsi", registers.rsi, 3)?;
            equal("rdi", registers.rdi, 4)?;
            equal("rbp", registers.rbp, 5)?;
            for (place, at) in [(8, 0), (9, 1), (10, 2), (12, 4), (13, 5), (14, 6), (15, 7)] {
                equal("r8 to r15", registers.high[at], place)?;
            }
            Ok(())
        })
    }),
    case("iret_call/in_syscall", "With flag 100 rcx and r11 hold rip and the flags.", |t| {
        user_stage(t, |s| {
            for cs in [KERNEL_CS, USER_CS] {
                let context = Context { rcx: 2, r11: 3, flags: IN_SYSCALL, cs, ..kernel() };
                let frame = s.iret(context)?.plain();
                equal_at("rip by", cs, frame.rip, UD2.address())?;
                equal_at("rcx by", cs, frame.rcx, UD2.address())?;
                equal_at("r11 by", cs, frame.r11, 0x202)?;
            }
            Ok(())
        })
    }),
    case("iret_call/in_syscall_rax", "rax comes from the frame with flag 100, too.", |t| {
        user_stage(t, |s| {
            let context = Context { rax: 77, flags: IN_SYSCALL, ..Context::user(UD2) };
            equal("rax", s.iret(context)?.registers.rax, 77)
        })
    }),
    case("iret_call/in_syscall_selectors", "With flag 100 the selectors are the flat ones.", |t| {
        user_stage(t, |s| {
            let context = Context { flags: IN_SYSCALL, ..Context::user(UD2) };
            for (cs, ss) in [(0x33, 0xe02b), (USER_CS, 0), (USER_CS, 0xe02b), (3, 0xffff)] {
                let frame = s.iret(Context { cs, ss, ..context })?.plain();
                equal_at("cs from", cs, frame.cs, USER_CS | 1 << 32)?;
                equal_at("ss from", ss, frame.ss, 0xe02b)?;
            }
            Ok(())
        })
    }),
    case("iret_call/other_flags", "Other bits of the frame's flags do not matter.", |t| {
        user_stage(t, |s| {
            let context = Context { rcx: 2, flags: !IN_SYSCALL, ..Context::user(UD2) };
            equal("rcx", s.iret(context)?.plain().rcx, 2)
        })
    }),
    case("iret_call/selector_width", "Only 16 bits of cs and ss matter.", |t| {
        user_stage(t, |s| {
            let upper = 0xffff_ffff_ffff_0000;
            let context = Context { cs: upper | USER_CS, ss: upper | 0xe02b, ..kernel() };
            let frame = s.iret(context)?.plain();
            equal("cs", frame.cs, USER_CS | 1 << 32)?;
            equal("ss", frame.ss, 0xe02b)
        })
    }),
    case("iret_call/stack_selector", "ss gets privilege 3.", |t| {
        user_stage(t, |s| {
            for ss in [0xe028, 0xe029, 0xe02a] {
                let frame = s.iret(Context { ss, ..Context::user(UD2) })?.plain();
                equal_at("ss from", ss, frame.ss, 0xe02b)?;
            }
            Ok(())
        })
    }),
    case("iret_call/running_selectors", "The selectors are really those in the registers.", |t| {
        user_stage(t, |s| {
            let event = s.iret(Context::user(SELECTORS))?;
            equal("cs", event.registers.rsi, USER_CS)?;
            equal("ss", event.registers.rdi, 0xe02b)
        })
    }),
    case("iret_call/code_null", "A null cs is a general protection fault of code 0.", |t| {
        user_stage(t, |s| {
            for cs in [0, 3] {
                refused(s, Context { cs, ..kernel() }, 0)?;
            }
            Ok(())
        })
    }),
    case("iret_call/code_ring_0", "Ring 0's code selector is refused by its number.", |t| {
        user_stage(t, |s| {
            for cs in [0xe008, 0xe00b] {
                refused(s, Context { cs, ..kernel() }, 0xe008)?;
            }
            Ok(())
        })
    }),
    case("iret_call/code_data", "A data selector as cs is refused by its number.", |t| {
        user_stage(t, |s| {
            for cs in [0xe028, 0xe02b] {
                refused(s, Context { cs, ..kernel() }, 0xe028)?;
            }
            Ok(())
        })
    }),
    case("iret_call/code_behind", "A selector behind the table is refused by its number.", |t| {
        user_stage(t, |s| {
            for cs in [0xfff8, 0xfffb, 0xf003] {
                refused(s, Context { cs, ..kernel() }, cs & !3)?;
            }
            Ok(())
        })
    }),
    case(
        "iret_call/code_local",
        "A selector of the local table that is not there is refused.",
        |t| {
            user_stage(t, |s| {
                for cs in [4, 7, 0xffff] {
                    refused(s, Context { cs, ..kernel() }, cs & !3)?;
                }
                Ok(())
            })
        },
    ),
    case("iret_call/code_system", "A system descriptor of the hypervisor is refused.", |t| {
        user_stage(t, |s| {
            for cs in [0xe040, 0xe043, 0xe050] {
                refused(s, Context { cs, ..kernel() }, cs & !3)?;
            }
            Ok(())
        })
    }),
    case("iret_call/stack_null", "A null ss is refused with code 0.", |t| {
        user_stage(t, |s| {
            for (cs, ss) in [(USER_CS, 0), (USER_CS, 3), (KERNEL_CS, 0), (KERNEL_CS, 3)] {
                refused(s, Context { cs, ss, ..kernel() }, 0)?;
            }
            Ok(())
        })
    }),
    case("iret_call/stack_ring_0", "Ring 0's data selector as ss is refused by its number.", |t| {
        user_stage(t, |s| refused(s, Context { ss: 0xe010, ..Context::user(UD2) }, 0xe010))
    }),
    case("iret_call/stack_code", "A code selector as ss is refused by its number.", |t| {
        user_stage(t, |s| refused(s, Context { ss: USER_CS, ..Context::user(UD2) }, 0xe030))
    }),
    case("iret_call/stack_behind", "An ss behind the table is refused by its number.", |t| {
        user_stage(t, |s| refused(s, Context { ss: 0xfffb, ..Context::user(UD2) }, 0xfff8))
    }),
    case(
        "iret_call/refused_frame",
        "A refused return to user mode looks like user mode's fault.",
        |t| {
            user_stage(t, |s| {
                let context = Context { ss: 0xe010, rax: 7, rcx: 8, r11: 9, ..Context::user(UD2) };
                let event = s.iret(context)?;
                let frame = event.coded();
                equal("frame at", event.at, kernel_stack() - 64)?;
                equal("rax", event.registers.rax, 7)?;
                equal("rcx", frame.rcx, 8)?;
                equal("r11", frame.r11, 9)?;
                equal("rip", frame.rip, UD2.address())?;
                equal("cs", frame.cs, USER_CS | 1 << 32)?;
                equal("rflags", frame.rflags, 2)?;
                equal("rsp", frame.rsp, user_stack() - 256)?;
                equal("ss", frame.ss, 0xe013)
            })
        },
    ),
    case("iret_call/refused_kernel", "A refused return to the kernel uses the new stack.", |t| {
        stage(t, |s| {
            let event = s.iret(Context { cs: 0xe008, ..kernel() })?;
            equal("vector", event.vector, 13)?;
            equal("frame at", event.at, user_stack() - 256 - 64)?;
            equal("rip", event.coded().rip, UD2.address())?;
            equal("cs", event.coded().cs, 0x1_0000_e008)
        })
    }),
    case("iret_call/refused_mask", "A refused return has set the event mask all the same.", |t| {
        user_stage(t, |s| {
            let context = Context { ss: 0xe010, rflags: 0x202, ..Context::user(UD2) };
            let event = s.iret(context)?;
            equal("cs", event.coded().cs, USER_CS)?;
            equal("mask", s.mask(), 0)
        })
    }),
    case("iret_call/compatibility", "Selector e023 returns to 32-bit mode.", |t| {
        user_stage(t, |s| {
            let event = s.iret(Context { cs: 0xe023, ..at(0x1000) })?;
            equal("vector", event.vector, 14)?;
            equal("error", event.coded().error, 0x14)?;
            equal("rip", event.coded().rip, 0x1000)?;
            equal("cs", event.coded().cs, 0x1_0000_e023)
        })
    }),
    case("iret_call/compatibility_in_syscall", "It does with flag 100, too.", |t| {
        user_stage(t, |s| {
            let event = s.iret(Context { cs: 0xe023, flags: IN_SYSCALL, ..at(0x1000) })?;
            equal("vector", event.vector, 14)?;
            equal("rip", event.coded().rip, 0x1000)?;
            equal("cs", event.coded().cs, 0x1_0000_e023)
        })
    }),
    case("iret_call/unmapped", "A return to unmapped memory faults there, in the new mode.", |t| {
        user_stage(t, |s| {
            let event = s.iret(at(0x1000))?;
            equal("rip", event.coded().rip, 0x1000)?;
            equal("error", event.coded().error, 0x14)?;
            equal("cr2", s.cr2(), 0x1000)?;
            let event = s.iret(Context { cs: KERNEL_CS, ..at(0x1000) })?;
            equal("error in the kernel", event.coded().error, 0x10)
        })
    }),
    case("iret_call/non_canonical", "A return to no address is a fault with that address.", |t| {
        user_stage(t, |s| {
            for rip in [NON_CANONICAL, 1 << 63, 0xffff_7fff_ffff_ffff] {
                no_address(s, at(rip))?;
            }
            Ok(())
        })
    }),
    case("iret_call/non_canonical_in_syscall", "It is with flag 100, too.", |t| {
        user_stage(t, |s| {
            for rip in [NON_CANONICAL, 1 << 63, 0xffff_7fff_ffff_ffff] {
                no_address(s, Context { flags: IN_SYSCALL, ..at(rip) })?;
            }
            Ok(())
        })
    }),
    case("iret_call/non_canonical_kernel", "It is for the kernel, too.", |t| {
        stage(t, |s| no_address(s, Context { cs: KERNEL_CS, ..at(NON_CANONICAL) }))
    }),
    case("iret_call/hypervisor", "A return into the hypervisor is a page fault there.", |t| {
        user_stage(t, |s| {
            let event = s.iret(at(HYPERVISOR))?;
            equal("vector", event.vector, 14)?;
            equal("error but P", event.coded().error & !1, 0x14)?;
            equal("rip", event.coded().rip, HYPERVISOR)
        })
    }),
    case("iret_call/mask_on", "A clear interrupt flag masks events, with 1.", |t| {
        user_stage(t, |s| {
            s.set_mask(0);
            s.iret(Context { rflags: 2, ..kernel() })?;
            equal("mask", s.mask(), 1)?;
            s.set_mask(0x70);
            s.iret(Context { rflags: 2, ..Context::user(UD2) })?;
            equal("mask behind user mode", s.mask(), 1)
        })
    }),
    case("iret_call/mask_off", "A set interrupt flag takes the event mask away, wholly.", |t| {
        user_stage(t, |s| {
            s.set_mask(0xff);
            s.iret(Context { rflags: 0x202, ..kernel() })?;
            equal("mask", s.mask(), 0)?;
            s.set_mask(0xff);
            s.iret(Context { rflags: 0x202, ..Context::user(UD2) })?;
            equal("mask behind user mode", s.mask(), 0)
        })
    }),
    case(
        "iret_call/flags",
        "Arithmetic flags, DF, AC and ID are taken, IOPL and VM are not.",
        |t| {
            user_stage(t, |s| {
                for (given, taken) in
                    [(0xcd7, 0xcd7), (0x3002, 2), (0x2_0002, 2), (0x24_0002, 0x24_0002)]
                {
                    for cs in [KERNEL_CS, USER_CS] {
                        let frame = s.iret(Context { rflags: given, cs, ..kernel() })?.plain();
                        equal_at("rflags from", given, frame.rflags & !0x1_0000, taken)?;
                    }
                }
                Ok(())
            })
        },
    ),
    case("iret_call/flags_upper", "Bits of rflags that do not exist do not matter.", |t| {
        user_stage(t, |s| {
            let rflags = 0xffff_ffff_ff00_802a & !0x20_0000;
            let frame = s.iret(Context { rflags, ..Context::user(UD2) })?.plain();
            equal("rflags", frame.rflags & !0x20_0000 & 0xffff_ffff, 2)
        })
    }),
    case("iret_call/nested_task", "NT is taken, and stands in the next frame.", |t| {
        user_stage(t, |s| {
            let frame = s.iret(Context { rflags: 0x4002, ..Context::user(UD2) })?.plain();
            equal("rflags", frame.rflags & !0x1_0000, 0x4002)
        })
    }),
    case("iret_call/trap_flag", "With TF one instruction runs, then comes vector 1.", |t| {
        user_stage(t, |s| {
            for cs in [KERNEL_CS, USER_CS] {
                let event = s.iret(Context::to(NOTHING, cs, 0x102))?;
                equal_at("vector by", cs, event.vector, 1)?;
                equal_at("rip by", cs, event.plain().rip, NOTHING.address() + 1)?;
                equal_at("rflags by", cs, event.plain().rflags, 0x102)?;
            }
            Ok(())
        })
    }),
    case("iret_call/trap_flag_in_syscall", "It does with flag 100, too.", |t| {
        user_stage(t, |s| {
            let context = Context { flags: IN_SYSCALL, ..Context::to(NOTHING, USER_CS, 0x102) };
            let event = s.iret(context)?;
            equal("vector", event.vector, 1)?;
            holds(
                "rip",
                event.plain().rip,
                "at or behind the first instruction",
                event.plain().rip - NOTHING.address() < 2,
            )
        })
    }),
    case("iret_call/misaligned", "The frame may lie at any address, across pages too.", |t| {
        stage(t, |s| {
            for offset in [1, 7, 4096 - 8, 4096 - 33] {
                let from = page(8) + offset;
                let words = [5, 0, 0, 0, UD2.address(), KERNEL_CS, 2, user_stack() - 256, 0xe02b];
                for (place, word) in (0..).zip(words) {
                    poke(from + place * 8, word);
                }
                let mut registers = Registers::new();
                registers.rax = 23;
                registers.rsp = from;
                let event = s.kernel(snippets::SYSCALL, registers)?;
                equal_at("rax at", offset, event.registers.rax, 5)?;
                equal_at("rip at", offset, event.plain().rip, UD2.address())?;
            }
            Ok(())
        })
    }),
    ends_guest("iret_call/stack_half", "A frame that is mapped in half ends the guest.", |t| {
        bad_stack(t, mapped_end(t.boot) - 64)
    }),
    ends_guest("iret_call/stack_hypervisor", "A frame in the hypervisor ends the guest.", |t| {
        bad_stack(t, HYPERVISOR)
    }),
    ends_guest("iret_call/stack_non_canonical", "A frame at no address ends the guest.", |t| {
        bad_stack(t, NON_CANONICAL)
    }),
    ends_guest(
        "iret_call/no_user_tables",
        "A return to user mode without its tables ends it.",
        |t| {
            user_stage(t, |s| {
                equal("no user tables", s.user_tables(0), 0)?;
                pv_guest_sdk::println!("ends {} crash", t.name);
                s.iret(Context::user(UD2))?;
                equal("the guest", "goes on", "crashes")
            })
        },
    ),
];

fn kernel() -> Context {
    Context::to(UD2, KERNEL_CS, 2)
}

/// To user mode at an address.
fn at(rip: u64) -> Context {
    Context { rip, ..Context::user(UD2) }
}

fn bad_stack(t: &Test<'_>, rsp: u64) -> Outcome {
    let mut registers = Registers::new();
    registers.rax = 23;
    registers.rsp = rsp;
    t.crash_at(snippets::SYSCALL, &mut registers, snippets::SYSCALL.address() + 2)
}

/// Checks that the call ends in a general protection fault with this code, of the new context.
fn refused(s: &Stage, context: Context, error: u64) -> Outcome {
    let event: Event = s.iret(context)?;
    equal_at("vector for", context.cs, event.vector, 13)?;
    equal_at("error for", context.cs, event.coded().error, error)?;
    equal_at("rip for", context.cs, event.coded().rip, context.rip)
}

/// Checks that the call ends in a fault that shows the address.
fn no_address(s: &Stage, context: Context) -> Outcome {
    let event = s.iret(context)?;
    let code: Code = code_at(context.rip);
    holds("vector", event.vector, "13 or 14", matches!(event.vector, 13 | 14))?;
    equal("rip", event.coded().rip, code.address())
}
