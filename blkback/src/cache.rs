//! Pages of a front end's that stay mapped, because it uses them again and again.
//!
//! Their number is limited. A page that a request in flight uses is never unmapped; of the others
//! those go first that were not used for the longest time. A page has a place, by which those who
//! use it find it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use hypercall_abi::types::GrantRef;

use crate::guest::Guest;

struct Entry<M> {
    page: GrantRef,
    /// None while the page is to be mapped, or if that failed.
    mapping: Option<M>,
    /// How many segments in flight use it.
    users: u32,
    /// When it was last used.
    used: u64,
}

pub(crate) struct Cache<G: Guest> {
    places: BTreeMap<u32, u32>,
    /// Those in no place have no users and no mapping.
    entries: Vec<Entry<G::Mapping>>,
    free: Vec<u32>,
    limit: usize,
    /// Uses that were promised to requests in flight: no fewer than entries with users.
    promised: usize,
    clock: u64,
    missing: Vec<GrantRef>,
    /// Where those go.
    missing_places: Vec<u32>,
}

impl<G: Guest> Cache<G> {
    pub(crate) const fn new(limit: usize) -> Self {
        Self {
            places: BTreeMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            limit,
            promised: 0,
            clock: 0,
            missing: Vec::new(),
            missing_places: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
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
    /// Returns its place.
    pub(crate) fn begin(&mut self, page: GrantRef, guest: &mut G) -> u32 {
        if let Some(&place) = self.places.get(&page.0) {
            if let Some(entry) = self.entries.get_mut(place as usize) {
                entry.users += 1;
            }
            return place;
        }
        if self.places.len() >= self.limit {
            self.purge(guest);
        }
        let entry = Entry { page, mapping: None, users: 1, used: 0 };
        let free = self.free.pop().and_then(|at| Some((at, self.entries.get_mut(at as usize)?)));
        let place = if let Some((place, old)) = free {
            *old = entry;
            place
        } else {
            self.entries.push(entry);
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        };
        self.places.insert(page.0, place);
        self.missing.push(page);
        self.missing_places.push(place);
        place
    }

    /// Maps what is missing.
    pub(crate) fn map(&mut self, guest: &mut G) {
        if self.missing.is_empty() {
            return;
        }
        let mut mappings = Vec::with_capacity(self.missing.len());
        guest.map(&self.missing, &mut mappings);
        self.missing.clear();
        for (place, mapping) in self.missing_places.drain(..).zip(mappings) {
            if let Some(entry) = self.entries.get_mut(place as usize) {
                entry.mapping = mapping;
            }
        }
    }

    /// A page that is in use, if it could be mapped.
    pub(crate) fn get(&self, place: u32) -> Option<&G::Mapping> {
        self.entries.get(place as usize)?.mapping.as_ref()
    }

    /// Ends one use of a page. It stays mapped.
    pub(crate) fn end(&mut self, place: u32) {
        self.clock += 1;
        let Some(entry) = self.entries.get_mut(place as usize) else { return };
        entry.users = entry.users.saturating_sub(1);
        entry.used = self.clock;
        if entry.users == 0 && entry.mapping.is_none() {
            let page = entry.page;
            self.remove(page);
        }
    }

    /// Forgets a page that nobody uses. Returns its mapping.
    fn remove(&mut self, page: GrantRef) -> Option<G::Mapping> {
        let place = self.places.remove(&page.0)?;
        self.free.push(place);
        self.entries.get_mut(place as usize)?.mapping.take()
    }

    /// Unmaps an eighth of the limit, or all that are not in use if those are fewer.
    fn purge(&mut self, guest: &mut G) {
        let unused = self.entries.iter().filter(|it| it.users == 0 && it.mapping.is_some());
        let mut unused: Vec<(u64, u32)> = unused.map(|it| (it.used, it.page.0)).collect();
        unused.sort_unstable();
        unused.truncate((self.limit / 8).max(1));
        let gone = unused.iter().filter_map(|(_, page)| self.remove(GrantRef(*page)));
        guest.unmap(gone.collect());
    }

    /// Unmaps all. No request may be in flight.
    pub(crate) fn clear(&mut self, guest: &mut G) {
        self.places.clear();
        self.free.clear();
        guest.unmap(self.entries.drain(..).filter_map(|entry| entry.mapping).collect());
    }
}
