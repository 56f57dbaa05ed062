//! Grant tables, version 1: how a domain lets another map or copy pages of its own.
//!
//! What is granted and what is in use stands in three places:
//!
//! - the *entry*, in memory that the granting domain writes: whom it admits to which frame, and two
//!   flags that say to the guest that it is in use ([`entry`]);
//! - its *use*, kept here: how often the entry is used in which way, by whom, and which frame it was
//!   when the first use began (`uses`). Entry and use change together, under one lock of 256
//!   entries;
//! - the *mapping* that a handle of the mapping domain stands for: which entry, and how (`handles`).
//!
//! An entry in use holds one reference to its frame, so that the frame stays what the entry said
//! whatever the guest writes there. Page-table entries hold references of their own, as any others
//! ([`crate::mm`]), and so does a mapping for devices that may write.
//!
//! An operation is done or refused as a whole ([`map`], [`copy`]). No lock is held while frames are
//! copied, page tables changed or CPUs waited for, and never two tables' at once, so two domains'
//! tables need no order.

mod buckets;
pub mod copy;
pub mod end;
pub mod entry;
mod handles;
pub mod map;
mod peer;
#[cfg(any(test, feature = "fake"))]
mod recount;
mod table;
#[cfg(test)]
mod tests;
mod uses;

pub use copy::Copier;
pub use handles::{MAX_HANDLES, Mapping};
pub use map::{Removed, Unmap};
pub use peer::{Grants, Peer};
pub use table::{GrantTable, MAX_FRAMES};

use hypercall_abi::grant;

/// Why an operation is refused: what becomes its status (ABI: `GNTST_*`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Status(pub i16);

impl Status {
    /// `GNTST_general_error`.
    pub const GENERAL: Self = Self(grant::GENERAL_ERROR);
    /// `GNTST_bad_gntref`.
    pub const BAD_REFERENCE: Self = Self(grant::BAD_GNTREF);
    /// `GNTST_bad_page`.
    pub const BAD_PAGE: Self = Self(grant::BAD_PAGE);
    /// `GNTST_bad_domain`.
    pub const BAD_DOMAIN: Self = Self(grant::BAD_DOMAIN);
    /// `GNTST_bad_handle`.
    pub const BAD_HANDLE: Self = Self(grant::BAD_HANDLE);

    /// The value for the operation's status field.
    #[must_use]
    pub const fn of<T>(result: &Result<T, Self>) -> i16 {
        match result {
            Ok(_) => grant::OKAY,
            Err(status) => status.0,
        }
    }
}
