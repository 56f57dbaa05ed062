//! Devices of the machine: configuration space, registers in memory, and lines.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::emulate::width::Width;
use crate::irq::Route;

/// All of it.
#[derive(Debug, Default)]
pub struct Bus {
    /// Bytes of configuration space, by bus, device, function and register.
    config: Mutex<BTreeMap<(u16, u8), u8>>,
    registers: Mutex<BTreeMap<u64, u32>>,
    lines: Mutex<BTreeMap<u32, Route>>,
}

impl Bus {
    /// Puts 32 bits into the configuration space of a device, which begins to exist with that.
    pub fn configure(&self, bdf: u16, register: u8, value: u32) {
        self.pci_out(1 << 31 | u32::from(bdf) << 8 | u32::from(register), 0, Width::B4, value);
    }

    /// 32 bits of the configuration space of a device.
    #[must_use]
    pub fn configuration(&self, bdf: u16, register: u8) -> u32 {
        self.pci_in(1 << 31 | u32::from(bdf) << 8 | u32::from(register), 0, Width::B4)
    }

    /// A register of a device in memory.
    #[must_use]
    pub fn register(&self, address: u64) -> u32 {
        self.registers.lock().unwrap().get(&address).copied().unwrap_or(0)
    }

    /// What an input of the I/O APICs does; `None`: it is masked.
    #[must_use]
    pub fn line(&self, pin: u32) -> Option<Route> {
        self.lines.lock().unwrap().get(&pin).copied()
    }

    pub(super) fn set_register(&self, address: u64, value: u32) {
        assert!(address % 4 == 0, "register at {address:#x}");
        self.registers.lock().unwrap().insert(address, value);
    }

    pub(super) fn set_line(&self, pin: u32, route: Option<Route>) {
        let mut lines = self.lines.lock().unwrap();
        match route {
            Some(route) => lines.insert(pin, route),
            None => lines.remove(&pin),
        };
    }

    pub(super) fn pci_in(&self, selected: u32, byte: u8, width: Width) -> u32 {
        let config = self.config.lock().unwrap();
        place(selected, byte, width)
            .rev()
            .fold(0, |value, at| value << 8 | u32::from(config.get(&at).copied().unwrap_or(0xff)))
    }

    pub(super) fn pci_out(&self, selected: u32, byte: u8, width: Width, value: u32) {
        let mut config = self.config.lock().unwrap();
        for (at, byte) in place(selected, byte, width).zip(value.to_le_bytes()) {
            config.insert(at, byte);
        }
    }
}

/// The bytes that an access is about.
fn place(
    selected: u32,
    byte: u8,
    width: Width,
) -> impl DoubleEndedIterator<Item = (u16, u8)> + ExactSizeIterator {
    let [low, devfn, bus, _] = selected.to_le_bytes();
    let first = (low & 0xfc) + byte;
    let bytes = u8::try_from(width.bytes()).unwrap();
    assert!(byte + bytes <= 4, "an access over the end of a register");
    (first..first + bytes).map(move |register| (u16::from_le_bytes([devfn, bus]), register))
}
