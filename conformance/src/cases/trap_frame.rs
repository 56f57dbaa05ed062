//! The frames of the processor's exceptions, word by word, from the guest's kernel and user mode.

use super::trap_stage::{END, Event, Frame, Stage, kernel_stack, stage, user_stack, user_stage};
use crate::case::{Case, Outcome, Test, Verdict, case, ends_guest, equal, equal_at, holds};
use crate::raw::memory::peek;
use crate::raw::trap_snippets::{
    CALL, DIVIDE, INT3, JUMP, LOAD, LOAD_DS, LOAD_STACK, PUSH, STORE, UD2, X87_DIVIDE,
};
use crate::raw::{Code, Registers};
use crate::tables::{M2P, mapped_end};

const HYPERVISOR: u64 = 0xffff_8300_0000_0000;
const NON_CANONICAL: u64 = 0x0000_8000_0000_0000;
/// All flags that a case may set freely: arithmetic, direction, AC, ID.
const FLAGS: u64 = 0x24_0cd7;
/// The processor sets this flag in what it saves of some faults, its emulators do not.
const RESUME: u64 = 1 << 16;
/// Not a multiple of 16.
const STACK: u64 = 256 + 9;

/// An exception that can be had.
struct Cause {
    vector: u64,
    code: Code,
    /// What rsi holds.
    rsi: u64,
    /// What rax holds.
    rax: u64,
    error: Option<u64>,
    /// How far rip is behind the first instruction.
    behind: u64,
    /// Whether all x87 exceptions are on.
    unmasked: bool,
}

impl Cause {
    const fn new(vector: u64, code: Code) -> Self {
        Self { vector, code, rsi: 0, rax: 0, error: None, behind: 0, unmasked: false }
    }

    const fn fault(vector: u64, code: Code, rsi: u64, error: u64) -> Self {
        Self { rsi, error: Some(error), ..Self::new(vector, code) }
    }

    const fn unmasked(vector: u64, code: Code, behind: u64) -> Self {
        Self { behind, unmasked: true, ..Self::new(vector, code) }
    }
}

const DIVIDED: Cause = Cause::new(0, DIVIDE);
const BREAKPOINT: Cause = Cause { behind: 1, ..Cause::new(3, INT3) };
const UNDEFINED: Cause = Cause::new(6, UD2);
const STACK_FAULT: Cause = Cause::fault(12, LOAD_STACK, NON_CANONICAL, 0);
const PROTECTION: Cause = Cause::fault(13, LOAD, NON_CANONICAL, 0);
const SELECTOR: Cause = Cause { rax: 0xe013, ..Cause::fault(13, LOAD_DS, 0, 0xe010) };
const PAGE: Cause = Cause::fault(14, LOAD, 0x1000, 0);
const X87: Cause = Cause::unmasked(16, X87_DIVIDE, 6);

