//! Non-maskable interrupts of a guest: virtual ones, that it sends to itself.
//!
//! The handler is that of vector 2, which starts with events masked. From then until the guest's
//! next `iret` call no further one is delivered, only remembered.

use core::sync::atomic::{AtomicBool, Ordering};

use hypercall_abi::layout::FLAT_KERNEL_CS;
use hypercall_abi::trap::TrapInfo;

use crate::platform::Platform;
use crate::system::Context;

/// The vector.
const NMI: u8 = 2;

/// Whether an interrupt waits, and whether one is being handled.
#[derive(Debug, Default)]
pub struct Nmi {
    pending: AtomicBool,
    handled: AtomicBool,
}

impl Nmi {
    /// Lets one be delivered as soon as it can be.
    pub fn raise(&self) {
        self.pending.store(true, Ordering::Release);
    }

    /// The handler has returned.
    pub fn end(&self) {
        self.handled.store(false, Ordering::Relaxed);
    }

    /// Whether one may be delivered now.
    #[inline]
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.pending.load(Ordering::Acquire) && !self.handled.load(Ordering::Relaxed)
    }
}

/// The row of the trap table without a handler.
pub const NO_HANDLER: TrapInfo = TrapInfo { vector: NMI, flags: 0, cs: 0, pad: 0, address: 0 };

/// The row of the trap table that a handler at `address` is.
#[must_use]
pub const fn handler(address: u64) -> TrapInfo {
    let flags = TrapInfo::MASK_EVENTS;
    TrapInfo { vector: NMI, flags, cs: FLAT_KERNEL_CS, pad: 0, address }
}

impl<P: Platform> Context<'_, P> {
    /// Delivers a pending interrupt. Without a handler for it the guest never hears of it.
    pub(crate) fn deliver_nmi(&mut self) {
        let handler = self.vcpu.state.lock(&self.system.platform).traps.get(NMI);
        self.vcpu.nmi.pending.store(false, Ordering::Relaxed);
        if handler.is_set() {
            self.vcpu.nmi.handled.store(true, Ordering::Relaxed);
            self.bounce_or_crash(handler, None);
        }
    }
}
