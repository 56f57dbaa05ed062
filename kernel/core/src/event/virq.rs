//! Virtual interrupts: what the kernel itself signals.

use core::sync::atomic::{AtomicU32, Ordering};

use hypercall_abi::errno::Errno;
use hypercall_abi::types::{DomId, Port, VcpuId};
use hypercall_abi::virq;

use super::channel::Channel;
use crate::domain::Domain;
use crate::platform::Platform;
use crate::system::System;
use crate::vcpu::Vcpu;

/// The ports of a vCPU's virtual interrupts; those of the whole domain are the first vCPU's.
/// Changed only under the lock of the port in question.
#[derive(Debug, Default)]
pub struct VirqPorts {
    /// 0: not bound.
    ports: [AtomicU32; virq::COUNT as usize],
}

impl VirqPorts {
    fn cell(&self, number: u32) -> Option<&AtomicU32> {
        self.ports.get(number as usize)
    }

    /// The port of a virtual interrupt, if it is bound.
    #[inline]
    fn port(&self, number: u32) -> Option<Port> {
        let port = self.cell(number)?.load(Ordering::Relaxed);
        (port != 0).then_some(Port(port))
    }

    /// Whether the interrupt was not bound and is now.
    fn bind(&self, number: u32, port: Port) -> bool {
        self.cell(number).is_some_and(|cell| {
            cell.compare_exchange(0, port.0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        })
    }

    pub(super) fn unbind(&self, number: u32, port: Port) {
        if let Some(cell) = self.cell(number) {
            let _ = cell.compare_exchange(port.0, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

impl<P: Platform> System<P> {
    /// Binds a new port of a domain to a virtual interrupt: one of the vCPU, or, if `vcpu` is 0, of
    /// the domain.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: there is no such interrupt, or it is the domain's and `vcpu` is not 0.
    /// - `ENOENT`: there is no such vCPU.
    /// - `EEXIST`: it is bound already.
    /// - Those of having no port left: `ENOSPC`, `ENOMEM`, `EINVAL`.
    pub fn bind_virq(
        &self,
        domain: &P::Arc<Domain<P>>,
        number: u32,
        vcpu: VcpuId,
    ) -> Result<Port, Errno> {
        if number >= virq::COUNT || (!virq::is_per_vcpu(number) && vcpu.0 != 0) {
            return Err(Errno::EINVAL);
        }
        let virqs = &domain.vcpu(vcpu).ok_or(Errno::ENOENT)?.virqs;
        if virqs.port(number).is_some() {
            return Err(Errno::EEXIST);
        }
        let port = domain.ports.open(&self.platform, Channel::Binding, vcpu)?;
        let slot = domain.ports.slot(&self.platform, port)?;
        let mut channel = slot.lock(&self.platform);
        if virqs.bind(number, port) {
            *channel = Channel::Virq(number);
            return Ok(port);
        }
        drop(channel);
        domain.ports.abandon(&self.platform, port);
        Err(Errno::EEXIST)
    }

    /// Signals a vCPU's own virtual interrupt, or, with the first vCPU, one of its domain. Nothing
    /// happens if it is not bound.
    pub fn send_virq(&self, domain: &P::Arc<Domain<P>>, vcpu: &Vcpu, number: u32) {
        let Some(port) = vcpu.virqs.port(number) else { return };
        let Ok(slot) = domain.ports.slot(&self.platform, port) else { return };
        let _channel = slot.lock(&self.platform);
        // Only under the lock is it sure whose port this is.
        if vcpu.virqs.port(number) == Some(port) {
            self.set_pending(domain, port, slot.vcpu());
        }
    }

    /// Signals one of the virtual interrupts that are about the whole machine, in the initial
    /// domain.
    pub fn send_global_virq(&self, number: u32) {
        if let Some(domain) = self.domains.get(&self.platform, DomId(0))
            && let Some(vcpu) = domain.vcpu(VcpuId(0))
        {
            self.send_virq(&domain, vcpu, number);
        }
    }
}
