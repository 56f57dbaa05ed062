//! Requests in flight, by ticket, and the pages they have.

use alloc::vec::Vec;

use hypercall_abi::blkif::Segment;

use crate::disk::Ticket;
use crate::guest::{Direction, Guest};

/// What is left to do for a request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Action {
    /// There is no request.
    #[default]
    None,
    Transfer(Direction),
    /// A barrier that waits for the flush before its data.
    Before(Direction),
    /// A barrier's data.
    Barrier(Direction),
    /// A flush, or that after a barrier's data.
    Flush,
    Discard(u64),
}

/// One request, from when it is taken to its response.
pub(crate) struct Flight<B, P> {
    pub(crate) id: u64,
    pub(crate) operation: u8,
    /// What the response names.
    pub(crate) answered: u8,
    pub(crate) action: Action,
    pub(crate) sector: u64,
    pub(crate) segments: Vec<Segment>,
    /// Own pages: of the data, one for each segment, or of the list of segments.
    pub(crate) buffers: Vec<B>,
    pub(crate) pieces: Vec<P>,
    /// How many mapped pages it was promised.
    pub(crate) promised: usize,
    /// Where the mapped pages of its segments are, if it uses such.
    pub(crate) places: Vec<u32>,
    /// Whether the disk has it.
    pub(crate) submitted: bool,
    /// Whether its last copies were made.
    pub(crate) copied: bool,
}

impl<B, P> Flight<B, P> {
    const fn new() -> Self {
        Self {
            id: 0,
            operation: 0,
            answered: 0,
            action: Action::None,
            sector: 0,
            segments: Vec::new(),
            buffers: Vec::new(),
            pieces: Vec::new(),
            promised: 0,
            places: Vec::new(),
            submitted: false,
            copied: false,
        }
    }
}

/// All requests in flight. Their lists keep their memory for the next request.
pub(crate) struct Flights<B, P> {
    all: Vec<Flight<B, P>>,
    free: Vec<u32>,
}

impl<B, P> Flights<B, P> {
    pub(crate) const fn new() -> Self {
        Self { all: Vec::new(), free: Vec::new() }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.all.len().saturating_sub(self.free.len())
    }

    /// A new one. The caller gives it an action.
    pub(crate) fn open(&mut self) -> (Ticket, &mut Flight<B, P>) {
        let number = self.free.pop().unwrap_or_else(|| {
            self.all.push(Flight::new());
            u32::try_from(self.all.len() - 1).unwrap_or(u32::MAX)
        });
        #[expect(clippy::indexing_slicing, reason = "its own, or that just pushed")]
        let flight = &mut self.all[number as usize];
        (Ticket(number), flight)
    }

    /// That of a ticket, if it is in flight.
    pub(crate) fn get(&mut self, ticket: Ticket) -> Option<&mut Flight<B, P>> {
        let flight = self.all.get_mut(ticket.0 as usize)?;
        (flight.action != Action::None).then_some(flight)
    }

    /// Those that the disk does not have.
    pub(crate) fn idle(&self) -> Vec<Ticket> {
        let all = self.all.iter().zip(0..);
        let idle = all.filter(|(it, _)| it.action != Action::None && !it.submitted);
        idle.map(|(_, number)| Ticket(number)).collect()
    }

    /// Ends one, whose pages were taken from it.
    pub(crate) fn close(&mut self, ticket: Ticket) {
        if let Some(flight) = self.get(ticket) {
            flight.action = Action::None;
            flight.segments.clear();
            flight.pieces.clear();
            flight.places.clear();
            flight.promised = 0;
            (flight.submitted, flight.copied) = (false, false);
            self.free.push(ticket.0);
        }
    }
}

/// Pages of this domain's own for requests, at most so many.
pub(crate) struct Pool<B> {
    free: Vec<B>,
    made: usize,
    limit: usize,
}

impl<B> Pool<B> {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { free: Vec::new(), made: 0, limit }
    }

    /// How many there are, free or not.
    pub(crate) const fn made(&self) -> usize {
        self.made
    }

    /// Whether so many pages are free now.
    pub(crate) fn has<G: Guest<Buffer = B>>(&mut self, count: usize, guest: &mut G) -> bool {
        while self.free.len() < count && self.made < self.limit {
            let Some(page) = guest.buffer() else { break };
            self.made += 1;
            self.free.push(page);
        }
        self.free.len() >= count
    }

    /// Moves so many pages that are free.
    pub(crate) fn take(&mut self, count: usize, pages: &mut Vec<B>) {
        pages.extend(self.free.drain(self.free.len().saturating_sub(count)..));
    }

    pub(crate) fn give(&mut self, pages: &mut Vec<B>) {
        self.free.append(pages);
    }
}
