//! Interrupts: what came from a device, a timer or another CPU.

use kernel_core::cpu_state::Interrupt;

use super::{apic, flush, guest};

/// Vector under which interrupts appear that were sent with the vector of an exception. Only the
/// domain that programs devices can do that, and nobody waits for them.
pub(super) const MISDIRECTED: u8 = 0xfc;
/// Vector by which a CPU makes another ask its scheduler.
pub(super) const POKE: u8 = 0xfb;
/// Vector by which a CPU makes another forget translations.
pub(super) const FLUSH: u8 = 0xfa;

/// Vector of the console's serial port.
pub(super) const CONSOLE: u8 = 0xf9;

/// Handles the interrupt with this vector.
pub(super) fn handle(vector: u8) {
    match vector {
        apic::TIMER_VECTOR => guest::interrupted(Interrupt::Alarm),
        POKE => guest::interrupted(Interrupt::Poke),
        FLUSH => flush::serve(),
        CONSOLE => guest::console_input(),
        _ => guest::device_interrupt(vector),
    }
    if vector != apic::SPURIOUS_VECTOR {
        apic::end_of_interrupt();
    }
}
