//! The guest's end of the store's ring: a stream of bytes in each direction.

use core::sync::atomic::Ordering;

use hypercall_abi::xenstore::{RING_SIZE, Ring as Layout};

use super::error::Fault;
use crate::console::ring::{Bytes, Words};

const REQUESTS: usize = core::mem::offset_of!(Layout, req);
const ANSWERS: usize = core::mem::offset_of!(Layout, rsp);
const REQUESTS_TAKEN: usize = core::mem::offset_of!(Layout, req_cons) / 4;
const REQUESTS_PUT: usize = core::mem::offset_of!(Layout, req_prod) / 4;
const ANSWERS_TAKEN: usize = core::mem::offset_of!(Layout, rsp_cons) / 4;
const ANSWERS_PUT: usize = core::mem::offset_of!(Layout, rsp_prod) / 4;
const FEATURES: usize = core::mem::offset_of!(Layout, server_features) / 4;
const CONNECTION: usize = core::mem::offset_of!(Layout, connection) / 4;

/// In the server's features: it can start again.
const CAN_RECONNECT: u32 = 1;

/// The page, and where this end is. The guest's own indices are kept here: what is in the page is
/// for the server, and is never read back.
#[derive(Debug)]
pub(super) struct Ring {
    bytes: &'static Bytes,
    words: &'static Words,
    put: u32,
    taken: u32,
}

impl Ring {
    /// The ring in a page, of which both are views. Answers that wait there are somebody else's.
    pub(super) fn new(bytes: &'static Bytes, words: &'static Words) -> Self {
        let mut ring = Self { bytes, words, put: 0, taken: 0 };
        ring.resume();
        ring
    }

    /// Goes on where the page says the ring is, without the answers that wait.
    pub(super) fn resume(&mut self) {
        self.put = self.words[REQUESTS_PUT].load(Ordering::Relaxed);
        self.taken = self.words[ANSWERS_PUT].load(Ordering::Acquire);
        self.words[ANSWERS_TAKEN].store(self.taken, Ordering::Release);
    }

    /// Asks the server to start again, and says whether it can do that.
    pub(super) fn ask_to_reconnect(&self) -> bool {
        let can = self.words[FEATURES].load(Ordering::Acquire) & CAN_RECONNECT != 0;
        if can {
            self.words[CONNECTION].store(1, Ordering::Release);
        }
        can
    }

    /// Whether the server has started again.
    pub(super) fn is_connected(&self) -> bool {
        self.words[CONNECTION].load(Ordering::Acquire) == 0
    }

    /// Puts as many of the bytes as there is room for, and says how many.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let taken = self.words[REQUESTS_TAKEN].load(Ordering::Acquire);
        let waiting = self.put.wrapping_sub(taken);
        let room = RING_SIZE.checked_sub(waiting).ok_or(Fault::Indices)? as usize;
        let bytes = bytes.get(..room).unwrap_or(bytes);
        for &byte in bytes {
            self.bytes[REQUESTS + place(self.put)].store(byte, Ordering::Relaxed);
            self.put = self.put.wrapping_add(1);
        }
        self.words[REQUESTS_PUT].store(self.put, Ordering::Release);
        Ok(bytes.len())
    }

    /// How many bytes of answers wait.
    pub(super) fn waiting(&self) -> Result<usize, Fault> {
        let put = self.words[ANSWERS_PUT].load(Ordering::Acquire);
        let waiting = put.wrapping_sub(self.taken);
        if waiting > RING_SIZE { Err(Fault::Indices) } else { Ok(waiting as usize) }
    }

    /// Takes so many bytes, of those that wait.
    pub(super) fn take(&mut self, to: &mut [u8]) {
        for byte in to {
            *byte = self.bytes[ANSWERS + place(self.taken)].load(Ordering::Relaxed);
            self.taken = self.taken.wrapping_add(1);
        }
        self.words[ANSWERS_TAKEN].store(self.taken, Ordering::Release);
    }
}

const fn place(index: u32) -> usize {
    (index % RING_SIZE) as usize
}
