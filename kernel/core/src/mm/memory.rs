//! What is known of a domain's memory as a whole.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use hypercall_abi::errno::Errno;
use hypercall_abi::types::{DomId, Mfn};

use crate::control::Ranges;
use crate::cpu::CpuSet;
use crate::frames::{DirtyCpus, FrameOwners, FrameTable, Owner};
use crate::lock::Lock;
use crate::platform::Platform;

/// How many tables can wait to be undone: those that eight CPUs can leave at once. An operation that
/// begins finds none, and leaves one of each level at most, and a root that was taken before.
const PENDING: usize = 8 * 4;
/// In a place of [`DomainMemory::pending`]: a CPU is undoing the table. No frame number has this bit:
/// the direct map ends at 4 TiB.
const AT_WORK: u32 = 1 << 31;

/// A table that is half undone, taken by this CPU.
#[derive(Debug)]
#[must_use = "others wait until it is put back or done"]
pub(super) struct Pending<'a> {
    place: &'a AtomicU32,
    noted: &'a AtomicU32,
    value: u32,
}

impl Pending<'_> {
    /// The table.
    pub(super) const fn mfn(&self) -> Mfn {
        Mfn(self.value.wrapping_sub(1) as u64)
    }

    /// It is undone.
    pub(super) fn done(self) {
        self.place.store(0, Ordering::Release);
        self.noted.fetch_sub(1, Ordering::Release);
    }

    /// More of it is left to whoever comes first.
    pub(super) fn put_back(self) {
        self.place.store(self.value, Ordering::Release);
    }
}

/// What is left to undo.
#[derive(Debug)]
pub(super) enum Left<'a> {
    /// Nothing.
    Nothing,
    /// A table, for this CPU to go on with.
    Here(Pending<'a>),
    /// Nothing but what other CPUs are at work on.
    Elsewhere,
}

/// The memory of one domain: its accounts, and where its addresses may be cached.
#[derive(Debug)]
pub struct DomainMemory {
    id: DomId,
    /// Whether `devices` is not empty.
    has_devices: AtomicBool,
    /// Frames that are no memory which the domain may map.
    devices: Lock<Ranges>,
    pages: AtomicU64,
    max_pages: AtomicU64,
    /// Free frames that are kept for it.
    claim: AtomicU64,
    dirty: DirtyCpus,
    assists: AtomicU64,
    /// Tables that are half undone: frame number plus 1, with [`AT_WORK`] while a CPU undoes it; or 0.
    /// No reference: whoever looks must find the frame *partial*.
    pending: [AtomicU32; PENDING],
    /// How many there are, or are about to be: mostly none.
    noted: AtomicU32,
}

impl DomainMemory {
    /// The memory of a domain that owns `pages` frames and may not have more.
    #[must_use]
    pub const fn new(id: DomId, pages: u64) -> Self {
        Self {
            id,
            has_devices: AtomicBool::new(false),
            devices: Lock::new(Ranges::NONE),
            pages: AtomicU64::new(pages),
            max_pages: AtomicU64::new(pages),
            claim: AtomicU64::new(0),
            dirty: DirtyCpus::new(),
            assists: AtomicU64::new(0),
            pending: [const { AtomicU32::new(0) }; PENDING],
            noted: AtomicU32::new(0),
        }
    }

    /// This memory, of a domain that may map devices.
    #[must_use]
    pub fn with_devices(self) -> Self {
        Self { has_devices: AtomicBool::new(true), devices: Lock::new(Ranges::ALL), ..self }
    }

    /// The domain.
    #[must_use]
    pub const fn id(&self) -> DomId {
        self.id
    }

    /// Whether the domain may map what is no memory.
    #[must_use]
    pub fn has_devices(&self) -> bool {
        self.has_devices.load(Ordering::Relaxed)
    }

    /// Whether the domain may map all of these frames, if they are no memory.
    pub fn may_map_devices(&self, platform: &impl Platform, first: u64, last: u64) -> bool {
        self.has_devices() && self.devices.lock(platform).contains(first, last)
    }

    /// Says whether it may. What it has mapped stays mapped.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: too many ranges.
    pub fn permit_devices(
        &self,
        platform: &impl Platform,
        first: u64,
        last: u64,
        allowed: bool,
    ) -> Result<(), Errno> {
        let mut devices = self.devices.lock(platform);
        devices.set(first, last, allowed)?;
        self.has_devices.store(!devices.is_empty(), Ordering::Relaxed);
        Ok(())
    }

    /// Frames the domain owns, those included that it has given up and that are still referred to.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    /// Frames the domain may own.
    #[must_use]
    pub fn max_pages(&self) -> u64 {
        self.max_pages.load(Ordering::Relaxed)
    }

    /// Sets how many frames the domain may own. It keeps what it has.
    pub fn set_max_pages(&self, pages: u64) {
        self.max_pages.store(pages, Ordering::Relaxed);
    }

