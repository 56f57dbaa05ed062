//! Grants: letting another domain use a page, and using a page of another's.
//!
//! `Grants::start` sets the table up. `Grants::share` turns a `Frame` into a `Grant`, whose
//! [`Peer`] (domain and reference) is what the other side is told; `Grants::map` turns a [`Peer`]
//! into a `Mapping` at an address of the kernel's choice; [`copy`] copies between pages of this
//! guest and of peers, many in one hypercall.
//!
//! ```no_run,ignore-gnu
//! # use core::sync::atomic::Ordering;
//! # use pv_guest_sdk::{abi::types::{DomId, GrantRef}, grant::Grants, paging::{Access, Frame}};
//! # #[derive(Debug)] struct Failed;
//! # impl<T: core::fmt::Display> From<T> for Failed { fn from(_: T) -> Self { Self } }
//! # fn example(peer_domain: DomId, tell_the_peer: fn(GrantRef)) -> Result<(), Failed> {
//! let grants = Grants::start(1)?;
//! let grant = grants.share(Frame::new()?, peer_domain, Access::WRITE)?;
//! tell_the_peer(grant.reference());
//! grant.words()[0].store(42, Ordering::Release);
//! let frame = grant.end().map_err(|_| "the peer still uses it")?;
//! # Ok(())
//! # }
//! ```
//!
//! Both values are owned. Dropping a `Grant` ends it; while the peer still uses the page, nobody
//! else gets it: it waits in quarantine, without anybody waiting for it. Dropping a `Mapping`
//! unmaps it. A page that two domains see is read and written by atomics alone.

mod copy;
#[cfg(any(target_os = "none", test))]
mod entries;
mod error;

pub use copy::{Destination, PageCopy, Source, copy};
#[cfg(target_os = "none")]
pub(crate) use entries::Entries;
pub use error::{GrantError, Refusal};
use hypercall_abi::call::Hypercall;
use hypercall_abi::errno::Errno;
use hypercall_abi::grant::OPS;
use hypercall_abi::types::{DomId, GrantRef};

use crate::error::Site;
#[cfg(target_os = "none")]
pub use crate::raw::grant::{Grant, Grants, Mapping};
#[cfg(target_os = "none")]
pub use crate::raw::strip::Strip;

/// Why the call itself is refused.
const CAUSES: &[(Errno, &str)] = &[(Errno::ENOSYS, "this hypervisor has no grants")];

/// The place of one of the call's operations.
pub(crate) const fn site(operation: u32) -> Site {
    Site::operation(Hypercall::GrantTableOp, OPS, operation, CAUSES)
}

/// A page that a domain grants: its number, and the entry of its table.
///
/// # Examples
///
/// ```ignore-none
/// # use pv_guest_sdk::{abi::types::{DomId, GrantRef}, grant::Peer};
/// // What the back end in domain 0 was told, or what it tells.
/// let page = Peer { domain: DomId(0), reference: GrantRef(8) };
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Who grants it. Not [`DomId::SELF`], which mapping refuses.
    pub domain: DomId,
    /// Which entry.
    pub reference: GrantRef,
}
