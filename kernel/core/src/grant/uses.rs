//! The uses of entries: begun and ended together with the flags in the entry.

use core::sync::atomic::{AtomicU32, Ordering};

use hypercall_abi::grant::EntryState;
use hypercall_abi::types::{DomId, GrantRef, Mfn};

use super::buckets::Buckets;
use super::entry::{self, Access, Pins};
use super::table::GrantTable;
use super::{MAX_FRAMES, Status};
use crate::frames::{FrameOwners, FrameRef, Frames};
use crate::lock::Lock;
use crate::platform::Platform;

/// Entries with one lock.
const BUCKET: usize = 256;
/// Buckets of the longest table.
const BUCKETS: usize = MAX_FRAMES as usize * 512 / BUCKET;
const _: () = assert!(BUCKETS <= 128);

/// The use of one entry.
#[derive(Clone, Copy, Debug)]
struct Use {
    pins: Pins,
    /// Who uses it; of no meaning while nobody does, as the frame.
    by: DomId,
    /// The frame, to which there is a reference as long as it is in use.
    frame: u32,
}

impl Use {
    const fn mfn(self) -> Mfn {
        Mfn(self.frame as u64)
    }
}

type Bucket = Lock<[Use; BUCKET]>;

/// The uses of all entries of a table.
pub(super) struct Uses<P: Platform> {
    buckets: Buckets<P, Bucket, 1>,
    /// Entries in use, and those about to be.
    count: AtomicU32,
}

impl<P: Platform> Uses<P> {
    pub(super) const fn new() -> Self {
        Self { buckets: Buckets::new(), count: AtomicU32::new(0) }
    }

    #[inline]
    fn bucket(&self, platform: &P, reference: GrantRef) -> Result<&Bucket, Status> {
        const NONE: Use = Use { pins: Pins::NONE, by: DomId::INVALID, frame: 0 };
        let new = || Lock::new([NONE; BUCKET]);
        self.buckets.make(platform, place(reference).0, new).map_err(|_| Status::GENERAL)
    }
}

/// The bucket of an entry, and its place there.
#[inline]
fn place(reference: GrantRef) -> (usize, usize) {
    let index = usize::try_from(reference.0).unwrap_or(usize::MAX);
    (index / BUCKET, index % BUCKET)
}

impl<P: Platform> GrantTable<P> {
    /// Begins a use of an entry of `owner`'s table by another domain, or itself. The frame stays
    /// `owner`'s until the use ends.
    ///
    /// # Errors
    ///
    /// - [`Status::BAD_REFERENCE`]: there is no such entry;
    /// - [`Status::GENERAL`]: it does not admit the domain, or not to this, or it is used too often,
    ///   or by another domain;
    /// - [`Status::BAD_PAGE`]: its frame is not the owner's.
    #[inline(always)]
    pub(super) fn begin_use(
        &self,
        frames: Frames<'_, P, impl FrameOwners>,
        (platform, owner): (&P, DomId),
        reference: GrantRef,
        (by, access, kind): (DomId, Access, EntryState),
    ) -> Result<Mfn, Status> {
        let (number, place) = place(reference);
        let bucket = match self.uses.buckets.get(number) {
            Some(bucket) => bucket,
            // Made for entries alone that admit the caller: their owner pays for it.
            None => {
                self.check_open()?;
                entry::check(self.word(platform, reference)?, (by, kind))?;
                self.uses.bucket(platform, reference)?
            }
        };
        let mut bucket = bucket.lock(platform);
        let this = bucket.get_mut(place).ok_or(Status::BAD_REFERENCE)?;
        if !this.pins.is_none() {
            if this.by != by {
                return Err(Status::GENERAL);
            }
            let pins = this.pins.with(access).ok_or(Status::GENERAL)?;
            if access.writable && !this.pins.has_writers() {
                let _ = entry::begin(self.word(platform, reference)?, None, true)?;
            }
            this.pins = pins;
            return Ok(this.mfn());
        }
        // Counted first, so that whoever has closed the table either sees it or is seen.
        self.uses.count.fetch_add(1, Ordering::SeqCst);
        let begun = self.first_use(frames, (platform, owner), reference, (by, access, kind));
        match begun {
            Ok(begun) => *this = begun,
            Err(_) => _ = self.uses.count.fetch_sub(1, Ordering::SeqCst),
        }
        begun.map(Use::mfn)
    }

    /// Of a domain that is dying no entry may be read any more; what it names has no owner.
    fn check_open(&self) -> Result<(), Status> {
        if self.is_closed() { Err(Status::BAD_PAGE) } else { Ok(()) }
    }

