//! Who works on grants, and with whom.

use hypercall_abi::types::DomId;

use crate::domain::Domain;
use crate::mm::{Mm, VcpuRoots};
use crate::platform::Platform;
use crate::system::System;

/// The domain that maps and copies, together with the system: what the operations are methods of.
pub struct Grants<'a, P: Platform> {
    /// The system.
    pub system: &'a System<P>,
    /// The domain.
    pub domain: &'a P::Arc<Domain<P>>,
    /// Its vCPU's address space, which mappings by address are in.
    pub roots: &'a VcpuRoots,
}

impl<P: Platform> Clone for Grants<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Platform> Copy for Grants<'_, P> {}

impl<'a, P: Platform> Grants<'a, P> {
    pub(super) const fn platform(&self) -> &'a P {
        &self.system.platform
    }

    /// The number of the domain that is called so.
    pub(super) fn real(&self, named: DomId) -> DomId {
        if named == DomId::SELF { self.domain.id } else { named }
    }

    pub(super) fn mm(&self) -> Mm<'a, P, System<P>> {
        Mm::new(self.platform(), &self.domain.memory, self.system)
    }
}

/// The domain that the last operation of a batch named: mostly that of the next one too.
pub struct Peer<P: Platform>(Option<P::Arc<Domain<P>>>);

impl<P: Platform> Peer<P> {
    /// None yet.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// The domain with this number, if there is one.
    #[inline]
    pub(super) fn find(&mut self, grants: Grants<'_, P>, id: DomId) -> Option<&P::Arc<Domain<P>>> {
        if self.0.as_ref().is_none_or(|domain| domain.id != id) {
            self.0 = match id == grants.domain.id {
                true => Some(grants.domain.clone()),
                false => grants.system.domains.get(grants.platform(), id),
            };
        }
        self.0.as_ref()
    }
}
