//! Calls that choose where the processor enters this program, and with what.

use hypercall_abi::call::Hypercall;
use hypercall_abi::callback::{CallbackRegister, REGISTER};
use hypercall_abi::physdev::{SET_IOPL, SetIopl};
use hypercall_abi::trap::TrapInfo;

use super::{Request, readable};

/// Sets the trap table of this vCPU.
///
/// # Safety
/// The addresses must be entry code that keeps to the form of a trap. The last row must have
/// address 0.
#[must_use]
pub(in crate::raw) unsafe fn set_trap_table(table: &[TrapInfo]) -> Request<'_> {
    // SAFETY: the table is initialised and borrowed; the rest by this function's contract.
    unsafe { Request::new(Hypercall::SetTrapTable, [readable(table), 0, 0, 0, 0, 0]) }
}

/// Sets a callback of this vCPU.
///
/// # Safety
/// The address must be entry code for that kind of callback.
#[must_use]
pub(in crate::raw) unsafe fn register_callback(callback: &CallbackRegister) -> Request<'_> {
    let args = [REGISTER.into(), readable(callback), 0, 0, 0, 0];
    // SAFETY: the structure is initialised and borrowed; the rest by this function's contract.
    unsafe { Request::new(Hypercall::CallbackOp, args) }
}

/// Sets a segment base: `which` as in `hypercall_abi::segment`.
///
/// # Safety
/// The kernel's base of `gs` must be the vCPU's own area.
#[must_use]
pub(in crate::raw) unsafe fn set_segment_base(which: u32, base: u64) -> Request<'static> {
    // SAFETY: by this function's contract; nothing uses the other bases.
    unsafe { Request::new(Hypercall::SetSegmentBase, [which.into(), base, 0, 0, 0, 0]) }
}

/// Sets or clears the virtual task-switched flag of this vCPU.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, println, raw::request};
/// # fn example() {
/// println!("{}", Machine.call(&request::fpu_taskswitch(1)));
/// # }
/// ```
#[must_use]
pub fn fpu_taskswitch(set: u64) -> Request<'static> {
    // SAFETY: this program has no floating-point code but the fence's, which may trap.
    unsafe { Request::new(Hypercall::FpuTaskswitch, [set, 0, 0, 0, 0, 0]) }
}

/// Sets the virtual I/O privilege level.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, abi::physdev::SetIopl, println, raw::request};
/// # fn example(level: &SetIopl) {
/// println!("{}", Machine.call(&request::set_iopl(level)));
/// # }
/// ```
#[must_use]
pub fn set_iopl(level: &SetIopl) -> Request<'_> {
    let args = [SET_IOPL.into(), readable(level), 0, 0, 0, 0];
    // SAFETY: the level is only read. Ports can be reached by the fence's code alone.
    unsafe { Request::new(Hypercall::PhysdevOp, args) }
}

/// Switches a behaviour of the hypervisor on or off: `command` and `kind` as in
/// `hypercall_abi::vm_assist`.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, println, raw::request};
/// # fn example() {
/// println!("{}", Machine.call(&request::vm_assist(0, 4)));
/// # }
/// ```
#[must_use]
pub fn vm_assist(command: u32, kind: u32) -> Request<'static> {
    // SAFETY: none of the behaviours changes memory, or how Rust code runs.
    unsafe { Request::new(Hypercall::VmAssist, [command.into(), kind.into(), 0, 0, 0, 0]) }
}
