//! Pages of this guest in a row that another domain may use.
//!
//! The rule of the memory module holds on: the pages belong to the [`Strip`], and one by one to
//! nobody while they are in quarantine. Bytes are borrowed only where the other domain can't write,
//! so they change by nobody else's hand; that they are read meanwhile is nothing that Rust sees.

use core::mem::ManuallyDrop;
use core::sync::atomic::AtomicU32;

use heapless::Vec;
use hypercall_abi::types::{DomId, GrantRef, PAGE_SIZE};

use super::grant::Grants;
use super::memory::{Frame, Run, pointer};
use crate::grant::{Entries, GrantError};
use crate::paging::Access;
use crate::ring;

/// The most pages.
const MOST: usize = 128;
/// Instead of the entry of a page that is not withdrawn.
const GRANTED: u64 = 0;
/// The words of a page.
type Words = [AtomicU32; PAGE_SIZE / 4];

/// Pages in a row that a domain may use. Dropping it ends that; a page that the domain uses then
/// goes to quarantine.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{abi::types::DomId, grant::{GrantError, Grants, Strip}, paging::Access};
/// # use pv_guest_sdk::ring::{Sharing, Strip as _};
/// # fn example(grants: Grants) -> Result<(), GrantError> {
/// let mut strip: Strip = grants.strip(DomId(0), 4, Access::empty())?;
/// strip.with(0, 6000, |bytes| bytes.fill(1)); // domain 0 may read it
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Strip {
    entries: &'static Entries<'static>,
    /// The pages; nobody borrows them but from this value.
    run: ManuallyDrop<Run>,
    /// Of each page, its reference, and what its entry was if it is withdrawn.
    entries_of: Vec<(GrantRef, u64), MOST>,
    is_read_only: bool,
}

impl Strip {
    /// Lets a domain use so many pages, a power of two from 2 to 128.
    ///
    /// # Errors
    /// As of [`Grants::share`].
    pub(crate) fn new(
        grants: Grants,
        to: DomId,
        pages: usize,
        access: Access,
    ) -> Result<Self, GrantError> {
        let pages = pages.clamp(2, MOST).next_power_of_two();
        let run = ManuallyDrop::new(Run::any(pages.trailing_zeros())?);
        let (entries, is_read_only) = (grants.entries(), !access.contains(Access::WRITE));
        let mut strip = Self { entries, run, entries_of: Vec::new(), is_read_only };
        for number in 0..pages {
            let reference = grants.grant(strip.run.page(number), to, access)?;
            // As many as there is room for.
            let _fits = strip.entries_of.push((reference, GRANTED));
        }
        Ok(strip)
    }

    /// The address of a page's first byte.
    fn at(&self, page: usize) -> u64 {
        self.run.home() + (page * PAGE_SIZE) as u64
    }
}

impl ring::Strip for Strip {
    fn reference(&self, page: usize) -> GrantRef {
        self.entries_of[page].0
    }

    fn words(&self, page: usize) -> &Words {
        assert!(page < self.entries_of.len(), "page {page}");
        // SAFETY: a page of this value, mapped at home; any bytes are atomics, and whoever borrows
        // them as others has borrowed this value mutably.
        unsafe { &*pointer(self.at(page)) }
    }

    fn withdraw(&mut self, page: usize) -> bool {
        let Some((reference, entry)) = self.entries_of.get_mut(page) else { return false };
        if *entry == GRANTED {
            *entry = self.entries.suspend(*reference).unwrap_or(GRANTED);
        }
        *entry != GRANTED
    }

    fn grant(&mut self, page: usize) {
        let Some((reference, entry)) = self.entries_of.get_mut(page) else { return };
        if *entry != GRANTED {
            self.entries.resume(*reference, core::mem::replace(entry, GRANTED));
        }
    }

    fn with<R>(&mut self, page: usize, length: usize, using: impl FnOnce(&mut [u8]) -> R) -> R {
        let pages = self.entries_of.get(page..page + length.div_ceil(PAGE_SIZE));
        let may = pages.is_some_and(|pages| {
            self.is_read_only || pages.iter().all(|&(_, entry)| entry != GRANTED)
        });
        assert!(may, "{length} bytes from page {page} on");
        let first: *mut u8 = pointer(self.at(page));
        // SAFETY: so many bytes are in this value's pages, which are mapped in a row at home, and
        // initialised; it is borrowed mutably, and nobody else may write them: either nobody was
        // ever granted that, or whoever was is not any more, and does not use them.
        using(unsafe { core::slice::from_raw_parts_mut(first, length) })
    }
}

impl Drop for Strip {
    fn drop(&mut self) {
        // Those before the first that is in use, if one is.
        let all = self.entries_of.iter();
        let free = all.take_while(|(reference, _)| self.entries.revoke(*reference)).count();
        if free == self.entries_of.len() {
            // SAFETY: its end is here, and nobody has its pages any more.
            return unsafe { ManuallyDrop::drop(&mut self.run) };
        }
        for (number, page) in self.run.pages().enumerate() {
            match self.entries_of.get(number) {
                Some(&(it, _)) if number == free || number > free && !self.entries.revoke(it) => {
                    self.entries.park(it, page);
                }
                // SAFETY: a page of the run, which is forgotten, and nobody's any more.
                _ => drop(unsafe { Frame::from_page(page) }),
            }
        }
    }
}
