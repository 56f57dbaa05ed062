//! `vcpu_op`, hypercall 24: virtual CPUs and their timers.

use hypercall_abi::call::Hypercall;
use hypercall_abi::types::VcpuId;
use hypercall_abi::vcpu::{
    DOWN, IS_UP, SET_SINGLESHOT_TIMER, STOP_PERIODIC_TIMER, SetSingleshotTimer, UP,
};
#[cfg(target_os = "none")]
use hypercall_abi::{
    regs::VcpuGuestContext,
    vcpu::{
        INITIALISE, REGISTER_RUNSTATE_MEMORY_AREA, REGISTER_VCPU_INFO, RegisterRunstateArea,
        RegisterVcpuInfo,
    },
};

use super::{Request, readable};

/// An operation of a virtual CPU.
///
/// # Safety
/// As of [`Request::new`].
unsafe fn operation<T>(number: u32, vcpu: VcpuId, argument: Option<&T>) -> Request<'_> {
    let args = [number.into(), vcpu.0.into(), argument.map_or(0, readable), 0, 0, 0];
    // SAFETY: by this function's contract.
    unsafe { Request::new(Hypercall::VcpuOp, args) }
}

macro_rules! without_argument {
    ($($(#[$doc:meta])* $name:ident $operation:ident;)*) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $name(vcpu: VcpuId) -> Request<'static> {
            // SAFETY: touches no memory; a virtual CPU may stop anywhere, and goes on from there.
            unsafe { operation::<()>($operation, vcpu, None) }
        })*
    };
}

without_argument! {
    /// Lets a virtual CPU run on from where it is.
    up UP;
    /// Stops a virtual CPU where it is.
    down DOWN;
    /// Asks whether a virtual CPU is up: 1, or 0.
    is_up IS_UP;
    /// Stops a virtual CPU's periodic timer.
    stop_periodic_timer STOP_PERIODIC_TIMER;
}

/// Sets the timer of the calling virtual CPU, which must be `vcpu`.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, abi::{types::VcpuId, vcpu::SetSingleshotTimer}, println, raw::request};
/// # fn example(timer: &SetSingleshotTimer) {
/// println!("{}", Machine.call(&request::set_singleshot_timer(VcpuId(0), timer)));
/// # }
/// ```
#[must_use]
pub fn set_singleshot_timer(vcpu: VcpuId, timer: &SetSingleshotTimer) -> Request<'_> {
    // SAFETY: the structure is only read.
    unsafe { operation(SET_SINGLESHOT_TIMER, vcpu, Some(timer)) }
}

/// Keeps an area of 48 bytes up to date with what a virtual CPU is doing.
///
/// # Safety
/// The area must consist of atomics and stay where it is for ever.
#[cfg(target_os = "none")]
#[must_use]
pub(in crate::raw) unsafe fn register_runstate(
    vcpu: VcpuId,
    area: &RegisterRunstateArea,
) -> Request<'_> {
    // SAFETY: the structure is only read; the rest by this function's contract.
    unsafe { operation(REGISTER_RUNSTATE_MEMORY_AREA, vcpu, Some(area)) }
}

/// Gives a virtual CPU its first state.
///
/// # Safety
/// It must be a state from which the virtual CPU can run: entry code, a stack that nobody else
/// uses, its own area at the base of `gs`, the kernel's page tables.
#[cfg(target_os = "none")]
#[must_use]
pub(in crate::raw) unsafe fn initialise(vcpu: VcpuId, state: &VcpuGuestContext) -> Request<'_> {
    // SAFETY: the structure is only read; the rest by this function's contract.
    unsafe { operation(INITIALISE, vcpu, Some(state)) }
}

/// Moves what a virtual CPU shares with the hypervisor.
///
/// # Safety
/// The place must be this guest's, consist of atomics, and stay what it is for ever.
#[cfg(target_os = "none")]
#[must_use]
pub(in crate::raw) unsafe fn register_vcpu_info(
    vcpu: VcpuId,
    place: &RegisterVcpuInfo,
) -> Request<'_> {
    // SAFETY: the structure is only read; the rest by this function's contract.
    unsafe { operation(REGISTER_VCPU_INFO, vcpu, Some(place)) }
}
