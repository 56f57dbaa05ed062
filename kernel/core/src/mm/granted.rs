//! Page-table entries that map granted frames.

use core::sync::atomic::Ordering;

use hypercall_abi::types::Mfn;

use super::Mm;
use super::change::{Keep, Source};
use super::entry::{Entry, Level};
use super::memory::DomainMemory;
use super::progress::{Budget, Stop};
use super::refusal::{Refusal, Why};
use super::roots::VcpuRoots;
use super::tables::slot;
use super::update::entry_index;
use crate::frames::{FrameOwners, TypeRef};
use crate::platform::Platform;

/// Where an entry of level 1 is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EntryAt {
    /// It maps this address of the vCPU's address space.
    Address(u64),
    /// At this machine address. Unit: bytes.
    Machine(u64),
}

impl<P: Platform, O: FrameOwners> Mm<'_, P, O> {
    /// Writes an entry that maps a frame of `owner`.
    ///
    /// # Errors
    ///
    /// There is no entry of level 1 there; or the frame is not `owner`'s, or can't be mapped so.
    pub fn map_granted(
        &self,
        roots: &VcpuRoots,
        at: EntryAt,
        entry: Entry,
        owner: &DomainMemory,
    ) -> Result<(), Refusal> {
        let (table, index) = self.locate(roots, at)?;
        let how = (Keep::Nothing, Source::Foreign(owner));
        let changed = self.change(&table, index, entry, how, &mut Budget::new());
        self.drop_table(table, &mut Budget::new());
        changed.map(drop).map_err(|stop| match stop {
            Stop::Refused(refusal) => refusal,
            Stop::Again => Refusal::new(Why::NoMemory),
        })
    }

    /// Takes away an entry that maps what `expected` does, writable or not as that. The entry at the
    /// address `new` moves to its place, if that is given. What is returned holds the reference of
    /// the entry that is gone: for [`Mm::put_removed`], after a flush.
    ///
    /// # Errors
    ///
    /// There is no such entry. It stays what it is; the one at `new` is lost: measured on Xen 4.17.
    pub fn remove_granted(
        &self,
        roots: &VcpuRoots,
        at: EntryAt,
        expected: Entry,
        new: Option<u64>,
    ) -> Result<Entry, Refusal> {
        let moved = match new {
            Some(address) => self.take_out(roots, address)?,
            None => Entry(0),
        };
        let removed = self.locate(roots, at).and_then(|(table, index)| {
            let removed = self.remove_from(&table, index, expected, moved);
            self.drop_table(table, &mut Budget::new());
            removed
        });
        if removed.is_err() && moved.is_present() {
            self.release_page(moved);
        }
        removed
    }

    /// Puts back the reference of an entry that [`Mm::remove_granted`] has taken away. All CPUs have
    /// been flushed since.
    pub fn put_removed(&self, removed: Entry) {
        self.put_page(removed);
    }

    fn locate(&self, roots: &VcpuRoots, at: EntryAt) -> Result<(TypeRef, u16), Refusal> {
        match at {
            EntryAt::Address(address) => {
                let none = Refusal::new(Why::NoTable(address));
                self.entry_for(roots.kernel().ok_or(none)?, address)
            }
            EntryAt::Machine(address) if !address.is_multiple_of(8) => {
                Err(Refusal::new(Why::Misaligned(address)))
            }
            EntryAt::Machine(address) => {
                let table = self.join_table(Mfn::containing(address), Level::L1)?;
                Ok((table, entry_index(address)))
            }
        }
    }

    /// Puts `next`, which brings its reference along, in the place of an entry that maps what
    /// `expected` does. Accessed and dirty bits may change at any time, others by the guest's doing.
    fn remove_from(
        &self,
        table: &TypeRef,
        index: u16,
        expected: Entry,
        next: Entry,
    ) -> Result<Entry, Refusal> {
        let none = Refusal::new(Why::NotMapped(expected.mfn()));
        let slot = slot(self.platform.table(table.mfn()), index).ok_or(none)?;
        let mut old = Entry(slot.load(Ordering::Acquire));
        while expected.holds_the_same(old) {
            match slot.compare_exchange(old.0, next.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(old),
                Err(now) => old = Entry(now),
            }
        }
        Err(none)
    }

    /// Takes away the entry that maps an address, with its reference.
    fn take_out(&self, roots: &VcpuRoots, address: u64) -> Result<Entry, Refusal> {
        let (table, index) = self.locate(roots, EntryAt::Address(address))?;
        let slot = slot(self.platform.table(table.mfn()), index);
        let taken = slot.map_or(Entry(0), |slot| Entry(slot.swap(0, Ordering::AcqRel)));
        self.drop_table(table, &mut Budget::new());
        Ok(taken)
    }
}