    #[inline(always)]
    fn first_use(
        &self,
        frames: Frames<'_, P, impl FrameOwners>,
        (platform, owner): (&P, DomId),
        reference: GrantRef,
        (by, access, kind): (DomId, Access, EntryState),
    ) -> Result<Use, Status> {
        self.check_open()?;
        let word = self.word(platform, reference)?;
        let pins = Pins::NONE.with(access).ok_or(Status::GENERAL)?;
        let mfn = entry::begin(word, Some((by, kind)), access.writable)?.mfn();
        let held = frames.take(mfn, owner).map_err(|_| {
            entry::end(word, Pins::NONE, access);
            Status::BAD_PAGE
        })?;
        let frame = u32::try_from(held.into_entry().0).unwrap_or(0);
        Ok(Use { pins, by, frame })
    }

    /// Ends a use that was begun so. The reference that the entry held, if this was the last use, is
    /// to be put back.
    #[inline(always)]
    #[must_use]
    pub(super) fn end_use(
        &self,
        platform: &P,
        reference: GrantRef,
        access: Access,
    ) -> Option<FrameRef> {
        let (number, place) = place(reference);
        let mut bucket = self.uses.buckets.get(number)?.lock(platform);
        let this = bucket.get_mut(place)?;
        this.pins = this.pins.without(access);
        if let Ok(word) = self.word(platform, reference) {
            entry::end(word, this.pins, access);
        }
        if !this.pins.is_none() {
            return None;
        }
        self.uses.count.fetch_sub(1, Ordering::SeqCst);
        Some(FrameRef::from_entry(this.mfn()))
    }

    /// The frame of an entry that is in use.
    pub(crate) fn used_frame(&self, platform: &P, reference: GrantRef) -> Option<Mfn> {
        let (number, place) = place(reference);
        let bucket = self.uses.buckets.get(number)?.lock(platform);
        bucket.get(place).filter(|this| !this.pins.is_none()).map(|this| this.mfn())
    }

    /// How many entries are in use.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.uses.count.load(Ordering::SeqCst)
    }

    /// Whether `by` uses an entry for this frame.
    #[must_use]
    pub fn has_use(&self, platform: &P, by: DomId, mfn: Mfn) -> bool {
        let mut buckets = (0..BUCKETS).filter_map(|number| self.uses.buckets.get(number));
        let used = |this: &Use| !this.pins.is_none() && this.by == by && this.mfn() == mfn;
        buckets.any(|bucket| bucket.lock(platform).iter().any(used))
    }

    /// Exchanges two entries that are not in use.
    ///
    /// # Errors
    ///
    /// - the status for a reference without an entry;
    /// - `GNTST_eagain`: one of them is in use.
    pub fn swap(&self, platform: &P, a: GrantRef, b: GrantRef) -> Result<(), Status> {
        let words = (self.word(platform, a)?, self.word(platform, b)?);
        if a == b {
            return Ok(());
        }
        // Two buckets of one table are locked in the order of their numbers.
        let (low, high) = (a.min(b), a.max(b));
        let (first, second) = (self.uses.bucket(platform, low)?, self.uses.bucket(platform, high)?);
        let first = first.lock(platform);
        let second = (place(low).0 != place(high).0).then(|| second.lock(platform));
        let in_use = |bucket: &[Use; BUCKET], reference| {
            bucket.get(place(reference).1).is_none_or(|this| !this.pins.is_none())
        };
        if in_use(&first, low) || in_use(second.as_ref().unwrap_or(&first), high) {
            return Err(Status(hypercall_abi::grant::EAGAIN));
        }
        let was = words.0.load(Ordering::Acquire);
        words.0.store(words.1.swap(was, Ordering::AcqRel), Ordering::Release);
        Ok(())
    }

    /// Tells of each entry in use: by whom, its frame, to which it holds a reference, and the four
    /// counts.
    pub(crate) fn each_use(&self, platform: &P, mut tell: impl FnMut(GrantRef, DomId, Mfn, u32)) {
        for number in 0..BUCKETS {
            let Some(bucket) = self.uses.buckets.get(number) else { continue };
            for (place, this) in bucket.lock(platform).iter().enumerate() {
                if !this.pins.is_none() {
                    let index = number.wrapping_mul(BUCKET).wrapping_add(place);
                    let reference = u32::try_from(index).unwrap_or(u32::MAX);
                    tell(GrantRef(reference), this.by, this.mfn(), this.pins.counts());
                }
            }
        }
    }
}
