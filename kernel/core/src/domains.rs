//! All domains, by number.

use hypercall_abi::types::DomId;

use crate::domain::{Domain, Life};
use crate::lock::Lock;
use crate::platform::Platform;

/// Groups of domains, each with a lock of its own: two CPUs that look for different domains seldom
/// meet.
const GROUPS: usize = 64;
/// Domains in a group, at most.
const GROUP: usize = 16;

type Group<P> = heapless::Vec<<P as Platform>::Arc<Domain<P>>, GROUP>;

/// The domains there are.
pub struct Domains<P: Platform> {
    groups: [Lock<Group<P>>; GROUPS],
    /// Their numbers, ascending.
    order: Lock<heapless::Vec<DomId, { GROUPS * GROUP }>>,
}

/// There is a domain with that number already, or no room for more of its group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NumberTaken;

impl<P: Platform> Domains<P> {
    /// No domain.
    #[must_use]
    pub const fn new() -> Self {
        let groups = [const { Lock::new(heapless::Vec::new()) }; GROUPS];
        Self { groups, order: Lock::new(heapless::Vec::new()) }
    }

    /// The domain with this number.
    pub fn get(&self, platform: &P, id: DomId) -> Option<P::Arc<Domain<P>>> {
        let group = self.group(id)?.lock(platform);
        group.iter().find(|domain| domain.id == id).cloned()
    }

    /// Adds a domain.
    ///
    /// # Errors
    ///
    /// [`NumberTaken`].
    pub fn add(&self, platform: &P, domain: P::Arc<Domain<P>>) -> Result<(), NumberTaken> {
        let mut group = self.group(domain.id).ok_or(NumberTaken)?.lock(platform);
        if group.iter().any(|other| other.id == domain.id) {
            return Err(NumberTaken);
        }
        let id = domain.id;
        group.push(domain).map_err(|_| NumberTaken)?;
        let mut order = self.order.lock(platform);
        let place = order.partition_point(|&other| other < id);
        // There is room for as many as the groups have.
        let _ = order.insert(place, id);
        Ok(())
    }

    /// The domain with the lowest number from `first` on.
    pub fn from(&self, platform: &P, mut first: DomId) -> Option<P::Arc<Domain<P>>> {
        loop {
            let next = {
                let order = self.order.lock(platform);
                *order.get(order.partition_point(|&id| id < first))?
            };
            if let Some(domain) = self.get(platform, next) {
                return Some(domain);
            }
            // It has been removed meanwhile.
            first = DomId(next.0.checked_add(1)?);
        }
    }

    /// Does something to each domain that is dead.
    pub(crate) fn for_dead(&self, platform: &P, mut to: impl FnMut(&P::Arc<Domain<P>>)) {
        for group in &self.groups {
            let mut dead = Group::<P>::new();
            let group = group.lock(platform);
            for domain in group.iter().filter(|domain| domain.life() == Life::Dead) {
                let _ = dead.push(domain.clone());
            }
            drop(group);
            dead.iter().for_each(&mut to);
        }
    }

    /// Removes a domain; whether it was still there.
    pub(crate) fn remove(&self, platform: &P, domain: &Domain<P>) -> bool {
        let Some(group) = self.group(domain.id) else { return false };
        let mut group = group.lock(platform);
        let place = group.iter().position(|other| core::ptr::eq::<Domain<P>>(&**other, domain));
        // Dropped without the lock.
        let removed = place.map(|at| group.swap_remove(at));
        if removed.is_some() {
            self.order.lock(platform).retain(|&id| id != domain.id);
        }
        drop(group);
        removed.is_some()
    }

    fn group(&self, id: DomId) -> Option<&Lock<Group<P>>> {
        self.groups.get(usize::from(id.0) % GROUPS)
    }
}

impl<P: Platform> Default for Domains<P> {
    fn default() -> Self {
        Self::new()
    }
}