pub(crate) const CASES: &[Case] = &[
    case("trap_frame/divide", "The kernel's division by zero: all words of its frame.", |t| {
        kernel(t, &DIVIDED)
    }),
    case("trap_frame/breakpoint", "The kernel's INT3: all words of its frame.", |t| {
        kernel(t, &BREAKPOINT)
    }),
    case("trap_frame/undefined", "The kernel's UD2: all words of its frame.", |t| {
        kernel(t, &UNDEFINED)
    }),
    case("trap_frame/protection", "The kernel's read of no address: all words.", |t| {
        kernel(t, &PROTECTION)
    }),
    case("trap_frame/selector", "The kernel's load of a bad selector: all words.", |t| {
        kernel(t, &SELECTOR)
    }),
    case("trap_frame/page", "The kernel's page fault: all words.", |t| kernel(t, &PAGE)),
    case("trap_frame/x87", "The kernel's x87 exception: all words.", |t| kernel(t, &X87)),
    case("trap_frame/user_divide", "User mode's division by zero: all words.", |t| {
        user(t, &DIVIDED)
    }),
    case("trap_frame/user_breakpoint", "User mode's INT3: all words.", |t| user(t, &BREAKPOINT)),
    case("trap_frame/user_undefined", "User mode's UD2: all words.", |t| user(t, &UNDEFINED)),
    case("trap_frame/user_protection", "User mode's read of no address: all words.", |t| {
        user(t, &PROTECTION)
    }),
    case("trap_frame/user_selector", "User mode's load of a bad selector: all words.", |t| {
        user(t, &SELECTOR)
    }),
    case("trap_frame/user_page", "User mode's page fault, code 4: all words.", |t| {
        user(t, &Cause { error: Some(4), ..PAGE })
    }),
    case("trap_frame/user_x87", "User mode's x87 exception: all words.", |t| user(t, &X87)),
    case("trap_frame/stack_fault", "A wrong address through the stack segment.", |t| {
        stage(t, |s| {
            let event = event(s, &STACK_FAULT, false)?;
            holds("vector", event.vector, "12 or 13", matches!(event.vector, 12 | 13))?;
            equal("error", event.coded().error, 0)
        })
    }),
    case(
        "trap_frame/alignment",
        "A frame begins at a multiple of 16 if its words are even.",
        |t| {
            stage(t, |s| {
                for offset in 0..32 {
                    let mut registers = Registers::new();
                    registers.rsp = user_stack() - 256 - offset;
                    registers.rsi = 0x1000;
                    let event = s.kernel(LOAD, registers)?;
                    equal_at("rsp less", offset, event.coded().rsp, registers.rsp)?;
                    equal_at("frame less", offset, event.at, (registers.rsp & !15) - 64)?;
                }
                Ok(())
            })
        },
    ),
    case("trap_frame/above", "Nothing above the frame is written.", |t| {
        stage(t, |s| {
            let mut registers = Registers::new();
            registers.rsp = user_stack() - 256 + 8;
            let before = peek(registers.rsp - 8);
            s.kernel(UD2, registers)?;
            equal("the word between", peek(registers.rsp - 8), before)
        })
    }),
    case("trap_frame/read", "A kernel's read of nothing: code 0.", |t| codes(t, LOAD, 0x1000, 0)),
    case("trap_frame/write", "A kernel's write to nothing: code 2.", |t| {
        codes(t, STORE, 0x1000, 2)
    }),
    case("trap_frame/fetch", "A jump to nothing: code 10, at the target.", |t| {
        codes(t, JUMP, 0x1000, 0x10)
    }),
    case("trap_frame/fetch_rip", "A jump to nothing points at the target.", |t| {
        stage(t, |s| {
            let event = s.kernel(JUMP, at(0x1000))?;
            equal("rip", event.coded().rip, 0x1000)?;
            equal("cr2", s.cr2(), 0x1000)
        })
    }),
    case("trap_frame/fetch_called", "A call of nothing has pushed its return address.", |t| {
        stage(t, |s| {
            let mut registers = at(0x1000);
            registers.rsp = user_stack() - 256;
            let event = s.kernel(CALL, registers)?;
            equal("rsp", event.coded().rsp, user_stack() - 256 - 8)?;
            equal("pushed", peek(user_stack() - 256 - 8), CALL.address() + 2)
        })
    }),
    case("trap_frame/write_table", "A write to the top-level table: code 3.", |t| {
        codes(t, STORE, t.boot.start_info().pt_base, 3)
    }),
    case("trap_frame/write_m2p", "A write to the table of frames: code 3.", |t| {
        codes(t, STORE, M2P, 3)
    }),
    case(
        "trap_frame/user_m2p",
        "On the kernel's tables user mode reads the table of frames.",
        |t| user_stage(t, |s| equal("vector", s.user(LOAD, at(M2P))?.vector, END)),
    ),
    case("trap_frame/user_m2p_write", "It may not write there: code 7.", |t| {
        user_stage(t, |s| {
            let event = s.user(STORE, at(M2P))?;
            equal("vector", event.vector, 14)?;
            equal("error", event.coded().error, 7)
        })
    }),
    case("trap_frame/hypervisor", "A read of the hypervisor looks like one of nothing.", |t| {
        codes(t, LOAD, HYPERVISOR, 0)
    }),
    case("trap_frame/hypervisor_write", "A write to the hypervisor does too.", |t| {
        codes(t, STORE, HYPERVISOR, 2)
    }),
    case("trap_frame/hypervisor_jump", "And so does a jump.", |t| codes(t, JUMP, HYPERVISOR, 0x10)),
    case("trap_frame/user_codes", "User mode's codes have bit 2: read 4, write 6, jump 14.", |t| {
        user_stage(t, |s| {
            for (code, error) in [(LOAD, 4), (STORE, 6), (JUMP, 0x14)] {
                let event = s.user(code, at(0x1000))?;
                equal("vector", event.vector, 14)?;
                equal("error", event.coded().error, error)?;
                equal("cr2", s.cr2(), 0x1000)?;
            }
            Ok(())
        })
    }),
    case("trap_frame/user_table", "User mode's write to the top-level table: code 7.", |t| {
        user_stage(t, |s| {
            let event = s.user(STORE, at(t.boot.start_info().pt_base))?;
            equal("vector", event.vector, 14)?;
            equal("error", event.coded().error, 7)
        })
    }),
    case(
        "trap_frame/user_hypervisor",
        "User mode's accesses to the hypervisor: as nothing.",
        |t| {
            user_stage(t, |s| {
                for (code, error) in [(LOAD, 4), (STORE, 6), (JUMP, 0x14)] {
                    let event = s.user(code, at(HYPERVISOR))?;
                    equal("vector", event.vector, 14)?;
                    equal("error but P", event.coded().error & !1, error)?;
                    equal("cr2", s.cr2(), HYPERVISOR)?;
                }
                Ok(())
            })
        },
    ),
    case("trap_frame/address", "The address is exact, down to its last bits.", |t| {
        stage(t, |s| {
            let end = mapped_end(t.boot);
            for address in [1, 0x1007, 0x7fff_ffff_f123, end + 0x123, 0xffff_ffff_ffff_f001] {
                s.kernel(LOAD, at(address))?;
                equal("cr2", s.cr2(), address)?;
            }
            Ok(())
        })
    }),
    case(
        "trap_frame/straddling",
        "A read across the mapped end names the first byte behind.",
        |t| {
            stage(t, |s| {
                let end = mapped_end(t.boot);
                s.kernel(LOAD, at(end - 4))?;
                equal("cr2", s.cr2(), end)
            })
        },
    ),
    case("trap_frame/address_kept", "Other traps leave the page fault's address alone.", |t| {
        stage(t, |s| {
            s.kernel(LOAD, at(0x1238))?;
            s.kernel(UD2, Registers::new())?;
            s.kernel(LOAD, at(NON_CANONICAL))?;
            equal("cr2", s.cr2(), 0x1238)
        })
    }),
    case("trap_frame/push", "A push to nothing is a page fault if the frame has room.", |t| {
        user_stage(t, |s| {
            let mut registers = Registers::new();
            registers.rsp = 0x2000;
            let event = s.user(PUSH, registers)?;
            equal("vector", event.vector, 14)?;
            equal("error", event.coded().error, 6)?;
            equal("rsp", event.coded().rsp, 0x2000)?;
            equal("cr2", s.cr2(), 0x1ff8)
        })
    }),
    case("trap_frame/user_any_stack", "User mode's stack pointer may be anything.", |t| {
        user_stage(t, |s| {
            for rsp in [1, 0x1003, NON_CANONICAL, HYPERVISOR, u64::MAX] {
                let mut registers = Registers::new();
                registers.rsp = rsp;
                let event = s.user(UD2, registers)?;
                equal_at("frame with", rsp, event.at, kernel_stack() - 64 + 8)?;
                equal_at("rsp", rsp, event.plain().rsp, rsp)?;
            }
            Ok(())
        })
    }),
    ends_guest("trap_frame/no_handler", "A page fault without a handler ends the guest.", |t| {
        stage(t, |s| {
            s.table(|vector| (vector != 14).then_some(0))?;
            t.crash(LOAD, &mut at(0x1000))
        })
    }),
    ends_guest("trap_frame/no_stack", "With a handler, but no stack, the guest ends.", |t| {
        no_stack(t, 0x1000)
    }),
    ends_guest("trap_frame/stack_hypervisor", "A stack in the hypervisor ends it too.", |t| {
        no_stack(t, HYPERVISOR)
    }),
    ends_guest("trap_frame/stack_m2p", "So does one in the table of machine frames.", |t| {
        no_stack(t, M2P + 4096)
    }),
    ends_guest("trap_frame/stack_non_canonical", "So does a stack at no address.", |t| {
        no_stack(t, NON_CANONICAL + 0x1000)
    }),
    ends_guest("trap_frame/stack_read_only", "So does a stack in a page table.", |t| {
        no_stack(t, t.boot.start_info().pt_base + 4096)
    }),
    ends_guest("trap_frame/stack_edge", "So does a stack with room for half of the frame.", |t| {
        no_stack(t, mapped_end(t.boot) + 32)
    }),
];

