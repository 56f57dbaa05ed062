//! What a domain has mapped of others' grants, by handle.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hypercall_abi::grant::MapFlags;
use hypercall_abi::types::{DomId, GrantHandle, GrantRef};

use super::Status;
use super::buckets::Buckets;
use super::entry::Access;
use crate::lock::Lock;
use crate::platform::Platform;

/// Handles in a bucket.
const BUCKET: usize = 256;
const SHELVES: usize = 8;
/// Mappings that a domain may have: as many as Xen keeps in its 1024 frames for them.
pub const MAX_HANDLES: u32 = 1024 * 256;
const _: () = assert!(MAX_HANDLES as usize <= SHELVES * 128 * BUCKET);

/// The end of the list of free handles.
const END: u32 = u32::MAX;

/// What a handle stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mapping {
    /// Whose entry.
    pub domain: DomId,
    /// Which.
    pub reference: GrantRef,
    /// How it is mapped, as far as it is still.
    pub flags: MapFlags,
}

/// Flags that are kept.
const KEPT: u64 = MapFlags::GUEST_AVAIL_MASK.bits() as u64 ^ 0xffff_ffff;
/// Set while somebody is about to undo the mapping: it is his alone.
const BUSY: u64 = 1 << 15;

impl Mapping {
    /// The mapping as a word, which is never 0 in its lower half: the flags, the domain, the entry.
    const fn to_word(self) -> u64 {
        let how = self.flags.bits() as u64 & KEPT & (BUSY - 1);
        how | (self.domain.0 as u64) << 16 | (self.reference.0 as u64) << 32
    }

    fn from_word(word: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
        Self {
            flags: MapFlags::from_bits_retain(u32::from_le_bytes([a, b & 0x7f, 0, 0])),
            domain: DomId(u16::from_le_bytes([c, d])),
            reference: GrantRef(u32::from_le_bytes([e, f, g, h])),
        }
    }

    /// Whether it may be written through.
    #[must_use]
    pub const fn is_writable(self) -> bool {
        !self.flags.contains(MapFlags::READONLY)
    }

    /// The uses of the entry that it stands for.
    pub(super) const fn access(self) -> Access {
        Access {
            writable: self.is_writable(),
            host: self.flags.contains(MapFlags::HOST_MAP),
            device: self.flags.contains(MapFlags::DEVICE_MAP),
        }
    }
}

/// Words of free handles hold the next one, in their upper half.
type Bucket = [AtomicU64; BUCKET];

struct Free {
    first: u32,
    /// Handles that there are; those behind were never used.
    made: u32,
}

/// All handles of a domain.
pub(super) struct Handles<P: Platform> {
    buckets: Buckets<P, Bucket, SHELVES>,
    free: Lock<Free>,
    /// How many there may be.
    pub(super) limit: AtomicU32,
    /// Where undoing them all has got to.
    pub(super) cursor: AtomicU32,
}

impl<P: Platform> Handles<P> {
    pub(super) const fn new() -> Self {
        Self {
            buckets: Buckets::new(),
            free: Lock::new(Free { first: END, made: 0 }),
            limit: AtomicU32::new(MAX_HANDLES),
            cursor: AtomicU32::new(0),
        }
    }

    #[inline]
    fn word(&self, handle: u32) -> Option<&AtomicU64> {
        let index = usize::try_from(handle).ok()?;
        self.buckets.get(index / BUCKET)?.get(index % BUCKET)
    }

    /// Takes a free handle. To be called without a lock held.
    #[inline]
    pub(super) fn take(&self, platform: &P) -> Option<GrantHandle> {
        loop {
            let mut free = self.free.lock(platform);
            if free.first != END {
                let handle = free.first;
                let [.., a, b, c, d] = self.word(handle)?.load(Ordering::Relaxed).to_le_bytes();
                free.first = u32::from_le_bytes([a, b, c, d]);
                return Some(GrantHandle(handle));
            }
            let fresh = free.made;
            if fresh >= self.limit.load(Ordering::Relaxed) {
                return None;
            }
            if self.word(fresh).is_some() {
                free.made = fresh.saturating_add(1);
                return Some(GrantHandle(fresh));
            }
            drop(free);
            let number = usize::try_from(fresh).ok()? / BUCKET;
            self.buckets.make(platform, number, || [const { AtomicU64::new(0) }; BUCKET]).ok()?;
        }
    }

    /// Gives a handle back that stands for nothing.
    #[inline]
    pub(super) fn give(&self, platform: &P, GrantHandle(handle): GrantHandle) {
        if let Some(word) = self.word(handle) {
            let mut free = self.free.lock(platform);
            word.store(u64::from(free.first) << 32, Ordering::Release);
            free.first = handle;
        }
    }

    /// Makes a handle that was taken, or claimed, stand for a mapping.
    #[inline]
    pub(super) fn set(&self, GrantHandle(handle): GrantHandle, mapping: Mapping) {
        if let Some(word) = self.word(handle) {
            word.store(mapping.to_word(), Ordering::Release);
        }
    }

    /// What a handle stands for, for the caller alone to undo: until [`Handles::set`] or
    /// [`Handles::give`].
    ///
    /// # Errors
    ///
    /// [`Status::BAD_HANDLE`]: nothing, or somebody else is about to undo it.
    #[inline]
    pub(super) fn claim(&self, GrantHandle(handle): GrantHandle) -> Result<Mapping, Status> {
        let word = self.word(handle).ok_or(Status::BAD_HANDLE)?;
        let now = word.load(Ordering::Acquire);
        let free = now & 0xffff == 0 || now & BUSY != 0;
        let busy = now | BUSY;
        if free || word.compare_exchange(now, busy, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return Err(Status::BAD_HANDLE);
        }
        Ok(Mapping::from_word(now))
    }

    /// Handles that were ever used.
    pub(super) fn made(&self, platform: &P) -> u32 {
        self.free.lock(platform).made
    }

    /// What all handles stand for.
    pub(crate) fn all(&self, platform: &P) -> impl Iterator<Item = (GrantHandle, Mapping)> {
        (0..self.made(platform))
            .filter_map(|handle| Some((handle, self.word(handle)?.load(Ordering::Acquire))))
            .filter(|(_, word)| word & 0xffff != 0)
            .map(|(handle, word)| (GrantHandle(handle), Mapping::from_word(word)))
    }
}
