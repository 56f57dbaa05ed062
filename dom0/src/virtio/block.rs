//! Block devices.
//!
//! A request is a header, pieces of memory, and a status. Each in flight has a slot, which keeps
//! its pieces until the device is done: a caller that goes away earlier leaves the slot behind. A
//! device that breaks the rules is reset, its requests fail, and what it was told is never given
//! back.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::{Future, poll_fn};
use core::mem;
use core::pin::Pin;
use core::sync::atomic::Ordering;
use core::task::{Context, Poll, Waker};

use super::queue::{Part, Queue, QueueError};
use super::transport::{self, Transport, TransportError};
use crate::disk::{DiskError, Limits, Operation};
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
/// Descriptors beside those of pieces.
const EXTRA: usize = 2;

/// What a request asks for, as the device knows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
enum Kind {
    Read = 0,
    Write = 1,
    Flush = 4,
    Discard = 11,
}

/// A status that no device writes.
const UNWRITTEN: u64 = 0xff;

/// What a slot is used for.
enum Slot {
    Free,
    /// The device has it.
    Flying {
        waker: Option<Waker>,
        pieces: Vec<Piece>,
        /// What a device that was successful has written. Unit: bytes.
        expected: u32,
        /// Nobody waits any more.
        left: bool,
    },
    Done(Result<(), DiskError>),
}

struct State {
    queue: Queue<u16>,
    slots: Vec<Slot>,
    free: Vec<u16>,
    /// Who waits for a slot or for descriptors.
    waiting: Vec<Waker>,
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
            waiting: Vec::new(),
            broken: false,
        };
        let block = Self {
            headers: Buffer::new(usize::from(SLOTS) * 64, 0)?,
            limits,
            most_bytes: (most_bytes - most_bytes % sector_size).max(sector_size),
            most_pieces: most_pieces.unwrap_or(1).min(room),
            most_discarded: word(36, DISCARD).unwrap_or(0),
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
        let kind = match operation {
            Operation::Read => Kind::Read,
            Operation::Write => Kind::Write,
        };
        if list.len() <= self.most_pieces && list.iter().all(|it| it.length() <= self.most_bytes) {
            return self.request(kind, sector, list).await;
        }
        let mut parts = Vec::new();
        for piece in list {
            let step = usize::try_from(self.most_bytes).unwrap_or(usize::MAX);
            for offset in (0..piece.length()).step_by(step) {
                parts.extend(piece.part(offset, self.most_bytes.min(piece.length() - offset)));
            }
        }
        let mut sector = sector;
        for chunk in parts.chunks(self.most_pieces) {
            self.request(kind, sector, chunk).await?;
            sector += chunk.iter().map(|it| u64::from(it.length())).sum::<u64>() / 512;
        }
        Ok(())
    }

    /// Has the device write down all that was written.
    ///
    /// # Errors
    /// [`DiskError`] of the device.
    pub(crate) async fn flush(&self) -> Result<(), DiskError> {
        if self.limits.can_flush { self.request(Kind::Flush, 0, &[]).await } else { Ok(()) }
    }

    /// Tells the device that sectors are not needed.
    ///
    /// # Errors
    /// [`DiskError::Unsupported`] if it does not care, or [`DiskError`] of the device.
    pub(crate) async fn discard(&self, sector: u64, sectors: u64) -> Result<(), DiskError> {
        let (mut sector, mut left) = (sector, sectors);
        let most =
            u64::from(self.most_discarded - self.most_discarded % (self.limits.sector_size / 512));
        if most == 0 {
            return Err(DiskError::Unsupported);
        }
        while left > 0 {
            let count = left.min(most);
            self.discard_range(sector, count).await?;
            sector += count;
            left -= count;
        }
        Ok(())
    }

    async fn discard_range(&self, sector: u64, count: u64) -> Result<(), DiskError> {
        let slot = poll_fn(|context| {
            self.submit(context, |slot| {
                self.header(slot, Kind::Discard, 0);
                self.headers.write(at(slot, RANGE), &[sector, count]);
                (
                    Vec::new(),
                    [self.part(slot, RANGE, 16).as_ref().map(Part::read)]
                        .into_iter()
                        .flatten()
                        .collect(),
                )
            })
        })
        .await?;
        Answer { block: self, slot }.await
    }

    async fn request(&self, kind: Kind, sector: u64, list: &[Piece]) -> Result<(), DiskError> {
        let slot = poll_fn(|context| {
            self.submit(context, |slot| {
                self.header(slot, kind, sector);
                let part = if kind == Kind::Read { Part::written } else { Part::read };
                (list.to_vec(), list.iter().map(part).collect())
            })
        })
        .await?;
        Answer { block: self, slot }.await
    }

    fn header(&self, slot: u16, kind: Kind, sector: u64) {
        self.headers.write(at(slot, 0), &[kind as u64, sector]);
        self.headers.write(at(slot, STATUS), &[UNWRITTEN]);
    }

    fn part(&self, slot: u16, offset: u64, length: u32) -> Option<Piece> {
        self.headers.piece(u64::from(slot) * SLOT + offset, length)
    }

    /// Gives the device a request, as soon as there is room: the pieces to keep, and the parts
    /// between header and status.
    fn submit(
        &self,
        context: &Context<'_>,
        fill: impl Fn(u16) -> (Vec<Piece>, Vec<Part>),
    ) -> Poll<Result<u16, DiskError>> {
        let mut state = self.state.borrow_mut();
        if state.broken {
            return Poll::Ready(Err(DiskError::Broken));
        }
        let Some(slot) = state.free.last().copied() else {
            state.waiting.push(context.waker().clone());
            return Poll::Pending;
        };
        let (pieces, middle) = fill(slot);
        if middle.len() + EXTRA > state.queue.room() {
            state.waiting.push(context.waker().clone());
            return Poll::Pending;
        }
        let (Some(header), Some(status)) = (self.part(slot, 0, 16), self.part(slot, STATUS, 1))
        else {
            return Poll::Ready(Err(DiskError::Broken));
        };
        let mut parts = Vec::with_capacity(middle.len() + EXTRA);
        parts.push(Part::read(&header));
        parts.extend(middle);
        let expected = parts.iter().map(Part::writable).fold(1, u32::saturating_add);
        parts.push(Part::written(&status));
        if state.queue.push(&parts, slot).is_err() {
            return Poll::Ready(Err(DiskError::Broken));
        }
        state.free.pop();
        if let Some(place) = state.slots.get_mut(usize::from(slot)) {
            *place = Slot::Flying { waker: None, pieces, expected, left: false };
        }
        if state.queue.wants_notice() {
            self.transport.notify(QUEUE);
        }
        Poll::Ready(Ok(slot))
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
            if let Slot::Flying { waker, pieces, .. } = slot {
                mem::forget(mem::take(pieces));
                waker.take().into_iter().for_each(Waker::wake);
                *slot = Slot::Done(Err(DiskError::Queue(error)));
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
        let Slot::Flying { waker, expected, left, .. } = mem::replace(slot, Slot::Free) else {
            return;
        };
        if left {
            self.free.push(number);
            return;
        }
        *slot = Slot::Done(match status {
            // What was not written is what was in the memory before.
            0 if length < expected => Err(DiskError::Short(length)),
            0 => Ok(()),
            1 => Err(DiskError::Failed),
            2 => Err(DiskError::Unsupported),
            other => Err(DiskError::Status(other)),
        });
        waker.into_iter().for_each(Waker::wake);
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
            Some(Slot::Flying { waker, .. }) => {
                *waker = Some(context.waker().clone());
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
            Some(Slot::Flying { left, .. }) => *left = true,
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
mod tests;
