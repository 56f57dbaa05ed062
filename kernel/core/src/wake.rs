//! Telling vCPUs that something has happened.

use hypercall_abi::types::Port;

use crate::domain::Domain;
use crate::platform::Platform;
use crate::system::System;
use crate::vcpu::Vcpu;

impl<P: Platform> System<P> {
    /// The vCPU's `evtchn_upcall_pending` has just been set: if it waits it goes on, and if another
    /// CPU runs it, that CPU looks.
    pub(crate) fn notify(&self, _domain: &P::Arc<Domain<P>>, _vcpu: &P::Arc<Vcpu>) {}

    /// The pending bit of a domain's port has just been set, masked or not: who polls it goes on.
    pub(crate) fn port_was_set(&self, _domain: &P::Arc<Domain<P>>, _port: Port) {}
}
