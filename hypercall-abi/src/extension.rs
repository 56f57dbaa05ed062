//! `extension(op, ...)`: this system's own calls, which Xen does not have (`docs/src/abi/extensions.md`).
//!
//! A guest makes them only if [`crate::cpuid::EXTENSION_BASE`] shows
//! [`crate::cpuid::EXTENSION_SIGNATURE`]; elsewhere the number is unknown (`ENOSYS`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::types::DomId;

pub use crate::ops::extension::*;

/// What [`VERSION`] answers, and CPUID: 0.3. The major number is raised by what breaks a guest that
/// was built before, the minor one by what is added.
pub const VERSION_NUMBER: u32 = 3;

/// Argument of [`SET_RINGS`] and [`GET_RINGS`]: what whoever built a domain connected it to, for a
/// control domain that comes later.
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct Rings {
    /// In: the domain.
    pub domain: DomId,
    /// Must be 0.
    pub pad: u16,
    /// The domain's port for its store; 0: none.
    pub store_port: u32,
    /// The machine frame of its store's ring; 0: none.
    pub store_frame: u64,
    /// The machine frame of its console's ring; 0: none.
    pub console_frame: u64,
    /// The domain's port for its console; 0: none.
    pub console_port: u32,
    /// Must be 0.
    pub pad1: u32,
}

const _: () = assert!(size_of::<Rings>() == 32, "Rings: size changed");
