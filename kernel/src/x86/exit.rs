//! Leaving the machine: power-off with an exit code for QEMU, and reset.

use spin::Once;
use x86_64::instructions::port::Port;

use super::acpi::{Power, Reset};
use super::devices::Registers;
use super::memory::Memory;

/// QEMU's `isa-debug-exit` device; on other machines nothing listens there.
const DEBUG_EXIT_PORT: u16 = 0xf4;
/// Reset control of PCI chipsets: bit 1 selects a full reset, bit 2 triggers it.
const RESET_CONTROL_PORT: u16 = 0xcf9;
/// Keyboard controller's command port; 0xfe pulses the CPU's reset line.
const KEYBOARD_PORT: u16 = 0x64;

static POWER: Once<(Power, Option<Registers>)> = Once::new();

/// How a run of the kernel ended: the value written to `isa-debug-exit`, which QEMU turns into exit
/// status `value * 2 + 1`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Outcome {
    /// The initial domain shut down in order.
    Success = 0x10,
    /// The initial domain crashed or was ended.
    GuestCrashed = 0x11,
    /// The kernel would not start with what it was given.
    InputRefused = 0x12,
    /// The kernel itself failed.
    KernelPanic = 0x13,
}

/// Records what ACPI says about powering off and resetting; before that, both fall back on what
/// needs no tables.
pub(crate) fn set_power(memory: &mut Memory, power: Power) {
    let register = match power.reset {
        Some(Reset::Memory { address, .. }) => Registers::map(memory, address, 1),
        _ => None,
    };
    POWER.call_once(|| (power, register));
}

/// Ends the machine: `isa-debug-exit` first, then ACPI power-off, then halt for ever.
pub(crate) fn exit(outcome: Outcome) -> ! {
    out8(DEBUG_EXIT_PORT, outcome as u8);
    if let Some((power, _)) = POWER.get() {
        for (port, sleep_type) in power.control_ports.into_iter().filter(|(port, _)| *port != 0) {
            // Bits 10-12 the sleep type, bit 13 "go".
            out16(port, u16::from(sleep_type & 7) << 10 | 1 << 13);
        }
    }
    // Power-off is asynchronous: without it or until then, nothing is left to do.
    super::stop::halt()
}

/// Will not start with what was given: prints `reason`, one sentence for the operator, at any log
/// level, and ends the machine.
pub(crate) fn refuse(reason: core::fmt::Arguments<'_>) -> ! {
    crate::log::always(format_args!("refused: {reason}"));
    exit(Outcome::InputRefused)
}

/// Restarts the machine, trying one way after the other.
pub(crate) fn reset() -> ! {
    match POWER.get() {
        Some((Power { reset: Some(Reset::Port { port, value }), .. }, _)) => out8(*port, *value),
        Some((Power { reset: Some(Reset::Memory { value, .. }), .. }, Some(register))) => {
            register.write_byte(0, *value);
        }
        _ => {}
    }
    await_reset();
    out8(RESET_CONTROL_PORT, 0x02);
    out8(RESET_CONTROL_PORT, 0x06);
    await_reset();
    out8(KEYBOARD_PORT, 0xfe);
    await_reset();
    // An interrupt without a table is a triple fault, which resets the CPU.
    super::stop::triple_fault()
}

/// A reset is asynchronous: gives it the time to happen before the next way is tried.
fn await_reset() {
    const PATIENCE_MICROSECONDS: u64 = 100_000;
    super::clock::wait_microseconds(PATIENCE_MICROSECONDS);
}

fn out8(port: u16, value: u8) {
    // SAFETY: the callers' ports end or reset the machine or do nothing; none touches memory.
    unsafe { Port::new(port).write(value) };
}

fn out16(port: u16, value: u16) {
    // SAFETY: the power-off register ACPI names; it ends the machine and touches no memory.
    unsafe { Port::new(port).write(value) };
}
