//! Requests that are under way, and the pages their data goes through.

use core::future::poll_fn;
use core::iter;
use core::sync::atomic::Ordering;
use core::task::{Context, Poll};

use heapless::Vec;
use hypercall_abi::blkif::{
    self as abi, DIRECT_SEGMENTS, DiscardRequest, INDIRECT_PAGES, IndirectRequest, Request,
    Response, Segment,
};
use hypercall_abi::types::{GrantRef, PAGE_SIZE};
use zerocopy::IntoBytes;

use super::error::{Breach, DiskError};
use crate::event::Signal;
use crate::lock::Held;
use crate::raw::copy::{copy_in, copy_out};
use crate::ring::{Page, RING_PAGES, Ring, TooMany};

impl From<TooMany> for Breach {
    fn from(_: TooMany) -> Self {
        Self::Indices
    }
}

/// The most pages for data.
pub(super) const PAGES: usize = 64;
/// The most requests that are under way.
const REQUESTS: usize = 64;
/// Sectors of a page.
const SECTORS: usize = PAGE_SIZE / abi::SECTOR_SIZE as usize;

#[derive(Clone, Copy, Eq, PartialEq)]
enum Phase {
    Free,
    /// Somebody prepares it.
    Taken,
    /// The back end has it.
    Asked,
    /// The answer's status.
    Done(i16),
    /// The back end has it, and nobody waits for the answer any more.
    Abandoned,
}

#[derive(Clone, Copy)]
struct Slot {
    id: u64,
    phase: Phase,
    operation: u8,
    /// Its pages, a bit for each.
    pages: u64,
}

struct State<P> {
    ring: Ring<P>,
    /// No more than the ring has, so that there is room in the ring for who has one.
    slots: Vec<Slot, REQUESTS>,
    /// Pages that no request has, a bit for each.
    free: u64,
    /// How many requests there have been.
    count: u64,
    broken: Option<DiskError>,
    /// Somebody waits for a slot, pages or room in the ring.
    crowded: bool,
}

/// A ring, and what is under way on it.
pub(super) struct Queue<P, S> {
    state: Held<State<P>>,
    pages: Vec<P, PAGES>,
    signal: S,
}

impl<P: Page, S: Signal> Queue<P, S> {
    pub(super) fn new(ring: Ring<P>, pages: Vec<P, PAGES>, signal: S) -> Self {
        let slot = Slot { phase: Phase::Free, id: 0, operation: 0, pages: 0 };
        let state = State {
            slots: (0..ring.slots()).take(REQUESTS).map(|_| slot).collect(),
            ring,
            free: (0..pages.len()).fold(0, |free, page| free | 1 << page),
            count: 0,
            broken: None,
            crowded: false,
        };
        Self { state: Held::new(state), pages, signal }
    }

    /// The pages of the ring.
    pub(super) fn ring_references(&self) -> Vec<GrantRef, { RING_PAGES }> {
        self.state.lock().ring.pages().iter().map(Page::reference).collect()
    }

    /// Registers for events, takes the answers that have come, and asks `look` for what is waited
    /// for.
    fn poll<T>(
        &self,
        context: &Context<'_>,
        look: impl FnOnce(&mut State<P>) -> Option<T>,
    ) -> Poll<Result<T, DiskError>> {
        self.signal.listen(context.waker());
        let mut state = self.state.lock();
        let crowd = state.take_answers().unwrap_or_else(|breach| {
            state.broken.get_or_insert(DiskError::Broken(breach));
            true
        });
        if crowd {
            self.signal.wake();
        }
        if let Some(error) = &state.broken {
            return Poll::Ready(Err(error.clone()));
        }
        look(&mut state).map_or(Poll::Pending, |value| Poll::Ready(Ok(value)))
    }

