//! Signalling by a port, and letting a port's events through.

use hypercall_abi::errno::Errno;
use hypercall_abi::types::Port;

use super::channel::Channel;
use crate::domain::Domain;
use crate::platform::Platform;
use crate::system::System;

impl<P: Platform> System<P> {
    /// Signals the other end of a domain's port: of a connected port, the peer; of one for vCPUs,
    /// the port itself; of an unbound one, nobody.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the port is closed, no port, or one of those that only the kernel signals.
    #[inline]
    pub fn send_event(&self, domain: &P::Arc<Domain<P>>, port: Port) -> Result<(), Errno> {
        let slot = domain.ports.slot(&self.platform, port)?;
        let channel = slot.lock(&self.platform);
        match &*channel {
            // Under the lock the peer's number stays the peer's.
            Channel::Interdomain(peer) => {
                let remote = peer.domain.ports.slot(&self.platform, peer.port)?;
                self.set_pending(&peer.domain, peer.port, remote.vcpu());
                Ok(())
            }
            Channel::Ipi => {
                self.set_pending(domain, port, slot.vcpu());
                Ok(())
            }
            Channel::Unbound(_) => Ok(()),
            Channel::Closed | Channel::Binding | Channel::Virq(_) | Channel::Pirq(_) => {
                Err(Errno::EINVAL)
            }
        }
    }

    /// Clears a port's mask bit; if an event waited for that, its vCPU is told. With a port that is
    /// closed nothing happens.
    ///
    /// # Errors
    ///
    /// `EINVAL`: it is no port.
    pub fn unmask_port(&self, domain: &P::Arc<Domain<P>>, port: Port) -> Result<(), Errno> {
        let slot = domain.ports.slot(&self.platform, port)?;
        let channel = slot.lock(&self.platform);
        if channel.is_open() {
            self.clear_mask(domain, port, slot.vcpu());
        }
        Ok(())
    }
}
