//! Block devices.
//!
//! A request is a header, pieces of memory, and a status. Each in flight has a slot, which keeps
//! its pieces until the device is done: a caller that goes away earlier leaves the slot behind. A
//! device that breaks the rules is reset, its requests fail, and what it was told is never given
//! back.

use alloc::boxed::Box;
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::{Future, poll_fn};
use core::mem;
use core::pin::Pin;
use core::sync::atomic::Ordering;
use core::task::{Context, Poll, Waker};

use super::queue::{Part, Queue, QueueError};
use super::transport::{self, Transport, TransportError};
use crate::disk::{Completions, DiskError, Limits, Operation};
use crate::hw::{Buffer, Piece};

/// Features: the most bytes of a piece, the most pieces, read-only, the sector size, flush, the
/// physical sector, discard.
const SIZE_MAX: u64 = 1 << 1;
const SEG_MAX: u64 = 1 << 2;
const READ_ONLY: u64 = 1 << 5;
const BLOCK_SIZE: u64 = 1 << 6;
const FLUSH: u64 = 1 << 9;
const TOPOLOGY: u64 = 1 << 10;
const DISCARD: u64 = 1 << 13;
const WANTED: u64 = SIZE_MAX | SEG_MAX | READ_ONLY | BLOCK_SIZE | FLUSH | TOPOLOGY | DISCARD;

/// The one queue that is used.
const QUEUE: u16 = 0;
/// Its descriptors, if the device has more and lets the driver choose.
const DESCRIPTORS: u16 = 256;
/// The most requests in flight.
const SLOTS: u16 = 64;
/// What each has in the page of headers: header, range to discard, status. Unit: bytes.
const SLOT: u64 = 64;
const RANGE: u64 = 16;
const STATUS: u64 = 32;
/// Parts into which a range to discard is cut at most.
const MOST_DISCARDS: usize = 64;
/// Descriptors beside those of pieces.
const EXTRA: usize = 2;

/// What a request asks for, as the device knows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub(crate) enum Kind {
    Read = 0,
    Write = 1,
    Flush = 4,
    Discard = 11,
}

/// A status that no device writes.
const UNWRITTEN: u64 = 0xff;

impl From<Operation> for Kind {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::Read => Self::Read,
            Operation::Write => Self::Write,
        }
    }
}

/// A request that the device takes at once.
pub(crate) struct Order<'a> {
    pub(crate) kind: Kind,
    pub(crate) sector: u64,
    pub(crate) list: &'a [Piece],
    /// How many sectors to discard.
    pub(crate) count: u64,
}

/// Who is told of an answer.
pub(crate) enum Who {
    /// A task that waits in a slot.
    Task(Option<Waker>),
    /// Nobody any more.
    Nobody,
    /// A session, by the request's number there.
    Session(Rc<Completions>, u32),
}

/// What a slot is used for.
enum Slot {
    Free,
    /// The device has it.
    Flying {
        who: Who,
        pieces: Vec<Piece>,
        /// What a device that was successful has written. Unit: bytes.
        expected: u32,
    },
    Done(Result<(), DiskError>),
}

struct State {
    queue: Queue<u16>,
    slots: Vec<Slot>,
    free: Vec<u16>,
    /// The parts of the request that is made.
    parts: Vec<Part>,
    /// Who waits for a slot or for descriptors.
    waiting: Vec<Waker>,
    /// The session that has the next room, if it is there.
    first: Weak<Completions>,
    broken: bool,
}

/// A block device that was brought up. Its interrupt must lead to [`Block::on_interrupt`].
pub struct Block {
    transport: Box<dyn Transport>,
    headers: Buffer,
    limits: Limits,
    /// The most bytes of a piece, and the most pieces of a request.
    most_bytes: u32,
    most_pieces: usize,
    /// The most sectors that are discarded at once; 0: none.
    most_discarded: u32,
    state: RefCell<State>,
}

