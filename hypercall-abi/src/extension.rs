//! `extension(op, ...)`: this system's own calls, which Xen does not have (`docs/src/abi/extensions.md`).
//!
//! A guest makes them only if [`crate::cpuid::EXTENSION_BASE`] shows
//! [`crate::cpuid::EXTENSION_SIGNATURE`]; elsewhere the number is unknown (`ENOSYS`).

pub use crate::ops::extension::*;

/// What [`VERSION`] answers, and CPUID: 0.2. The major number is raised by what breaks a guest that
/// was built before, the minor one by what is added.
pub const VERSION_NUMBER: u32 = 2;
