//! Direct writes to page tables.
//!
//! A guest has its L1 tables mapped read-only. With the assist for it switched on, or privileged, it
//! may write to them all the same: the fault becomes a checked update of the entry.

use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::types::Mfn;

use super::Mm;
use super::change::Source;
use super::entry::{Entry, Level};
use super::progress::Budget;
use super::refusal::{Place, Refusal, Why};
use super::roots::VcpuRoots;
use super::tables::slot;
use crate::frames::{FrameOwners, TypeRef};
use crate::platform::Platform;

impl<P: Platform, O: FrameOwners> Mm<'_, P, O> {
    /// Changes the entry at a guest address that maps an L1 table read-only. `apply` gets the entry's
    /// value and gives the new one, and whatever else comes of it; it is called again if the entry
    /// has changed meanwhile. The exchange is atomic.
    ///
    /// # Errors
    ///
    /// - [`Why::NotTable`], [`Why::NoTable`], [`Why::Address`]: there is no such entry at the
    ///   address, and the fault is the guest's;
    /// - the refusal of the new entry.
    pub fn write_direct<T>(
        &self,
        roots: &VcpuRoots,
        address: u64,
        apply: impl Fn(u64) -> (u64, T),
    ) -> Result<T, Refusal> {
        let mfn = self.mapped_at(roots, address)?;
        let table = self.join_table(mfn, Level::L1)?;
        let [low, high, ..] = ((address >> 3) & 0x1ff).to_le_bytes();
        let index = u16::from_le_bytes([low, high]);
        let place = Place { level: Level::L1, table: mfn, index };
        let written = match slot(self.platform.table(mfn), index) {
            Some(slot) => self.write_slot(slot, apply).map_err(|refusal| refusal.at(place)),
            None => Err(Refusal::new(Why::NotTable(mfn))),
        };
        self.drop_table(table, &mut Budget::new());
        written
    }

    /// The frame that an address of the guest's kernel maps.
    ///
    /// # Errors
    ///
    /// [`Why::NoTable`] if it maps none; [`Why::Address`] for addresses that are not a guest's.
    pub fn mapped_at(&self, roots: &VcpuRoots, address: u64) -> Result<Mfn, Refusal> {
        let none = Refusal::new(Why::NoTable(address));
        let (table, index): (TypeRef, u16) =
            self.entry_for(roots.kernel().ok_or(none)?, address)?;
        let slot = slot(self.platform.table(table.mfn()), index);
        let entry = slot.map_or(Entry(0), |slot| Entry(slot.load(Ordering::Acquire)));
        self.drop_table(table, &mut Budget::new());
        if entry.is_present() { Ok(entry.mfn()) } else { Err(none) }
    }

    fn write_slot<T>(
        &self,
        slot: &AtomicU64,
        apply: impl Fn(u64) -> (u64, T),
    ) -> Result<T, Refusal> {
        loop {
            let old = Entry(slot.load(Ordering::Acquire));
            let (new, result) = apply(old.0);
            if self.replace(slot, old, Entry(new))? {
                return Ok(result);
            }
        }
    }

    /// Puts `new` in the place of exactly `old`; false if that is no longer there.
    fn replace(&self, slot: &AtomicU64, old: Entry, new: Entry) -> Result<bool, Refusal> {
        let counted = new.is_present() && !new.holds_the_same(old);
        if counted {
            self.take_page(new, Source::Own)?;
        } else if new.is_present() {
            self.check_same(new, Level::L1)?;
        }
        let next = self.settled(new, Level::L1);
        let replaced = slot.compare_exchange(old.0, next.0, Ordering::AcqRel, Ordering::Acquire);
        if replaced.is_err() && counted {
            self.put_page(new);
        } else if replaced.is_ok() && old.is_present() && !new.holds_the_same(old) {
            self.release_page(old);
        }
        Ok(replaced.is_ok())
    }
}
