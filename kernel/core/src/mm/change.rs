//! Replacing one entry of a page table.
//!
//! No lock: the new entry's reference is taken first, then the entry is exchanged with one locked
//! instruction, then the reference of exactly the entry that was there is put back. Two CPUs that
//! change the same entry at the same time each put back what they took out. The caller holds a
//! reference to the table as one of its level, so that nobody undoes it meanwhile.

use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::types::Mfn;

use super::Mm;
use super::entry::{Entry, Level, USED};
use super::memory::DomainMemory;
use super::progress::{Budget, Stop};
use super::refusal::{Place, Refusal, Why};
use super::tables::slot;
use crate::frames::{DeviceAccess, FrameOwners, FrameRef, FrameType, TypeRef};
use crate::platform::Platform;

/// Whose frames an entry of level 1 may map.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// Those of the domain whose table it is.
    Own,
    /// Those of another domain.
    Foreign(&'a DomainMemory),
    /// Those of devices.
    Devices,
}

/// What becomes of the accessed and dirty bits that the machine set in the old entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Keep {
    /// They are lost: the new entry is taken as it is.
    Nothing,
    /// They are set in the new entry too.
    Used,
}

/// Frames above this are nobody's: an entry's other address bits may be reserved in the machine.
/// Unit: frames (1 TiB).
pub(crate) const DEVICE_LIMIT: u64 = 1 << 28;

