//! The front end's end of a device's ring, and what a front end shares with its back end.

use core::sync::atomic::{AtomicU32, Ordering, fence};

use heapless::Vec;
use hypercall_abi::blkif::{MAX_RING_ORDER, RING_HEADER, SharedRing};
use hypercall_abi::types::{DomId, GrantRef, PAGE_SIZE, Port};

use crate::console::ring::Words;
use crate::error::HypercallError;
use crate::event::Signal;
use crate::grant::GrantError;
use crate::paging::Access;

const REQUESTS_PUT: usize = core::mem::offset_of!(SharedRing, req_prod) / 4;
const REQUEST_EVENT: usize = core::mem::offset_of!(SharedRing, req_event) / 4;
const RESPONSES_PUT: usize = core::mem::offset_of!(SharedRing, rsp_prod) / 4;
const RESPONSE_EVENT: usize = core::mem::offset_of!(SharedRing, rsp_event) / 4;
/// Words before the first slot.
const HEADER: usize = RING_HEADER as usize / 4;
/// Words in a page.
const WORDS: usize = PAGE_SIZE / 4;

/// The most pages a ring has.
pub(crate) const RING_PAGES: usize = 1 << MAX_RING_ORDER;

/// A page of this guest that the back end may read and write.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{ring::Page};
/// # fn example(page: &impl Page) {
/// use core::sync::atomic::Ordering;
///
/// page.words()[0].store(1, Ordering::Release);
/// let to_be_told = page.reference();
/// # }
/// ```
pub trait Page {
    /// What the back end is told.
    fn reference(&self) -> GrantRef;

    /// What is in it. The back end may write at any time.
    fn words(&self) -> &Words;
}

/// Pages of this guest in a row, each of which the back end may use. Those that it may write are to be
/// withdrawn before they are used here.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{ring::Strip};
/// # fn example(strip: &mut impl Strip) {
/// let to_be_told = [strip.reference(2), strip.reference(3)];
/// if strip.withdraw(2) && strip.withdraw(3) {
///     strip.with(2, 5000, |bytes| bytes.fill(7)); // in the pages 2 and 3
/// }
/// strip.grant(2); // the back end may use them again
/// strip.grant(3);
/// assert_eq!(strip.words(2).len(), 1024); // it may write there from now on
/// # }
/// ```
pub trait Strip {
    /// What the back end is told of a page.
    ///
    /// # Panics
    /// If there is no such page.
    fn reference(&self, page: usize) -> GrantRef;

    /// What is in a page. The back end may write at any time.
    ///
    /// # Panics
    /// If there is no such page.
    fn words(&self, page: usize) -> &Words;

    /// Takes a page from the back end for a while. False if that uses it now.
    fn withdraw(&mut self, page: usize) -> bool;

    /// Lets the back end use a page again that was withdrawn.
    fn grant(&mut self, page: usize);

    /// Uses `length` bytes from the start of a page on.
    ///
    /// # Panics
    /// If there are not so many, or the back end may write some of them.
    fn with<R>(&mut self, page: usize, length: usize, using: impl FnOnce(&mut [u8]) -> R) -> R;
}

/// Where the pages and the ports of a device come from: on the machine, this guest's grants.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{abi::types::DomId, grant::GrantError, paging::Access, ring::Sharing};
/// # fn example(sharing: &impl Sharing, back_end: DomId) -> Result<(), GrantError> {
/// // What a front end of its own begins with: a page for the ring, and a port.
/// let page = sharing.page(back_end)?;
/// let to_be_read = sharing.strip(back_end, 64, Access::empty())?;
/// let (port, signal) = sharing.signal(back_end)?;
/// # Ok(())
/// # }
/// ```
pub trait Sharing {
    /// A page.
    type Page: Page;
    /// Pages in a row.
    type Strip: Strip;
    /// A port.
    type Signal: Signal;

    /// A zeroed page that a domain may read and write.
    ///
    /// # Errors
    /// [`GrantError`] without memory, or without a free entry in the grant table.
    fn page(&self, to: DomId) -> Result<Self::Page, GrantError>;

