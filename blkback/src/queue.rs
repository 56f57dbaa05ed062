//! The way of a request: from the ring to the disk and back.
//!
//! What is done at the same time for many requests is done in one batch: the lists of segments,
//! the data that goes to the disk, the pages to map, the data that comes from the disk. A turn
//! takes requests up to a limit, so that one device leaves the processor to the others.
//!
//! Three ways lead to the data. Where the front end keeps its grants, its pages stay mapped and the
//! disk reads and writes them; else a disk that lies in memory is copied to and from by grant, and
//! the data of others goes through pages of this domain's own.

mod movement;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::task::{Context, Poll};

use hypercall_abi::blkif::{
    Request, STATUS_ERROR, STATUS_NOT_SUPPORTED, STATUS_OKAY, Segment, WRITE_BARRIER,
};

use shared_ring::RingError;

use crate::cache::Cache;
use crate::disk::{Admission, Command, Disk, DiskError, Geometry, Ticket};
use crate::flight::{Action, Flights, Pool};
use crate::guest::{Direction, Guest, PageCopy};
use crate::request::{Segments, Status, Work, answered};
use crate::ring::{Ring, response};

/// What one device may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How much is taken from the ring in one turn, where each request counts 1 and each of its
    /// segments 1; exceeded by one request at most.
    pub turn: usize,
    /// Pages of this domain's own; at least `indirect` and 11.
    pub buffers: usize,
    /// Pages of the front end's that stay mapped; at least `indirect` and 11.
    pub mappings: usize,
    /// Segments of a request that has them in a page of its own: at most 256; 0 for none such.
    pub indirect: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self { turn: 512, buffers: 512, mappings: 1024, indirect: 256 }
    }
}

impl Limits {
    /// The same, with what cannot be put right.
    pub(crate) fn sound(self) -> Self {
        let indirect = self.indirect.min(256);
        let least = usize::from(indirect.max(11));
        Self {
            turn: self.turn.max(1),
            buffers: self.buffers.max(least),
            mappings: self.mappings.max(least),
            indirect,
        }
    }
}

/// How data moves.
enum Mode<G: Guest> {
    Resident,
    Buffers,
    Mapped(Cache<G>),
}

/// A ring that is served.
pub(crate) struct Queue<G: Guest> {
    ring: Ring<G::Page>,
    guest: G,
    geometry: Geometry,
    limits: Limits,
    mode: Mode<G>,
    pool: Pool<G::Buffer>,
    flights: Flights<G::Buffer, G::Piece>,
    /// Taken from the ring, and to wait until others are done.
    held: Option<Request>,
    /// A barrier is in flight.
    barrier: bool,
    stopped: bool,
    /// How many requests ended in this turn, and how many commands of the disk's.
    ended: usize,
    /// For the disk, which had no room.
    waiting: VecDeque<Ticket>,
    /// Whose data is to be moved in this turn.
    fresh: Vec<Ticket>,
    copies: Vec<PageCopy<G::Piece>>,
    /// Whose copies these are, with where they end.
    owners: Vec<(Ticket, usize)>,
}

impl<G: Guest> Queue<G> {
    pub(crate) fn new(
        ring: Ring<G::Page>,
        guest: G,
        disk: &impl Disk<G::Piece>,
        limits: Limits,
        keep_mapped: bool,
    ) -> Self {
        let mode = if keep_mapped {
            Mode::Mapped(Cache::new(limits.mappings))
        } else if disk.resident(0, 1).is_some() {
            Mode::Resident
        } else {
            Mode::Buffers
        };
        Self {
            ring,
            guest,
            geometry: disk.geometry(),
            limits,
            mode,
            pool: Pool::new(limits.buffers),
            flights: Flights::new(),
            held: None,
            barrier: false,
            stopped: false,
            ended: 0,
            waiting: VecDeque::new(),
            fresh: Vec::new(),
            copies: Vec::new(),
            owners: Vec::new(),
        }
    }

