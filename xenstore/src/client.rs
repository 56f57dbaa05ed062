//! What the store keeps for each client: its watches, its transactions, and what it has yet to be
//! told.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use hypercall_abi::xenstore::{Header, PAYLOAD_MAX};

use crate::transaction::Transaction;
use crate::watch::{Event, Reach, Watch};

/// A client of the store: a domain's connection, or a task of this program. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Client(pub(crate) u64);

impl Client {
    /// The client, acting within one of its transactions; 0 is none.
    #[must_use]
    pub const fn within(self, transaction: u32) -> Scope {
        Scope { client: self, transaction }
    }
}

/// Who asks, and within which of his transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    pub(crate) client: Client,
    pub(crate) transaction: u32,
}

impl Scope {
    /// The transaction's number; 0 is none.
    #[must_use]
    pub const fn transaction(self) -> u32 {
        self.transaction
    }
}

impl From<Client> for Scope {
    fn from(client: Client) -> Self {
        client.within(0)
    }
}

/// A message to a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Answer(Header, Vec<u8>),
    Event(Event),
}

/// What the store keeps for a client.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) domid: u16,
    pub(crate) watches: Vec<Watch>,
    pub(crate) transactions: BTreeMap<u32, Transaction>,
    /// The last transaction's number.
    pub(crate) last_transaction: u32,
    queue: VecDeque<Item>,
    /// What the events in the queue hold. Unit: bytes.
    events: usize,
}

impl State {
    pub(crate) fn new(domid: u16) -> Self {
        Self { domid, ..Self::default() }
    }

    /// What the memory quota counts. Unit: bytes.
    pub(crate) fn memory(&self) -> usize {
        let watches: usize = self.watches.iter().map(Watch::cost).sum();
        let transactions: usize = self.transactions.values().map(|one| one.memory).sum();
        watches + transactions
    }

    /// Answers not yet taken.
    pub(crate) fn answers(&self) -> usize {
        self.queue.iter().filter(|item| matches!(item, Item::Answer(..))).count()
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(crate) fn push_answer(&mut self, header: Header, body: Vec<u8>) {
        self.queue.push_back(Item::Answer(header, body));
    }

    /// Tells those of its watches that are to hear of a change.
    pub(crate) fn tell(&mut self, changed: &str, reach: Reach, limit: usize) {
        for place in 0..self.watches.len() {
            let watch = &self.watches[place];
            if !watch.has_missed && watch.hears(changed, reach) {
                let event = watch.event(changed);
                self.push_event(place, event, limit);
            }
        }
    }

    /// Tells one watch of itself.
    pub(crate) fn tell_watch(&mut self, place: usize, limit: usize) {
        let watch = &self.watches[place];
        let event = watch.event(&watch.path);
        self.push_event(place, event, limit);
    }

    /// An event that waits already is not queued again: who reads it then sees this change too. That
    /// is not so for domains that come and go, each of which is told. One for which there is no room
    /// is left to the watch, as are those after it until it is made up for: else each of thousands of
    /// changes would be looked for in a full queue. One that fits into no message names the watched
    /// path.
    fn push_event(&mut self, place: usize, mut event: Event, limit: usize) {
        let watch = &mut self.watches[place];
        if length(&event) > PAYLOAD_MAX as usize {
            event = watch.event(&watch.path);
        }
        let is_same = |item: &Item| matches!(item, Item::Event(other) if *other == event);
        if !event.path.starts_with('@') && self.queue.iter().any(is_same) {
            return;
        }
        let size = size_of::<Item>() + length(&event);
        if self.events > 0 && self.events + size > limit {
            watch.has_missed = true;
            return;
        }
        self.events += size;
        self.queue.push_back(Item::Event(event));
    }

    /// Takes the next message, and makes up for a missed event if there is room now.
    pub(crate) fn pop(&mut self, limit: usize) -> Option<Item> {
        let item = self.queue.pop_front()?;
        if let Item::Event(event) = &item {
            self.events -= size_of::<Item>() + length(event);
            if let Some(place) = self.watches.iter().position(|watch| watch.has_missed) {
                self.watches[place].has_missed = false;
                self.tell_watch(place, limit);
            }
        }
        Some(item)
    }

    /// Ends its watches and transactions.
    pub(crate) fn reset(&mut self) {
        self.watches.clear();
        self.transactions.clear();
    }

    /// Forgets what it has yet to be told.
    pub(crate) fn forget_output(&mut self) {
        self.queue.clear();
        self.events = 0;
    }
}

/// Length of an event's message without the header. Unit: bytes.
const fn length(event: &Event) -> usize {
    event.path.len() + event.token.len() + 2
}
