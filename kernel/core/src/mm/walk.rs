//! From an address to the entry that maps it.

use core::sync::atomic::Ordering;

use hypercall_abi::types::Mfn;

use super::Mm;
use super::entry::{Entry, Level};
use super::refusal::{Refusal, Why};
use super::tables::slot;
use crate::frames::{FrameOwners, TypeRef};
use crate::guest_memory::{GuestRange, is_canonical};
use crate::platform::Platform;

impl<P: Platform, O: FrameOwners> Mm<'_, P, O> {
    /// The L1 table on the way from `root` to an address, held, and the index of the entry in it.
    ///
    /// # Errors
    ///
    /// [`Why::Address`] for the hypervisor's addresses and those that are not canonical;
    /// [`Why::NoTable`].
    #[inline]
    pub fn entry_for(&self, root: Mfn, address: u64) -> Result<(TypeRef, u16), Refusal> {
        if GuestRange::new(address, 1).is_err() || !is_canonical(address) {
            return Err(Refusal::new(Why::Address(address)));
        }
        let none = || Refusal::new(Why::NoTable(address));
        let l3 = self.next(root, Level::L4, address).ok_or_else(none)?;
        let l2 = self.next(l3, Level::L3, address).ok_or_else(none)?;
        let l1 = self.next(l2, Level::L2, address).ok_or_else(none)?;
        let held = self.join_table(l1, Level::L1).map_err(|_| none())?;
        Ok((held, Level::L1.index(address)))
    }

    /// The table that an entry refers to. Another vCPU may be taking the tables apart at this
    /// moment, so what is read may be anything; each frame must be the domain's to be looked into,
    /// and what comes out is taken for an L1 table only if it is one.
    #[inline]
    fn next(&self, table: Mfn, level: Level, address: u64) -> Option<Mfn> {
        if !self.owns(table) {
            return None;
        }
        let slot = slot(self.platform.table(table), level.index(address))?;
        let entry = Entry(slot.load(Ordering::Acquire));
        entry.is_present().then(|| entry.mfn())
    }
}