impl<P: Platform, O: FrameOwners> Mm<'_, P, O> {
    /// Writes an entry of a table, checked. True if it was a present one above level 1: guests rely
    /// on such a change being seen at once, without a flush of theirs. The kernel does not.
    ///
    /// # Errors
    ///
    /// The refusal, naming the entry; [`Stop::Again`]. The entry is unchanged then.
    #[inline]
    pub fn change(
        &self,
        table: &TypeRef,
        index: u16,
        new: Entry,
        (keep, source): (Keep, Source<'_>),
        budget: &mut Budget,
    ) -> Result<bool, Stop> {
        let (Some(level), Some(slot)) =
            (Level::of(table.frame_type()), slot(self.platform.table(table.mfn()), index))
        else {
            return Err(Refusal::new(Why::NotTable(table.mfn())).into());
        };
        let changed = match level.below() {
            None => self.change_page(slot, new, keep, source).map(|()| false).map_err(Stop::from),
            Some(_) if !matches!(source, Source::Own) => {
                Err(Refusal::new(Why::ForeignTable).into())
            }
            Some(below) => self.change_child(slot, (level, below, index), (new, keep), budget),
        };
        changed.map_err(|stop| match stop {
            Stop::Refused(refusal) => {
                Stop::Refused(refusal.at(Place { level, table: table.mfn(), index }))
            }
            Stop::Again => Stop::Again,
        })
    }

    /// Writes an entry of level 1.
    #[inline]
    fn change_page(
        &self,
        slot: &AtomicU64,
        new: Entry,
        keep: Keep,
        source: Source<'_>,
    ) -> Result<(), Refusal> {
        if new.is_present() {
            if self.change_flags(slot, new, Level::L1, keep)? {
                return Ok(());
            }
            self.take_page(new, source)?;
        }
        let old = exchange(slot, self.settled(new, Level::L1), keep);
        if old.is_present() {
            self.release_page(old);
        }
        Ok(())
    }

    /// Gives back what an entry of level 1 held that has just been removed.
    #[inline]
    pub(super) fn release_page(&self, old: Entry) {
        if self.is_foreign(old) {
            self.flush_for_foreign();
        }
        self.put_page(old);
    }

    /// The entry with the bits that the kernel sets. A device that may only be read gets an entry
    /// that only reads, without an error: measured on Xen 4.17.
    #[inline]
    pub(super) fn settled(&self, new: Entry, level: Level) -> Entry {
        let frames = self.platform.frames();
        if level == Level::L1 && new.is_present() && frames.is_device(new.mfn()) {
            let device = new.adjusted(level).uncached();
            let writable = frames.device_access(new.mfn()) == DeviceAccess::Full;
            return if writable { device } else { device.read_only() };
        }
        new.adjusted(level)
    }

    /// Checks an entry's bits alone. How its own memory is cached too a domain with devices selects
    /// itself: they may read what it writes.
    #[inline]
    pub(super) fn check_bits(&self, new: Entry, level: Level) -> Result<(), Refusal> {
        match new.refused_bits(level, self.memory.has_devices()) {
            0 => Ok(()),
            bits => Err(Refusal::new(Why::Bits(bits))),
        }
    }

    /// Checks an entry for a frame to which there is a reference already, with other flags.
    #[inline]
    pub(super) fn check_same(&self, new: Entry, level: Level) -> Result<(), Refusal> {
        self.check_bits(new, level)?;
        self.check_caching(new)
    }

    /// What the kernel shares with guests is cached as it has it.
    #[inline]
    fn check_caching(&self, entry: Entry) -> Result<(), Refusal> {
        let special = entry.chooses_caching() && self.platform.frames().is_shared(entry.mfn());
        if special { Err(Refusal::new(Why::Caching)) } else { Ok(()) }
    }

    /// Writes an entry of a higher level; true if it was present.
    fn change_child(
        &self,
        slot: &AtomicU64,
        (level, below, index): (Level, Level, u16),
        (new, keep): (Entry, Keep),
        budget: &mut Budget,
    ) -> Result<bool, Stop> {
        if level.is_hypervisor_slot(index) {
            return Err(Refusal::new(Why::HypervisorSlot).into());
        }
        if new.is_present() {
            if self.change_flags(slot, new, level, keep)? {
                return Ok(true);
            }
            self.take_child(new, level, below, budget)?;
        }
        let old = exchange(slot, new.adjusted(level), keep);
        if old.is_present() {
            self.drop_table(TypeRef::from_entry(old.mfn(), below.frame_type()), budget);
        }
        Ok(old.is_present())
    }

    /// Writes an entry that holds the same reference as the one that is there; says whether it did.
    /// A reference would be taken and put back for nothing.
    #[inline]
    fn change_flags(
        &self,
        slot: &AtomicU64,
        new: Entry,
        level: Level,
        keep: Keep,
    ) -> Result<bool, Refusal> {
        let mut old = Entry(slot.load(Ordering::Acquire));
        while new.holds_the_same(old) || level != Level::L1 && same_child(new, old) {
            self.check_same(new, level)?;
            let next = kept(self.settled(new, level), old, keep);
            match slot.compare_exchange(old.0, next.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(true),
                Err(now) => old = Entry(now),
            }
        }
        Ok(false)
    }

    /// Takes the reference that a present entry of level 1 stands for.
    #[inline]
    pub(super) fn take_page(&self, entry: Entry, source: Source<'_>) -> Result<(), Refusal> {
        let mfn = entry.mfn();
        self.check_bits(entry, Level::L1)?;
        if self.platform.frames().is_device(mfn) {
            return self.check_device(mfn, source);
        }
        let owner = match source {
            Source::Own => self.owner(),
            Source::Foreign(memory) => memory.as_owner(),
            Source::Devices => return Err(Refusal::new(Why::NotOwned(mfn))),
        };
        if entry.is_writable() {
            let held = self.frames.take_writable(mfn, owner);
            let held = held.map_err(|error| Refusal::frame(mfn, FrameType::Writable, error))?;
            let _counted = held.into_entry();
        } else {
            let held = self.frames.take(mfn, owner.id);
            let held = held.map_err(|error| Refusal::frame(mfn, FrameType::None, error))?;
            let _counted = held.into_entry();
        }
        self.check_caching(entry).inspect_err(|_| self.put_page(entry))
    }

    /// What is no memory is not counted.
    fn check_device(&self, mfn: Mfn, source: Source<'_>) -> Result<(), Refusal> {
        let allowed = match source {
            Source::Own | Source::Devices => {
                self.memory.may_map_devices(self.platform, mfn.0, mfn.0)
            }
            Source::Foreign(_) => false,
        };
        if !allowed || mfn.0 >= DEVICE_LIMIT {
            return Err(Refusal::new(Why::Device(mfn)));
        }
        match self.platform.frames().device_access(mfn) {
            DeviceAccess::None => Err(Refusal::new(Why::KeptDevice(mfn))),
            DeviceAccess::Full | DeviceAccess::Read => Ok(()),
        }
    }

    /// Puts back the reference that an entry of level 1 stood for.
    #[inline]
    pub(super) fn put_page(&self, entry: Entry) {
        let mfn = entry.mfn();
        if self.platform.frames().is_device(mfn) {
            return;
        }
        if entry.is_writable() {
            // A writable frame has no entries of its own to undo.
            let _ = self.frames.put_type(TypeRef::from_entry(mfn, FrameType::Writable));
        } else {
            self.frames.put(FrameRef::from_entry(mfn));
        }
    }

    /// Whether an entry maps another domain's memory.
    #[inline]
    pub(super) fn is_foreign(&self, entry: Entry) -> bool {
        !self.owns(entry.mfn()) && !self.platform.frames().is_device(entry.mfn())
    }
}

/// Whether two present entries of a higher level refer to the same table: writing is not a reference
/// of its own there.
fn same_child(new: Entry, old: Entry) -> bool {
    old.is_present() && new.is_present() && new.mfn() == old.mfn()
}

/// Puts an entry in another's place.
#[inline]
fn exchange(slot: &AtomicU64, new: Entry, keep: Keep) -> Entry {
    if keep == Keep::Nothing {
        return Entry(slot.swap(new.0, Ordering::AcqRel));
    }
    let mut old = Entry(slot.load(Ordering::Acquire));
    loop {
        let next = kept(new, old, keep);
        match slot.compare_exchange(old.0, next.0, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return old,
            Err(now) => old = Entry(now),
        }
    }
}

const fn kept(new: Entry, old: Entry, keep: Keep) -> Entry {
    match keep {
        Keep::Nothing => new,
        Keep::Used => Entry(new.0 | old.0 & USED),
    }
}