    /// Takes what a request with so many pages needs, if it is there.
    pub(super) fn try_reserve(&self, pages: usize) -> Option<Ticket<'_, P, S>> {
        let mut state = self.state.lock();
        let (number, pages) = if state.broken.is_some() { None } else { state.reserve(pages) }?;
        Some(Ticket { queue: self, number, pages })
    }

    /// Waits for what a request with so many pages needs. Who has other requests must not wait:
    /// all might.
    pub(super) async fn reserve(&self, pages: usize) -> Result<Ticket<'_, P, S>, DiskError> {
        let reserve = |context: &mut Context<'_>| self.poll(context, |state| state.reserve(pages));
        let (number, pages) = poll_fn(reserve).await?;
        Ok(Ticket { queue: self, number, pages })
    }

    /// Waits until the back end has no requests.
    pub(super) async fn settle(&self) -> Result<(), DiskError> {
        let asked = |slot: &Slot| matches!(slot.phase, Phase::Asked | Phase::Abandoned);
        let idle = |state: &mut State<P>| (!state.slots.iter().any(asked)).then_some(());
        poll_fn(|context| self.poll(context, idle)).await
    }

    #[cfg(test)]
    pub(super) fn start_at(&self, index: u32) {
        self.state.lock().ring.start_at(index);
    }

    /// Ends the use of the ring. All that waits is told.
    pub(super) fn end(&self) {
        self.state.lock().broken.get_or_insert(DiskError::Gone);
        self.signal.wake();
    }
}

impl<P: Page> State<P> {
    fn reserve(&mut self, pages: usize) -> Option<(usize, u64)> {
        let free = self.slots.iter().position(|slot| slot.phase == Phase::Free);
        let (Some(number), true) = (free, self.free.count_ones() as usize >= pages) else {
            self.crowded = true;
            return None;
        };
        let mut mine = 0;
        for _ in 0..pages {
            mine |= 1 << self.free.trailing_zeros();
            self.free &= self.free - 1;
        }
        self.slots[number].phase = Phase::Taken;
        self.slots[number].pages = mine;
        Some((number, mine))
    }

    /// Gives back what a request had, and says whether somebody waits for it.
    fn release(&mut self, number: usize) -> bool {
        self.free |= core::mem::take(&mut self.slots[number].pages);
        self.slots[number].phase = Phase::Free;
        core::mem::take(&mut self.crowded)
    }

    /// Takes all answers, and says whether somebody waits for what is free now. Each is one of a
    /// request that is under way, so they come to an end.
    fn take_answers(&mut self) -> Result<bool, Breach> {
        let mut crowd = false;
        const SIZE: usize = size_of::<Response>();
        while let Some(response) = self.ring.take::<SIZE>(0)? {
            let Response { id, operation, status, .. } = zerocopy::transmute!(response);
            let under_way = |slot: &Slot| {
                slot.id == id && matches!(slot.phase, Phase::Asked | Phase::Abandoned)
            };
            let number = usize::try_from(id % REQUESTS as u64).unwrap_or(REQUESTS);
            let slot = self.slots.get_mut(number).filter(|slot| under_way(slot));
            let slot = slot.ok_or(Breach::Answer(id))?;
            if operation != slot.operation && operation != abi::INDIRECT {
                return Err(Breach::Operation(operation));
            }
            if !abi::STATUSES.iter().any(|&(_, known)| known == status) {
                return Err(Breach::Status(status));
            }
            if slot.phase == Phase::Asked {
                slot.phase = Phase::Done(status);
            } else {
                crowd |= self.release(number);
            }
        }
        Ok(crowd)
    }
}

/// What one request needs: a slot, pages, room in the ring. Dropped while the back end has the
/// request, it is all given back when the answer comes.
pub(super) struct Ticket<'q, P: Page, S: Signal> {
    queue: &'q Queue<P, S>,
    number: usize,
    pages: u64,
}