impl Block {
    /// Brings a device up.
    ///
    /// # Errors
    /// [`TransportError`] if it does not take part, or there is no memory.
    pub fn start(transport: Box<dyn Transport>) -> Result<Self, TransportError> {
        let it = &*transport;
        let features = transport::begin(it, WANTED)?;
        let offered = it.queue_size(QUEUE);
        let size = if it.is_legacy() { offered } else { offered.min(DESCRIPTORS) };
        if !size.is_power_of_two() || usize::from(size) <= EXTRA {
            return Err(TransportError::Queue(QUEUE));
        }
        let queue = Queue::new(size)?;
        it.set_queue(QUEUE, size, queue.places())?;
        let has = |feature| features & feature != 0;
        let word = |offset, feature| {
            let value = transport::read_config(it, |it| it.config32(offset));
            Some(value).filter(|&value| has(feature) && value != 0)
        };
        let sectors = transport::read_config(it, |it| {
            u64::from(it.config32(4)) << 32 | u64::from(it.config32(0))
        });
        let sector_size = word(20, BLOCK_SIZE).filter(|it| it.is_power_of_two() && *it >= 512);
        let sector_size = sector_size.unwrap_or(512);
        let exponent = if has(TOPOLOGY) { it.config8(24).min(16) } else { 0 };
        let limits = Limits {
            sectors: sectors - sectors % u64::from(sector_size / 512),
            sector_size,
            physical_size: sector_size.checked_mul(1 << exponent).unwrap_or(sector_size),
            read_only: has(READ_ONLY),
            can_flush: has(FLUSH),
            discard: word(36, DISCARD).map(|_| granularity(word(44, DISCARD), sector_size)),
        };
        let room = usize::from(size) - EXTRA;
        let most_pieces = word(12, SEG_MAX).and_then(|it| usize::try_from(it).ok());
        let most_bytes = word(8, SIZE_MAX).unwrap_or(u32::MAX);
        let state = State {
            queue,
            slots: (0..SLOTS).map(|_| Slot::Free).collect(),
            free: (0..SLOTS).rev().collect(),
            parts: Vec::new(),
            waiting: Vec::new(),
            first: Weak::new(),
            broken: false,
        };
        let block = Self {
            headers: Buffer::new(usize::from(SLOTS) * 64, 0)?,
            limits,
            most_bytes: (most_bytes - most_bytes % sector_size).max(sector_size),
            most_pieces: most_pieces.unwrap_or(1).min(room),
            most_discarded: word(36, DISCARD).map_or(0, |it| it - it % (sector_size / 512)),
            state: RefCell::new(state),
            transport,
        };
        transport::run(&*block.transport);
        Ok(block)
    }

    /// What it is like.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Reads or writes whole sectors from `sector` (unit: 512 bytes) on.
    ///
    /// # Errors
    /// [`DiskError`], also if only a part of it failed.
    pub(crate) async fn transfer(
        &self,
        operation: Operation,
        sector: u64,
        list: &[Piece],
    ) -> Result<(), DiskError> {
        let kind = Kind::from(operation);
        if self.takes(list) {
            return self.request(Order { kind, sector, list, count: 0 }).await;
        }
        for (sector, list) in self.cut(sector, list) {
            self.request(Order { kind, sector, list: &list, count: 0 }).await?;
        }
        Ok(())
    }

    /// Has the device write down all that was written.
    ///
    /// # Errors
    /// [`DiskError`] of the device.
    pub(crate) async fn flush(&self) -> Result<(), DiskError> {
        let order = Order { kind: Kind::Flush, sector: 0, list: &[], count: 0 };
        if self.limits.can_flush { self.request(order).await } else { Ok(()) }
    }

    /// Tells the device that sectors are not needed.
    ///
    /// # Errors
    /// [`DiskError::Unsupported`] if it does not care, or [`DiskError`] of the device.
    pub(crate) async fn discard(&self, sector: u64, sectors: u64) -> Result<(), DiskError> {
        if self.most_discarded == 0 {
            return Err(DiskError::Unsupported);
        }
        for (sector, count) in self.cut_range(sector, sectors) {
            self.request(Order { kind: Kind::Discard, sector, list: &[], count }).await?;
        }
        Ok(())
    }

    /// Whether the device takes a list in one request.
    pub(crate) fn takes(&self, list: &[Piece]) -> bool {
        list.len() <= self.most_pieces && list.iter().all(|it| it.length() <= self.most_bytes)
    }

