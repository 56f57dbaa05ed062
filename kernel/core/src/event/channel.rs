//! What a port is, and its place in a domain's table.

use core::cmp::Ordering;
use core::sync::atomic::{self, AtomicU32};

use hypercall_abi::types::{DomId, Port, VcpuId};

use crate::domain::Domain;
use crate::lock::{Guard, Lock};
use crate::platform::Platform;

/// What a port is connected to.
pub(super) enum Channel<P: Platform> {
    /// Nothing: it is free, or being closed.
    Closed,
    /// Taken, and not yet what it will be. For guests it is closed.
    Binding,
    /// It waits for a domain to bind to it.
    Unbound(DomId),
    /// A port of a domain, perhaps of the same.
    Interdomain(Peer<P>),
    /// A virtual interrupt.
    Virq(u32),
    /// An interrupt of a device, by the domain's number for it.
    Pirq(u32),
    /// vCPUs of the domain itself.
    Ipi,
}

/// The other end of a connected port.
pub(super) struct Peer<P: Platform> {
    pub(super) domain: P::Arc<Domain<P>>,
    pub(super) port: Port,
}

impl<P: Platform> Peer<P> {
    /// Whether the other end is this port.
    pub(super) fn is(&self, domain: &Domain<P>, port: Port) -> bool {
        core::ptr::eq(&raw const *self.domain, domain) && self.port == port
    }
}

impl<P: Platform> Channel<P> {
    /// Whether a guest may use the port.
    pub(super) const fn is_open(&self) -> bool {
        !matches!(self, Self::Closed | Self::Binding)
    }
}

/// A port's channel, locked.
pub(super) type Held<'a, P> = Guard<'a, Channel<P>>;

/// A port.
pub(super) struct Slot<P: Platform> {
    channel: Lock<Channel<P>>,
    vcpu: AtomicU32,
}

impl<P: Platform> Slot<P> {
    pub(super) const fn new() -> Self {
        Self { channel: Lock::new(Channel::Closed), vcpu: AtomicU32::new(0) }
    }

    pub(super) fn lock(&self, platform: &P) -> Held<'_, P> {
        self.channel.lock(platform)
    }

    /// Locks two ports, each given with its name; `None` if it is the same. The one with the lower
    /// domain, or of one domain the lower number, is locked first.
    pub(super) fn lock_both<'a>(
        platform: &P,
        (name, one): ((DomId, Port), &'a Self),
        (other_name, other): ((DomId, Port), &'a Self),
    ) -> Option<(Held<'a, P>, Held<'a, P>)> {
        match name.cmp(&other_name) {
            Ordering::Equal => None,
            Ordering::Less => {
                let first = one.lock(platform);
                Some((first, other.lock(platform)))
            }
            Ordering::Greater => {
                let first = other.lock(platform);
                Some((one.lock(platform), first))
            }
        }
    }

    /// The vCPU that is told of events. Changed only under the port's lock, but read by whoever
    /// signals through the peer: one that comes at the same time may still go to the old one.
    #[inline]
    pub(super) fn vcpu(&self) -> VcpuId {
        VcpuId(self.vcpu.load(atomic::Ordering::Relaxed))
    }

    pub(super) fn set_vcpu(&self, vcpu: VcpuId) {
        self.vcpu.store(vcpu.0, atomic::Ordering::Relaxed);
    }
}
