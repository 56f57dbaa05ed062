//! Batches of requests in guest memory: `mmu_update` and `mmuext_op` have the same form.

use zerocopy::{FromBytes, IntoBytes};

use super::progress::{Budget, Progress, Stop};
use super::refusal::{Refusal, Why};
use crate::guest_memory;
use crate::platform::Platform;

/// Set in the count of a batch that is being continued. ABI: `MMU_UPDATE_PREEMPTED`.
pub const CONTINUED: u32 = 1 << 31;

/// Requests that are copied at once.
const COPIED: usize = 8;

/// Where the requests are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Batch {
    /// Guest address of the array.
    pub address: u64,
    /// Its length, and [`CONTINUED`].
    pub count: u32,
    /// Guest address of a `u32` that is told how many are done; 0: none.
    pub done: u64,
}

impl Batch {
    /// The arguments with which the call is executed again after `done` requests of `size` bytes. If
    /// none is done the batch has not begun.
    #[must_use]
    pub fn after(self, done: u64, size: usize) -> Self {
        if done == 0 {
            return self;
        }
        let bytes = u64::try_from(size).unwrap_or(0).wrapping_mul(done);
        let left = self.length().saturating_sub(u32::try_from(done).unwrap_or(u32::MAX));
        Self { address: self.address.wrapping_add(bytes), count: left | CONTINUED, ..self }
    }

    /// Whether this is how the ABI continues a batch of which nothing is left but its answer, which
    /// stands in the place of the domain then.
    #[must_use]
    pub const fn is_over(self) -> bool {
        self.count == CONTINUED && self.address == 0
    }

    /// Whether the array begins where guests may have memory. Asked before all else, whatever the
    /// count; what lies behind its beginning is found out by copying.
    #[must_use]
    pub const fn begins_in_guest(self) -> bool {
        guest_memory::may_begin_at(self.address)
    }

    /// How many requests there are.
    pub(super) const fn length(self) -> u32 {
        self.count & !CONTINUED
    }

    /// Calls `one` for each request until one is refused or the slice is used up, and tells the guest
    /// how many were done.
    pub(super) fn run<T: FromBytes + IntoBytes + Copy>(
        self,
        platform: &impl Platform,
        budget: &mut Budget,
        mut one: impl FnMut(T, &mut Budget) -> Result<(), Stop>,
    ) -> Progress {
        let before = self.done_before(platform);
        let mut ahead = Ahead::new(self);
        let mut done = 0;
        let mut end = Ok(());
        while done < self.length() && end.is_ok() {
            end = if done > 0 && budget.is_spent() {
                Err(Stop::Again)
            } else {
                ahead.next(platform, done).and_then(|request| one(request, budget))
            };
            if end.is_ok() {
                done = done.saturating_add(1);
            }
        }
        self.tell(platform, before.wrapping_add(done));
        match (end, u64::from(done)) {
            (Ok(()), _) => Progress::Done(0),
            (Err(Stop::Again), done) => Progress::Again { done },
            (Err(Stop::Refused(refusal)), done) => Progress::Refused { done, refusal },
        }
    }

    /// Tells the guest how many are done. Who can't be told does not learn it: measured, no error.
    fn tell(self, platform: &impl Platform, done: u32) {
        if self.done != 0 {
            let _ = guest_memory::write(platform, self.done, &done);
        }
    }

    /// Tells the guest that no more are done than before.
    pub fn tell_none(self, platform: &impl Platform) {
        self.tell(platform, self.done_before(platform));
    }

    /// How many were done before the batch was continued.
    fn done_before(self, platform: &impl Platform) -> u32 {
        if self.count & CONTINUED == 0 || self.done == 0 {
            return 0;
        }
        guest_memory::read(platform, self.done).unwrap_or(0)
    }
}

/// Requests copied from the guest, a few at a time. Each is copied once before it is looked at.
struct Ahead<T> {
    batch: Batch,
    copied: [Option<T>; COPIED],
}

impl<T: FromBytes + IntoBytes + Copy> Ahead<T> {
    const fn new(batch: Batch) -> Self {
        Self { batch, copied: [None; COPIED] }
    }

    #[inline]
    fn next(&mut self, platform: &impl Platform, index: u32) -> Result<T, Stop> {
        let place = usize::try_from(index).unwrap_or(0) % COPIED;
        if place == 0 {
            self.fill(platform, index);
        }
        match self.copied.get(place).copied().flatten() {
            Some(request) => Ok(request),
            // A later one of the same few could not be copied, or this one: only that matters.
            None => self.batch.read(platform, index),
        }
    }

    fn fill(&mut self, platform: &impl Platform, index: u32) {
        self.copied = [None; COPIED];
        let left = self.batch.length().saturating_sub(index);
        if usize::try_from(left).is_ok_and(|left| left >= COPIED)
            && let Ok(address) = self.batch.place::<T>(index)
            && let Ok(requests) = guest_memory::read::<[T; COPIED]>(platform, address)
        {
            self.copied = requests.map(Some);
        }
    }
}

impl Batch {
    fn place<T>(self, index: u32) -> Result<u64, Stop> {
        let size = u64::try_from(size_of::<T>()).unwrap_or(0);
        let offset = u64::from(index).wrapping_mul(size);
        let fault = Refusal::new(Why::Fault(self.address));
        self.address.checked_add(offset).ok_or(fault.into())
    }

    fn read<T: FromBytes + IntoBytes>(
        self,
        platform: &impl Platform,
        index: u32,
    ) -> Result<T, Stop> {
        let address = self.place::<T>(index)?;
        guest_memory::read(platform, address)
            .map_err(|fault| Refusal::new(Why::Fault(fault.address)).into())
    }
}