    /// So many zeroed pages in a row, a power of two from 2 to 128, that a domain may use.
    ///
    /// # Errors
    /// [`GrantError`] without memory in a row, or without free entries in the grant table.
    fn strip(&self, to: DomId, pages: usize, access: Access) -> Result<Self::Strip, GrantError>;

    /// A port that a domain may bind to.
    ///
    /// # Errors
    /// [`HypercallError`] if no port is free.
    fn signal(&self, to: DomId) -> Result<(Port, Self::Signal), HypercallError>;
}

/// Pages that are not in a row, for tests.
#[cfg(test)]
impl<P: Page> Strip for std::vec::Vec<P> {
    fn reference(&self, page: usize) -> GrantRef {
        self[page].reference()
    }

    fn words(&self, page: usize) -> &Words {
        self[page].words()
    }

    fn withdraw(&mut self, _page: usize) -> bool {
        true
    }

    fn grant(&mut self, _page: usize) {}

    fn with<R>(&mut self, page: usize, length: usize, using: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut bytes = std::vec![0; length];
        let pages = self[page..].iter();
        for (page, part) in pages.clone().zip(bytes.chunks_mut(PAGE_SIZE)) {
            crate::raw::copy::copy_out(page.words(), part);
        }
        let result = using(&mut bytes);
        for (page, part) in pages.zip(bytes.chunks(PAGE_SIZE)) {
            crate::raw::copy::copy_in(page.words(), part);
        }
        result
    }
}

#[cfg(target_os = "none")]
mod machine {
    use super::{Access, DomId, GrantError, HypercallError, Page, Port, Sharing};
    use crate::console::ring::Words;
    use crate::event::Channel;
    use crate::grant::{Grant, Grants};
    use crate::paging::Frame;
    use crate::raw::strip::Strip;
    use hypercall_abi::types::GrantRef;

    impl Page for Grant {
        fn reference(&self) -> GrantRef {
            self.reference()
        }

        fn words(&self) -> &Words {
            self.words()
        }
    }

    impl Sharing for Grants {
        type Page = Grant;
        type Strip = Strip;
        type Signal = Channel;

        fn page(&self, to: DomId) -> Result<Grant, GrantError> {
            self.share(Frame::new()?, to, Access::WRITE)
        }

        fn strip(&self, to: DomId, pages: usize, access: Access) -> Result<Strip, GrantError> {
            Strip::new(*self, to, pages, access)
        }

