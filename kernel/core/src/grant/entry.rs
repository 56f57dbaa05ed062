//! The entry that a guest shares with the kernel, and the counts of its uses: pure, but for the one
//! word.
//!
//! The guest takes a grant back with a compare-and-swap that succeeds only while neither flag is
//! set. So the kernel sets the flags with a compare-and-swap of what it has read and checked, all
//! eight bytes of it, and reads nothing again.

use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::grant::EntryState;
use hypercall_abi::types::{DomId, Mfn};

use super::Status;

/// Where an entry is kept: in a frame, or in a test that tries all interleavings.
pub(super) trait Cell {
    fn load(&self) -> u64;
    /// Stores `next` if the cell holds `now`; else says what it holds.
    fn exchange(&self, now: u64, next: u64) -> Result<u64, u64>;
    fn clear(&self, bits: u64);
}

impl Cell for AtomicU64 {
    #[inline]
    fn load(&self) -> u64 {
        self.load(Ordering::Acquire)
    }

    #[inline]
    fn exchange(&self, now: u64, next: u64) -> Result<u64, u64> {
        self.compare_exchange(now, next, Ordering::AcqRel, Ordering::Acquire)
    }

    #[inline]
    fn clear(&self, bits: u64) {
        self.fetch_and(!bits, Ordering::AcqRel);
    }
}

const READING: u64 = EntryState::READING.bits() as u64;
const WRITING: u64 = EntryState::WRITING.bits() as u64;
const READONLY: u64 = EntryState::READONLY.bits() as u64;

/// How often a guest may change an entry while the kernel tries to set a flag. One that does so
/// faster than the kernel must not hold it up.
const TRIES: u32 = 5;

/// An entry as it was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Entry(u64);

impl Entry {
    /// The frame that it grants.
    pub(super) const fn mfn(self) -> Mfn {
        Mfn(self.0 >> 32)
    }

    /// Whether it admits `by`, by a kind of entry that is permitted: `kind` has the bits that count.
    const fn admits(self, by: DomId, kind: EntryState) -> bool {
        let kinds = (kind.bits() as u64) | 0xffff << 16;
        let wanted = (EntryState::PERMIT_ACCESS.bits() as u64) | (by.0 as u64) << 16;
        self.0 & kinds == wanted
    }
}

/// How an entry is used, and which of its kinds count: copies use parts of pages anyway.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Access {
    /// To write too.
    pub(super) writable: bool,
    /// By the processor.
    pub(super) host: bool,
    /// By devices.
    pub(super) device: bool,
}

impl Access {
    /// A copy.
    pub(super) const fn copy(writable: bool) -> Self {
        Self { writable, host: true, device: false }
    }

    /// One in each of the counts that it is about: writing and reading by the processor, writing and
    /// reading by devices, from the lowest byte on.
    pub(super) const fn ones(self) -> u32 {
        let host = if self.host { 1 } else { 0 };
        let device = if self.device { 1 << 16 } else { 0 };
        if self.writable { host | device } else { (host | device) << 8 }
    }
}

/// Which kinds of entries a mapping counts as permitting access.
pub(super) const TO_MAP: EntryState = EntryState::TYPE_MASK.union(EntryState::SUB_PAGE);
/// Which kinds a copy does.
pub(super) const TO_COPY: EntryState = EntryState::TYPE_MASK;

/// How often an entry is in use, in four counts of a byte each, at most 128.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Pins(u32);

impl Pins {
    pub(super) const NONE: Self = Self(0);

    /// The four counts.
    pub(super) const fn counts(self) -> u32 {
        self.0
    }

    pub(super) const fn is_none(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn has_writers(self) -> bool {
        self.0 & 0x00ff_00ff != 0
    }

    /// One use more; `None` if it can't be counted.
    pub(super) const fn with(self, access: Access) -> Option<Self> {
        let ones = access.ones();
        if self.0 & ones << 7 != 0 { None } else { Some(Self(self.0.wrapping_add(ones))) }
    }

    /// One use less, of those that were counted.
    pub(super) const fn without(self, access: Access) -> Self {
        Self(self.0.wrapping_sub(access.ones()))
    }
}

/// Looks whether an entry admits `by`, by the kinds given; it may do otherwise at once.
///
/// # Errors
///
/// [`Status::GENERAL`]: it does not.
pub(super) fn check(cell: &impl Cell, (by, kind): (DomId, EntryState)) -> Result<(), Status> {
    if Entry(cell.load()).admits(by, kind) { Ok(()) } else { Err(Status::GENERAL) }
}

/// Sets the flags for a use that begins. An entry that is not in use yet has to admit `fresh`, by
/// the kinds given.
///
/// # Errors
///
/// [`Status::GENERAL`]: it does not, or not for writing, or it does not keep still.
#[inline(always)]
pub(super) fn begin(
    cell: &impl Cell,
    fresh: Option<(DomId, EntryState)>,
    writable: bool,
) -> Result<Entry, Status> {
    let flags = if writable { READING | WRITING } else { READING };
    let mut now = cell.load();
    for _ in 0..TRIES {
        if fresh.is_some_and(|(by, kind)| !Entry(now).admits(by, kind)) {
            return Err(Status::GENERAL);
        }
        if writable && now & READONLY != 0 {
            return Err(Status::GENERAL);
        }
        match cell.exchange(now, now | flags) {
            Ok(_) => return Ok(Entry(now)),
            Err(changed) => now = changed,
        }
    }
    Err(Status::GENERAL)
}

/// Clears the flags that `pins`, after the end of a use, do not stand for any more.
#[inline]
pub(super) fn end(cell: &impl Cell, pins: Pins, access: Access) {
    let mut over = 0;
    if access.writable && !pins.has_writers() {
        over |= WRITING;
    }
    if pins.is_none() {
        over |= READING;
    }
    if over != 0 {
        cell.clear(over);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guest that names another frame as soon as the kernel has set a flag.
    struct Swapping(AtomicU64);

    const OTHER: u64 = 77;

    impl Cell for Swapping {
        fn load(&self) -> u64 {
            Cell::load(&self.0)
        }

        fn exchange(&self, now: u64, next: u64) -> Result<u64, u64> {
            let was = self.0.exchange(now, next)?;
            self.0.store(OTHER << 32 | next & 0xffff_ffff, Ordering::SeqCst);
            Ok(was)
        }

        fn clear(&self, bits: u64) {
            self.0.clear(bits);
        }
    }

    #[test]
    fn what_was_checked_is_what_is_used() {
        let by = DomId(2);
        let admits = u64::from(EntryState::PERMIT_ACCESS.bits()) | 2 << 16;
        let cell = Swapping(AtomicU64::new(admits | 5 << 32));
        assert_eq!(begin(&cell, Some((by, TO_MAP)), true).map(Entry::mfn), Ok(Mfn(5)));
        assert_eq!(cell.load() >> 32, OTHER);
    }
}
