//! Ports of devices' interrupts.

use hypercall_abi::errno::Errno;
use hypercall_abi::types::{Port, VcpuId};

use super::channel::Channel;
use crate::domain::Domain;
use crate::platform::Platform;
use crate::system::System;

impl<P: Platform> System<P> {
    /// Binds a new port of a domain to an interrupt, by the domain's number for it. The interrupt is
    /// raised where the domain's first vCPU runs.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: no interrupt can have the number.
    /// - `EPERM`: the domain has no interrupt under it, or may not use it.
    /// - `EEXIST`: it is bound already.
    /// - Those of having no port left: `ENOSPC`, `ENOMEM`, `EINVAL`.
    /// - `EBUSY`: it is a line that the kernel keeps, or another domain has bound.
    pub fn bind_pirq(&self, domain: &P::Arc<Domain<P>>, pirq: u32) -> Result<Port, Errno> {
        self.may_bind_pirq(domain, pirq)?;
        let port = domain.ports.open(&self.platform, Channel::Binding, VcpuId(0))?;
        if let Err(error) = self.open_pirq(domain, pirq, port) {
            domain.ports.abandon(&self.platform, port);
            return Err(error);
        }
        Ok(port)
    }

    /// A port that is being bound is an interrupt's from now on: it can be raised.
    pub(crate) fn become_pirq(&self, domain: &Domain<P>, port: Port, pirq: u32) {
        if let Ok(slot) = domain.ports.slot(&self.platform, port) {
            *slot.lock(&self.platform) = Channel::Pirq(pirq);
        }
    }

    /// A device's interrupt came: raises its port, if that is still bound to it.
    pub(crate) fn raise_pirq(&self, domain: &P::Arc<Domain<P>>, pirq: u32, port: Port) {
        let Ok(slot) = domain.ports.slot(&self.platform, port) else { return };
        let channel = slot.lock(&self.platform);
        if matches!(&*channel, Channel::Pirq(number) if *number == pirq) {
            self.set_pending(domain, port, slot.vcpu());
        }
    }
}
