//! PCI functions: which there are, and what each says of itself in its configuration space.
//!
//! The crate `pci_types` is not used: it panics for a region of a reserved type and follows
//! capabilities round in circles, which a faulty device can have.

use alloc::vec::Vec;
use core::fmt;

use pv_guest_sdk::device::physdev::Function;

/// Reads and writes configuration space. Registers of a function that is not there read as ones.
///
/// Who carries this out promises nothing about what a write does to the function.
#[expect(missing_docs, reason = "reads and writes, by function, offset and width (unit: bits)")]
pub trait Configuration {
    fn read32(&self, at: Function, offset: u8) -> u32;
    fn write16(&self, at: Function, offset: u8, value: u16);
    fn write32(&self, at: Function, offset: u8, value: u32);
}

/// Offset of vendor and device.
const ID: u8 = 0;
/// Offset of command and status.
const COMMAND: u8 = 4;
/// Offset of revision and class.
const CLASS: u8 = 8;
/// Offset of the header's type.
const HEADER: u8 = 0xc;
/// Offset of the first region.
const REGIONS: u8 = 0x10;
/// Offset of a bridge's buses.
const BUSES: u8 = 0x18;
/// Offset of the first capability's offset.
const CAPABILITIES: u8 = 0x34;
/// Offset of the interrupt's line and pin.
const INTERRUPT: u8 = 0x3c;

/// Bits of the command: ports, memory, bus mastering; and no wired interrupt.
const PORTS: u16 = 1;
const MEMORY: u16 = 2;
const MASTER: u16 = 4;
const NO_WIRE: u16 = 1 << 10;

/// The capability of a table of messages.
const MSIX: u8 = 0x11;
/// Capabilities that fit into 256 bytes behind the header.
const MOST_CAPABILITIES: usize = 48;

/// All functions of segment 0 on bus 0 and on the buses behind bridges, in the order of buses as
/// they are met. A bus is looked at once, whatever bridges say.
pub fn functions(config: &impl Configuration) -> Vec<Function> {
    let mut found = Vec::new();
    let mut buses = Vec::from([0_u8]);
    let mut next = 0;
    while let Some(&bus) = buses.get(next) {
        next += 1;
        for device in 0..32 {
            let first = Function { segment: 0, bus, devfn: device << 3 };
            let device_0 = Device { config, at: first };
            let several = device_0.header() & 0x80 != 0;
            let count = if !device_0.is_there() {
                0
            } else if several {
                8
            } else {
                1
            };
            for function in 0..count {
                let at = Function { devfn: device << 3 | function, ..first };
                let device = Device { config, at };
                if !device.is_there() {
                    continue;
                }
                found.push(at);
                if let Some(behind) = device.bus_behind().filter(|behind| !buses.contains(behind)) {
                    buses.push(behind);
                }
            }
        }
    }
    found
}

/// One function.
#[derive(Debug)]
pub struct Device<'a, C> {
    config: &'a C,
    at: Function,
}

impl<C> Clone for Device<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for Device<'_, C> {}

/// A region of ports or of memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Region {
    /// The first port, and how many.
    Ports(u16, u16),
    /// Machine address and length. Unit: bytes.
    Memory(u64, u64),
}

/// A capability: what it is, where it is, and the two bytes behind the offset of the next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capability {
    /// Its number.
    pub id: u8,
    /// Its offset in configuration space.
    pub offset: u8,
    /// What comes first in it.
    pub first: u16,
}

/// A table of messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Messages {
    offset: u8,
    /// How many there are.
    pub entries: u16,
    /// Machine address of the region that the table is in.
    pub region: u64,
}

/// What a function is, by its class.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Class(u32);

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}.{:02x}", self.0 >> 24, self.0 >> 16 & 0xff)
    }
}

impl<'a, C: Configuration> Device<'a, C> {
    /// The function at an address, whether or not it is there.
    pub const fn at(config: &'a C, at: Function) -> Self {
        Self { config, at }
    }

