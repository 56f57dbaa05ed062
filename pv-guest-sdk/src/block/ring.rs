//! The front end's end of a block device's ring.

use core::sync::atomic::{AtomicU32, Ordering, fence};

use heapless::Vec;
use hypercall_abi::blkif::{
    MAX_RING_ORDER, RING_HEADER, RING_SLOTS, Response, SLOT_SIZE, SharedRing,
};
use hypercall_abi::types::{GrantRef, PAGE_SIZE};
use zerocopy::FromBytes;

use super::error::Breach;
use crate::console::ring::Words;

const REQUESTS_PUT: usize = core::mem::offset_of!(SharedRing, req_prod) / 4;
const REQUEST_EVENT: usize = core::mem::offset_of!(SharedRing, req_event) / 4;
const RESPONSES_PUT: usize = core::mem::offset_of!(SharedRing, rsp_prod) / 4;
const RESPONSE_EVENT: usize = core::mem::offset_of!(SharedRing, rsp_event) / 4;
/// Words of a slot, and before the first one.
const SLOT: usize = SLOT_SIZE as usize / 4;
const HEADER: usize = RING_HEADER as usize / 4;

/// The most pages a ring has.
pub(super) const RING_PAGES: usize = 1 << MAX_RING_ORDER;

/// A page of this guest that the back end may read and write.
pub trait Page {
    /// What the back end is told.
    fn reference(&self) -> GrantRef;

    /// What is in it. The back end may write at any time.
    fn words(&self) -> &Words;
}

/// The pages, and where this end is. The front end's own indices are kept here: what is in the pages
/// is for the back end, and is never read back.
#[derive(Debug)]
pub(super) struct Ring<P> {
    pages: Vec<P, RING_PAGES>,
    slots: u32,
    /// Requests written, and of these, shown to the back end.
    put: u32,
    shown: u32,
    /// Responses taken.
    taken: u32,
}

impl<P: Page> Ring<P> {
    /// An empty ring in zeroed pages, whose number is a power of two.
    pub(super) fn new(pages: Vec<P, RING_PAGES>) -> Self {
        let order = pages.len().checked_ilog2().unwrap_or(0) as usize;
        let ring = Self { slots: RING_SLOTS[order], pages, put: 0, shown: 0, taken: 0 };
        for event in [REQUEST_EVENT, RESPONSE_EVENT] {
            ring.word(event).store(1, Ordering::Release);
        }
        ring
    }

    pub(super) fn pages(&self) -> &[P] {
        &self.pages
    }

    fn word(&self, index: usize) -> &AtomicU32 {
        const WORDS: usize = PAGE_SIZE / 4;
        &self.pages[index / WORDS].words()[index % WORDS]
    }

    fn slot(&self, index: u32) -> usize {
        HEADER + SLOT * (index % self.slots) as usize
    }

    pub(super) const fn slots(&self) -> u32 {
        self.slots
    }

    /// Writes a request, for which there must be room. The back end does not see it yet.
    pub(super) fn put(&mut self, request: &[u8]) {
        let start = self.slot(self.put);
        for (index, word) in request.chunks_exact(4).enumerate() {
            let word = word.try_into().map_or(0, u32::from_le_bytes);
            self.word(start + index).store(word, Ordering::Relaxed);
        }
        self.put = self.put.wrapping_add(1);
    }

    /// Shows the back end what was put, and says whether it wants to be told.
    pub(super) fn show(&mut self) -> bool {
        let new = self.put.wrapping_sub(self.shown);
        self.shown = self.put;
        self.word(REQUESTS_PUT).store(self.put, Ordering::Release);
        // It sees the requests, or this sees that it waits for them.
        fence(Ordering::SeqCst);
        self.put.wrapping_sub(self.word(REQUEST_EVENT).load(Ordering::Acquire)) < new
    }

    /// Takes a response, if there is one. At most as many come as requests were shown.
    pub(super) fn take(&mut self) -> Result<Option<Response>, Breach> {
        if self.waiting()? == 0 {
            // The back end tells of the next one; one that came before it knew is seen here.
            self.word(RESPONSE_EVENT).store(self.taken.wrapping_add(1), Ordering::Release);
            fence(Ordering::SeqCst);
            if self.waiting()? == 0 {
                return Ok(None);
            }
        }
        let start = self.slot(self.taken);
        let mut bytes = [0; size_of::<Response>()];
        for (index, bytes) in bytes.chunks_exact_mut(4).enumerate() {
            bytes.copy_from_slice(&self.word(start + index).load(Ordering::Relaxed).to_le_bytes());
        }
        self.taken = self.taken.wrapping_add(1);
        Ok(Response::read_from_bytes(&bytes).ok())
    }

    fn waiting(&self) -> Result<u32, Breach> {
        let put = self.word(RESPONSES_PUT).load(Ordering::Acquire);
        let waiting = put.wrapping_sub(self.taken);
        if waiting > self.shown.wrapping_sub(self.taken) {
            Err(Breach::Indices)
        } else {
            Ok(waiting)
        }
    }

    /// Goes on as if so many requests had been answered.
    #[cfg(test)]
    pub(super) fn start_at(&mut self, index: u32) {
        (self.put, self.shown, self.taken) = (index, index, index);
        for word in [REQUESTS_PUT, RESPONSES_PUT] {
            self.word(word).store(index, Ordering::Release);
        }
        for event in [REQUEST_EVENT, RESPONSE_EVENT] {
            self.word(event).store(index.wrapping_add(1), Ordering::Release);
        }
    }
}
