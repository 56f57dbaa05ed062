//! The end of a domain: what it has mapped of others, and what it has granted.

use core::sync::atomic::Ordering;

use hypercall_abi::types::GrantHandle;

use super::peer::{Grants, Peer};
use crate::mm::{Budget, Stop};
use crate::platform::Platform;

/// What a handle costs of a slice, and one that stands for something. Unit: page-table entries.
const HANDLE_COST: u32 = 1;
const MAPPING_COST: u32 = 32;

impl<P: Platform> Grants<'_, P> {
    /// Ends all mappings of a domain that runs no more: entries of others are no longer in use by it.
    /// References that its page tables hold go with those.
    ///
    /// # Errors
    ///
    /// [`Stop::Again`]: the slice is used up, and it is to be called again.
    pub fn end_mappings(self, budget: &mut Budget) -> Result<(), Stop> {
        let handles = &self.domain.grants.handles;
        let (made, mut peer) = (handles.made(self.platform()), Peer::none());
        loop {
            let next = handles.cursor.load(Ordering::Relaxed);
            if next >= made {
                return Ok(());
            }
            if budget.is_spent() {
                return Err(Stop::Again);
            }
            budget.charge(HANDLE_COST);
            let handle = GrantHandle(next);
            if let Ok(mapping) = handles.claim(handle) {
                budget.charge(MAPPING_COST);
                if let Some(granter) = peer.find(self, mapping.domain)
                    && let Some(mfn) = granter.grants.used_frame(self.platform(), mapping.reference)
                {
                    self.end_mapping(granter, mapping, mfn);
                }
                handles.give(self.platform(), handle);
            }
            handles.cursor.store(next.saturating_add(1), Ordering::Relaxed);
        }
    }

    /// Ends the table of a domain that runs no more: nobody can begin to use an entry from now on,
    /// and when nobody does any longer, its frames go. True when they are gone; until then the domain
    /// must stay known under its number, and this is to be called again.
    #[must_use]
    pub fn end_table(self) -> bool {
        let table = &self.domain.grants;
        table.close();
        if table.used() != 0 {
            return false;
        }
        for frame in table.take_frames() {
            // No longer the kernel's to share, it counts as the domain's own until it is free.
            self.domain.memory.add(1);
            let _ = self.mm().frames.put_type(frame);
        }
        true
    }
}
