//! Pages of a front end's that stay mapped, because it uses them again and again.
//!
//! Their number is limited. A page that a request in flight uses is never unmapped; of the others
//! those go first that were not used for the longest time.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use hypercall_abi::types::GrantRef;

use crate::guest::Guest;

struct Entry<M> {
    /// None while the page is to be mapped, or if that failed.
    mapping: Option<M>,
    /// How many segments in flight use it.
    users: u32,
    /// When it was last used.
    used: u64,
}

pub(crate) struct Cache<G: Guest> {
    entries: BTreeMap<u32, Entry<G::Mapping>>,
    limit: usize,
    /// Uses that were promised to requests in flight: no fewer than entries with users.
    promised: usize,
    clock: u64,
    missing: Vec<GrantRef>,
}

impl<G: Guest> Cache<G> {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { entries: BTreeMap::new(), limit, promised: 0, clock: 0, missing: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Promises a request that so many pages can be mapped at the same time, if they can.
    pub(crate) const fn promise(&mut self, pages: usize) -> bool {
        let room = self.promised.saturating_add(pages) <= self.limit;
        if room {
            self.promised += pages;
        }
        room
    }

    /// Takes a promise back, after the uses that were made of it.
    pub(crate) const fn forgive(&mut self, pages: usize) {
        self.promised = self.promised.saturating_sub(pages);
    }

    /// Notes that a request uses a page, which is mapped by the next [`Self::map`] if it is not.
    pub(crate) fn begin(&mut self, page: GrantRef, guest: &mut G) {
        if let Some(entry) = self.entries.get_mut(&page.0) {
            entry.users += 1;
            return;
        }
        if self.entries.len() >= self.limit {
            self.purge(guest);
        }
        self.missing.push(page);
        self.entries.insert(page.0, Entry { mapping: None, users: 1, used: 0 });
    }

    /// Maps what is missing.
    pub(crate) fn map(&mut self, guest: &mut G) {
        if self.missing.is_empty() {
            return;
        }
        let mut mappings = Vec::with_capacity(self.missing.len());
        guest.map(&self.missing, &mut mappings);
        for (page, mapping) in self.missing.drain(..).zip(mappings) {
            if let Some(entry) = self.entries.get_mut(&page.0) {
                entry.mapping = mapping;
            }
        }
    }

    /// A page, if it could be mapped.
    pub(crate) fn get(&self, page: GrantRef) -> Option<&G::Mapping> {
        self.entries.get(&page.0)?.mapping.as_ref()
    }

    /// Ends one use of a page. It stays mapped.
    pub(crate) fn end(&mut self, page: GrantRef) {
        self.clock += 1;
        if let Some(entry) = self.entries.get_mut(&page.0) {
            entry.users = entry.users.saturating_sub(1);
            entry.used = self.clock;
            if entry.users == 0 && entry.mapping.is_none() {
                self.entries.remove(&page.0);
            }
        }
    }

    /// Unmaps an eighth of the limit, or all that are not in use if those are fewer.
    fn purge(&mut self, guest: &mut G) {
        let unused = self.entries.iter().filter(|(_, entry)| entry.users == 0);
        let mut unused: Vec<(u64, u32)> = unused.map(|(page, it)| (it.used, *page)).collect();
        unused.sort_unstable();
        unused.truncate((self.limit / 8).max(1));
        let gone = unused.iter().filter_map(|(_, page)| self.entries.remove(page)?.mapping);
        guest.unmap(gone.collect());
    }

    /// Unmaps all. No request may be in flight.
    pub(crate) fn clear(&mut self, guest: &mut G) {
        let all = core::mem::take(&mut self.entries);
        guest.unmap(all.into_values().filter_map(|entry| entry.mapping).collect());
    }
}
