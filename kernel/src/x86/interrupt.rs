//! Interrupts: what came from a device, a timer or another CPU.

use super::apic;

/// Handles the interrupt with this vector and acknowledges it.
pub(super) fn handle(_vector: u32) {
    apic::end_of_interrupt();
}