    /// Cuts what the device does not take at once: first sectors and lists.
    pub(crate) fn cut(&self, sector: u64, list: &[Piece]) -> Vec<(u64, Vec<Piece>)> {
        let mut parts = Vec::new();
        for piece in list {
            let step = usize::try_from(self.most_bytes).unwrap_or(usize::MAX);
            for offset in (0..piece.length()).step_by(step) {
                parts.extend(piece.part(offset, self.most_bytes.min(piece.length() - offset)));
            }
        }
        let mut next = sector;
        let mut first = |chunk: &[Piece]| {
            let first = next;
            next += chunk.iter().map(|it| u64::from(it.length())).sum::<u64>() / 512;
            first
        };
        parts.chunks(self.most_pieces).map(|chunk| (first(chunk), chunk.to_vec())).collect()
    }

    /// Cuts a range to what the device discards at once, which must not be nothing. Of a range that
    /// would be very many parts the rest is left out: a domain says how long it is, and each part is
    /// kept until the device has it.
    pub(crate) fn cut_range(
        &self,
        first: u64,
        count: u64,
    ) -> impl Iterator<Item = (u64, u64)> + use<> {
        let (most, end) = (u64::from(self.most_discarded).max(1), first.saturating_add(count));
        let step = usize::try_from(most).unwrap_or(usize::MAX);
        let parts = (first..end).step_by(step).take(MOST_DISCARDS);
        parts.map(move |sector| (sector, most.min(end - sector)))
    }

    async fn request(&self, order: Order<'_>) -> Result<(), DiskError> {
        let slot = poll_fn(|context| match self.begin(&order, Who::Task(None)) {
            Some(begun) => Poll::Ready(begun),
            None => {
                self.wait_for_room(context);
                Poll::Pending
            }
        })
        .await?;
        Answer { block: self, slot }.await
    }

    /// The caller's task is woken when there may be room.
    pub(crate) fn wait_for_room(&self, context: &Context<'_>) {
        self.state.borrow_mut().waiting.push(context.waker().clone());
    }

    /// Gives the next room to a session that has nothing under way, unless another one has that: what
    /// is free now may not be enough, and others would take it again and again. It must stay until it
    /// has begun what it waits with.
    pub(crate) fn reserve(&self, session: &Rc<Completions>) {
        let mut state = self.state.borrow_mut();
        if state.first.strong_count() == 0 {
            state.first = Rc::downgrade(session);
        }
    }

    fn part(&self, slot: u16, offset: u64, length: u32) -> Option<Piece> {
        self.headers.piece(u64::from(slot) * SLOT + offset, length)
    }

    /// Gives the device a request: which slot it has. `None` if there is no room, or it is another's.
    pub(crate) fn begin(&self, order: &Order<'_>, who: Who) -> Option<Result<u16, DiskError>> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if state.broken {
            return Some(Err(DiskError::Broken));
        }
        if state.first.strong_count() > 0 && !who.is(&state.first) {
            return None;
        }
        let slot = state.free.last().copied()?;
        let discards = order.kind == Kind::Discard;
        if order.list.len() + usize::from(discards) + EXTRA > state.queue.room() {
            return None;
        }
        self.headers.write(at(slot, 0), &[order.kind as u64, order.sector]);
        if discards {
            self.headers.write(at(slot, 0), &[order.kind as u64, 0, order.sector, order.count]);
        }
        self.headers.write(at(slot, STATUS), &[UNWRITTEN]);
        let part = if order.kind == Kind::Read { Part::written } else { Part::read };
        let range = self.part(slot, RANGE, 16).filter(|_| discards);
        state.parts.clear();
        state.parts.extend(self.part(slot, 0, 16).as_ref().map(Part::read));
        state.parts.extend(range.iter().map(Part::read));
        state.parts.extend(order.list.iter().map(part));
        state.parts.extend(self.part(slot, STATUS, 1).as_ref().map(Part::written));
        let expected = state.parts.iter().map(Part::writable).fold(0, u32::saturating_add);
        if state.queue.push(&state.parts, slot).is_err() {
            return Some(Err(DiskError::Broken));
        }
        state.free.pop();
        state.first = Weak::new();
        if let Some(place) = state.slots.get_mut(usize::from(slot)) {
            *place = Slot::Flying { who, pieces: order.list.to_vec(), expected };
        }
        if state.queue.wants_notice() {
            self.transport.notify(QUEUE);
        }
        Some(Ok(slot))
    }

    /// Looks at what the device has done. Whether the interrupt was this device's.
    pub fn on_interrupt(&self) -> bool {
        let ours = self.transport.take_interrupt();
        let mut state = self.state.borrow_mut();
        while !state.broken {
            match state.queue.pop() {
                Ok(Some((slot, length))) => {
                    let status = self.status(slot);
                    state.finish(slot, status, length);
                }
                Ok(None) => break,
                Err(error) => self.give_up(&mut state, error),
            }
        }
        state.waiting.drain(..).for_each(Waker::wake);
        ours
    }

    fn status(&self, slot: u16) -> u8 {
        let place = self.headers.words().get(at(slot, STATUS) / 8);
        place.map_or(0, |word| word.load(Ordering::Acquire)).to_le_bytes()[0]
    }

    /// Stops a device that does not keep to the rules.
    fn give_up(&self, state: &mut State, error: QueueError) {
        state.broken = true;
        let _even_if_it_does_not_stop = transport::reset(&*self.transport);
        self.leak(state);
        for slot in &mut state.slots {
            if let Slot::Flying { who, pieces, .. } = slot {
                mem::forget(mem::take(pieces));
                let who = mem::replace(who, Who::Nobody);
                // No slot is used again.
                *slot = Slot::Free;
                who.tell(slot, Err(DiskError::Queue(error)));
            }
        }
    }

    fn leak(&self, state: &State) {
        state.queue.leak();
        self.headers.leak();
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if transport::reset(&*self.transport).is_err() {
            let mut state = self.state.borrow_mut();
            self.leak(&state);
            mem::forget(mem::take(&mut state.slots));
        }
    }
}