    /// Where it is.
    #[must_use]
    pub const fn function(&self) -> Function {
        self.at
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_there(&self) -> bool {
        !matches!(self.read(ID) & 0xffff, 0xffff | 0)
    }

    /// Vendor and device.
    #[must_use]
    pub fn id(&self) -> (u16, u16) {
        let id = self.read(ID);
        (low(id), high(id))
    }

    /// What it is.
    #[must_use]
    pub fn class(&self) -> Class {
        Class(self.read(CLASS))
    }

    /// A word of configuration space; `offset` is rounded down.
    #[must_use]
    pub fn read(&self, offset: u8) -> u32 {
        self.config.read32(self.at, offset)
    }

    fn header(&self) -> u8 {
        self.read(HEADER).to_le_bytes()[2]
    }

    /// The bus behind a bridge.
    fn bus_behind(&self) -> Option<u8> {
        let bus = self.read(BUSES).to_le_bytes()[1];
        (self.header() & 0x7f == 1 && bus != 0).then_some(bus)
    }

    /// Region `number`, 0 to 5, of a function that is no bridge. It is off for a moment.
    #[must_use]
    pub fn region(&self, number: u8) -> Option<Region> {
        if number > 5 || self.header() & 0x7f != 0 {
            return None;
        }
        let offset = REGIONS + 4 * number;
        let command = low(self.read(COMMAND));
        self.config.write16(self.at, COMMAND, command & !(PORTS | MEMORY));
        let (value, mask) = self.size(offset);
        let is_wide = value & 7 == 4 && number < 5;
        let (above, mask_above) = if is_wide { self.size(offset + 4) } else { (0, u32::MAX) };
        self.config.write16(self.at, COMMAND, command);
        if value & 1 != 0 {
            // Ports have 16 bits; of the upper ones a device may have none.
            let (first, length) = (low(value) & !3, (low(mask) & !3).wrapping_neg());
            return Some(Region::Ports(first, length)).filter(|_| first != 0 && length != 0);
        }
        let start = u64::from(above) << 32 | u64::from(value & !0xf);
        let length = (u64::from(mask_above) << 32 | u64::from(mask & !0xf)).wrapping_neg();
        let fits = start != 0 && length != 0 && start.checked_add(length).is_some();
        fits.then_some(Region::Memory(start, length))
    }

    /// A region's register, and which of its bits can be set.
    fn size(&self, offset: u8) -> (u32, u32) {
        let value = self.read(offset);
        self.config.write32(self.at, offset, u32::MAX);
        let mask = self.read(offset);
        self.config.write32(self.at, offset, value);
        (value, mask)
    }

    /// Its capabilities, as many as there is room for.
    #[must_use]
    pub fn capabilities(&self) -> Vec<Capability> {
        let mut found = Vec::new();
        let has_some = high(self.read(COMMAND)) & 1 << 4 != 0;
        let mut offset = if has_some { self.read(CAPABILITIES).to_le_bytes()[0] & !3 } else { 0 };
        while offset >= 0x40 && found.len() < MOST_CAPABILITIES {
            let word = self.read(offset);
            let [id, next, ..] = word.to_le_bytes();
            found.push(Capability { id, offset, first: high(word) });
            offset = next & !3;
        }
        found
    }

    /// Its table of messages, if it has one.
    #[must_use]
    pub fn messages(&self) -> Option<Messages> {
        let it = self.capabilities().into_iter().find(|it| it.id == MSIX)?;
        let table = self.read(it.offset.checked_add(4)?);
        let Some(Region::Memory(region, _)) = self.region(table.to_le_bytes()[0] & 7) else {
            return None;
        };
        Some(Messages { offset: it.offset, entries: (it.first & 0x7ff) + 1, region })
    }

    /// Switches its regions on, and lets it read and write memory.
    pub fn enable(&self) {
        let command = low(self.read(COMMAND)) & !NO_WIRE;
        self.config.write16(self.at, COMMAND, command | PORTS | MEMORY | MASTER);
    }

    /// Switches its messages on in place of the wired interrupt, all of them held back or not. The
    /// register is written by itself: Xen ignores a write of the whole word.
    pub fn enable_messages(&self, messages: Messages, held: Held) {
        let control = high(self.read(messages.offset)) & !(1 << 14);
        let held = if held == Held::Back { 1 << 14 } else { 0 };
        self.config.write16(self.at, messages.offset + 2, control | 1 << 15 | held);
    }

    /// Switches its messages off.
    pub fn disable_messages(&self, messages: Messages) {
        let control = high(self.read(messages.offset)) & !(1 << 15);
        self.config.write16(self.at, messages.offset + 2, control);
    }

    /// The wired interrupt that firmware has noted, if it has one.
    #[must_use]
    pub fn wire(&self) -> Option<u8> {
        let [line, pin, ..] = self.read(INTERRUPT).to_le_bytes();
        (pin != 0 && line != 0 && line != 0xff).then_some(line)
    }
}

/// What becomes of messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Held {
    /// They wait.
    Back,
    /// They come.
    Not,
}

fn low(word: u32) -> u16 {
    let [a, b, ..] = word.to_le_bytes();
    u16::from_le_bytes([a, b])
}

fn high(word: u32) -> u16 {
    let [.., a, b] = word.to_le_bytes();
    u16::from_le_bytes([a, b])
}

#[cfg(test)]
mod tests;