    /// Has frames kept for the domain, so that it can have `pages` in all; 0 ends it.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: some are kept already; it has as many, or may not have as many.
    /// - `ENOMEM`: there are not enough free ones.
    pub fn claim(&self, frames: &FrameTable, pages: u64) -> Result<(), Errno> {
        if pages == 0 {
            frames.unclaim(self.claim.swap(0, Ordering::Relaxed));
            return Ok(());
        }
        let more = pages.checked_sub(self.pages()).filter(|&more| more > 0);
        let more = more.filter(|_| pages <= self.max_pages()).ok_or(Errno::EINVAL)?;
        let order = Ordering::Relaxed;
        if self.claim.load(order) != 0 {
            return Err(Errno::EINVAL);
        }
        if !frames.claim(more) {
            return Err(Errno::ENOMEM);
        }
        self.claim.compare_exchange(0, more, order, order).map(drop).map_err(|_| {
            frames.unclaim(more);
            Errno::EINVAL
        })
    }

    /// Runs `take`, which takes `pages` frames: of those that are kept for the domain, if they are enough,
    /// else of others. Afterwards as many less are kept.
    pub(super) fn take_claimed<T>(
        &self,
        frames: &FrameTable,
        pages: u64,
        take: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        if self.claim.load(Ordering::Relaxed) == 0 {
            return take();
        }
        let less = |least: u64| {
            let order = Ordering::Relaxed;
            let less = |claim: u64| (claim >= least).then(|| claim.saturating_sub(pages));
            self.claim.fetch_update(order, order, less).map_or(0, |claim| claim.min(pages))
        };
        let used = less(pages);
        frames.unclaim(used);
        let taken = take();
        if taken.is_none() {
            self.claim.fetch_add(used, Ordering::Relaxed);
            frames.reclaim(used);
        } else if used == 0 {
            frames.unclaim(less(0));
        }
        taken
    }

    /// Counts `count` more frames, if it may have them.
    #[must_use]
    pub fn grow(&self, count: u64) -> bool {
        let max = self.max_pages();
        let grown = self.pages.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |pages| {
            pages.checked_add(count).filter(|&pages| pages <= max)
        });
        grown.is_ok()
    }

    /// Counts `count` more frames, whether it may have them or not: as many will go at once.
    pub(crate) fn add(&self, count: u64) {
        self.pages.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts `count` frames less.
    pub fn shrink(&self, count: u64) {
        let less = |pages: u64| Some(pages.saturating_sub(count));
        let _ = self.pages.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// CPUs that may have cached the domain's addresses.
    #[must_use]
    pub const fn dirty(&self) -> &DirtyCpus {
        &self.dirty
    }

    /// The CPUs that may have cached the domain's addresses at this moment.
    #[must_use]
    pub fn dirty_cpus(&self) -> CpuSet {
        self.dirty.get()
    }

    /// Whether the guest has switched on an aid (ABI: `VMASST_TYPE_*`).
    #[must_use]
    pub fn has_assist(&self, number: u32) -> bool {
        self.assists.load(Ordering::Relaxed) & 1_u64.wrapping_shl(number) != 0
    }

    /// Switches an aid on.
    pub fn enable_assist(&self, number: u32) {
        self.assists.fetch_or(1_u64.wrapping_shl(number), Ordering::Relaxed);
    }

    /// Switches an aid off.
    pub fn disable_assist(&self, number: u32) {
        self.assists.fetch_and(!1_u64.wrapping_shl(number), Ordering::Relaxed);
    }

    /// The domain as the owner of frames.
    #[must_use]
    pub const fn as_owner(&self) -> Owner<'_> {
        Owner { id: self.id, dirty: &self.dirty }
    }

    /// Notes a table that is half undone; `false` if there is no room.
    #[must_use]
    pub(super) fn add_pending(&self, mfn: Mfn) -> bool {
        let Ok(value) = u32::try_from(mfn.0.wrapping_add(1)) else { return false };
        // Counted first, so that none is there that is not counted.
        self.noted.fetch_add(1, Ordering::Acquire);
        let noted = self.pending.iter().any(|place| {
            place.compare_exchange(0, value, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        });
        if !noted {
            self.noted.fetch_sub(1, Ordering::Release);
        }
        noted
    }

    /// Takes one table that is half undone.
    #[inline]
    pub(super) fn take_pending(&self) -> Left<'_> {
        let mut left = Left::Nothing;
        if self.noted.load(Ordering::Acquire) == 0 {
            return left;
        }
        for place in &self.pending {
            let value = place.load(Ordering::Acquire);
            if value == 0 {
                continue;
            }
            let taken = value & AT_WORK == 0
                && place
                    .compare_exchange(value, value | AT_WORK, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok();
            if taken {
                return Left::Here(Pending { place, noted: &self.noted, value });
            }
            left = Left::Elsewhere;
        }
        left
    }
}

/// A domain alone with its own frames: what holds as long as there is no other.
impl FrameOwners for DomainMemory {
    fn frame_freed(&self, owner: DomId) {
        if owner == self.id {
            self.shrink(1);
        }
    }
}
