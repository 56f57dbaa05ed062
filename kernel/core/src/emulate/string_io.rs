//! `ins` and `outs`.
//!
//! Measured on Xen 4.17: the ports are checked before memory is touched; a fault in the middle
//! leaves registers as they are behind the elements before; memory that is not the guest's by
//! address is `#GP(0)`, memory that can't be accessed `#PF` at the first such byte; TF, or a breakpoint on
//! the port, gives `#DB` behind each element, at the instruction itself while elements are left.
//!
//! In compatibility mode these are not ours: segments there have bases and limits of their own.

use crate::guest_memory::{GuestRange, is_canonical};
use crate::regs::GuestRegs;

use super::code::CodeSize;
use super::execute::Fault;
use super::port;
use super::prefix::Segment;
use super::privileged::StringPort;
use super::register::Gpr;
use super::state::{BaseMsr, Mode, PrivilegedState};
use super::table_write::step;
use super::width::Width;

/// Elements moved before the guest is entered again, so that interrupts are not kept waiting.
const BUDGET: u32 = 64;

/// Which way the data goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Direction {
    /// `ins`.
    In,
    /// `outs`.
    Out,
}

/// How far a string instruction got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Progress {
    /// To its end.
    Done,
    /// Not to its end: it is to be executed again.
    Again,
    /// Not decided here.
    NotOurs,
}

/// Moves elements between a port and memory: one alone if there are causes for `#DB`, to which those of
/// breakpoints on the port are added.
pub(super) fn run(
    state: &mut impl PrivilegedState,
    regs: &mut GuestRegs,
    size: CodeSize,
    operation: StringPort,
    direction: Direction,
    causes: &mut u64,
) -> Result<Progress, Fault> {
    if size != CodeSize::Bits64 {
        return Ok(Progress::NotOurs);
    }
    let port = low_u16(regs.rdx);
    let mut left = if operation.repeated { regs.rcx & operation.address.mask() } else { 1 };
    if left == 0 {
        // The count is written all the same, which clears its upper half with 32-bit addresses.
        Gpr::RCX.write(regs, operation.address, 0);
        return Ok(Progress::Done);
    }
    if !port::may_access(state, port, operation.width) {
        return Err(Fault::GeneralProtection);
    }
    *causes |= state.port_breakpoints(port, operation.width);
    let mut budget = if *causes == 0 { BUDGET } else { 1 };
    while left != 0 && budget != 0 {
        match direction {
            Direction::In => element_in(state, regs, operation, port)?,
            Direction::Out => element_out(state, regs, operation, port)?,
        }
        left = left.wrapping_sub(1);
        budget = budget.wrapping_sub(1);
        if operation.repeated {
            Gpr::RCX.write(regs, operation.address, left);
        }
    }
    Ok(if left == 0 { Progress::Done } else { Progress::Again })
}

fn element_in(
    state: &mut impl PrivilegedState,
    regs: &mut GuestRegs,
    operation: StringPort,
    port: u16,
) -> Result<(), Fault> {
    let range = range(regs.rdi & operation.address.mask(), operation.width)?;
    let value = state.port_in(port, operation.width).to_le_bytes();
    let bytes = value.get(..operation.width.bytes()).unwrap_or(&value);
    state.write_guest(range, bytes).map_err(|fault| Fault::Page {
        address: fault.address,
        error_code: error_code(state, WRITE),
    })?;
    step(regs, Gpr::RDI, operation.address, operation.width);
    Ok(())
}

fn element_out(
    state: &mut impl PrivilegedState,
    regs: &mut GuestRegs,
    operation: StringPort,
    port: u16,
) -> Result<(), Fault> {
    let base = match operation.segment {
        Segment::Fs => state.segment_base(BaseMsr::Fs),
        Segment::Gs => state.segment_base(BaseMsr::Gs),
        Segment::Es | Segment::Cs | Segment::Ss | Segment::Ds => 0,
    };
    let offset = regs.rsi & operation.address.mask();
    let range = range(offset.wrapping_add(base), operation.width)?;
    let mut bytes = [0; 4];
    let into = bytes.get_mut(..operation.width.bytes()).unwrap_or_default();
    state.read_guest(range, into).map_err(|fault| Fault::Page {
        address: fault.address,
        error_code: error_code(state, 0),
    })?;
    state.port_out(port, operation.width, u32::from_le_bytes(bytes));
    step(regs, Gpr::RSI, operation.address, operation.width);
    Ok(())
}

/// Memory of a guest, by its address alone.
fn range(address: u64, width: Width) -> Result<GuestRange, Fault> {
    let last = address.wrapping_add(width.bytes() as u64).wrapping_sub(1);
    if !is_canonical(address) || !is_canonical(last) {
        return Err(Fault::GeneralProtection);
    }
    GuestRange::new(address, width.bytes()).map_err(|_| Fault::GeneralProtection)
}

/// Page-fault error code: the access was a write.
const WRITE: u32 = 1 << 1;
/// Page-fault error code: in user mode.
const USER: u32 = 1 << 2;

fn error_code(state: &impl PrivilegedState, access: u32) -> u32 {
    match state.mode() {
        Mode::Kernel => access,
        Mode::User => access | USER,
    }
}

/// Bits 0 to 15.
pub(super) const fn low_u16(value: u64) -> u16 {
    let [a, b, ..] = value.to_le_bytes();
    u16::from_le_bytes([a, b])
}