        fn signal(&self, to: DomId) -> Result<(Port, Channel), HypercallError> {
            let channel = Channel::unbound(to)?;
            Ok((channel.port(), channel))
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;

/// The back end has answered more than it was asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TooMany;

/// The pages, and where this end is. The front end's own indices are kept here: what is in the pages
/// is for the back end, and is never read back.
#[derive(Debug)]
pub(crate) struct Ring<P> {
    pages: Vec<P, RING_PAGES>,
    slots: u32,
    /// Unit: words.
    slot_size: usize,
    /// Requests written, and of these, shown to the back end.
    put: u32,
    shown: u32,
    /// Responses taken.
    taken: u32,
    /// The response that the back end was told to tell of.
    event: u32,
}

impl<P: Page> Ring<P> {
    /// An empty ring in zeroed pages, with so many slots, a power of two, of so many bytes.
    pub(crate) fn new(pages: Vec<P, RING_PAGES>, slots: u32, slot_size: u32) -> Self {
        let slot_size = slot_size as usize / 4;
        let ring = Self { slots, slot_size, pages, put: 0, shown: 0, taken: 0, event: 1 };
        for event in [REQUEST_EVENT, RESPONSE_EVENT] {
            ring.word(event).store(1, Ordering::Release);
        }
        ring
    }

    pub(crate) fn pages(&self) -> &[P] {
        &self.pages
    }

    fn word(&self, index: usize) -> &AtomicU32 {
        &self.pages[index / WORDS].words()[index % WORDS]
    }

    /// So many words of a slot, and if they go on in a second page those and what is behind them.
    #[inline]
    fn slot(&self, index: u32, count: usize) -> [&[AtomicU32]; 2] {
        let first = HEADER + self.slot_size * (index & (self.slots - 1)) as usize;
        let (page, start) = (&self.pages[first / WORDS], first % WORDS);
        if let Some(whole) = page.words().get(start..start + count) {
            return [whole, &[]];
        }
        let next = self.pages.get(first / WORDS + 1).map_or(&[][..], |page| page.words());
        [&page.words()[start..], next]
    }

    pub(crate) const fn slots(&self) -> u32 {
        self.slots
    }

    /// Writes a request, for which there must be room. The back end does not see it yet.
    #[inline]
    pub(crate) fn put(&mut self, request: &[u8]) {
        let words = request.as_chunks::<4>().0;
        let store = |(bytes, word): (&[u8; 4], &AtomicU32)| {
            word.store(u32::from_le_bytes(*bytes), Ordering::Relaxed);
        };
        match self.slot(self.put, words.len()) {
            [places, []] => words.iter().zip(places).for_each(store),
            [places, next] => words.iter().zip(places.iter().chain(next)).for_each(store),
        }
        self.put = self.put.wrapping_add(1);
    }

    /// Shows the back end what was put, and says whether it wants to be told.
    pub(crate) fn show(&mut self) -> bool {
        let new = self.put.wrapping_sub(self.shown);
        self.shown = self.put;
        self.word(REQUESTS_PUT).store(self.put, Ordering::Release);
        // It sees the requests, or this sees that it waits for them.
        fence(Ordering::SeqCst);
        self.put.wrapping_sub(self.word(REQUEST_EVENT).load(Ordering::Acquire)) < new
    }

    /// Takes a response of so many bytes, if there is one. At most as many come as requests were
    /// shown. If there is none, the back end is to tell of the next one, or of one so many behind it.
    pub(crate) fn take<const N: usize>(&mut self, behind: u32) -> Result<Option<[u8; N]>, TooMany> {
        if self.waiting()? == 0 {
            let event = self.taken.wrapping_add(1).wrapping_add(behind);
            if self.event == event {
                // It has known since an earlier look.
                return Ok(None);
            }
            self.event = event;
            // One that came before the back end knew is seen here.
            self.word(RESPONSE_EVENT).store(event, Ordering::Release);
            fence(Ordering::SeqCst);
            if self.waiting()? == 0 {
                return Ok(None);
            }
        }
        let mut bytes = [0; N];
        let words = bytes.as_chunks_mut::<4>().0;
        let load = |(bytes, word): (&mut [u8; 4], &AtomicU32)| {
            *bytes = word.load(Ordering::Relaxed).to_le_bytes();
        };
        match self.slot(self.taken, N / 4) {
            [places, []] => words.iter_mut().zip(places).for_each(load),
            [places, next] => words.iter_mut().zip(places.iter().chain(next)).for_each(load),
        }
        self.taken = self.taken.wrapping_add(1);
        Ok(Some(bytes))
    }

    /// How many slots no request is in.
    pub(crate) const fn room(&self) -> u32 {
        self.slots - self.put.wrapping_sub(self.taken)
    }

    fn waiting(&self) -> Result<u32, TooMany> {
        let put = self.word(RESPONSES_PUT).load(Ordering::Acquire);
        let waiting = put.wrapping_sub(self.taken);
        if waiting > self.shown.wrapping_sub(self.taken) { Err(TooMany) } else { Ok(waiting) }
    }

    /// Goes on as if so many requests had been answered.
    #[cfg(test)]
    pub(crate) fn start_at(&mut self, index: u32) {
        (self.put, self.shown, self.taken) = (index, index, index);
        self.event = index.wrapping_add(1);
        for word in [REQUESTS_PUT, RESPONSES_PUT] {
            self.word(word).store(index, Ordering::Release);
        }
        for event in [REQUEST_EVENT, RESPONSE_EVENT] {
            self.word(event).store(index.wrapping_add(1), Ordering::Release);
        }
    }
}
