//! The ring in a page that a domain shares with the store.
//!
//! Both ends may write anything at any time. Bytes are copied once; indices are believed only as
//! far as they keep within the ring, and the worst that a liar gets is a stream of his own bytes.

use core::sync::atomic::{AtomicU8, AtomicU32, Ordering, fence};

use hypercall_abi::types::PAGE_SIZE;
use hypercall_abi::xenstore::{RING_SIZE, Ring as Layout};

use crate::connection::{Connection, Fault};
use crate::store::Store;

/// The bytes of a shared page.
pub type Bytes = [AtomicU8; PAGE_SIZE];
/// The words of a shared page.
pub type Words = [AtomicU32; PAGE_SIZE / 4];

const FEATURES: usize = core::mem::offset_of!(Layout, server_features) / 4;
const CONNECTION: usize = core::mem::offset_of!(Layout, connection) / 4;
const ERROR: usize = core::mem::offset_of!(Layout, error) / 4;

/// That the domain may have the ring started again, and that the store says why it gave up.
const SERVER_FEATURES: u32 = 1 | 2;
const RECONNECT: u32 = 1;

/// One direction of the ring: where its bytes and its indices are.
#[derive(Clone, Copy, Debug)]
pub struct Direction {
    bytes: usize,
    consumed: usize,
    produced: usize,
}

/// From the domain to the store.
pub const REQUESTS: Direction = Direction {
    bytes: core::mem::offset_of!(Layout, req),
    consumed: core::mem::offset_of!(Layout, req_cons) / 4,
    produced: core::mem::offset_of!(Layout, req_prod) / 4,
};
/// From the store to the domain.
pub const ANSWERS: Direction = Direction {
    bytes: core::mem::offset_of!(Layout, rsp),
    consumed: core::mem::offset_of!(Layout, rsp_cons) / 4,
    produced: core::mem::offset_of!(Layout, rsp_prod) / 4,
};

/// The page, seen from either end.
///
/// Who has moved an index on looks at the other one next, and waits if there is nothing to do; the other
/// end does the same the other way round, and tells only who may wait. So that one of both notices, an
/// index is seen before the other one is read: hence the fences.
#[derive(Clone, Copy, Debug)]
pub struct Ring<'a> {
    bytes: &'a Bytes,
    words: &'a Words,
}

impl<'a> Ring<'a> {
    /// The ring in a page, of which both are views.
    #[must_use]
    pub const fn new(bytes: &'a Bytes, words: &'a Words) -> Self {
        Self { bytes, words }
    }

    /// How many bytes wait in a direction.
    ///
    /// # Errors
    ///
    /// [`Fault::Indices`]: more than fit.
    pub fn waiting(self, on: Direction) -> Result<u32, Fault> {
        // Acquire on both: the bytes that are read next were written before the index was; the
        // bytes that are overwritten next were read before the index was moved on.
        let produced = self.words[on.produced].load(Ordering::Acquire);
        let consumed = self.words[on.consumed].load(Ordering::Acquire);
        let waiting = produced.wrapping_sub(consumed);
        if waiting > RING_SIZE { Err(Fault::Indices) } else { Ok(waiting) }
    }

    fn place(self, on: Direction, index: u32) -> &'a AtomicU8 {
        &self.bytes[on.bytes + (index % RING_SIZE) as usize]
    }

    /// Puts as many of the bytes as there is room for, and says how many.
    ///
    /// # Errors
    ///
    /// As for [`Ring::waiting`].
    pub fn put(self, on: Direction, bytes: &[u8]) -> Result<usize, Fault> {
        let room = (RING_SIZE - self.waiting(on)?) as usize;
        let mut index = self.words[on.produced].load(Ordering::Relaxed);
        for &byte in bytes.iter().take(room) {
            self.place(on, index).store(byte, Ordering::Relaxed);
            index = index.wrapping_add(1);
        }
        self.words[on.produced].store(index, Ordering::Release);
        fence(Ordering::SeqCst);
        Ok(room.min(bytes.len()))
    }

    /// Takes what waits, as much as fits, and says how much that is.
    ///
    /// # Errors
    ///
    /// As for [`Ring::waiting`].
    pub fn take(self, on: Direction, to: &mut [u8]) -> Result<usize, Fault> {
        let taken = (self.waiting(on)? as usize).min(to.len());
        let mut index = self.words[on.consumed].load(Ordering::Relaxed);
        for byte in to.iter_mut().take(taken) {
            *byte = self.place(on, index).load(Ordering::Relaxed);
            index = index.wrapping_add(1);
        }
        self.words[on.consumed].store(index, Ordering::Release);
        fence(Ordering::SeqCst);
        Ok(taken)
    }

    /// Empties both directions.
    fn clear(self) {
        for word in [REQUESTS.consumed, REQUESTS.produced, ANSWERS.consumed, ANSWERS.produced] {
            self.words[word].store(0, Ordering::Relaxed);
        }
    }
}

