//! The back end's half of a ring: requests out, responses in, and when to tell the other end.
//!
//! The front end can write every word of the ring at any time. So the back end's own places are
//! kept here and never read back; a request is copied once, word by word, and looked at in the
//! copy; and how far the front end says it has come is believed only up to what the ring can hold.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

extern crate alloc;

use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU32, Ordering, fence};

use hypercall_abi::blkif::SharedRing;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Words in a page.
pub const PAGE_WORDS: usize = 1024;
/// Words before the first slot.
const HEADER_WORDS: usize = 16;

const REQ_PROD: usize = core::mem::offset_of!(SharedRing, req_prod) / 4;
const REQ_EVENT: usize = core::mem::offset_of!(SharedRing, req_event) / 4;
const RSP_PROD: usize = core::mem::offset_of!(SharedRing, rsp_prod) / 4;
const RSP_EVENT: usize = core::mem::offset_of!(SharedRing, rsp_event) / 4;

/// What travels on a ring. A slot is as large as the larger of both.
pub trait Protocol {
    /// From the front end; of whole words.
    type Request: FromBytes + IntoBytes + Immutable + KnownLayout;
    /// To the front end; of whole words.
    type Response: FromBytes + IntoBytes + Immutable + KnownLayout;
    /// The most pages a ring has, as a power of two.
    const MAX_ORDER: u32;
}

/// A mapped page of the front end's, which it reads and writes at the same time.
pub trait Words {
    /// The page's words.
    fn words(&self) -> &[AtomicU32; PAGE_WORDS];
}

/// Why a ring is given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RingError {
    /// The number of pages is no power of two, or too large.
    Pages,
    /// The front end says that it has put more requests than there are slots, or that it has taken
    /// some back.
    Indices,
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pages => "the ring has a number of pages that no ring has",
            Self::Indices => "the ring's indices say what cannot be",
        })
    }
}

impl core::error::Error for RingError {}

/// A ring in use.
#[derive(Debug)]
pub struct Ring<P, T> {
    pages: Vec<P>,
    slots: u32,
    /// Requests taken so far.
    taken: u32,
    /// Responses put so far; at most [`Self::taken`].
    answered: u32,
    /// Responses that the front end may know of.
    pushed: u32,
    protocol: PhantomData<fn() -> T>,
}

impl<P: Words, T: Protocol> Ring<P, T> {
    /// Words in a slot.
    const SLOT_WORDS: usize = {
        let (request, response) = (size_of::<T::Request>(), size_of::<T::Response>());
        assert!(request % 4 == 0 && response % 4 == 0, "whole words travel");
        if request > response { request / 4 } else { response / 4 }
    };

    /// The ring in `pages`, which goes on where responses ended: at 0 unless it was served before.
    ///
    /// # Errors
    /// [`RingError::Pages`], and [`RingError::Indices`] if there are more requests than slots.
    pub fn attach(pages: Vec<P>) -> Result<Self, RingError> {
        let order = pages.len().checked_ilog2().filter(|_| pages.len().is_power_of_two());
        order.filter(|&order| order <= T::MAX_ORDER).ok_or(RingError::Pages)?;
        let room = (pages.len() * PAGE_WORDS - HEADER_WORDS) / Self::SLOT_WORDS;
        let slots = u32::try_from(room).map_err(|_| RingError::Pages)?;
        let slots = 1 << slots.checked_ilog2().ok_or(RingError::Pages)?;
        let protocol = PhantomData;
        let mut ring = Self { pages, slots, taken: 0, answered: 0, pushed: 0, protocol };
        let start = ring.word(RSP_PROD).load(Ordering::Acquire);
        (ring.taken, ring.answered, ring.pushed) = (start, start, start);
        ring.waiting()?;
        Ok(ring)
    }

    /// How many requests it holds.
    #[must_use]
    pub const fn slots(&self) -> u32 {
        self.slots
    }

