//! A domain's table: the frames that the guest writes its entries to.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use hypercall_abi::grant::ENTRIES_PER_FRAME;
use hypercall_abi::types::{DomId, GrantRef, Mfn};

use super::Status;
use super::handles::{Handles, MAX_HANDLES, Mapping};
use super::uses::Uses;
use crate::frames::{FrameOwners, FrameType, Frames, TypeRef};
use crate::mm::DomainMemory;
use crate::platform::{NoMemory, Platform};

/// Frames that a table may have, and has if nobody says otherwise. Unit: frames.
pub const MAX_FRAMES: u32 = 64;

/// Mappings that Xen keeps in a frame.
const HANDLES_PER_FRAME: u32 = 256;

/// What a domain grants, and what it has mapped of others.
pub struct GrantTable<P: Platform> {
    /// Frame numbers plus 1; each holds the kernel's own reference to the frame. 0: not there yet.
    frames: [AtomicU64; MAX_FRAMES as usize],
    limit: AtomicU32,
    pub(super) uses: Uses<P>,
    pub(super) handles: Handles<P>,
    closed: AtomicBool,
}

impl<P: Platform> GrantTable<P> {
    /// An empty table, of at most [`MAX_FRAMES`] frames.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            frames: [const { AtomicU64::new(0) }; MAX_FRAMES as usize],
            limit: AtomicU32::new(MAX_FRAMES),
            uses: Uses::new(),
            handles: Handles::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// How many frames it may have. Unit: frames.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Limits how many frames it may have: [`MAX_FRAMES`] at most. It keeps what it has.
    pub fn set_limit(&self, frames: u32) {
        self.limit.store(frames.min(MAX_FRAMES), Ordering::Relaxed);
    }

    /// Limits how many mappings the domain may have: to as many as Xen keeps in so many frames, and
    /// [`MAX_HANDLES`] at most.
    pub fn set_handle_limit(&self, frames: u32) {
        let most = frames.saturating_mul(HANDLES_PER_FRAME).min(MAX_HANDLES);
        self.handles.limit.store(most, Ordering::Relaxed);
    }

    /// How many frames it has: one always, even if that is made only when it is asked for.
    #[must_use]
    pub fn len(&self) -> u32 {
        let there = self.frames.iter().take_while(|frame| frame.load(Ordering::Acquire) != 0);
        u32::try_from(there.count()).unwrap_or(0).max(1)
    }

    /// Never: it has a frame at least.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// The frame with this number, if it is there.
    #[inline]
    #[must_use]
    pub fn frame(&self, number: u32) -> Option<Mfn> {
        let frame = self.frames.get(usize::try_from(number).ok()?)?;
        frame.load(Ordering::Acquire).checked_sub(1).map(Mfn)
    }

    /// Makes the table, which is that of `owner`, at least so many frames long. To be called without
    /// a lock held.
    ///
    /// # Errors
    ///
    /// [`NoMemory`]: there is none, or that is more than it may have, or the domain is ending. It may
    /// have become longer.
    pub fn grow(
        &self,
        frames: Frames<'_, P, impl FrameOwners>,
        platform: &P,
        owner: &DomainMemory,
        wanted: u32,
    ) -> Result<(), NoMemory> {
        if wanted > self.limit() {
            return Err(NoMemory);
        }
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        for place in self.frames.iter().take(wanted) {
            if place.load(Ordering::Acquire) != 0 {
                continue;
            }
            let made = platform.frames().alloc_shared(platform, owner.id())?.into_entry();
            let value = made.0.wrapping_add(1);
            let (mine, none) = (Ordering::SeqCst, Ordering::Relaxed);
            let set = place.compare_exchange(0, value, mine, none).is_ok();
            // Whoever ends the domain looks at the frames after it has closed the table.
            let late = set && self.is_closed();
            if !set || late && place.compare_exchange(value, 0, mine, none).is_ok() {
                owner.add(1);
                let _ = frames.put_type(TypeRef::from_entry(made, FrameType::Writable));
            }
            if late {
                return Err(NoMemory);
            }
        }
        Ok(())
    }

    /// The word of an entry.
    ///
    /// # Errors
    ///
    /// [`Status::BAD_REFERENCE`] beyond the table; [`Status::GENERAL`] in a frame that is not there
    /// yet, whose entries admit nobody.
    #[inline]
    pub(super) fn word<'a>(
        &self,
        platform: &'a P,
        reference: GrantRef,
    ) -> Result<&'a AtomicU64, Status> {
        let number = reference.0 / ENTRIES_PER_FRAME;
        let none = if number == 0 { Status::GENERAL } else { Status::BAD_REFERENCE };
        let mfn = self.frame(number).ok_or(none)?;
        let index = usize::try_from(reference.0 % ENTRIES_PER_FRAME).unwrap_or(0);
        platform.table(mfn).get(index).ok_or(Status::BAD_REFERENCE)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// The frames it has. Each is shared by the kernel.
    pub(crate) fn shared_frames(&self) -> impl Iterator<Item = Mfn> {
        (0..MAX_FRAMES).filter_map(|number| self.frame(number))
    }

    /// The entries of others that are mapped for devices to write: each such mapping holds a reference
    /// of its own to the frame.
    pub(crate) fn for_devices(&self, platform: &P) -> impl Iterator<Item = (DomId, GrantRef)> {
        let held = |mapping: &Mapping| mapping.access().device && mapping.is_writable();
        let all = self.handles.all(platform).map(|(_, mapping)| mapping).filter(held);
        all.map(|mapping| (mapping.domain, mapping.reference))
    }

    /// Takes all frames out of the table.
    pub(super) fn take_frames(&self) -> impl Iterator<Item = TypeRef> {
        let taken =
            self.frames.iter().filter_map(|frame| frame.swap(0, Ordering::SeqCst).checked_sub(1));
        taken.map(|mfn| TypeRef::from_entry(Mfn(mfn), FrameType::Writable))
    }
}

impl<P: Platform> Default for GrantTable<P> {
    fn default() -> Self {
        Self::new()
    }
}
