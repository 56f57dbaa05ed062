//! Interrupts: what came from a device, a timer or another CPU.

use super::apic;

/// Handles the interrupt with this vector.
pub(super) fn handle(vector: u8) {
    if vector != apic::SPURIOUS_VECTOR {
        apic::end_of_interrupt();
    }
}