impl State {
    /// The device is done with a request.
    fn finish(&mut self, number: u16, status: u8, length: u32) {
        let Some(slot) = self.slots.get_mut(usize::from(number)) else { return };
        let Slot::Flying { who, expected, .. } = mem::replace(slot, Slot::Free) else { return };
        who.tell(
            slot,
            match status {
                // What was not written is what was in the memory before.
                0 if length < expected => Err(DiskError::Short(length)),
                0 => Ok(()),
                1 => Err(DiskError::Failed),
                2 => Err(DiskError::Unsupported),
                other => Err(DiskError::Status(other)),
            },
        );
        if matches!(slot, Slot::Free) {
            self.free.push(number);
        }
    }
}

impl Who {
    fn is(&self, session: &Weak<Completions>) -> bool {
        matches!(self, Self::Session(it, _) if core::ptr::eq(Rc::as_ptr(it), session.as_ptr()))
    }

    /// Tells of an answer, or leaves it in the slot that was the request's.
    fn tell(self, slot: &mut Slot, answer: Result<(), DiskError>) {
        match self {
            Self::Task(waker) => {
                *slot = Slot::Done(answer);
                waker.into_iter().for_each(Waker::wake);
            }
            Self::Nobody => {}
            Self::Session(session, number) => session.push(number, answer),
        }
    }
}

/// What a device discards as a whole, from what it says in sectors of 512 bytes.
fn granularity(sectors: Option<u32>, sector_size: u32) -> u32 {
    let bytes = sectors.and_then(|sectors| sectors.checked_mul(512));
    bytes.filter(|bytes| bytes % sector_size == 0).unwrap_or(sector_size)
}

/// Where something of a slot is in the page of headers. Unit: bytes.
fn at(slot: u16, offset: u64) -> usize {
    usize::try_from(u64::from(slot) * SLOT + offset).unwrap_or(usize::MAX)
}

/// Completes with the answer to the request in a slot.
struct Answer<'a> {
    block: &'a Block,
    slot: u16,
}

impl Future for Answer<'_> {
    type Output = Result<(), DiskError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.block.state.borrow_mut();
        let slot = state.slots.get_mut(usize::from(self.slot));
        match slot {
            Some(Slot::Flying { who, .. }) => {
                *who = Who::Task(Some(context.waker().clone()));
                Poll::Pending
            }
            Some(Slot::Done(answer)) => Poll::Ready(*answer),
            Some(Slot::Free) | None => Poll::Ready(Err(DiskError::Broken)),
        }
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        let mut state = self.block.state.borrow_mut();
        let state = &mut *state;
        match state.slots.get_mut(usize::from(self.slot)) {
            Some(Slot::Flying { who, .. }) => *who = Who::Nobody,
            Some(slot @ Slot::Done(_)) => {
                *slot = Slot::Free;
                state.free.push(self.slot);
                // Who found no slot finds one.
                state.waiting.drain(..).for_each(Waker::wake);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