impl<P: Page, S: Signal> Ticket<'_, P, S> {
    fn pages(&self) -> impl Iterator<Item = &P> {
        let mut bits = self.pages;
        iter::from_fn(move || {
            let bit = bits.trailing_zeros();
            bits &= bits.wrapping_sub(1);
            self.queue.pages.get(bit as usize)
        })
    }

    /// Copies data to the first pages.
    pub(super) fn fill(&self, data: &[u8]) {
        let pages = self.pages().zip(data.chunks(PAGE_SIZE));
        pages.for_each(|(page, data)| copy_in(page.words(), data));
    }

    /// Copies data from the first pages.
    pub(super) fn drain(&self, data: &mut [u8]) {
        let pages = self.pages().zip(data.chunks_mut(PAGE_SIZE));
        pages.for_each(|(page, data)| copy_out(page.words(), data));
    }

    /// Asks for a transfer of so many bytes between the first pages and the disk, or for a flush. If
    /// it has more segments than a request has room for, its last page names them.
    pub(super) fn transfer(&self, operation: u8, sector_number: u64, length: usize) {
        let count = length.div_ceil(PAGE_SIZE);
        let segment = |(index, page): (usize, &P)| {
            let sectors = (length - index * PAGE_SIZE).div_ceil(abi::SECTOR_SIZE as usize);
            let last_sect = u8::try_from(sectors.min(SECTORS) - 1).unwrap_or(0);
            Segment { gref: page.reference(), first_sect: 0, last_sect, pad: 0 }
        };
        let segments = self.pages().take(count).enumerate().map(segment);
        if count <= DIRECT_SEGMENTS as usize {
            let nr_segments = u8::try_from(count).unwrap_or(0);
            let mut request =
                Request { operation, nr_segments, sector_number, ..Request::default() };
            request.seg.iter_mut().zip(segments).for_each(|(place, segment)| *place = segment);
            return self.ask(operation, request.as_mut_bytes());
        }
        let mut grefs = [GrantRef::default(); INDIRECT_PAGES as usize];
        if let Some(list) = self.pages().nth(count) {
            grefs[0] = list.reference();
            let words = list.words().chunks_exact(2);
            for (words, segment) in words.zip(segments) {
                words[0].store(segment.gref.0, Ordering::Relaxed);
                words[1].store(u32::from(segment.last_sect) << 8, Ordering::Relaxed);
            }
        }
        let mut request = IndirectRequest {
            operation: abi::INDIRECT,
            indirect_op: operation,
            nr_segments: u16::try_from(count).unwrap_or(0),
            sector_number,
            indirect_grefs: grefs,
            ..IndirectRequest::default()
        };
        self.ask(operation, request.as_mut_bytes());
    }

    /// Tells that sectors are not needed any more.
    pub(super) fn discard(&self, sector_number: u64, nr_sectors: u64) {
        let operation = abi::DISCARD;
        let mut request =
            DiscardRequest { operation, sector_number, nr_sectors, ..DiscardRequest::default() };
        self.ask(operation, request.as_mut_bytes());
    }

    /// Gives the back end a request, of which all kinds have their number at the same place.
    fn ask(&self, operation: u8, request: &mut [u8]) {
        const ID: usize = core::mem::offset_of!(Request, id);
        let mut state = self.queue.state.lock();
        state.count += 1;
        // Its slot is found by it.
        let id = state.count * REQUESTS as u64 + self.number as u64;
        request[ID..ID + 8].copy_from_slice(&id.to_le_bytes());
        let slot = &mut state.slots[self.number];
        (slot.phase, slot.id, slot.operation) = (Phase::Asked, id, operation);
        state.ring.put(request);
        if state.ring.show() {
            self.queue.signal.notify();
        }
    }

    /// Waits for the answer, and returns its status.
    pub(super) async fn answer(&self) -> Result<i16, DiskError> {
        let look = |state: &mut State<P>| match state.slots[self.number].phase {
            Phase::Done(status) => Some(status),
            _ => None,
        };
        poll_fn(|context| self.queue.poll(context, look)).await
    }
}

impl<P: Page, S: Signal> Drop for Ticket<'_, P, S> {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        if state.slots[self.number].phase == Phase::Asked {
            state.slots[self.number].phase = Phase::Abandoned;
        } else if state.release(self.number) {
            self.queue.signal.wake();
        }
    }
}