fn at(address: u64) -> Registers {
    let mut registers = Registers::new();
    registers.rsi = address;
    registers
}

fn no_stack(t: &Test<'_>, rsp: u64) -> Outcome {
    stage(t, |_| {
        let mut registers = Registers::new();
        registers.rsp = rsp;
        t.crash(UD2, &mut registers)
    })
}

fn codes(t: &Test<'_>, code: Code, address: u64, error: u64) -> Outcome {
    stage(t, |s| {
        let event = s.kernel(code, at(address))?;
        equal("vector", event.vector, 14)?;
        equal("error", event.coded().error, error)?;
        equal("cr2", s.cr2(), address)
    })
}

fn event(s: &Stage, cause: &Cause, user: bool) -> Result<Event, Verdict> {
    let mut registers = Registers::new();
    registers.rax = cause.rax;
    registers.rsi = cause.rsi;
    registers.rcx = 0x1111_2222_3333_4444;
    registers.high[3] = 0x5555_6666_7777_8888;
    registers.rsp = user_stack() - STACK;
    registers.rflags = FLAGS | 0x200;
    if cause.unmasked {
        registers.fx.0[..2].copy_from_slice(&[0x40, 0x03]);
    }
    if user {
        registers.rflags = FLAGS;
        s.user(cause.code, registers)
    } else {
        s.kernel(cause.code, registers)
    }
}