    /// Serves what there is, up to the limit of a turn. Returns whether there is more to do now.
    ///
    /// # Errors
    /// [`RingError`]: the front end broke the ring. The queue is stopped.
    pub(crate) fn turn(
        &mut self,
        disk: &mut impl Disk<G::Piece>,
        cx: &mut Context<'_>,
    ) -> Result<bool, RingError> {
        self.guest.listen(cx);
        self.resubmit(disk);
        self.ended = 0;
        self.collect(disk, cx);
        let taken = if self.stopped { Ok(()) } else { self.take() };
        if taken.is_err() {
            self.stop();
        }
        self.move_data(disk);
        // What the disk did at once; and after this it wakes the task.
        self.collect(disk, cx);
        if self.ring.push() {
            self.guest.notify();
        }
        taken?;
        if self.stopped {
            return Ok(false);
        }
        // What ended made room, or leaves a barrier alone.
        let more = self.fresh.len() + self.ended > 0;
        let blocked = self.held.is_some() || self.barrier || !self.waiting.is_empty();
        let more = if blocked { more } else { self.ring.is_more().inspect_err(|_| self.stop())? };
        Ok(more)
    }

    /// Takes no more requests, and forgets those that the disk does not have.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        self.held = None;
        self.waiting.clear();
        self.fresh.clear();
        for ticket in self.flights.idle() {
            self.finish(ticket, STATUS_ERROR);
        }
    }

    /// Whether no page is in use: the queue can be dropped.
    pub(crate) fn is_idle(&self) -> bool {
        self.flights.count() == 0
    }

    /// How many pages it has: of this domain's own, and mapped.
    pub(crate) fn pages(&self) -> (usize, usize) {
        let mapped = if let Mode::Mapped(cache) = &self.mode { cache.len() } else { 0 };
        (self.pool.made(), mapped)
    }

    /// Takes requests from the ring, and answers those that ask for what cannot be.
    fn take(&mut self) -> Result<(), RingError> {
        let mut work = 0;
        while work < self.limits.turn && self.waiting.is_empty() && !self.barrier {
            let request = match self.held.take() {
                Some(request) => request,
                None => match self.ring.take()? {
                    Some(request) => request,
                    None => break,
                },
            };
            match self.admit(&request) {
                Ok(Some(segments)) => work += 1 + segments,
                Ok(None) => {
                    self.held = Some(request);
                    break;
                }
                Err(status) => {
                    self.ring.respond(&response(request.id, answered(&request), status));
                    work += 1;
                }
            }
        }
        self.read_lists();
        Ok(())
    }

    /// Lets a request in, if there is room for it; returns how many segments it has.
    fn admit(&mut self, request: &Request) -> Result<Option<usize>, Status> {
        let work = Work::parse(request, &self.geometry, self.limits.indirect)?;
        let alone = self.flights.count() == 0;
        if request.operation == WRITE_BARRIER && !alone {
            return Ok(None);
        }
        let count = work.segments();
        let (pages, mapped) = match (&self.mode, &work) {
            (Mode::Buffers, _) => (count, 0),
            (Mode::Mapped(_), Work::Transfer { segments: Segments::Indirect(..), .. }) => {
                (1, count)
            }
            (_, Work::Transfer { segments: Segments::Indirect(..), .. }) => (1, 0),
            (Mode::Mapped(_), _) => (0, count),
            (Mode::Resident, _) => (0, 0),
        };
        // With nothing in flight nothing would free a page.
        let no_room = if alone { Err(STATUS_ERROR) } else { Ok(None) };
        if !self.pool.has(pages, &mut self.guest) {
            return no_room;
        }
        if let Mode::Mapped(cache) = &mut self.mode
            && !cache.promise(mapped)
        {
            return no_room;
        }
        let (ticket, flight) = self.flights.open();
        (flight.id, flight.operation) = (request.id, request.operation);
        flight.answered = answered(request);
        self.pool.take(pages, &mut flight.buffers);
        flight.promised = mapped;
        (flight.action, flight.sector) = match work {
            Work::Flush => (Action::Flush, 0),
            Work::Discard { sector, count } => (Action::Discard(count), sector),
            Work::Transfer { direction, sector, barrier, segments } => {
                match segments {
                    Segments::Direct(list) => flight.segments.extend_from_slice(list),
                    Segments::Indirect(page, count) => {
                        // Their place, until they are read.
                        let list = Segment { gref: page, ..Segment::default() };
                        flight.segments.resize(usize::from(count), list);
                    }
                }
                self.barrier = barrier;
                let action = if barrier { Action::Before } else { Action::Transfer };
                (action(direction), sector)
            }
        };
        self.fresh.push(ticket);
        Ok(Some(count))
    }

    /// Gives a request to the disk, or puts it in line.
    fn submit(&mut self, ticket: Ticket, disk: &mut impl Disk<G::Piece>) {
        if !self.waiting.is_empty() || !self.offer(ticket, disk) {
            self.waiting.push_back(ticket);
        }
    }

    /// Offers the disk again what it had no room for.
    fn resubmit(&mut self, disk: &mut impl Disk<G::Piece>) {
        while let Some(ticket) = self.waiting.front().copied() {
            if !self.offer(ticket, disk) {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// Gives a request to the disk. Returns whether it has room.
    fn offer(&mut self, ticket: Ticket, disk: &mut impl Disk<G::Piece>) -> bool {
        let Some(flight) = self.flights.get(ticket) else { return true };
        let (sector, pieces) = (flight.sector, flight.pieces.as_slice());
        let command = match flight.action {
            Action::Transfer(Direction::ToGuest) => Command::Read { sector, pieces },
            Action::Transfer(Direction::FromGuest) | Action::Barrier(_) => {
                Command::Write { sector, pieces }
            }
            Action::Before(_) | Action::Flush => Command::Flush,
            Action::Discard(count) => Command::Discard { sector, count },
            Action::None => return true,
        };
        flight.submitted = disk.submit(ticket, command) == Admission::Accepted;
        flight.submitted
    }

    /// Takes what the disk has done.
    fn collect(&mut self, disk: &mut impl Disk<G::Piece>, cx: &mut Context<'_>) {
        while let Poll::Ready((ticket, result)) = disk.poll(cx) {
            let Some(flight) = self.flights.get(ticket).filter(|flight| flight.submitted) else {
                continue;
            };
            flight.submitted = false;
            self.ended += 1;
            match result {
                Ok(()) => self.completed(ticket, disk),
                Err(DiskError::Failed) => self.finish(ticket, STATUS_ERROR),
                Err(DiskError::Unsupported) => self.finish(ticket, STATUS_NOT_SUPPORTED),
            }
        }
        self.copy();
        let mut owners = core::mem::take(&mut self.owners);
        for (ticket, _) in owners.drain(..) {
            self.finish_copied(ticket);
        }
        self.owners = owners;
    }

    /// The next step of a request, when the disk has done one.
    fn completed(&mut self, ticket: Ticket, disk: &mut impl Disk<G::Piece>) {
        let Some(flight) = self.flights.get(ticket) else { return };
        match flight.action {
            Action::Transfer(Direction::ToGuest)
                if !flight.buffers.is_empty() && flight.places.is_empty() =>
            {
                self.copy_buffers(ticket, Direction::ToGuest);
            }
            Action::Before(direction) if !flight.segments.is_empty() => {
                flight.action = Action::Barrier(direction);
                self.fresh.push(ticket);
            }
            Action::Barrier(_) => {
                flight.action = Action::Flush;
                self.submit(ticket, disk);
            }
            _ => self.finish(ticket, STATUS_OKAY),
        }
    }

    fn finish_copied(&mut self, ticket: Ticket) {
        let copied = self.flights.get(ticket).is_some_and(|flight| flight.copied);
        self.finish(ticket, if copied { STATUS_OKAY } else { STATUS_ERROR });
    }

    /// Answers a request and takes its pages back.
    fn finish(&mut self, ticket: Ticket, status: Status) {
        let Some(flight) = self.flights.get(ticket) else { return };
        self.ring.respond(&response(flight.id, flight.answered, status));
        self.pool.give(&mut flight.buffers);
        if let Mode::Mapped(cache) = &mut self.mode {
            flight.places.iter().for_each(|&place| cache.end(place));
            cache.forgive(flight.promised);
        }
        if flight.operation == WRITE_BARRIER {
            self.barrier = false;
        }
        self.flights.close(ticket);
        self.ended += 1;
    }
}

impl<G: Guest> Drop for Queue<G> {
    /// Pages that a device still uses are kept by their pieces.
    fn drop(&mut self) {
        if let Mode::Mapped(cache) = &mut self.mode {
            cache.clear(&mut self.guest);
        }
    }
}
