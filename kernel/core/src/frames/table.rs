//! The frame table: 16 bytes for each frame of memory, the lists of owners, and the pool of the
//! free ones.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hypercall_abi::layout::INVALID_M2P_ENTRY;
use hypercall_abi::types::{DomId, Mfn, Pfn};

use super::epoch::{Epochs, FlushDue};
use super::kept::{DeviceAccess, KeptDevices, LockedDevices, TooManyKept};
use super::owned::{Link, Lists};
use super::pool::{MAX_ORDER, Pool};
use super::references::FrameError;
use super::token::TypeRef;
use super::word::{self, FrameType, Outcome, Step, Word, WordError};
use crate::platform::{NoMemory, Platform};

/// What is known of one frame. Zero is a frame that is not memory, or free.
#[derive(Debug, Default)]
#[repr(C)]
pub struct FrameInfo {
    word: AtomicU64,
    /// 0: no memory; [`KERNEL`]: the kernel's, or free; else the domain's number plus 1. Changes only
    /// while `word` is 0, or the kernel has the only reference; and never from or to 0 after boot.
    owner: AtomicU32,
    /// When the last reference of the type went, by [`Epochs`].
    epoch: AtomicU32,
}

const _: () = assert!(size_of::<FrameInfo>() == 16);

/// [`FrameInfo::owner`] of memory that is no domain's.
const KERNEL: u32 = u32::MAX;

fn owner_number(owner: Option<DomId>) -> u32 {
    owner.map_or(KERNEL, |owner| u32::from(owner.0).wrapping_add(1))
}

/// The frame table of a machine.
#[derive(Debug)]
pub struct FrameTable {
    infos: &'static [FrameInfo],
    lists: Lists,
    /// Frames that are memory. Written at boot.
    memory: AtomicU64,
    pool: Pool,
    epochs: Epochs,
    kept: KeptDevices,
    locked: LockedDevices,
}

impl FrameTable {
    /// A table in which nothing is memory yet. All slices are zeroed; there is a link for each of
    /// `infos`, and a bit in `bitmap`, and a head for each domain that can be.
    #[must_use]
    pub const fn new(
        infos: &'static [FrameInfo],
        (links, heads): (&'static [Link], &'static [AtomicU32]),
        bitmap: &'static [AtomicU64],
    ) -> Self {
        Self {
            infos,
            lists: Lists::new(links, heads),
            memory: AtomicU64::new(0),
            pool: Pool::new(bitmap),
            epochs: Epochs::new(),
            kept: KeptDevices::new(),
            locked: LockedDevices::new(),
        }
    }

