//! All domains, by number.

use hypercall_abi::types::DomId;

use crate::domain::Domain;
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
}

/// There is a domain with that number already, or no room for more of its group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NumberTaken;

impl<P: Platform> Domains<P> {
    /// No domain.
    #[must_use]
    pub const fn new() -> Self {
        Self { groups: [const { Lock::new(heapless::Vec::new()) }; GROUPS] }
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
        group.push(domain).map_err(|_| NumberTaken)
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
