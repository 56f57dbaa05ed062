//! `int n` of every number, INT3 and INT1, from the guest's kernel and from user mode.

use super::trap_stage::{END, Event, KERNEL_CS, Stage, USER_CS, stage, user_stack, user_stage};
use crate::case::{Case, Outcome, Verdict, case, ends_guest, equal, equal_at, holds};
use crate::raw::trap_snippets::{INT3, INT3_LONG, interrupt};
use crate::raw::{Code, Registers};

pub(crate) const CASES: &[Case] = &[
    case("trap_soft/kernel_each", "INT n of the kernel calls vector n, for all n.", |t| {
        stage(t, |s| {
            s.table(|_| Some(1))?;
            for_all(|vector| {
                let event = s.kernel(interrupt(vector), Registers::new())?;
                called(&event, vector, KERNEL_CS)
            })
        })
    }),
    case("trap_soft/kernel_frame", "INT n has no error code: 7 words, for all n.", |t| {
        stage(t, |s| {
            s.table(|_| Some(1))?;
            for_all(|vector| {
                let mut registers = Registers::new();
                registers.rsp = user_stack() - 256;
                let event = s.kernel(interrupt(vector), registers)?;
                equal_at("frame of", vector.into(), event.at, user_stack() - 256 - 7 * 8)?;
                equal_at("rsp of", vector.into(), event.plain().rsp, user_stack() - 256)?;
                equal_at("ss of", vector.into(), event.plain().ss, 0xe02b)
            })
        })
    }),
    case(
        "trap_soft/kernel_privilege",
        "The kernel counts as privilege 1: an entry of 0 refuses it, with code 8n+2.",
        |t| {
            stage(t, |s| {
                for_all(|vector| match vector {
                    3 | 4 | 0x80 => Ok(()),
                    _ => refused(&s.kernel(interrupt(vector), Registers::new())?, vector),
                })
            })
        },
    ),
    case("trap_soft/kernel_privileges", "An entry of 1 to 3 lets the kernel in.", |t| {
        stage(t, |s| {
            for privilege in 1..4 {
                s.table(|_| Some(privilege))?;
                called(&s.kernel(interrupt(0x55), Registers::new())?, 0x55, KERNEL_CS)?;
            }
            Ok(())
        })
    }),
    case("trap_soft/kernel_mask", "INT n masks events if its entry says so.", |t| {
        stage(t, |s| {
            s.table(|_| Some(7))?;
            s.set_mask(0);
            let event = s.kernel(interrupt(0x55), Registers::new())?;
            equal("mask", s.mask(), 1)?;
            equal("cs", event.plain().cs, KERNEL_CS)
        })
    }),
    case("trap_soft/page_fault", "INT 14 does not touch the page fault's address.", |t| {
        stage(t, |s| {
            s.table(|_| Some(1))?;
            let before = s.cr2();
            s.kernel(interrupt(14), Registers::new())?;
            equal("cr2", s.cr2(), before)
        })
    }),
    case("trap_soft/user_each", "With privilege 3 user mode may call any vector.", |t| {
        user_stage(t, |s| {
            s.table(|_| Some(3))?;
            for_all(|vector| {
                let event = s.user(interrupt(vector), Registers::new())?;
                called(&event, vector, USER_CS)
            })
        })
    }),
    case(
        "trap_soft/user_refused",
        "With less, INT n of user mode is a general protection fault with code 8n+2.",
        |t| {
            user_stage(t, |s| {
                for privilege in 0..3 {
                    s.table(|_| Some(privilege))?;
                    for_all(|vector| match vector {
                        3 | 4 | 0x80 => Ok(()),
                        _ => refused(&s.user(interrupt(vector), Registers::new())?, vector),
                    })?;
                }
                Ok(())
            })
        },
    ),
    case("trap_soft/user_int3", "User mode may INT3, whatever the entry's privilege.", |t| {
        user_stage(t, |s| {
            let event = s.user(INT3, Registers::new())?;
            equal("vector", event.vector, 3)?;
            equal("rip", event.plain().rip, INT3.address() + 1)?;
            equal("cs", event.plain().cs, USER_CS | 1 << 32)
        })
    }),
    case("trap_soft/user_int3_long", "So it may in two bytes, INT 3.", |t| {
        user_stage(t, |s| behind(&s.user(INT3_LONG, Registers::new())?, 3, INT3_LONG, 2))
    }),
    case("trap_soft/user_int4", "User mode may INT 4, whatever the entry's privilege.", |t| {
        user_stage(t, |s| behind(&s.user(interrupt(4), Registers::new())?, 4, interrupt(4), 2))
    }),
    case("trap_soft/int3", "INT3 of the kernel points behind its one byte.", |t| {
        stage(t, |s| behind(&s.kernel(INT3, Registers::new())?, 3, INT3, 1))
    }),
    case("trap_soft/int3_long", "INT 3 of the kernel points behind its two bytes.", |t| {
        stage(t, |s| behind(&s.kernel(INT3_LONG, Registers::new())?, 3, INT3_LONG, 2))
    }),
    case(
        "trap_soft/int_80_privilege",
        "User mode may INT 80, whatever the entry's privilege.",
        |t| {
            user_stage(t, |s| {
                behind(&s.user(interrupt(0x80), Registers::new())?, 0x80, interrupt(0x80), 2)
            })
        },
    ),
    case("trap_soft/int_80_mask", "INT 80 masks events if its entry says so.", |t| {
        stage(t, |s| {
            s.set_mask(0);
            s.entry(0x80, 7)?;
            let event = s.kernel(interrupt(0x80), Registers::new())?;
            equal("mask", s.mask(), 1)?;
            equal("cs", event.plain().cs, KERNEL_CS)?;
            equal("rflags", event.plain().rflags, 0x202)
        })
    }),
    case("trap_soft/int_80_user_mask", "From user mode too.", |t| {
        user_stage(t, |s| {
            s.entry(0x80, 7)?;
            let event = s.user_unmasked(interrupt(0x80))?;
            equal("mask", s.mask(), 1)?;
            equal("cs", event.plain().cs, USER_CS)
        })
    }),
    case("trap_soft/int_82", "INT 82 is no hypercall.", |t| {
        stage(t, |s| {
            let mut registers = Registers::new();
            registers.rax = 17;
            s.table(|_| Some(1))?;
            let event = s.kernel(interrupt(0x82), registers)?;
            called(&event, 0x82, KERNEL_CS)?;
            equal("rax", event.registers.rax, 17)
        })
    }),
    case("trap_soft/absent", "INT n without a handler is refused by the kernel too.", |t| {
        stage(t, |s| {
            s.table(|vector| (vector == 13).then_some(0))?;
            refused(&s.kernel(interrupt(0x55), Registers::new())?, 0x55)
        })
    }),
    case("trap_soft/absent_80", "INT 80 without a handler has code 402.", |t| {
        stage(t, |s| {
            s.table(|vector| (vector == 13).then_some(0))?;
            let event = s.kernel(interrupt(0x80), Registers::new())?;
            equal("vector", event.vector, 13)?;
            equal("error", event.coded().error, 0x402)?;
            equal("rip", event.coded().rip, interrupt(0x80).address())
        })
    }),
    ends_guest(
        "trap_soft/no_address",
        "INT n whose entry has privilege, but no address, is no entry: refused, and as that ends.",
        |t| {
            stage(t, |s| {
                s.table(|_| None)?;
                t.crash(interrupt(0x55), &mut Registers::new())
            })
        },
    ),
    case("trap_soft/user_absent", "INT n of user mode without a handler is refused.", |t| {
        user_stage(t, |s| {
            s.table(|vector| matches!(vector, 13 | END).then_some(3))?;
            refused(&s.user(interrupt(0x55), Registers::new())?, 0x55)
        })
    }),
    case("trap_soft/user_absent_80", "INT 80 of user mode without a handler is refused.", |t| {
        user_stage(t, |s| {
            s.table(|vector| matches!(vector, 13 | END).then_some(3))?;
            refused(&s.user(interrupt(0x80), Registers::new())?, 0x80)
        })
    }),
];