fn kernel(t: &Test<'_>, cause: &Cause) -> Outcome {
    stage(t, |s| {
        let event = event(s, cause, false)?;
        let words = if cause.error.is_some() { 8 } else { 7 };
        equal("vector", event.vector, cause.vector)?;
        equal("frame at", event.at, ((user_stack() - STACK) & !15) - words * 8)?;
        check(&event, cause, 0x1_0000_e030)
    })
}

fn user(t: &Test<'_>, cause: &Cause) -> Outcome {
    user_stage(t, |s| {
        let event = event(s, cause, true)?;
        let words = if cause.error.is_some() { 8 } else { 7 };
        equal("vector", event.vector, cause.vector)?;
        equal("frame at", event.at, kernel_stack() - words * 8)?;
        check(&event, cause, 0x1_0000_e033)
    })
}

fn check(event: &Event, cause: &Cause, cs: u64) -> Outcome {
    let frame: Frame = if cause.error.is_some() { event.coded() } else { event.plain() };
    equal("rcx", frame.rcx, 0x1111_2222_3333_4444)?;
    equal("r11", frame.r11, 0x5555_6666_7777_8888)?;
    equal("error", frame.error, cause.error.unwrap_or(0))?;
    equal("rip", frame.rip, cause.code.address() + cause.behind)?;
    equal("cs", frame.cs, cs)?;
    equal("rflags", frame.rflags & !RESUME, FLAGS)?;
    equal("rsp", frame.rsp, user_stack() - STACK)?;
    equal("ss", frame.ss, 0xe02b)?;
    equal("handler's rflags", event.registers.rflags, (FLAGS | 0x200) & !0x4_0000)?;
    equal("handlers run", event.count, 1)
}
