//! How domains end, in steps between which others get their turn.
//!
//! A domain is *dying* from the first step on: it does not run, nobody may change it, and what it has
//! is taken from it, in an order in which nothing that is gone can be asked for: first the ports, by
//! which others reach it; then what it has mapped of others; then what its vCPUs refer to; then its
//! frames. Then it is *dead*. Frames that others map stay theirs to map, and so does what it granted;
//! with the last of them the domain leaves the list of domains.

use core::sync::atomic::{Ordering, fence};

use hypercall_abi::types::Mfn;
use hypercall_abi::virq;

use crate::descriptors;
use crate::domain::{Domain, Life};
use crate::event::Swept;
use crate::frames::{FrameType, TypeRef};
use crate::grant::Grants;
use crate::mm::{Budget, Mm, Stop, VcpuRoots};
use crate::platform::Platform;
use crate::sched::Reasons;
use crate::system::{DomainVcpu, System};
use crate::timer::Deadlines;

impl<P: Platform> System<P> {
    /// Ends a domain, which is not the caller's and not the initial one: nothing of it runs from now
    /// on, and all it has is taken from it. When it is done the domain is gone, or, as long as others
    /// map its frames, dead. The caller has no [`super::Visit`] of it.
    ///
    /// # Errors
    ///
    /// [`Stop::Again`], and no other: the slice is used up, or another CPU has still to do with it; it
    /// is to be called again. The domain is dying meanwhile.
    pub fn destroy_domain(&self, domain: &P::Arc<Domain<P>>) -> Result<(), Stop> {
        let alive = Life::Alive as u8;
        let (to, order) = (Life::Dying as u8, Ordering::SeqCst);
        let _ = domain.life.compare_exchange(alive, to, order, order);
        if domain.visitors.load(Ordering::SeqCst) != 0 {
            return Err(Stop::Again);
        }
        self.for_vcpus(domain, |vcpu| self.hold(vcpu, Reasons::STOPPED));
        let runs = domain.vcpus().any(|vcpu| vcpu.scheduling.is_on_cpu());
        if runs || domain.ending.swap(true, Ordering::Acquire) {
            return Err(Stop::Again);
        }
        let ended = match domain.life() {
            Life::Dead => Ok(()),
            _ => self.end_step(domain, &mut Budget::new()),
        };
        domain.ending.store(false, Ordering::Release);
        ended
    }

    /// One slice of ending. Each part does nothing when it has been done.
    fn end_step(&self, domain: &P::Arc<Domain<P>>, budget: &mut Budget) -> Result<(), Stop> {
        if self.end_ports(domain) != Swept::All {
            return Err(Stop::Again);
        }
        self.end_pirqs(domain, Mm::new(&self.platform, &domain.memory, self).frames);
        let _no_claim_is_left = domain.memory.claim(self.platform.frames(), 0);
        let roots = VcpuRoots::none();
        Grants { system: self, domain, roots: &roots }.end_mappings(budget)?;
        let mm = Mm::new(&self.platform, &domain.memory, self);
        mm.finish_pending(budget)?;
        for vcpu in domain.vcpus() {
            let target = DomainVcpu { domain: domain.clone(), vcpu: vcpu.clone() };
            self.end_vcpu(&target, mm, budget);
            // What one leaves half undone goes before the next one has its turn.
            mm.finish_pending(budget)?;
        }
        mm.release_frames(budget)?;
        // From here on nothing stops: it is done once.
        self.put_shared(domain, domain.shared_info);
        domain.vcpus().for_each(|vcpu| self.windows.give(vcpu.window));
        domain.life.store(Life::Dead as u8, Ordering::SeqCst);
        self.send_global_virq(virq::DOM_EXC);
        // Whose frame goes looks at this afterwards.
        fence(Ordering::SeqCst);
        self.bury(domain);
        Ok(())
    }

    /// Takes what a vCPU refers to.
    fn end_vcpu(&self, target: &DomainVcpu<P>, mm: Mm<'_, P, Self>, budget: &mut Budget) {
        let DomainVcpu { domain, vcpu } = target;
        self.set_timers(target, Deadlines::end);
        descriptors::end_tables(self, domain, vcpu);
        mm.end_roots(&vcpu.roots, budget);
        if let Some(frame) = vcpu.take_info_back(domain.shared_info) {
            let _ = mm.frames.put_type(TypeRef::from_entry(frame, FrameType::Writable));
        }
    }

    /// Gives up a frame that the kernel shared with a domain: no longer the kernel's, it counts as the
    /// domain's own until it is free.
    fn put_shared(&self, domain: &Domain<P>, shared: Mfn) {
        domain.memory.add(1);
        let mm = Mm::new(&self.platform, &domain.memory, self);
        let _ = mm.frames.put_type(TypeRef::from_entry(shared, FrameType::Writable));
    }

    /// A dead domain has lost its last frame, in the middle of whatever: this CPU buries it as soon as
    /// it has nothing half done.
    #[cold]
    pub(crate) fn bury_later(&self) {
        self.burial.store(true, Ordering::SeqCst);
        if let Some(here) = self.cpus.get(self.platform.cpu()) {
            here.call_attention();
        }
    }

    pub(crate) fn bury_if_due(&self) {
        if self.burial.load(Ordering::Relaxed) && self.burial.swap(false, Ordering::SeqCst) {
            self.domains.for_dead(&self.platform, |domain| self.bury(domain));
        }
    }

    /// Forgets a dead domain, if it has no frame left.
    fn bury(&self, domain: &P::Arc<Domain<P>>) {
        // Others may still use what it granted.
        let roots = VcpuRoots::none();
        let gone = Grants { system: self, domain, roots: &roots }.end_table()
            && domain.memory.pages() == 0;
        if gone && self.domains.remove(&self.platform, domain) {
            self.send_global_virq(virq::DOM_EXC);
        }
    }
}
