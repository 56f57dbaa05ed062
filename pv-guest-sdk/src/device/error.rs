//! Why a device cannot be reached.

use core::fmt;

use crate::error::HypercallError;
use crate::paging::MemoryError;

/// Why a device cannot be reached.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{device::DeviceError, println};
/// # fn example(error: &DeviceError) {
/// match error {
///     DeviceError::Claimed => println!("somebody else drives it"),
///     other => println!("{other}"),
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeviceError {
    /// There are no such ports, registers, or not so much memory.
    Range,
    /// Somebody has one of the ports.
    Claimed,
    /// The hypervisor gave an interrupt a number that is none.
    Number(i32),
    /// Memory cannot be had or mapped.
    Memory(MemoryError),
    /// The hypervisor refused.
    Refused(HypercallError),
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range => f.write_str("the range is empty or too long"),
            Self::Claimed => f.write_str("one of the ports is somebody else's"),
            Self::Number(number) => write!(f, "{number} is no number of an interrupt"),
            Self::Memory(error) => write!(f, "{error}"),
            Self::Refused(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for DeviceError {}

impl From<MemoryError> for DeviceError {
    fn from(error: MemoryError) -> Self {
        Self::Memory(error)
    }
}

impl From<HypercallError> for DeviceError {
    fn from(error: HypercallError) -> Self {
        Self::Refused(error)
    }
}
