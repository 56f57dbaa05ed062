//! Running a snippet, in the guest's kernel mode or user mode, with a handler for every vector.

use pv_guest_sdk::Machine;
use pv_guest_sdk::raw::shared::shared_info;

use crate::call::hypercall;
use crate::case::{Outcome, Test, Verdict, equal};
use crate::raw::memory::{peek, peek_byte, poke, poke_byte};
use crate::raw::trap_stage::{Caught, WORDS, caught, end_in_user_mode, forget, handler, page};
use crate::raw::{Code, Registers, run, snippets};
use crate::tables::{frame_of, top};

pub(crate) const SET_TRAP_TABLE: u64 = 0;
pub(crate) const STACK_SWITCH: u64 = 3;
const SET_DEBUGREG: u64 = 8;
const IRET: u64 = 23;
const MMUEXT_OP: u64 = 26;
const CALLBACK_OP: u64 = 30;

/// The vector whose handler user mode calls at a snippet's end: nothing else does.
pub(crate) const END: u64 = 4;
/// The handler's number for an event, a `syscall`, a `sysenter`, an NMI.
pub(crate) const EVENT: u64 = 256;
pub(crate) const SYSCALL: u64 = 257;
pub(crate) const SYSENTER: u64 = 258;
pub(crate) const NMI: u64 = 259;

pub(crate) const KERNEL_CS: u64 = 0xe030;
pub(crate) const USER_CS: u64 = 0xe033;
pub(crate) const USER_SS: u64 = 0xe02b;

/// The end of the stack that the guest's kernel has for traps from user mode.
pub(crate) fn kernel_stack() -> u64 {
    page(3) + 4096
}

/// The end of user mode's stack.
pub(crate) fn user_stack() -> u64 {
    page(4) + 4096
}

/// The first of the pages that cases use as they like, up to the stage's last.
pub(crate) const SPARE: u64 = 6;

/// The stage, ready for snippets.
pub(crate) struct Stage {
    /// The address of vCPU 0's part of the shared page.
    info: u64,
}

/// What a handler was given, and the registers it found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) vector: u64,
    pub(crate) count: u64,
    pub(crate) at: u64,
    pub(crate) words: [u64; WORDS],
    pub(crate) registers: Registers,
}

/// The words of an [`Event`] by their names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) rcx: u64,
    pub(crate) r11: u64,
    /// 0 in a frame without one.
    pub(crate) error: u64,
    pub(crate) rip: u64,
    /// The selector, and the event mask from bit 32 on.
    pub(crate) cs: u64,
    pub(crate) rflags: u64,
    pub(crate) rsp: u64,
    pub(crate) ss: u64,
}

impl Event {
    /// The frame of an event that has no error code.
    pub(crate) fn plain(&self) -> Frame {
        let [rcx, r11, rip, cs, rflags, rsp, ss, ..] = self.words;
        Frame { rcx, r11, error: 0, rip, cs, rflags, rsp, ss }
    }

    /// The frame of an event that has an error code.
    pub(crate) fn coded(&self) -> Frame {
        let [rcx, r11, error, rip, cs, rflags, rsp, ss, ..] = self.words;
        Frame { rcx, r11, error, rip, cs, rflags, rsp, ss }
    }
}

/// What the `iret` call reads from the stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    pub(crate) rax: u64,
    pub(crate) r11: u64,
    pub(crate) rcx: u64,
    pub(crate) flags: u64,
    pub(crate) rip: u64,
    pub(crate) cs: u64,
    pub(crate) rflags: u64,
    pub(crate) rsp: u64,
    pub(crate) ss: u64,
}

impl Context {
    /// To user mode at `code`, events masked.
    pub(crate) fn user(code: Code) -> Self {
        Self::to(code, USER_CS, 2)
    }

    /// To user mode or, if the selector's privilege is not 3, kernel mode at `code`.
    pub(crate) fn to(code: Code, cs: u64, rflags: u64) -> Self {
        let (rip, rsp) = (code.address(), user_stack() - 256);
        Self { rax: 0, r11: 0, rcx: 0, flags: 0, rip, cs, rflags, rsp, ss: USER_SS }
    }

    /// Writes it where [`Stage::iret`] makes the call with the stack pointer at it.
    fn store(&self) -> u64 {
        let at = page(2);
        let words = [
            self.rax,
            self.r11,
            self.rcx,
            self.flags,
            self.rip,
            self.cs,
            self.rflags,
            self.rsp,
            self.ss,
        ];
        for (place, word) in (0..).zip(words) {
            poke(at + 8 * place, word);
        }
        at
    }
}

/// Does something on the stage, then clears it.
pub(crate) fn stage(t: &Test<'_>, does: impl FnOnce(&Stage) -> Outcome) -> Outcome {
    let info = match shared_info(&Machine, t.boot) {
        Ok(shared) => core::ptr::from_ref(shared).expose_provenance() as u64,
        Err(_) => return equal("the shared page", "refused", "mapped"),
    };
    let stage = Stage { info };
    stage.table(|_| Some(0))?;
    equal("stack_switch", hypercall(STACK_SWITCH, &[USER_SS, kernel_stack()]), 0)?;
    let outcome = does(&stage);
    end_in_user_mode(false);
    stage.set_mask(1);
    stage.set_pending(0);
    equal("set_debugreg", hypercall(SET_DEBUGREG, &[7, 0]), 0)?;
    equal("set_trap_table of null", hypercall(SET_TRAP_TABLE, &[0]), 0)?;
    outcome
}

