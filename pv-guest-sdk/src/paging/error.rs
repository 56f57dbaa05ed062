//! Why memory cannot be had or mapped.

use core::fmt;

use super::Page;
use crate::error::HypercallError;

/// Why memory cannot be had or mapped.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{paging::MemoryError, println};
/// # fn example(error: &MemoryError) {
/// match error {
///     MemoryError::Exhausted => println!("all pages are in use"),
///     MemoryError::Taken(page) => println!("{page} is mapped"),
///     other => println!("{other}"),
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MemoryError {
    /// Memory was not started, or is started a second time.
    NotStarted,
    /// The boot tables are not as a loader makes them.
    BootTables,
    /// No page is free.
    Exhausted,
    /// The page is mapped already.
    Taken(Page),
    /// The page is not mapped.
    Absent(Page),
    /// The page is not one that this may be mapped at.
    Reserved(Page),
    /// The address is no address.
    Address(u64),
    /// The hypervisor refused.
    Refused(HypercallError),
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted => f.write_str("memory must be started once, before it is used"),
            Self::BootTables => f.write_str("the page tables at the start cannot be understood"),
            Self::Exhausted => f.write_str("no page of memory is free"),
            Self::Taken(page) => write!(f, "{page} is mapped already"),
            Self::Absent(page) => write!(f, "{page} is not mapped"),
            Self::Reserved(page) => write!(f, "{page} is not free for this"),
            Self::Address(address) => write!(f, "{address:#x} is no address"),
            Self::Refused(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for MemoryError {}

impl From<HypercallError> for MemoryError {
    fn from(error: HypercallError) -> Self {
        Self::Refused(error)
    }
}
