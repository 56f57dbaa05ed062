//! Copies between pages that are granted and pages of one's own, many in one hypercall.

use core::marker::PhantomData;

use hypercall_abi::grant::{self as abi, COPY_DEST_GREF, COPY_SOURCE_GREF, CopyPtr, GrantCopy};

use super::{Peer, Refusal, site};
use crate::error::{HypercallError, Site, perform};
#[cfg(target_os = "none")]
use crate::paging::{Frame, MemoryError};
use crate::raw::gate::Gate;
use crate::raw::request::grant_copy;

static COPY: Site = site(abi::COPY);

/// No status: what a copy has before it is answered.
const UNANSWERED: i16 = 1;

/// Where a copy begins.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{grant::{Peer, Source}};
/// # fn example(theirs: Peer) {
/// let from = Source::peer(theirs, 64); // from byte 64 of its page on
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Source<'a>(CopyPtr, u16, PhantomData<&'a [u8]>);

/// Where a copy goes.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{grant::{Destination, Peer}};
/// # fn example(theirs: Peer) {
/// let to = Destination::peer(theirs, 64); // from byte 64 of its page on
/// # }
/// ```
#[derive(Debug)]
pub struct Destination<'a>(CopyPtr, u16, PhantomData<&'a mut [u8]>);

const fn granted(peer: Peer, offset: u16) -> CopyPtr {
    CopyPtr { page: peer.reference.0 as u64, domid: peer.domain, offset, pad: 0 }
}

#[cfg(target_os = "none")]
fn own(frame: &Frame, offset: u16) -> Result<CopyPtr, MemoryError> {
    let page = crate::raw::grant::machine(frame)?.0;
    Ok(CopyPtr { page, domid: hypercall_abi::types::DomId::SELF, offset, pad: 0 })
}

impl<'a> Source<'a> {
    /// A page that is granted to this domain, from `offset` on. Unit: bytes.
    #[must_use]
    pub const fn peer(peer: Peer, offset: u16) -> Self {
        Self(granted(peer, offset), COPY_SOURCE_GREF, PhantomData)
    }

    /// A page of this guest's, from `offset` on. Unit: bytes.
    ///
    /// # Errors
    /// [`MemoryError::NotStarted`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use pv_guest_sdk::{grant::Source, paging::{Frame, MemoryError}};
    /// # fn example(frame: &Frame) -> Result<(), MemoryError> {
    /// let from = Source::frame(frame, 64)?; // from byte 64 of this page on
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(target_os = "none")]
    pub fn frame(frame: &'a Frame, offset: u16) -> Result<Self, MemoryError> {
        Ok(Self(own(frame, offset)?, 0, PhantomData))
    }
}

impl<'a> Destination<'a> {
    /// A page that is granted to this domain for writing, from `offset` on. Unit: bytes.
    #[must_use]
    pub const fn peer(peer: Peer, offset: u16) -> Self {
        Self(granted(peer, offset), COPY_DEST_GREF, PhantomData)
    }

    /// A page of this guest's, from `offset` on. Unit: bytes.
    ///
    /// # Errors
    /// [`MemoryError::NotStarted`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use pv_guest_sdk::{grant::Destination, paging::{Frame, MemoryError}};
    /// # fn example(frame: &mut Frame) -> Result<(), MemoryError> {
    /// let to = Destination::frame(frame, 64)?; // from byte 64 of this page on
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(target_os = "none")]
    pub fn frame(frame: &'a mut Frame, offset: u16) -> Result<Self, MemoryError> {
        Ok(Self(own(frame, offset)?, 0, PhantomData))
    }
}

/// One copy, to be made and made. It borrows this guest's pages.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Machine, grant::{Destination, GrantError, PageCopy, Peer, Source, copy}};
/// # fn example(from: Peer, to: Peer) -> Result<(), GrantError> {
/// // From one domain's page to another's.
/// let (from, to) = (Source::peer(from, 0), Destination::peer(to, 64));
/// let mut copies = [PageCopy::new(from, to, 1500)];
/// copy(&Machine, &mut copies)?;
/// copies[0].result()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[repr(transparent)]
pub struct PageCopy<'a> {
    operation: GrantCopy,
    borrowed: PhantomData<&'a mut [u8]>,
}

impl<'a> PageCopy<'a> {
    /// A copy of `length` bytes, which may leave neither page.
    #[must_use]
    pub const fn new(from: Source<'a>, to: Destination<'a>, length: u16) -> Self {
        let operation = GrantCopy {
            source: from.0,
            dest: to.0,
            len: length,
            flags: from.1 | to.1,
            status: UNANSWERED,
            pad: 0,
        };
        Self { operation, borrowed: PhantomData }
    }

    /// What came of it.
    ///
    /// # Errors
    /// [`Refusal`] if it was refused, or not made yet.
    pub const fn result(&self) -> Result<(), Refusal> {
        Refusal::check("copy", self.operation.status)
    }
}

/// Makes copies in their order. One that is refused stops no other: each has its own result.
///
/// # Errors
/// [`HypercallError`] if the hypervisor has no grants.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, grant::{PageCopy, copy}, println};
/// # fn example(copies: &mut [PageCopy<'_>]) -> Result<(), HypercallError> {
/// copy(&Machine, copies)?;
/// let failed = copies.iter().filter(|copy| copy.result().is_err());
/// println!("{} copies were refused", failed.count());
/// # Ok(())
/// # }
/// ```
pub fn copy(gate: &impl Gate, copies: &mut [PageCopy<'_>]) -> Result<(), HypercallError> {
    copies.iter_mut().for_each(|copy| copy.operation.status = UNANSWERED);
    perform(gate, &COPY, &grant_copy(copies)).map(drop)
}
