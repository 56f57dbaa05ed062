//! Telling vCPUs that something has happened.

#[cfg(test)]
mod tests;

use core::sync::atomic::{Ordering, fence};

use hypercall_abi::types::Port;
use hypercall_abi::vcpu::RunstateInfo;

use crate::cpu::CpuId;
use crate::domain::Domain;
use crate::platform::Platform;
use crate::sched::{Reasons, up_to};
use crate::system::{DomainVcpu, System};
use crate::vcpu::Vcpu;

impl<P: Platform> System<P> {
    /// The vCPU's `evtchn_upcall_pending` has just been set: if it waits it goes on, and if another
    /// CPU runs it, that CPU looks.
    pub(crate) fn notify(&self, domain: &P::Arc<Domain<P>>, vcpu: &P::Arc<Vcpu>) {
        // What was set must be seen by a vCPU that is about to wait before it is seen not to wait.
        fence(Ordering::SeqCst);
        if vcpu.scheduling.reasons().contains(Reasons::WAITING) {
            let target = DomainVcpu { domain: domain.clone(), vcpu: vcpu.clone() };
            self.wake(&target, Reasons::WAITING);
        } else {
            self.interrupt(vcpu);
        }
    }

    /// Makes the CPU that runs the vCPU look at it, if another than this does.
    pub(crate) fn interrupt(&self, vcpu: &Vcpu) {
        if let Some(cpu) = running_on(vcpu).filter(|&cpu| cpu != self.platform.cpu()) {
            self.platform.poke(cpu);
        }
    }

    /// Gives a vCPU a reason not to run.
    pub(crate) fn hold(&self, target: &DomainVcpu<P>, reason: Reasons) {
        self.platform.about_to_race();
        let poke = self.scheduler.hold(&self.platform, target, reason, self.now());
        self.apply(poke);
    }

    /// What a vCPU is doing, and for how long it did what.
    pub(crate) fn runstate(&self, vcpu: &Vcpu) -> RunstateInfo {
        up_to(self.scheduler.runstate(&self.platform, &vcpu.scheduling), self.now())
    }

    /// Sends a vCPU a non-maskable interrupt.
    pub(crate) fn send_nmi(&self, target: &DomainVcpu<P>) {
        target.vcpu.nmi.raise();
        fence(Ordering::SeqCst);
        if target.vcpu.scheduling.reasons().contains(Reasons::WAITING) {
            self.wake(target, Reasons::WAITING);
        } else {
            self.interrupt(&target.vcpu);
        }
    }

    /// The pending bit of a domain's port has just been set, masked or not: who polls it goes on.
    pub(crate) fn port_was_set(&self, domain: &P::Arc<Domain<P>>, port: Port) {
        if !domain.has_pollers() {
            return;
        }
        for vcpu in domain.vcpus().filter(|vcpu| vcpu.poll.is_for(port)) {
            let target = DomainVcpu { domain: domain.clone(), vcpu: vcpu.clone() };
            self.wake(&target, Reasons::WAITING);
        }
    }
}

/// The CPU that runs a vCPU.
fn running_on(vcpu: &Vcpu) -> Option<CpuId> {
    let scheduling = &vcpu.scheduling;
    scheduling.is_on_cpu().then(|| scheduling.cpu())
}