/// What came of serving a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Served {
    /// Bytes were taken or put: send the event.
    pub notify: bool,
    /// There is more to do at once; else wait for the domain's event, or for [`Server::has_work`].
    pub again: bool,
    /// It is over until the domain has the ring started again.
    pub fault: Option<Fault>,
}

/// The store's end of a domain's ring.
///
/// After a fault it does nothing until the domain asks for a new start by the ring's `connection`
/// word, or [`Server::restart`] is called.
#[derive(Debug)]
pub struct Server<'a> {
    ring: Ring<'a>,
    connection: Connection,
    fault: Option<Fault>,
}

impl<'a> Server<'a> {
    /// Serves a domain's ring, which goes on from where its indices are.
    #[must_use]
    pub fn new(store: &mut Store, domid: u16, bytes: &'a Bytes, words: &'a Words) -> Self {
        words[FEATURES].store(SERVER_FEATURES, Ordering::Relaxed);
        let connection = Connection::new(store, domid);
        Self { ring: Ring::new(bytes, words), connection, fault: None }
    }

    /// Empties the ring and starts again, as an introduction does. Nothing else may touch it then.
    pub fn restart(&mut self, store: &mut Store) {
        self.fault = None;
        self.connection.restart(store);
        self.ring.clear();
        self.ring.words[ERROR].store(0, Ordering::Relaxed);
        self.ring.words[FEATURES].store(SERVER_FEATURES, Ordering::Relaxed);
        // Release: who sees that it is connected sees the indices.
        self.ring.words[CONNECTION].store(0, Ordering::Release);
    }

    /// The client that it is for the store.
    #[must_use]
    pub const fn client(&self) -> crate::Client {
        self.connection.client()
    }

    /// Sends what waits, as far as there is room, and handles at most one request.
    pub fn serve(&mut self, store: &mut Store) -> Served {
        let mut served = Served::default();
        if self.ring.words[CONNECTION].load(Ordering::Acquire) == RECONNECT {
            self.restart(store);
            served.notify = true;
        }
        if self.fault.is_none()
            && let Err(fault) = self.step(store, &mut served)
        {
            self.fault = Some(fault);
            self.connection.forget(store);
            let code = match fault {
                Fault::Gone => 1,
                Fault::Indices => 2,
                Fault::Protocol => 3,
            };
            self.ring.words[ERROR].store(code, Ordering::Release);
            served.notify = true;
        }
        served.fault = self.fault;
        served.again = self.has_work(store);
        served
    }

    fn step(&mut self, store: &mut Store, served: &mut Served) -> Result<(), Fault> {
        served.notify |= self.send(store)?;
        let mut piece = [0; RING_SIZE as usize];
        loop {
            let room = self.connection.room().min(piece.len());
            let taken = self.ring.take(REQUESTS, &mut piece[..room])?;
            if taken == 0 {
                break;
            }
            // There is room for all of it.
            let _ = self.connection.receive(&piece[..taken]);
            served.notify = true;
        }
        self.connection.handle(store)?;
        served.notify |= self.send(store)?;
        Ok(())
    }

    /// Whether anything was sent.
    fn send(&mut self, store: &mut Store) -> Result<bool, Fault> {
        let mut has_sent = false;
        loop {
            let sent = self.ring.put(ANSWERS, self.connection.output(store))?;
            self.connection.sent(sent);
            if sent == 0 {
                return Ok(has_sent);
            }
            has_sent = true;
        }
    }

    /// Whether [`Server::serve`] would do something: a request waits that can be answered, or there
    /// is something to send and room for it.
    #[must_use]
    pub fn has_work(&self, store: &Store) -> bool {
        if self.fault.is_some() {
            return self.ring.words[CONNECTION].load(Ordering::Acquire) == RECONNECT;
        }
        let can_send = self.ring.waiting(ANSWERS).is_ok_and(|waiting| waiting < RING_SIZE)
            && self.connection.has_output(store);
        let can_take = self.connection.room() > 0
            && self.ring.waiting(REQUESTS).is_ok_and(|waiting| waiting > 0);
        can_send || can_take || self.connection.is_ready(store)
    }
}
