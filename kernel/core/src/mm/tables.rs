//! Checking page tables, and undoing that.
//!
//! A frame becomes a page table when the first reference to it as one is taken: then each of its
//! entries is checked and takes the reference it stands for, down to the pages. When the last such
//! reference is put back, each entry gives its own back. Both can take long, so both can stop in the
//! middle of a table: it is *partial* then, which means exactly that the entries below an index hold
//! their references. A partial table belongs to nobody; the same request made again goes on with it.
//!
//! What stops in the middle of a child stops in the middle of its parents too, with the child's
//! entry as their index. So whoever undoes a partial table looks at the child at its index first.

use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::layout::{HYPERVISOR_FIRST_SLOT, HYPERVISOR_SLOTS};
use hypercall_abi::types::Mfn;
use hypercall_abi::vm_assist::TYPE_M2P_STRICT;

use super::Mm;
use super::change::Source;
use super::entry::{Entry, Level};
use super::memory::{Left, Pending};
use super::progress::{Budget, Stop};
use super::refusal::{Place, Refusal, Why};
use crate::frames::{Begun, BusyFrame, FlushDue, FrameOwners, Joined, TypeRef, Undo};
use crate::platform::{Platform, Table};

/// Entries of a table.
const ENTRIES: u16 = 512;

const LAST: u16 = ENTRIES - 1;
/// The slot of a root that shows the machine-to-physical table.
const M2P_SLOT: u16 = 256;
const _: () = assert!(M2P_SLOT as usize == HYPERVISOR_FIRST_SLOT);

/// What an entry turned out to be.
enum Checked {
    Nothing,
    Page,
    Child,
}

/// One entry of a table, if the index is one.
pub(super) fn slot(table: &Table, index: u16) -> Option<&AtomicU64> {
    table.get(usize::from(index))
}

