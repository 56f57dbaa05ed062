//! A client at the other end of a stream of bytes.

use alloc::vec::Vec;

use hypercall_abi::xenstore::{Header, PAYLOAD_MAX, WATCH_EVENT};
use zerocopy::{FromBytes, IntoBytes};

use crate::client::{Client, Item};
use crate::store::Store;

const HEADER: usize = size_of::<Header>();

/// Why a connection cannot go on. Its client has lost its watches and transactions, and what it was
/// about to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A request says that it is longer than any may be: where the next one begins is unknown.
    Protocol,
    /// The indices of the ring make no sense.
    Indices,
    /// The domain has been released.
    Gone,
}

/// A client's stream: bytes of requests in, in pieces of any size; bytes of answers and events out.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    is_broken: bool,
}

impl Connection {
    /// A new client of a domain.
    #[must_use]
    pub fn new(store: &mut Store, domid: u16) -> Self {
        Self {
            client: store.connect(domid),
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            is_broken: false,
        }
    }

    /// The client that it is for the store.
    #[must_use]
    pub const fn client(&self) -> Client {
        self.client
    }

    fn header(&self) -> Option<Header> {
        Header::read_from_prefix(&self.input).ok().map(|(header, _)| header)
    }

    /// How many bytes it takes now: those that are missing from a header, then those that are
    /// missing from its request. None once the request is whole, until it has been handled.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.is_broken {
            return 0;
        }
        let length = self.header().map_or(0, |header| header.len.min(PAYLOAD_MAX) as usize);
        (HEADER + length).saturating_sub(self.input.len())
    }

    /// Takes bytes of a request, and says how many: the rest belong to the next one.
    #[must_use]
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            let piece = self.room().min(bytes.len() - taken);
            if piece == 0 {
                break;
            }
            self.input.extend_from_slice(&bytes[taken..taken + piece]);
            taken += piece;
            self.is_broken |= self.header().is_some_and(|header| header.len > PAYLOAD_MAX);
        }
        taken
    }

    /// Whether a whole request waits, and there is room for its answer.
    #[must_use]
    pub fn is_ready(&self, store: &Store) -> bool {
        let state = store.clients.get(&self.client);
        let has_room = state.is_some_and(|state| state.answers() < store.quotas.answers);
        !self.is_broken && self.room() == 0 && has_room
    }

    /// Handles at most one request. The flag says whether it did: there has to be a whole one, and
    /// few enough answers may wait.
    ///
    /// # Errors
    ///
    /// [`Fault::Protocol`], [`Fault::Gone`]; it stays so.
    pub fn handle(&mut self, store: &mut Store) -> Result<bool, Fault> {
        if !store.clients.contains_key(&self.client) {
            return Err(Fault::Gone);
        }
        if self.is_broken {
            self.forget(store);
            return Err(Fault::Protocol);
        }
        if !self.is_ready(store) {
            return Ok(false);
        }
        let Some(header) = self.header() else { return Ok(false) };
        store.request(self.client, header, &self.input[HEADER..]);
        self.input.clear();
        Ok(true)
    }

    /// The bytes to be sent next: the rest of one message; nothing if no message waits.
    pub fn output(&mut self, store: &mut Store) -> &[u8] {
        if self.sent == self.output.len() {
            self.output.clear();
            self.sent = 0;
            if let Some(item) = store.pop(self.client) {
                encode(item, &mut self.output);
            }
        }
        &self.output[self.sent..]
    }

    /// Says how many of them have been sent.
    pub fn sent(&mut self, bytes: usize) {
        self.sent = (self.sent + bytes).min(self.output.len());
    }

    /// Whether something is to be sent.
    #[must_use]
    pub fn has_output(&self, store: &Store) -> bool {
        self.sent < self.output.len() || store.has_output(self.client)
    }

    /// Starts again, as if nothing had been received: also what was about to be sent, and the
    /// client's watches and transactions, are forgotten.
    pub fn restart(&mut self, store: &mut Store) {
        self.forget(store);
        self.is_broken = false;
    }

    /// Forgets what has been received and what was about to be sent, with watches and transactions.
    pub(crate) fn forget(&mut self, store: &mut Store) {
        self.input.clear();
        self.output.clear();
        self.sent = 0;
        if let Ok(state) = store.state(self.client) {
            state.reset();
            state.forget_output();
        }
    }
}

fn encode(item: Item, to: &mut Vec<u8>) {
    let (header, body) = match item {
        Item::Answer(header, body) => (header, body),
        Item::Event(event) => {
            let body = [event.path.as_bytes(), &[0], &event.token, &[0]].concat();
            // Never above the limit of a message, which is far below that of the type.
            let len = u32::try_from(body.len()).unwrap_or(0);
            (Header { kind: WATCH_EVENT, req_id: 0, tx_id: 0, len }, body)
        }
    };
    to.extend_from_slice(header.as_bytes());
    to.extend_from_slice(&body);
}
