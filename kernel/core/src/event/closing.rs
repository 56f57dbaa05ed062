//! Closing ports, one or all.

use hypercall_abi::errno::Errno;
use hypercall_abi::types::{Port, VcpuId};
use hypercall_abi::virq;

use super::channel::{Channel, Peer};
use crate::domain::Domain;
use crate::platform::Platform;
use crate::system::System;

/// Ports that are closed in one go, before the CPU does something else.
const BUDGET: u32 = 128;

/// How far closing all ports of a domain has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Swept {
    /// No port is in use.
    All,
    /// Not yet all: to be asked again.
    Some,
    /// Every port that was in use is closed, but others are being opened or closed meanwhile.
    Raced,
}

impl<P: Platform> System<P> {
    /// Closes a domain's port. A peer becomes unbound, for this domain to bind to again.
    ///
    /// # Errors
    ///
    /// `EINVAL`: it is closed, or no port.
    pub fn close_port(&self, domain: &P::Arc<Domain<P>>, port: Port) -> Result<(), Errno> {
        let slot = domain.ports.slot(&self.platform, port)?;
        let mut channel = slot.lock(&self.platform);
        if !channel.is_open() {
            return Err(Errno::EINVAL);
        }
        let was = core::mem::replace(&mut *channel, Channel::Closed);
        if let Channel::Virq(number) = was {
            forget_virq(domain, number, slot.vcpu(), port);
        }
        drop(channel);
        match &was {
            Channel::Interdomain(peer) => self.part(peer, domain, port),
            Channel::Pirq(number) => self.close_pirq(domain, *number, port),
            _ => {}
        }
        // Now nobody names the port, and whoever signalled it has finished.
        domain.clear_pending(&self.platform, port);
        domain.ports.free(port);
        Ok(())
    }

    /// Makes the peer of a port that is being closed unbound. If it names another port or none, it
    /// has itself been closed.
    fn part(&self, peer: &Peer<P>, domain: &Domain<P>, port: Port) {
        let Ok(slot) = peer.domain.ports.slot(&self.platform, peer.port) else { return };
        let mut channel = slot.lock(&self.platform);
        if matches!(&*channel, Channel::Interdomain(back) if back.is(domain, port)) {
            let back = core::mem::replace(&mut *channel, Channel::Unbound(domain.id));
            // A reference to a domain is given back without a lock: it may be the last.
            drop(channel);
            drop(back);
        }
    }

    /// Closes the ports that are in use now, or as many of them as fit into a short time.
    pub fn close_ports(&self, domain: &P::Arc<Domain<P>>) -> Swept {
        let mut budget = BUDGET;
        for (first, mut used) in domain.ports.used() {
            while used != 0 {
                if budget == 0 {
                    return Swept::Some;
                }
                budget = budget.saturating_sub(1);
                let port = Port(first.0.saturating_add(used.trailing_zeros()));
                used &= used.wrapping_sub(1);
                // Refused if somebody else is just opening or closing it.
                let _ = self.close_port(domain, port);
            }
        }
        if domain.ports.are_closed() { Swept::All } else { Swept::Raced }
    }

    /// Closes all ports of a domain that ends; it gets no new ones. To be called until
    /// [`Swept::All`], before the domain's memory goes: until then peers raise events in it. The
    /// references among domains by their ports are gone then.
    pub fn end_ports(&self, domain: &P::Arc<Domain<P>>) -> Swept {
        domain.ports.seal();
        self.close_ports(domain)
    }
}

/// A virtual interrupt no longer has this port.
fn forget_virq<P: Platform>(domain: &Domain<P>, number: u32, vcpu: VcpuId, port: Port) {
    let bound = if virq::is_per_vcpu(number) { vcpu } else { VcpuId(0) };
    if let Some(vcpu) = domain.vcpu(bound) {
        vcpu.virqs.unbind(number, port);
    }
}