impl<P: Platform, O: FrameOwners> Mm<'_, P, O> {
    /// Takes a reference to a frame of the domain as a page table, after checking it if it isn't one
    /// yet.
    ///
    /// # Errors
    ///
    /// The refusal of the frame or of one of its entries, or of a child's; [`Stop::Again`].
    pub fn take_table(&self, mfn: Mfn, level: Level, budget: &mut Budget) -> Result<TypeRef, Stop> {
        let want = level.frame_type();
        let begun = self.frames.begin_type(mfn, self.owner(), want);
        match begun.map_err(|error| Refusal::frame(mfn, want, error))? {
            Begun::Held(held) if self.owns(mfn) => Ok(held),
            Begun::Held(held) => {
                self.drop_table(held, budget);
                Err(Refusal::new(Why::NotOwned(mfn)).into())
            }
            Begun::Validate { busy, from } if self.owns(mfn) => {
                self.validate(busy, level, from, budget)
            }
            Begun::Validate { busy, from: 0 } => {
                self.frames.finish(busy);
                Err(Refusal::new(Why::NotOwned(mfn)).into())
            }
            Begun::Validate { busy, from } => {
                self.frames.suspend(busy, from);
                Err(Refusal::new(Why::NotOwned(mfn)).into())
            }
        }
    }

    /// Takes a reference to a page table that the frame is already.
    ///
    /// # Errors
    ///
    /// [`Why::NotTable`] if the frame is no such table of the domain.
    #[inline]
    pub fn join_table(&self, mfn: Mfn, level: Level) -> Result<TypeRef, Refusal> {
        match self.frames.join_type(mfn, self.memory.id(), level.frame_type()) {
            Ok(held) => Ok(held),
            Err(Joined::Foreign(held)) => {
                self.drop_table(held, &mut Budget::new());
                Err(Refusal::new(Why::NotTable(mfn)))
            }
            Err(Joined::Error(_)) => Err(Refusal::new(Why::NotTable(mfn))),
        }
    }

    /// Puts back a reference to a page table. If it was the last and undoing takes too long, the
    /// rest is noted as pending.
    #[inline]
    pub fn drop_table(&self, held: TypeRef, budget: &mut Budget) {
        if let Some(undo) = self.frames.put_type(held) {
            self.undo_or_note(undo, budget);
        }
    }

    /// Undoes a table, or notes it as pending. With too many noted already it is undone here and now.
    fn undo_or_note(&self, undo: Undo, budget: &mut Budget) {
        let (mfn, frame_type) = (undo.busy.mfn(), undo.busy.frame_type());
        if self.undo(undo, budget).is_err()
            && !self.memory.add_pending(mfn)
            && let Some(undo) = self.frames.reclaim_as(mfn, frame_type)
        {
            let _ = self.undo(undo, &mut Budget::unlimited());
        }
    }

    /// Goes on with what earlier operations have left half undone. Every operation on memory begins
    /// with this, and one that leaves something ends with it: the guest counts on what is undone,
    /// so this CPU also waits for what another one of the domain's has taken up.
    ///
    /// # Errors
    ///
    /// [`Stop::Again`] when there is more of it.
    #[inline]
    pub fn finish_pending(&self, budget: &mut Budget) -> Result<(), Stop> {
        loop {
            match self.memory.take_pending() {
                Left::Nothing => return Ok(()),
                Left::Elsewhere => self.platform.spin_wait(),
                Left::Here(pending) => self.go_on_with(pending, budget)?,
            }
        }
    }

    fn go_on_with(&self, pending: Pending<'_>, budget: &mut Budget) -> Result<(), Stop> {
        let mfn = pending.mfn();
        if self.owns(mfn)
            && let Some(undo) = self.frames.reclaim(mfn)
            && self.undo(undo, budget).is_err()
        {
            pending.put_back();
            return Err(Stop::Again);
        }
        pending.done();
        Ok(())
    }

    /// Checks the entries from `from` on. The frame is this CPU's alone.
    fn validate(
        &self,
        busy: BusyFrame,
        level: Level,
        from: u16,
        budget: &mut Budget,
    ) -> Result<TypeRef, Stop> {
        let mfn = busy.mfn();
        let table = self.platform.table(mfn);
        for index in from..ENTRIES {
            if level.is_hypervisor_slot(index) {
                continue;
            }
            let Some(slot) = slot(table, index) else { continue };
            match self.validate_entry(slot, level, budget) {
                Ok(Checked::Child) if budget.is_spent() && index < LAST => {
                    // One child at least each time, so this comes to an end.
                    self.frames.suspend(busy, index.saturating_add(1));
                    return Err(Stop::Again);
                }
                Ok(_) => {}
                Err(Stop::Again) => {
                    self.frames.suspend(busy, index);
                    return Err(Stop::Again);
                }
                Err(Stop::Refused(refusal)) => {
                    self.undo_or_note(Undo { busy, below: index }, budget);
                    return Err(refusal.at(Place { level, table: mfn, index }).into());
                }
            }
        }
        budget.charge(u32::from(ENTRIES.saturating_sub(from)));
        if level == Level::L4 {
            self.platform.fill_hypervisor_slots(table);
            if !self.memory.has_assist(TYPE_M2P_STRICT) {
                hide_m2p(table);
            }
        }
        Ok(self.frames.commit(busy))
    }

    /// Takes the reference that an entry stands for, and sets the bits that the kernel sets.
    #[inline]
    fn validate_entry(
        &self,
        slot: &AtomicU64,
        level: Level,
        budget: &mut Budget,
    ) -> Result<Checked, Stop> {
        let entry = Entry(slot.load(Ordering::Relaxed));
        if !entry.is_present() {
            return Ok(Checked::Nothing);
        }
        let checked = match level.below() {
            None => {
                self.take_page(entry, Source::Own)?;
                Checked::Page
            }
            Some(below) => {
                self.take_child(entry, level, below, budget)?;
                Checked::Child
            }
        };
        let adjusted = self.settled(entry, level);
        if adjusted != entry {
            slot.store(adjusted.0, Ordering::Relaxed);
        }
        Ok(checked)
    }

    /// Takes the reference to the table below that an entry stands for.
    pub(super) fn take_child(
        &self,
        entry: Entry,
        level: Level,
        below: Level,
        budget: &mut Budget,
    ) -> Result<(), Stop> {
        self.check_bits(entry, level)?;
        let _counted = self.take_table(entry.mfn(), below, budget)?.into_entry();
        Ok(())
    }

    /// Gives back what the entries of a table hold, from the last to the first.
    ///
    /// # Errors
    ///
    /// [`Stop::Again`]: the table is left partial.
    pub(super) fn undo(&self, undo: Undo, budget: &mut Budget) -> Result<(), Stop> {
        let Undo { busy, below } = undo;
        let Some(level) = Level::of(busy.frame_type()) else {
            self.frames.finish(busy);
            return Ok(());
        };
        let table = self.platform.table(busy.mfn());
        if let Some(child) = level.below() {
            if self.undo_partial_child(table, child, below, budget).is_err() {
                self.frames.suspend(busy, below);
                return Err(Stop::Again);
            }
            for index in (0..below).rev() {
                if level.is_hypervisor_slot(index) {
                    continue;
                }
                let undone = self.undo_child(table, child, index, budget);
                // At least one child is done each time, so this comes to an end.
                if undone.is_err() || index > 0 && budget.is_spent() {
                    self.frames.suspend(busy, index);
                    return Err(Stop::Again);
                }
            }
        } else {
            self.undo_pages(table, below);
        }
        budget.charge(u32::from(below));
        if level == Level::L4 {
            clear_hypervisor_slots(table);
        }
        self.frames.finish(busy);
        Ok(())
    }

    /// Undoes the child that the undoing or checking of its parent had stopped in.
    fn undo_partial_child(
        &self,
        table: &Table,
        child: Level,
        index: u16,
        budget: &mut Budget,
    ) -> Result<(), Stop> {
        let entry = slot(table, index).map_or(Entry(0), |at| Entry(at.load(Ordering::Relaxed)));
        let mfn = entry.mfn();
        if !entry.is_present() || !self.owns(mfn) {
            return Ok(());
        }
        match self.frames.reclaim_as(mfn, child.frame_type()) {
            Some(undo) => self.undo(undo, budget),
            None => Ok(()),
        }
    }

    /// Gives back what the entry at `index` holds of a table of level `child`.
    fn undo_child(
        &self,
        table: &Table,
        child: Level,
        index: u16,
        budget: &mut Budget,
    ) -> Result<(), Stop> {
        let entry = slot(table, index).map_or(Entry(0), |at| Entry(at.load(Ordering::Relaxed)));
        if !entry.is_present() {
            return Ok(());
        }
        let held = TypeRef::from_entry(entry.mfn(), child.frame_type());
        match self.frames.put_type(held) {
            Some(undo) => self.undo(undo, budget),
            None => Ok(()),
        }
    }

    /// Gives back what the entries of an L1 table hold. Nobody can reach the pages through it any
    /// more but by what CPUs have cached, which counts for foreign pages: see
    /// [`Mm::flush_for_foreign`].
    fn undo_pages(&self, table: &Table, below: u16) {
        let entries = || {
            let slots = table.iter().take(usize::from(below));
            slots.map(|slot| Entry(slot.load(Ordering::Relaxed))).filter(|entry| entry.is_present())
        };
        if entries().any(|entry| self.is_foreign(entry)) {
            self.flush_for_foreign();
        }
        entries().for_each(|entry| self.put_page(entry));
    }

    /// A frame is flushed for when it changes its type, but only where its owner runs. So what this
    /// domain's CPUs have cached of another domain's frame must go before the reference does.
    pub(crate) fn flush_for_foreign(&self) {
        FlushDue::new(self.memory.dirty_cpus()).spend(self.platform);
    }

    /// A root becomes the kernel's: it shows the machine-to-physical table, for good. With the assist
    /// for strictness it did from the beginning, unless it was the user mode's.
    pub(super) fn show_m2p_to_kernel(&self, root: Mfn) {
        if !self.memory.has_assist(TYPE_M2P_STRICT) {
            self.show_m2p(root);
        }
    }

    /// Shows the machine-to-physical table in a root's address space.
    pub(super) fn show_m2p(&self, root: Mfn) {
        let table = self.platform.table(root);
        if slot(table, M2P_SLOT).is_some_and(|slot| slot.load(Ordering::Relaxed) == 0) {
            self.platform.fill_hypervisor_slots(table);
        }
    }

    /// A root is about to be the user mode's: with the assist for strictness it shows the
    /// machine-to-physical table no more.
    pub(super) fn hide_m2p_from_user(&self, root: Mfn) {
        if self.memory.has_assist(TYPE_M2P_STRICT) {
            hide_m2p(self.platform.table(root));
        }
    }

    /// Turns a reference to a table into a pin.
    ///
    /// # Errors
    ///
    /// [`Why::Pinned`].
    pub(super) fn pin_table(&self, held: TypeRef, budget: &mut Budget) -> Result<(), Refusal> {
        let mfn = held.mfn();
        self.frames.pin(held).map_err(|held| {
            self.drop_table(held, budget);
            Refusal::new(Why::Pinned(mfn))
        })
    }
}

/// Takes the machine-to-physical table out of a root's address space. The kernel does not need it
/// there.
fn hide_m2p(table: &Table) {
    if let Some(slot) = slot(table, M2P_SLOT) {
        slot.store(0, Ordering::Relaxed);
    }
}

/// A former root must not tell its owner where the hypervisor's tables are.
fn clear_hypervisor_slots(table: &Table) {
    let slots = table.iter().skip(HYPERVISOR_FIRST_SLOT).take(HYPERVISOR_SLOTS);
    slots.for_each(|slot| slot.store(0, Ordering::Relaxed));
}
