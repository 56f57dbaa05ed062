//! How domains come to be, are paused, and end (`end`).

mod end;
#[cfg(test)]
pub(crate) mod tests;

use core::ops::Deref;
use core::sync::atomic::Ordering;

use hypercall_abi::errno::Errno;
use hypercall_abi::types::DomId;

use crate::domain::{Domain, Life, MOST_VCPUS, Privilege};
use crate::frames::Frames;
use crate::mm::DomainMemory;
use crate::platform::Platform;
use crate::sched::Reasons;
use crate::system::{DomainVcpu, System};

/// How often a domain can be paused.
const MOST_PAUSES: u32 = 255;

/// What a new domain is like.
#[derive(Clone, Copy, Debug)]
pub struct NewDomain {
    /// The name that the tools give it, a UUID.
    pub handle: [u8; 16],
    /// Its security label.
    pub ssidref: u32,
    /// vCPUs it may have: 1 to [`MOST_VCPUS`].
    pub max_vcpus: u32,
    /// The highest port it may have.
    pub max_port: u32,
    /// Frames its grant table may have.
    pub max_grant_frames: u32,
    /// Frames of handles for what it maps of others, as the tools count them.
    pub max_maptrack_frames: u32,
}

/// A domain that is worked on from outside, and is not being ended. It does not begin to lose what it
/// has before this is dropped: so keep it no longer than one hypercall.
pub struct Visit<P: Platform>(P::Arc<Domain<P>>);

impl<P: Platform> Deref for Visit<P> {
    type Target = P::Arc<Domain<P>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<P: Platform> Drop for Visit<P> {
    fn drop(&mut self) {
        self.0.visitors.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<P: Platform> System<P> {
    /// The domain with this number, for its state to be changed from outside; `None` also when it is
    /// being ended. To look at it, [`crate::domains::Domains::get`] will do.
    pub fn visit(&self, id: DomId) -> Option<Visit<P>> {
        let domain = self.domains.get(&self.platform, id)?;
        domain.visitors.fetch_add(1, Ordering::SeqCst);
        // Who ends it notes so first and looks for visitors then.
        let alive = domain.life() == Life::Alive;
        Some(Visit::<P>(domain)).filter(|_| alive)
    }

    /// Makes a domain that is paused once and has no vCPUs and no memory. Without a number, or with
    /// one that is no domain's or 0, it gets the next one that is free.
    ///
    /// # Errors
    ///
    /// - `EEXIST`: the number is taken.
    /// - `EINVAL`: no such number of vCPUs.
    /// - `ENOMEM`: there is no memory, or there are too many domains.
    pub fn create_domain(
        &self,
        id: Option<DomId>,
        config: NewDomain,
    ) -> Result<P::Arc<Domain<P>>, Errno> {
        let free = |id| self.domains.get(&self.platform, id).is_none();
        let id = match id.filter(|id| id.0 != 0 && id.is_domain()) {
            Some(id) if free(id) => id,
            Some(_) => return Err(Errno::EEXIST),
            None => self.next_number(free).ok_or(Errno::ENOMEM)?,
        };
        if config.max_vcpus == 0 || config.max_vcpus > MOST_VCPUS {
            return Err(Errno::EINVAL);
        }
        let platform = &self.platform;
        let shared = platform.frames().alloc_shared(platform, id).map_err(|_| Errno::ENOMEM)?;
        self.mask_upcalls(shared.mfn());
        self.clock.publish_wall_clock(platform, shared.mfn());
        let new = || {
            let memory = DomainMemory::new(id, 0);
            let mut domain = Domain::new(id, Privilege::None, shared.mfn(), memory);
            (domain.ssidref, domain.max_vcpus) = (config.ssidref, config.max_vcpus);
            domain
        };
        let added = platform.arc_with(new).map_err(|_| Errno::ENOMEM).and_then(|domain| {
            *domain.handle.lock(platform) = config.handle;
            *domain.pauses.lock(platform) = 1;
            domain.grants.set_limit(config.max_grant_frames);
            domain.grants.set_handle_limit(config.max_maptrack_frames);
            domain.ports.set_limit(config.max_port.saturating_add(1));
            let taken = self.domains.add(platform, domain.clone());
            taken.map(|()| domain).map_err(|_| Errno::ENOMEM)
        });
        match added {
            Ok(domain) => {
                let _held_by_the_domain = shared.into_entry();
                Ok(domain)
            }
            Err(error) => {
                // Nobody's account: it was never counted.
                let _ = Frames::new(platform, &DomainMemory::new(id, 0)).put_type(shared);
                Err(error)
            }
        }
    }

    /// The next free number after the one that was found last.
    fn next_number(&self, free: impl Fn(DomId) -> bool) -> Option<DomId> {
        let count = DomId::FIRST_RESERVED.0.saturating_sub(1);
        let last = self.last_number.load(Ordering::Relaxed);
        let after = |step: u16| {
            let at = last.wrapping_add(u32::from(step)).checked_rem(u32::from(count)).unwrap_or(0);
            DomId(u16::try_from(at).unwrap_or(0).saturating_add(1))
        };
        let found = (0..count).map(after).find(|&id| free(id))?;
        self.last_number.store(u32::from(found.0), Ordering::Relaxed);
        Some(found)
    }

    /// Pauses a domain once more. When this returns its vCPUs may still be about to leave their CPUs.
    ///
    /// # Errors
    ///
    /// `EOVERFLOW`: it is paused 255 times.
    pub fn pause_domain(&self, domain: &P::Arc<Domain<P>>) -> Result<(), Errno> {
        let mut pauses = domain.pauses.lock(&self.platform);
        if *pauses == MOST_PAUSES {
            return Err(Errno::EOVERFLOW);
        }
        *pauses = pauses.saturating_add(1);
        self.for_vcpus(domain, |vcpu| self.hold(vcpu, Reasons::PAUSED));
        Ok(())
    }

    /// Takes one pause back; after the last one the domain runs.
    ///
    /// # Errors
    ///
    /// `EINVAL`: it is not paused.
    pub fn unpause_domain(&self, domain: &P::Arc<Domain<P>>) -> Result<(), Errno> {
        let mut pauses = domain.pauses.lock(&self.platform);
        *pauses = pauses.checked_sub(1).ok_or(Errno::EINVAL)?;
        if *pauses == 0 {
            domain.begun.store(true, Ordering::Relaxed);
            self.for_vcpus(domain, |vcpu| self.wake(vcpu, Reasons::PAUSED));
        }
        Ok(())
    }

    /// Lets a domain go on that has shut down; nothing happens to one that has not.
    pub fn resume_domain(&self, domain: &P::Arc<Domain<P>>) {
        let _pauses = domain.pauses.lock(&self.platform);
        domain.restart(&self.platform);
        self.for_vcpus(domain, |vcpu| self.wake(vcpu, Reasons::STOPPED));
    }

    /// Does something to each vCPU of a domain.
    pub(crate) fn for_vcpus(&self, domain: &P::Arc<Domain<P>>, mut to: impl FnMut(&DomainVcpu<P>)) {
        for vcpu in domain.vcpus() {
            to(&DomainVcpu { domain: domain.clone(), vcpu: vcpu.clone() });
        }
    }
}
