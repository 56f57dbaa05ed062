//! The end of a domain.

use crate::raw::gate::{Gate, Machine};
use crate::raw::request;

/// Why a domain ends, with the numbers of the ABI.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Reason {
    /// A normal end: for the outside, success.
    Poweroff = 0,
    /// The domain wants to be started again.
    Reboot = 1,
    /// Something went wrong: for the outside, failure.
    Crash = 3,
}

/// Ends this domain.
///
/// Should the hypervisor return nevertheless, the virtual CPU yields for ever.
pub fn shutdown(reason: Reason) -> ! {
    let reason = reason as u32;
    loop {
        Machine.call(&request::shutdown(&reason));
        Machine.call(&request::yield_now());
    }
}
