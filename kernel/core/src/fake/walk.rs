//! The guest's view of memory: its addresses, translated through its tables.

use core::ops::Range;
use core::sync::atomic::Ordering;

use hypercall_abi::types::Mfn;

use super::Machine;
use crate::guest_memory::{GuestFault, GuestRange};
use crate::mm::{Entry, Level};
use crate::platform::Platform;

/// Calls `access` for the part of the range in each page, with the part's place in the buffer.
pub(super) fn each_page(
    range: GuestRange,
    mut access: impl FnMut(u64, Range<usize>) -> Result<(), GuestFault>,
) -> Result<(), GuestFault> {
    let mut done = 0;
    while done < range.len() {
        let address = range.start() + done as u64;
        let in_page = usize::try_from(4096 - address % 4096).unwrap();
        let end = range.len().min(done + in_page);
        access(address, done..end)?;
        done = end;
    }
    Ok(())
}

impl Machine {
    /// The frame at an address, as the current CPU's root maps it.
    pub(super) fn translate(&self, address: u64, write: bool) -> Result<Mfn, GuestFault> {
        let fault = GuestFault { address };
        let mut table = self.root(usize::from(self.cpu().number())).ok_or(fault)?;
        for level in [Level::L4, Level::L3, Level::L2, Level::L1] {
            let slot = &self.table(table)[usize::from(level.index(address))];
            let entry = Entry(slot.load(Ordering::Relaxed));
            if !entry.is_present() || write && !entry.is_writable() {
                return Err(fault);
            }
            table = entry.mfn();
        }
        Ok(table)
    }
}
