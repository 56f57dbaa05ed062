//! Running a snippet with a handler for one vector.

use crate::call::{SET_TRAP_TABLE, hypercall};
use crate::case::{Outcome, Verdict, equal};
use crate::raw::memory::{arena_address, put};
use crate::raw::{Code, Registers, run, trap};

/// What a handler found on its stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    /// Where the frame lies.
    pub(crate) at: u64,
    pub(crate) rcx: u64,
    pub(crate) r11: u64,
    /// The error code, for vectors that have one.
    pub(crate) error: u64,
    pub(crate) rip: u64,
    pub(crate) cs: u64,
    pub(crate) rflags: u64,
    pub(crate) rsp: u64,
    pub(crate) ss: u64,
}

/// Registers a handler for one vector with the flags of a trap table's entry (bits 0 and 1: the
/// least privilege that may call it; bit 2: it masks events).
pub(crate) fn install(vector: u8, flags: u8) -> Outcome {
    put(0, &[0; 32]);
    put(0, &[vector, flags, 0x33, 0xe0]);
    put(8, &trap::handler().to_le_bytes());
    equal("set_trap_table", hypercall(SET_TRAP_TABLE, &[arena_address()]), 0)
}

/// Removes all handlers.
pub(crate) fn remove() -> Outcome {
    equal("set_trap_table of null", hypercall(SET_TRAP_TABLE, &[0]), 0)
}

/// Runs `code`, which must trap to `vector`. The registers are as the handler found them.
pub(crate) fn trapped(vector: u8, code: Code, registers: &mut Registers) -> Result<Frame, Verdict> {
    trapped_with(vector, 0, code, registers)
}

/// As [`trapped`], with flags for the table's entry.
pub(crate) fn trapped_with(
    vector: u8,
    flags: u8,
    code: Code,
    registers: &mut Registers,
) -> Result<Frame, Verdict> {
    install(vector, flags)?;
    trap::forget();
    run(code, registers);
    remove()?;
    let Some((at, words)) = trap::last() else {
        equal("the guest", "goes on", "traps")?;
        return Err(Verdict::Skip("cannot happen: both words are different"));
    };
    let has_error = matches!(vector, 8 | 10..=14 | 17 | 21);
    let [rcx, r11, error, rip, cs, rflags, rsp, ss, ..] = words;
    if has_error {
        return Ok(Frame { at, rcx, r11, error, rip, cs, rflags, rsp, ss });
    }
    let [rcx, r11, rip, cs, rflags, rsp, ss, ..] = words;
    Ok(Frame { at, rcx, r11, error: 0, rip, cs, rflags, rsp, ss })
}