    /// How many requests were taken and have no response yet.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        self.taken.wrapping_sub(self.answered)
    }

    /// Takes the next request. It is a copy; what it says is not checked.
    ///
    /// # Errors
    /// [`RingError::Indices`]; the ring must not be used any more.
    pub fn take(&mut self) -> Result<Option<T::Request>, RingError> {
        if self.waiting()? == 0 {
            return Ok(None);
        }
        let mut request = T::Request::new_zeroed();
        let places = request.as_mut_bytes().as_chunks_mut::<4>().0;
        let load = |(place, word): (&mut [u8; 4], &AtomicU32)| {
            *place = word.load(Ordering::Relaxed).to_le_bytes();
        };
        match self.slot(self.taken) {
            [words, []] => places.iter_mut().zip(words).for_each(load),
            [words, next] => places.iter_mut().zip(words.iter().chain(next)).for_each(load),
        }
        self.taken = self.taken.wrapping_add(1);
        Ok(Some(request))
    }

    /// Puts a response, which the front end learns of by [`Self::push`]. There must be a request
    /// without one; else nothing happens.
    pub fn respond(&mut self, response: &T::Response) {
        if self.in_flight() == 0 {
            return;
        }
        let places = response.as_bytes().as_chunks::<4>().0;
        let store = |(bytes, word): (&[u8; 4], &AtomicU32)| {
            word.store(u32::from_le_bytes(*bytes), Ordering::Relaxed);
        };
        match self.slot(self.answered) {
            [words, []] => places.iter().zip(words).for_each(store),
            [words, next] => places.iter().zip(words.iter().chain(next)).for_each(store),
        }
        self.answered = self.answered.wrapping_add(1);
    }

    /// Shows the responses to the front end. Returns whether it wants to be told of one of them.
    #[must_use]
    pub fn push(&mut self) -> bool {
        let (old, new) = (self.pushed, self.answered);
        if old == new {
            return false;
        }
        self.pushed = new;
        // Release: who sees the index sees the responses.
        self.word(RSP_PROD).store(new, Ordering::Release);
        // The index is seen before the wish is read; the front end does it the other way round, so
        // that one of both notices the other.
        fence(Ordering::SeqCst);
        let wish = self.word(RSP_EVENT).load(Ordering::Relaxed);
        new.wrapping_sub(wish) < new.wrapping_sub(old)
    }

    /// Whether there are requests, before one sleeps: if not, the next one is to be told of.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn is_more(&self) -> Result<bool, RingError> {
        self.has(1)
    }

    /// Whether there are `count` requests, 1 at least, before one sleeps: if not, the one that makes
    /// them so many is to be told of.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn has(&self, count: u32) -> Result<bool, RingError> {
        if self.waiting()? >= count {
            return Ok(true);
        }
        self.word(REQ_EVENT).store(self.taken.wrapping_add(count), Ordering::Relaxed);
        // As in `push`, with the ends exchanged.
        fence(Ordering::SeqCst);
        Ok(self.waiting()? >= count)
    }

    /// How many requests are there to take.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn waiting(&self) -> Result<u32, RingError> {
        // Acquire: who sees the index sees the requests.
        let produced = self.word(REQ_PROD).load(Ordering::Acquire);
        let waiting = produced.wrapping_sub(self.taken);
        let free = self.slots.saturating_sub(self.in_flight());
        if waiting <= free { Ok(waiting) } else { Err(RingError::Indices) }
    }

    /// The words of a slot, and if they go on in a second page those and what is behind them.
    #[inline]
    fn slot(&self, index: u32) -> [&[AtomicU32]; 2] {
        let first = HEADER_WORDS + (index & (self.slots - 1)) as usize * Self::SLOT_WORDS;
        let page = self.pages.get(first / PAGE_WORDS).map_or(&[][..], |page| page.words());
        let start = first % PAGE_WORDS;
        if let Some(whole) = page.get(start..start + Self::SLOT_WORDS) {
            return [whole, &[]];
        }
        let next = self.pages.get(first / PAGE_WORDS + 1).map_or(&[][..], |page| page.words());
        [page.get(start..).unwrap_or_default(), next]
    }

    /// A word by its number from the ring's start. Slots end before the last page does.
    fn word(&self, index: usize) -> &AtomicU32 {
        #[expect(clippy::indexing_slicing, reason = "a slot's number is masked; pages fit slots")]
        let page = &self.pages[index / PAGE_WORDS];
        #[expect(clippy::indexing_slicing, reason = "a remainder of the array's length")]
        let word = &page.words()[index % PAGE_WORDS];
        word
    }
}
