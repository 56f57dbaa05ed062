//! Interrupts: what came from a device, a timer or another CPU.

use super::{apic, clock};

/// While a guest runs, its CPU is interrupted at least this often, so that what has become pending
/// meanwhile is noticed. Unit: milliseconds.
const TICK: u64 = 10;

/// Vector under which interrupts appear that were sent with the vector of an exception. Only the
/// domain that programs devices can do that, and nobody waits for them.
pub(super) const MISDIRECTED: u8 = 0xfc;

/// Lets the tick begin on this CPU.
pub(super) fn start_tick() {
    let ticks = clock::rates().timer_khz * TICK;
    apic::set_timer(u32::try_from(ticks).unwrap_or(u32::MAX));
}

/// Handles the interrupt with this vector.
pub(super) fn handle(vector: u8) {
    if vector == apic::TIMER_VECTOR {
        start_tick();
    }
    if vector != apic::SPURIOUS_VECTOR {
        apic::end_of_interrupt();
    }
}
