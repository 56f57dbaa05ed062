//! Which addresses are behind which port, as packets' senders have shown.
//!
//! There is place for a fixed number. An address goes to one group of places, by a hash; a new one
//! takes the place in its group that was not used for the longest time.

use alloc::boxed::Box;
use alloc::vec;

use super::{Mac, PortId};

const GROUPS: usize = 128;
const WAYS: usize = 8;

#[derive(Clone, Copy)]
struct Entry {
    address: Mac,
    port: PortId,
    /// When it was last used; 0 if the place is free.
    used: u64,
}

pub(super) struct Table {
    groups: Box<[[Entry; WAYS]]>,
    clock: u64,
}

impl Table {
    pub(super) fn new() -> Self {
        let free = Entry { address: Mac([0; 6]), port: PortId(0), used: 0 };
        Self { groups: vec![[free; WAYS]; GROUPS].into_boxed_slice(), clock: 0 }
    }

    fn group(&mut self, address: Mac) -> Option<&mut [Entry; WAYS]> {
        // Fibonacci's hash: its uppermost bits depend on all of the address.
        let hash = address.number().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
        self.groups.get_mut(usize::try_from(hash >> (16 - GROUPS.ilog2())).unwrap_or_default())
    }

    /// Behind which port an address is.
    pub(super) fn find(&mut self, address: Mac) -> Option<PortId> {
        self.clock += 1;
        let clock = self.clock;
        let entry = self.group(address)?.iter_mut();
        let entry = entry.filter(|it| it.used > 0).find(|it| it.address == address)?;
        entry.used = clock;
        Some(entry.port)
    }

    /// Notes that an address is behind a port. If `may_grow`, it may be one more of that port's.
    /// Returns whose place was taken, and whether one of the port's was added.
    pub(super) fn learn(
        &mut self,
        address: Mac,
        port: PortId,
        may_grow: bool,
    ) -> (Option<PortId>, bool) {
        self.clock += 1;
        let clock = self.clock;
        let new = Entry { address, port, used: clock };
        let Some(group) = self.group(address) else { return (None, false) };
        let known = group.iter_mut().find(|it| it.used > 0 && it.address == address);
        let oldest = match known {
            Some(known) if known.port == port => {
                known.used = clock;
                return (None, false);
            }
            Some(known) if may_grow => Some(known),
            // With as many as it may have, one of its own goes.
            Some(_) => None,
            None => {
                let its = group.iter_mut().filter(|it| may_grow || it.used > 0 && it.port == port);
                its.min_by_key(|it| it.used)
            }
        };
        let Some(oldest) = oldest else { return (None, false) };
        let before = (oldest.used > 0).then_some(oldest.port);
        *oldest = new;
        (before, true)
    }

    /// Forgets all that is behind a port.
    pub(super) fn forget(&mut self, port: PortId) {
        let entries = self.groups.as_flattened_mut().iter_mut();
        entries.filter(|it| it.port == port).for_each(|it| it.used = 0);
    }
}
