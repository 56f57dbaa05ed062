//! Pages of this guest in a row that another domain may read.
//!
//! The rule of the memory module holds on: the pages belong to the [`Strip`], and one by one to
//! nobody while they are in quarantine. The other domain can't write, so what is borrowed from the
//! strip changes by nobody else's hand; that it is read meanwhile is nothing that Rust sees.

use core::mem::ManuallyDrop;

use heapless::Vec;
use hypercall_abi::types::{DomId, GrantRef, PAGE_SIZE};

use super::grant::Grants;
use super::memory::{Frame, Run, pointer};
use crate::grant::{Entries, GrantError};
use crate::paging::Access;
use crate::ring;

/// The most pages.
const MOST: usize = 64;

/// Pages in a row that a domain may read. Dropping it ends that; a page that the domain uses then
/// goes to quarantine.
#[derive(Debug)]
pub struct Strip {
    entries: &'static Entries<'static>,
    /// The pages; nobody borrows them but from this value.
    run: ManuallyDrop<Run>,
    references: Vec<GrantRef, MOST>,
}

impl Strip {
    /// Lets a domain read so many pages, a power of two from 2 to 64.
    ///
    /// # Errors
    /// As of [`Grants::share`].
    pub(crate) fn new(grants: Grants, to: DomId, pages: usize) -> Result<Self, GrantError> {
        let pages = pages.clamp(2, MOST).next_power_of_two();
        let run = ManuallyDrop::new(Run::any(pages.trailing_zeros())?);
        let mut strip = Self { entries: grants.entries(), run, references: Vec::new() };
        for number in 0..pages {
            let reference = grants.grant(strip.run.page(number), to, Access::empty())?;
            // As many as there is room for.
            let _fits = strip.references.push(reference);
        }
        Ok(strip)
    }
}

impl ring::Strip for Strip {
    fn reference(&self, page: usize) -> GrantRef {
        self.references[page]
    }

    fn write<R>(&mut self, page: usize, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let room = self.references.len().checked_sub(page).map(|left| left * PAGE_SIZE);
        assert!(room.is_some_and(|room| length <= room), "{length} bytes from page {page} on");
        let first: *mut u8 = pointer(self.run.home() + (page * PAGE_SIZE) as u64);
        // SAFETY: so many bytes are in this value's pages, which are mapped in a row at home, and
        // initialised; it is borrowed mutably, and nobody else may write them.
        fill(unsafe { core::slice::from_raw_parts_mut(first, length) })
    }
}

impl Drop for Strip {
    fn drop(&mut self) {
        let is_used = |reference: &&GrantRef| !self.entries.revoke(**reference);
        // Those before the first that is in use, if one is.
        let free = self.references.iter().take_while(|reference| !is_used(reference)).count();
        if free == self.references.len() {
            // SAFETY: its end is here, and nobody has its pages any more.
            return unsafe { ManuallyDrop::drop(&mut self.run) };
        }
        for (number, page) in self.run.pages().enumerate() {
            match self.references.get(number) {
                Some(&it) if number == free || number > free && !self.entries.revoke(it) => {
                    self.entries.park(it, page);
                }
                // SAFETY: a page of the run, which is forgotten, and nobody's any more.
                _ => drop(unsafe { Frame::from_page(page) }),
            }
        }
    }
}
