//! This domain's end of its console's ring.

use hypercall_abi::types::Port;
use spin::Once;

use super::gate::Machine;
use super::loaded::shared_page;
use crate::boot::BootInfo;
use crate::console::ring::Ring;
use crate::event::port;
use crate::lock::Held;
use crate::wait::yield_now;

static RING: Once<(Ring<'static>, Port)> = Once::new();
/// One line at a time.
static WRITING: Held<()> = Held::new(());

/// Finds the ring that the start-of-day page names.
pub(super) fn find(boot: &BootInfo<'_>) {
    let start = boot.start_info();
    if let Some((bytes, words)) = shared_page(boot, start.console_mfn) {
        RING.call_once(|| (Ring::new(bytes, words), start.console_evtchn));
    }
}

/// The ring and its port, if there is one.
pub(crate) fn ring() -> Option<(Ring<'static>, Port)> {
    RING.get().copied()
}

/// Puts all of the bytes on the ring, if there is one, and says whether; waits where it is full.
pub(crate) fn write(mut bytes: &[u8]) -> bool {
    let Some((ring, port)) = ring() else { return false };
    let _whole = WRITING.lock();
    while !bytes.is_empty() {
        let put = ring.put(bytes);
        bytes = bytes.get(put..).unwrap_or_default();
        let _nobody_listens = port::send(&Machine, port);
        if !bytes.is_empty() {
            yield_now();
        }
    }
    true
}