    /// Frames that the table can describe, memory or not.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.infos.len() as u64
    }

    /// Whether the table describes no frame.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.infos.is_empty()
    }

    /// Boot: makes frames free that are memory and in no use. Frames beyond the table are left out.
    pub fn add_free(&self, start: Mfn, count: u64) {
        for mfn in run(start, count) {
            if let Some(info) = self.info(mfn) {
                info.word.store(0, Ordering::Relaxed);
                self.is_memory(info);
                self.pool.give(mfn);
            }
        }
    }

    /// Boot: marks frames as the kernel's own for ever. All memory that is not free must be marked:
    /// what is neither counts as devices, which the privileged domain may map.
    pub fn reserve(&self, start: Mfn, count: u64) {
        for info in run(start, count).filter_map(|mfn| self.info(mfn)) {
            self.is_memory(info);
            let _ = info.change(Step::Allocate { allocated: false }, &self.epochs);
        }
    }

    /// Boot: lets the privileged domain map frames of the kernel's, read-only. They are *shared* for
    /// ever, and so never writable.
    pub fn show(&self, start: Mfn, count: u64) {
        for info in run(start, count).filter_map(|mfn| self.info(mfn)) {
            info.owner.store(owner_number(Some(DomId::XEN)), Ordering::Release);
            let _ = info.change(Step::TakeType(FrameType::Shared), &self.epochs);
        }
    }

    fn is_memory(&self, info: &FrameInfo) {
        if info.owner.swap(KERNEL, Ordering::Release) == 0 {
            self.memory.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Boot: limits what domains may do with a device that the kernel drives itself.
    ///
    /// # Errors
    ///
    /// [`TooManyKept`]: the frames would be anybody's who has devices.
    pub fn keep_device(
        &mut self,
        start: Mfn,
        count: u64,
        access: DeviceAccess,
    ) -> Result<(), TooManyKept> {
        self.kept.keep(start, count, access)
    }

    /// What a domain that has devices may do with a frame for which [`FrameTable::is_device`] holds.
    #[must_use]
    pub fn device_access(&self, mfn: Mfn) -> DeviceAccess {
        match self.kept.access(mfn) {
            DeviceAccess::Full if self.locked.has(mfn) => DeviceAccess::Read,
            access => access,
        }
    }

    /// Whether a frame is memory that the kernel shares with guests, or that its owner has given up.
    #[must_use]
    pub fn is_shared(&self, mfn: Mfn) -> bool {
        !self.is_device(mfn) && !self.word(mfn).is_allocated()
    }

    /// Lets a device's frames from `first` to `last` be mapped only for reading; what is mapped stays.
    /// False: there are too many such runs already.
    pub fn lock_device(&self, first: u64, last: u64) -> bool {
        self.locked.lock(first, last)
    }

    /// Ends that, if it was so.
    pub fn unlock_device(&self, first: u64, last: u64) {
        self.locked.unlock(first, last);
    }

    /// Whether domains may do nothing at all with one of the frames from `first` to `last`.
    #[must_use]
    pub fn keeps_device(&self, first: u64, last: u64) -> bool {
        self.kept.any(first, last)
    }

    /// Which CPUs have flushed when.
    #[must_use]
    pub const fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// How many frames are free at this moment.
    #[must_use]
    pub fn free_count(&self) -> u64 {
        self.pool.free_count()
    }

    /// How many of the free frames are claimed: nobody gets them but who has claimed them.
    #[must_use]
    pub fn claimed_count(&self) -> u64 {
        self.pool.claimed()
    }

    /// Claims `count` free frames, if as many are left.
    #[must_use]
    pub fn claim(&self, count: u64) -> bool {
        self.pool.claim(count)
    }

    /// Leaves `count` frames that were claimed to everybody.
    pub fn unclaim(&self, count: u64) {
        self.pool.unclaim(count);
    }

    /// Claims `count` frames again that have just been left to everybody.
    pub(crate) fn reclaim(&self, count: u64) {
        self.pool.reclaim(count);
    }

    /// How many frames are memory, free or not.
    #[must_use]
    pub fn memory_count(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }

    /// How many frames are free at this moment whose numbers have at least `from` bits and at most
    /// `to`.
    #[must_use]
    pub fn free_of_widths(&self, from: u32, to: u32) -> u64 {
        self.pool.free_of_widths(from, to)
    }

    /// One of the frames of a domain that is being ended, until it has left the list.
    pub(crate) fn first_of(&self, owner: DomId) -> Option<Mfn> {
        self.lists.first(owner)
    }

    /// The frame is no longer found as one of the domain's. To be called with a reference to it.
    pub(crate) fn forget_owned(&self, platform: &impl Platform, owner: DomId, mfn: Mfn) {
        self.lists.leave(platform, owner, mfn);
    }

    /// Takes the owner's own reference to the first frame of a domain that is being ended, and the
    /// frame out of its list. `None`: there is none, or it has more to be undone. Else whether it was
    /// the last reference: then the frame is free, and to be counted so by the caller.
    pub(crate) fn let_first_go(&self, platform: &impl Platform, owner: DomId) -> Option<bool> {
        let mut last = false;
        // As long as it is in the list nobody else can have got it: so no reference is needed.
        let may = |mfn| match self.change(mfn, Step::Disown) {
            Ok(outcome) => {
                last = outcome == Outcome::Freed;
                // Pins are of tables, and so is what is half checked.
                last || !self.word(mfn).frame_type().is_table()
            }
            Err(_) => false,
        };
        let mfn = self.lists.leave_first_if(platform, owner, may)?;
        if last {
            self.free(platform, mfn);
        }
        Some(last)
    }

    /// How many frames are found as the domain's, if it gets and loses none meanwhile.
    pub(crate) fn owned_count(&self, owner: DomId) -> u64 {
        self.lists.count(owner)
    }

    /// The domain that owns the frame at this moment. It stays so only as long as the caller holds
    /// a reference.
    #[must_use]
    pub fn owner(&self, mfn: Mfn) -> Option<DomId> {
        let owner = self.info(mfn)?.owner.load(Ordering::Acquire);
        owner.checked_sub(1).and_then(|id| u16::try_from(id).ok()).map(DomId)
    }

    /// The frame's state at this moment; a blank one for frames beyond the table.
    #[must_use]
    pub fn word(&self, mfn: Mfn) -> Word {
        self.info(mfn).map_or(Word(0), |info| Word(info.word.load(Ordering::Acquire)))
    }

    /// Whether the frame is no memory: registers or buffers of a device, or nothing at all. That
    /// never changes after boot.
    #[inline]
    #[must_use]
    pub fn is_device(&self, mfn: Mfn) -> bool {
        self.info(mfn).is_none_or(|info| info.owner.load(Ordering::Acquire) == 0)
    }

    /// Takes `count` zeroed frames in a row for the kernel itself.
    ///
    /// # Errors
    ///
    /// [`NoMemory`] when there are none.
    pub fn alloc_kernel(&self, platform: &impl Platform, count: u64) -> Result<Mfn, NoMemory> {
        let one = count == 1;
        let start = if one { self.pool.take(0, u64::MAX) } else { self.pool.take_run(count) };
        let start = start.ok_or(NoMemory)?;
        self.hand_out(platform, start, count, None);
        Ok(start)
    }

    /// Gives back frames of [`FrameTable::alloc_kernel`].
    pub fn free_kernel(&self, start: Mfn, count: u64) {
        for mfn in run(start, count) {
            if self.owner(mfn).is_none()
                && let Some(info) = self.info(mfn)
                && info.change(Step::Put, &self.epochs) == Ok(Outcome::Freed)
            {
                self.pool.give(mfn);
            }
        }
    }

    /// Takes `1 << order` zeroed frames, aligned to their number, for a domain that gets its own
    /// reference to each. With `below_bits` their addresses have no more bits than that.
    ///
    /// # Errors
    ///
    /// [`NoMemory`] when there are none, or the order is above [`MAX_ORDER`].
    pub fn alloc_for(
        &self,
        platform: &impl Platform,
        owner: DomId,
        order: u32,
        below_bits: Option<u32>,
    ) -> Result<Mfn, NoMemory> {
        let below = match below_bits.map(|bits| bits.saturating_sub(12)) {
            Some(bits) if bits < 64 => 1_u64.wrapping_shl(bits),
            _ => u64::MAX,
        };
        let start = self.pool.take(order.min(MAX_ORDER.wrapping_add(1)), below).ok_or(NoMemory)?;
        self.hand_out(platform, start, 1_u64.wrapping_shl(order), Some(owner));
        Ok(start)
    }

    /// Takes `count` zeroed frames in a row for a domain, wherever they are. Slow: for the initial
    /// domain.
    ///
    /// # Errors
    ///
    /// [`NoMemory`] when there is no such run.
    pub fn alloc_run(
        &self,
        platform: &impl Platform,
        owner: DomId,
        count: u64,
    ) -> Result<Mfn, NoMemory> {
        let start = self.pool.take_run(count).ok_or(NoMemory)?;
        self.hand_out(platform, start, count, Some(owner));
        Ok(start)
    }

    /// Takes a zeroed frame that the kernel shares with a domain: the domain owns it for the purpose
    /// of mapping it, but can't give it back, and as long as the kernel keeps the reference it is
    /// writable and nothing else, so never a page table.
    ///
    /// # Errors
    ///
    /// [`NoMemory`] when no frame is free.
    pub fn alloc_shared(
        &self,
        platform: &impl Platform,
        owner: DomId,
    ) -> Result<TypeRef, NoMemory> {
        let mfn = self.pool.take(0, u64::MAX).ok_or(NoMemory)?;
        self.hand_out(platform, mfn, 1, None);
        let info = self.info(mfn).ok_or(NoMemory)?;
        // General 2, type 1; then one general less: what is left is the reference to return. Its owner,
        // who may try any number at any time, finds it only when it is what it stays.
        let typed = info.change(Step::TakeType(FrameType::Writable), &self.epochs);
        let left = info.change(Step::Put, &self.epochs);
        info.owner.store(u32::from(owner.0).wrapping_add(1), Ordering::Release);
        self.lists.enter(platform, owner, mfn);
        if (typed, left) == (Ok(Outcome::Done), Ok(Outcome::Done)) {
            Ok(TypeRef::new(mfn, FrameType::Writable))
        } else {
            Err(NoMemory)
        }
    }

    /// Makes frames from the pool somebody's: everybody forgets what they were, then they are
    /// scrubbed, and only then they have an owner.
    fn hand_out(&self, platform: &impl Platform, start: Mfn, count: u64, owner: Option<DomId>) {
        let stamps = run(start, count).map(|mfn| self.epoch_of(mfn));
        FlushDue::new(self.epochs.stale_anywhere(stamps)).spend(platform);
        for mfn in run(start, count) {
            platform.zero_frame(mfn);
            if let Some(info) = self.info(mfn) {
                info.owner.store(owner_number(owner), Ordering::Release);
                let step = Step::Allocate { allocated: owner.is_some() };
                let _ = info.change(step, &self.epochs);
            }
            if let Some(owner) = owner {
                self.lists.enter(platform, owner, mfn);
            }
        }
    }

    /// The last reference went: nobody's, and free. Scrubbed when it is given to somebody.
    pub(super) fn give_back(&self, platform: &impl Platform, mfn: Mfn) -> Option<DomId> {
        let owner = self.owner(mfn);
        if let Some(owner) = owner {
            self.lists.leave(platform, owner, mfn);
        }
        self.free(platform, mfn);
        owner
    }

    /// A frame that nobody refers to, and that is in no list, goes to the pool.
    fn free(&self, platform: &impl Platform, mfn: Mfn) {
        platform.set_m2p(mfn, Pfn(INVALID_M2P_ENTRY));
        if let Some(info) = self.info(mfn) {
            info.owner.store(KERNEL, Ordering::Release);
            self.pool.give(mfn);
        }
    }

    #[inline]
    pub(super) fn info(&self, mfn: Mfn) -> Option<&FrameInfo> {
        self.infos.get(usize::try_from(mfn.0).ok()?)
    }

    /// Inlined, as what it calls is: the step is a constant wherever it is called, and little is left
    /// of it then.
    #[inline(always)]
    pub(super) fn change(&self, mfn: Mfn, step: Step) -> Result<Outcome, FrameError> {
        let info = self.info(mfn).ok_or(FrameError::NotOwned)?;
        info.change(step, &self.epochs).map_err(FrameError::from)
    }

    pub(super) fn epoch_of(&self, mfn: Mfn) -> u32 {
        self.info(mfn).map_or(0, |info| info.epoch.load(Ordering::Acquire))
    }
}

impl FrameInfo {
    /// Whether the frame is a domain's at this moment.
    #[inline]
    pub(super) fn is_owned_by(&self, owner: DomId) -> bool {
        self.owner.load(Ordering::Acquire) == u32::from(owner.0).wrapping_add(1)
    }

    /// The stamp is written before the word: whoever sees that the last reference is gone sees the
    /// stamp too. Nobody else can write the stamp meanwhile, since the caller holds that last
    /// reference until the exchange succeeds. The clock is read anew in each round, after the word:
    /// the entries of those who put back their references before have gone by then.
    #[inline(always)]
    pub(super) fn change(&self, step: Step, epochs: &Epochs) -> Result<Outcome, WordError> {
        word::change(&self.word, step, || {
            self.epoch.store(epochs.now_short(), Ordering::Release);
        })
    }
}

fn run(start: Mfn, count: u64) -> impl Iterator<Item = Mfn> {
    (start.0..start.0.saturating_add(count)).map(Mfn)
}
