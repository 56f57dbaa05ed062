//! The I/O APICs, to which interrupts of devices are wired.

use heapless::Vec;
use kernel_core::irq::{Polarity, Route, Trigger};
use spin::{Mutex, Once};

use super::acpi::Interrupts;
use super::devices::Registers;
use super::memory::Memory;
use super::percpu;

/// Bytes of the registers.
const LENGTH: u64 = 0x20;
/// Which register the window shows.
const SELECT: u64 = 0;
const WINDOW: u64 = 0x10;
/// Register: version in the low byte, last input in bits 16-23.
const VERSION: u8 = 1;
/// First of two registers for each input.
const INPUTS: u8 = 0x10;
const MASKED: u32 = 1 << 16;
const BY_LEVEL: u32 = 1 << 15;
const ACTIVE_LOW: u32 = 1 << 13;
/// Inputs that one can have.
const MOST_INPUTS: u32 = 120;

/// One of them.
#[derive(Debug)]
struct IoApic {
    registers: Registers,
    address: u64,
    /// Its first input, counted over all of them, and how many it has.
    first: u32,
    inputs: u32,
}

/// All of them. A register takes two accesses, which belong together; nothing waits meanwhile.
static ALL: Once<Mutex<Vec<IoApic, 16>>> = Once::new();

/// Finds those that the firmware names, and masks all their inputs; to be called once. Returns how many
/// inputs there are, counted from the first to the last.
///
/// `None` when memory for their mapping is exhausted.
pub(crate) fn find(memory: &mut Memory, found: &Interrupts) -> Option<u32> {
    let mut all = Vec::new();
    for apic in &found.io_apics {
        let registers = Registers::map(memory, apic.address, LENGTH)?;
        let (address, first) = (apic.address, apic.first_interrupt);
        let mut apic = IoApic { registers, address, first, inputs: 0 };
        apic.inputs = ((apic.read(VERSION) >> 16 & 0xff) + 1).min(MOST_INPUTS);
        for input in 0..apic.inputs {
            apic.set(input, None);
        }
        let _ = all.push(apic);
    }
    let end = all.iter().map(|apic| apic.first + apic.inputs).max().unwrap_or(0);
    ALL.call_once(|| Mutex::new(all));
    Some(end)
}

/// Programs an input, counted over all of them; `None` masks it.
pub(super) fn set(pin: u32, route: Option<Route>) {
    let Some(all) = ALL.get() else { return };
    for apic in all.lock().iter() {
        if let Some(input) = pin.checked_sub(apic.first).filter(|input| *input < apic.inputs) {
            apic.set(input, route);
        }
    }
}

/// A register of the one at a physical address, and the first input it has.
pub(super) fn read(address: u64, register: u8) -> Option<(u32, u32)> {
    let all = ALL.get()?.lock();
    let apic = all.iter().find(|apic| apic.address == address)?;
    Some((apic.read(register), apic.first))
}

impl IoApic {
    fn read(&self, register: u8) -> u32 {
        self.registers.write(SELECT, register.into());
        self.registers.read(WINDOW)
    }

    fn write(&self, register: u8, value: u32) {
        self.registers.write(SELECT, register.into());
        self.registers.write(WINDOW, value);
    }

    /// Programs an input: masked while it changes, since it is two registers.
    fn set(&self, input: u32, route: Option<Route>) {
        // At most 120 inputs: the number fits.
        let low = INPUTS + u8::try_from(2 * input).unwrap_or(0);
        let Some(route) = route else {
            // How it is raised stays: a level that waits for its acknowledgement still gets it.
            self.write(low, self.read(low) | MASKED);
            return;
        };
        let level = if route.trigger == Trigger::Level { BY_LEVEL } else { 0 };
        let active = if route.polarity == Polarity::Low { ACTIVE_LOW } else { 0 };
        let word = u32::from(route.vector) | level | active;
        self.write(low, word | MASKED);
        self.write(low + 1, percpu::destination(route.cpu) << 24);
        self.write(low, word);
    }
}
