//! Making ports, connecting them, and what they are said to be.

use hypercall_abi::errno::Errno;
use hypercall_abi::types::{DomId, Port, VcpuId};
use hypercall_abi::virq;

use super::channel::{Channel, Peer, Slot};
use crate::domain::Domain;
use crate::platform::Platform;
use crate::system::System;

/// What a port is connected to, as its owner is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// Not in use.
    Closed,
    /// Waits for this domain to bind to it.
    Unbound(DomId),
    /// Connected to a port of a domain.
    Interdomain(DomId, Port),
    /// Bound to a virtual interrupt.
    Virq(u32),
    /// Bound to an interrupt of a device, by the domain's number for it.
    Pirq(u32),
    /// For vCPUs of the domain.
    Ipi,
}

impl<P: Platform> System<P> {
    /// Makes a port of a domain that `remote` may bind to, whether it exists or not.
    ///
    /// # Errors
    ///
    /// - `ENOSPC`: the domain has as many ports as it may.
    /// - `ENOMEM`: there is no memory for more.
    /// - `EINVAL`: the domain is being ended.
    pub fn alloc_unbound(&self, domain: &P::Arc<Domain<P>>, remote: DomId) -> Result<Port, Errno> {
        domain.ports.open(&self.platform, Channel::Unbound(remote), VcpuId(0))
    }

    /// Makes a port by which vCPUs of a domain signal one of them.
    ///
    /// # Errors
    ///
    /// - `ENOENT`: there is no such vCPU.
    /// - As [`System::alloc_unbound`].
    pub fn bind_ipi(&self, domain: &P::Arc<Domain<P>>, vcpu: VcpuId) -> Result<Port, Errno> {
        domain.vcpu(vcpu).ok_or(Errno::ENOENT)?;
        domain.ports.open(&self.platform, Channel::Ipi, vcpu)
    }

    /// Connects a new port of `domain` to a port of `remote` that waits for that, and raises the new
    /// one: what was sent by the other was lost until now.
    ///
    /// # Errors
    ///
    /// - As [`System::alloc_unbound`].
    /// - `EINVAL`: the other is no port, or does not wait for this domain.
    pub fn bind_interdomain(
        &self,
        domain: &P::Arc<Domain<P>>,
        remote: &P::Arc<Domain<P>>,
        remote_port: Port,
    ) -> Result<Port, Errno> {
        let platform = &self.platform;
        let port = domain.ports.open(platform, Channel::Binding, VcpuId(0))?;
        self.connect((domain, port), (remote, remote_port))
            .inspect_err(|_| domain.ports.abandon(platform, port))?;
        Ok(port)
    }

    /// Connects a port that is being bound to one that waits for its domain.
    fn connect(
        &self,
        (domain, port): (&P::Arc<Domain<P>>, Port),
        (remote, remote_port): (&P::Arc<Domain<P>>, Port),
    ) -> Result<(), Errno> {
        let slot = domain.ports.slot(&self.platform, port)?;
        let other = remote.ports.slot(&self.platform, remote_port)?;
        // The same port is being bound, and does not wait.
        let one = ((domain.id, port), slot);
        let both = Slot::lock_both(&self.platform, one, ((remote.id, remote_port), other));
        let (mut ours, mut theirs) = both.ok_or(Errno::EINVAL)?;
        if !matches!(*theirs, Channel::Unbound(awaited) if awaited == domain.id) {
            return Err(Errno::EINVAL);
        }
        *theirs = Channel::Interdomain(Peer { domain: domain.clone(), port });
        *ours = Channel::Interdomain(Peer { domain: remote.clone(), port: remote_port });
        self.set_pending(domain, port, slot.vcpu());
        Ok(())
    }

    /// Chooses the vCPU that is told of a port's events from now on.
    ///
    /// # Errors
    ///
    /// - `ENOENT`: there is no such vCPU.
    /// - `EINVAL`: it is no port, or closed, or belongs to a vCPU for good.
    pub fn bind_vcpu(
        &self,
        domain: &P::Arc<Domain<P>>,
        port: Port,
        vcpu: VcpuId,
    ) -> Result<(), Errno> {
        domain.vcpu(vcpu).ok_or(Errno::ENOENT)?;
        let slot = domain.ports.slot(&self.platform, port)?;
        let channel = slot.lock(&self.platform);
        let mut pirq = None;
        match *channel {
            Channel::Unbound(_) | Channel::Interdomain(_) => {}
            Channel::Virq(number) if !virq::is_per_vcpu(number) => {}
            Channel::Pirq(number) => pirq = Some(number),
            Channel::Closed | Channel::Binding | Channel::Virq(_) | Channel::Ipi => {
                return Err(Errno::EINVAL);
            }
        }
        slot.set_vcpu(vcpu);
        drop(channel);
        if let Some(pirq) = pirq {
            self.move_pirq(domain, pirq, vcpu);
        }
        Ok(())
    }

    /// What a port is connected to, and the vCPU that is told of its events.
    ///
    /// # Errors
    ///
    /// `EINVAL`: it is no port.
    pub fn port_status(&self, domain: &Domain<P>, port: Port) -> Result<(Status, VcpuId), Errno> {
        let slot = domain.ports.slot(&self.platform, port)?;
        let channel = slot.lock(&self.platform);
        let status = match &*channel {
            Channel::Closed | Channel::Binding => return Ok((Status::Closed, VcpuId(0))),
            Channel::Unbound(remote) => Status::Unbound(*remote),
            Channel::Interdomain(peer) => Status::Interdomain(peer.domain.id, peer.port),
            Channel::Virq(number) => Status::Virq(*number),
            Channel::Pirq(number) => Status::Pirq(*number),
            Channel::Ipi => Status::Ipi,
        };
        Ok((status, slot.vcpu()))
    }

    /// Whether a port is in use.
    pub(crate) fn is_open(&self, domain: &Domain<P>, port: Port) -> bool {
        self.port_status(domain, port).is_ok_and(|(status, _)| status != Status::Closed)
    }
}