/// As [`stage`], with user mode ready: it runs on the kernel's own page tables.
pub(crate) fn user_stage(t: &Test<'_>, does: impl FnOnce(&Stage) -> Outcome) -> Outcome {
    stage(t, |s| {
        equal("new user tables", s.user_tables(frame_of(t.boot, top(t.boot))), 0)?;
        does(s)
    })
}

impl Stage {
    /// Registers the handlers that `flags` has flags for, and removes all others.
    pub(crate) fn table(&self, flags: impl Fn(u64) -> Option<u8>) -> Outcome {
        equal("set_trap_table of null", hypercall(SET_TRAP_TABLE, &[0]), 0)?;
        let mut at = page(0);
        for vector in 0..256 {
            if let Some(flags) = flags(vector) {
                put_entry(at, vector, flags, handler(vector));
                at += 16;
            }
        }
        put_entry(at, 0, 0, 0);
        equal("set_trap_table", hypercall(SET_TRAP_TABLE, &[page(0)]), 0)
    }

    /// Sets the flags of one vector's handler.
    pub(crate) fn entry(&self, vector: u64, flags: u8) -> Outcome {
        put_entry(page(0), vector, flags, handler(vector));
        put_entry(page(0) + 16, 0, 0, 0);
        equal("set_trap_table", hypercall(SET_TRAP_TABLE, &[page(0)]), 0)
    }

    /// Gives user mode another top-level table (a machine frame).
    pub(crate) fn user_tables(&self, mfn: u64) -> i64 {
        poke(page(5), 15);
        poke(page(5) + 8, mfn);
        poke(page(5) + 16, 0);
        hypercall(MMUEXT_OP, &[page(5), 1, 0, 0x7ff0])
    }

    /// Registers the handler of a callback's type (the ABI's number), and returns the answer.
    pub(crate) fn callback(&self, kind: u16, flags: u16, address: u64) -> i64 {
        poke(page(5), u64::from(kind) | u64::from(flags) << 16);
        poke(page(5) + 8, address);
        hypercall(CALLBACK_OP, &[0, page(5)])
    }

    /// The address of vCPU 0's part of the shared page.
    pub(crate) const fn info(&self) -> u64 {
        self.info
    }

    pub(crate) fn mask(&self) -> u64 {
        peek_byte(self.info + 1).into()
    }

    pub(crate) fn set_mask(&self, mask: u8) {
        poke_byte(self.info + 1, mask);
    }

    pub(crate) fn pending(&self) -> u64 {
        peek_byte(self.info).into()
    }

    pub(crate) fn set_pending(&self, pending: u8) {
        poke_byte(self.info, pending);
    }

    /// The address of the last page fault.
    pub(crate) fn cr2(&self) -> u64 {
        peek(self.info + 16)
    }

    /// Runs a snippet in kernel mode. Nothing comes back if no handler ran.
    pub(crate) fn try_kernel(&self, code: Code, registers: &mut Registers) -> Option<Event> {
        end_in_user_mode(false);
        forget();
        run(code, registers);
        event(*registers)
    }

    /// Runs a snippet in kernel mode, in which a handler must run.
    pub(crate) fn kernel(&self, code: Code, mut registers: Registers) -> Result<Event, Verdict> {
        some(self.try_kernel(code, &mut registers))
    }

    /// Runs a snippet in kernel mode, in which no handler must run.
    pub(crate) fn quiet(&self, code: Code, mut registers: Registers) -> Result<Registers, Verdict> {
        match self.try_kernel(code, &mut registers) {
            None => Ok(registers),
            Some(event) => {
                crate::case::holds("trap", event.vector, "none", false)?;
                Ok(registers)
            }
        }
    }

    /// Makes the `iret` call. All registers but rax, rcx and r11 are as given.
    pub(crate) fn try_iret(&self, context: Context, registers: &mut Registers) -> Option<Event> {
        registers.rax = IRET;
        self.try_iret_by(snippets::SYSCALL, context, registers)
    }

    /// Runs a snippet that ends in the `iret` call.
    pub(crate) fn try_iret_by(
        &self,
        code: Code,
        context: Context,
        registers: &mut Registers,
    ) -> Option<Event> {
        registers.rsp = context.store();
        end_in_user_mode(context.cs & 3 == 3);
        forget();
        run(code, registers);
        end_in_user_mode(false);
        event(*registers)
    }

    /// Makes the `iret` call, behind which a handler must run.
    pub(crate) fn iret(&self, context: Context) -> Result<Event, Verdict> {
        some(self.try_iret(context, &mut Registers::new()))
    }

    /// Runs a snippet in user mode, in which a handler must run, if only the one at its end.
    pub(crate) fn user(&self, code: Code, registers: Registers) -> Result<Event, Verdict> {
        let mut context = Context::user(code);
        (context.rax, context.rcx, context.r11) = (registers.rax, registers.rcx, registers.high[3]);
        if registers.rsp != 0 {
            context.rsp = registers.rsp;
        }
        if registers.rflags != 0x202 {
            context.rflags = registers.rflags;
        }
        let mut registers = registers;
        registers.rflags = 0x202;
        some(self.try_iret(context, &mut registers))
    }
}

/// Writes an entry of a trap table.
pub(crate) fn put_entry(at: u64, vector: u64, flags: u8, address: u64) {
    poke(at, vector | u64::from(flags) << 8 | 0xe033 << 16);
    poke(at + 8, address);
}

fn event(registers: Registers) -> Option<Event> {
    let Caught { count, at, vector, words } = caught()?;
    Some(Event { vector, count, at, words, registers })
}

fn some(event: Option<Event>) -> Result<Event, Verdict> {
    if let Some(event) = event {
        return Ok(event);
    }
    equal("the guest", "goes on", "traps")?;
    Err(Verdict::Skip("cannot happen: both words are different"))
}
