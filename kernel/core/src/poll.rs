//! `sched_op(poll)`: waiting for some ports, whether they are masked or not.

use core::sync::atomic::{AtomicU32, Ordering};

use hypercall_abi::types::Port;

/// What a vCPU polls: nothing, one port, or several.
#[derive(Debug)]
pub struct Poll(AtomicU32);

const NOTHING: u32 = 0;
/// More ports than one: each port of the domain that becomes pending may be among them.
const SEVERAL: u32 = u32::MAX;

impl Poll {
    /// Polls nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU32::new(NOTHING))
    }

    /// Polls from now on: this port, or several, which the vCPU looks at itself when it goes on.
    pub fn begin(&self, only: Option<Port>) {
        self.0.store(only.map_or(SEVERAL, |port| port.0), Ordering::SeqCst);
    }

    /// Whether it polls.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed) != NOTHING
    }

    /// Polls nothing any more.
    pub fn end(&self) {
        self.0.store(NOTHING, Ordering::Relaxed);
    }

    /// Whether the vCPU may wait for this port.
    #[must_use]
    pub fn is_for(&self, port: Port) -> bool {
        let polled = self.0.load(Ordering::SeqCst);
        polled == SEVERAL || polled == port.0 && polled != NOTHING
    }
}

impl Default for Poll {
    fn default() -> Self {
        Self::new()
    }
}
