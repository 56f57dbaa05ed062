//! Interrupts: what came from a device, a timer or another CPU.

use super::apic;

/// Handles the interrupt with this vector.
pub(super) fn handle(vector: u32) {
    if vector != u32::from(apic::SPURIOUS_VECTOR) {
        apic::end_of_interrupt();
    }
}
