//! The end of a domain.

use hypercall_abi::sched::{REASON_CRASH, REASON_POWEROFF, REASON_REBOOT, SchedShutdown};

use crate::raw::gate::{Gate, Machine};
use crate::raw::request;

/// Why a domain ends, with the numbers of the ABI.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{shutdown::{Reason, shutdown}};
/// # fn example(is_well: bool) -> ! {
/// shutdown(if is_well { Reason::Poweroff } else { Reason::Crash })
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Reason {
    /// A normal end: for the outside, success.
    Poweroff = REASON_POWEROFF,
    /// The domain wants to be started again.
    Reboot = REASON_REBOOT,
    /// Something went wrong: for the outside, failure.
    Crash = REASON_CRASH,
}

/// Ends this domain.
///
/// Should the hypervisor return nevertheless, the virtual CPU yields for ever.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{shutdown::{Reason, shutdown}};
/// # fn example() -> ! {
/// shutdown(Reason::Reboot)
/// # }
/// ```
pub fn shutdown(reason: Reason) -> ! {
    let reason = SchedShutdown { reason: reason as u32 };
    loop {
        Machine.call(&request::shutdown(&reason));
        Machine.call(&request::yield_now());
    }
}
