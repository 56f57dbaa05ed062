//! The bits by which a guest learns of events: pending and mask in the page it shares with the
//! kernel, selector and upcall flag in the vCPU's information. Only this file changes them.
//!
//! Raising goes from the port to the vCPU: pending bit, selector bit, upcall flag. A guest clears
//! them the other way round, and tests what it finds below after clearing above; so an event is
//! either seen by the guest, or finds the upper bit clear and sets it. All of it is sequentially
//! consistent: unmasking clears the mask and then looks for the pending bit, raising sets the
//! pending bit and then looks at the mask, and one of them must see the other.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::event::TWO_LEVEL_PORTS;
use hypercall_abi::start::SharedInfo;
use hypercall_abi::types::{Port, VcpuId};

use super::table::place;
use crate::domain::Domain;
use crate::platform::Platform;
use crate::system::System;
use crate::vcpu::Vcpu;

/// Where the words of bits are in the shared page. Unit: words.
const PENDING: usize = offset_of!(SharedInfo, evtchn_pending) / size_of::<u64>();
const MASK: usize = offset_of!(SharedInfo, evtchn_mask) / size_of::<u64>();

/// A port's bit in one of the two fields.
struct Bit<'a> {
    word: &'a AtomicU64,
    bit: u64,
}

impl Bit<'_> {
    fn is_set(&self) -> bool {
        self.word.load(Ordering::SeqCst) & self.bit != 0
    }

    /// Sets it; whether it was set before.
    fn set(&self) -> bool {
        self.word.fetch_or(self.bit, Ordering::SeqCst) & self.bit != 0
    }

    /// Clears it; whether it was set before.
    fn clear(&self) -> bool {
        self.word.fetch_and(!self.bit, Ordering::SeqCst) & self.bit != 0
    }
}

impl<P: Platform> Domain<P> {
    /// Every call asks the platform anew: where a test lets another CPU in between.
    fn event_bit<'a>(&self, platform: &'a P, field: usize, port: Port) -> Option<Bit<'a>> {
        let (word, bit) = place(port);
        let word = platform.table(self.shared_info).get(field.saturating_add(word as usize))?;
        Some(Bit { word, bit: 1_u64.wrapping_shl(bit) })
    }

    /// Whether a port's pending bit is set, be the port in use or not. `None`: no port has that
    /// number.
    pub fn is_pending(&self, platform: &P, port: Port) -> Option<bool> {
        // Behind the last bit that belongs to a port are the masks.
        let exists = port.0 < TWO_LEVEL_PORTS;
        exists.then(|| self.event_bit(platform, PENDING, port))?.map(|bit| bit.is_set())
    }

    /// Whether a port's mask bit is set.
    pub(crate) fn is_masked(&self, platform: &P, port: Port) -> bool {
        self.event_bit(platform, MASK, port).is_some_and(|bit| bit.is_set())
    }

    /// Clears a port's pending bit, and leaves everything else.
    pub(super) fn clear_pending(&self, platform: &P, port: Port) {
        if let Some(bit) = self.event_bit(platform, PENDING, port) {
            bit.clear();
        }
    }
}

impl<P: Platform> System<P> {
    /// Sets a port's pending bit. If it was clear and the port is not masked, its vCPU is told.
    #[inline]
    pub(super) fn set_pending(&self, domain: &P::Arc<Domain<P>>, port: Port, vcpu: VcpuId) {
        let bit = |field| domain.event_bit(&self.platform, field, port);
        if bit(PENDING).is_none_or(|pending| pending.set()) {
            return;
        }
        if !bit(MASK).is_some_and(|mask| mask.is_set()) {
            self.select(domain, port, vcpu);
        }
        self.port_was_set(domain, port);
    }

    /// Clears a port's mask bit. If it was set and the port is pending, its vCPU is told.
    pub(super) fn clear_mask(&self, domain: &P::Arc<Domain<P>>, port: Port, vcpu: VcpuId) {
        let bit = |field| domain.event_bit(&self.platform, field, port);
        if bit(MASK).is_some_and(|mask| mask.clear())
            && bit(PENDING).is_some_and(|pending| pending.is_set())
        {
            self.select(domain, port, vcpu);
        }
    }

    /// Sets the selector bit of a port's word. If it was clear the upcall becomes pending.
    #[inline]
    fn select(&self, domain: &P::Arc<Domain<P>>, port: Port, vcpu: VcpuId) {
        let (word, _) = place(port);
        if let Some(vcpu) = domain.vcpu(vcpu)
            && vcpu.info(&self.platform).select(1_u64.wrapping_shl(word))
        {
            self.upcall(domain, vcpu);
        }
    }

    #[inline]
    fn upcall(&self, domain: &P::Arc<Domain<P>>, vcpu: &P::Arc<Vcpu>) {
        if vcpu.info(&self.platform).set_upcall_pending() {
            self.notify(domain, vcpu);
        }
    }

    /// Makes the vCPU look at every word of pending bits. To be called after its information has
    /// moved to another place: who raised an event meanwhile may have written to the old one, but
    /// has set the pending bit before.
    pub fn select_all(&self, domain: &P::Arc<Domain<P>>, vcpu: &P::Arc<Vcpu>) {
        vcpu.info(&self.platform).select(u64::MAX);
        self.upcall(domain, vcpu);
    }
}
