//! PCI configuration space by ports: as the kernel uses it, and as the initial domain sees it.
//!
//! Two ports select a register and give access to it. The kernel uses them at any time, so the guest
//! has its own copy of the first, and the second acts on what that says.

use core::sync::atomic::Ordering;

use super::device::stop_all;
use crate::domain::Domain;
use crate::emulate::width::Width;
use crate::platform::Platform;
use crate::system::System;

/// The port that selects; only as a whole.
const SELECT: u16 = 0xcf8;
/// The first of the four ports of the register.
const DATA: u16 = 0xcfc;
/// The selection is one of configuration space.
const ENABLED: u32 = 1 << 31;

/// Reads a register of a device.
pub(super) fn read(platform: &impl Platform, bdf: u16, register: u8, width: Width) -> u32 {
    platform.pci_in(select(bdf, register), register & 3, width)
}

/// Writes a register of a device.
pub(super) fn write(platform: &impl Platform, bdf: u16, register: u8, width: Width, value: u32) {
    platform.pci_out(select(bdf, register), register & 3, width, value);
}

fn select(bdf: u16, register: u8) -> u32 {
    ENABLED | u32::from(bdf) << 8 | u32::from(register & 0xfc)
}

/// An access of a guest to configuration space.
enum Access {
    /// The port that selects.
    Select,
    /// From this byte of the register on.
    Data(u8),
    /// Nothing is there.
    Nothing,
}

/// What an access is, if it is one to configuration space.
fn access(port: u16, width: Width) -> Option<Access> {
    if port == SELECT && width == Width::B4 {
        return Some(Access::Select);
    }
    let offset = u8::try_from(port.checked_sub(DATA)?).ok().filter(|offset| *offset < 4)?;
    let fits = usize::from(offset).saturating_add(width.bytes()) <= 4;
    Some(if fits { Access::Data(offset) } else { Access::Nothing })
}

impl<P: Platform> System<P> {
    /// Stops all devices: their driver is gone, and what it lent them may soon be somebody else's.
    pub(crate) fn stop_devices(&self) {
        // Nobody else changes configuration space meanwhile.
        let _devices = self.platform.interrupts().setup.lock(&self.platform);
        stop_all(&self.platform);
    }

    /// A domain reads a port: `None` if it is none of configuration space. Who is not the initial
    /// domain reads ones.
    pub(crate) fn config_in(&self, domain: &Domain<P>, port: u16, width: Width) -> Option<u32> {
        let selected = domain.selected.load(Ordering::Relaxed);
        match access(port, width)? {
            Access::Select if domain.is_privileged() => Some(selected),
            Access::Data(offset) if domain.is_privileged() => {
                Some(self.platform.pci_in(selected, offset, width))
            }
            Access::Select | Access::Data(_) | Access::Nothing => Some(u32::MAX),
        }
    }

    /// A domain writes a port: `None` if it is none of configuration space. What is the kernel's to
    /// write stays as it is.
    pub(crate) fn config_out(
        &self,
        domain: &Domain<P>,
        port: u16,
        width: Width,
        value: u32,
    ) -> Option<()> {
        match access(port, width)? {
            Access::Select if domain.is_privileged() => {
                domain.selected.store(value, Ordering::Relaxed);
            }
            Access::Data(offset) if domain.is_privileged() => {
                let selected = domain.selected.load(Ordering::Relaxed);
                // Held to the end: the kernel switches messages on and off meanwhile.
                let devices = self.platform.interrupts().setup.lock(&self.platform);
                let [low, bus_low, bus_high, _] = selected.to_le_bytes();
                let register = low & 0xfc | offset;
                let bdf = u16::from_le_bytes([bus_low, bus_high]);
                if devices.allow(bdf, register, width) {
                    self.platform.pci_out(selected, offset, width, value);
                }
            }
            Access::Select | Access::Data(_) | Access::Nothing => {}
        }
        Some(())
    }
}