impl Stage {
    /// Runs a snippet in user mode with events not masked.
    fn user_unmasked(&self, code: Code) -> Result<Event, Verdict> {
        let mut registers = Registers::new();
        registers.rflags = 0x206;
        self.user(code, registers)
    }
}

fn for_all(mut check: impl FnMut(u8) -> Outcome) -> Outcome {
    (0..=255).try_for_each(&mut check)
}

/// Whether the fault of `int vector` can have led to `seen`. QEMU up to 7.2 gives it the code
/// 16n+2 instead of 8n+2, and who goes by the code takes that for `int 2n`.
fn is_number(vector: u8, seen: u64) -> bool {
    seen == vector.into() || seen == vector.wrapping_mul(2).into()
}

/// Checks that the handler of `vector` was called, from the selector `cs`.
fn called(event: &Event, vector: u8, cs: u64) -> Outcome {
    let number = vector.into();
    holds("handler", event.vector, "that of the vector", is_number(vector, event.vector))?;
    equal_at("rip of", number, event.plain().rip, interrupt(vector).address() + 2)?;
    equal_at("cs of", number, event.plain().cs, cs | 1 << 32)
}

/// Checks that a general protection fault names `vector`, at the instruction.
fn refused(event: &Event, vector: u8) -> Outcome {
    let (number, error) = (u64::from(vector), event.coded().error);
    equal_at("handler for", number, event.vector, 13)?;
    holds("error", error, "8n+2", error == number * 8 + 2 || error == number * 16 + 2)?;
    equal_at("rip for", number, event.coded().rip, interrupt(vector).address())
}

/// Checks that the frame points behind `code`'s first instruction.
fn behind(event: &Event, vector: u64, code: Code, length: u64) -> Outcome {
    equal("vector", event.vector, vector)?;
    equal("rip", event.plain().rip, code.address() + length)
}
