//! Ports and registers.

use pv_guest_sdk::device::{DeviceError, DeviceMemory, Ports, Registers, physdev::Function};

use crate::pci::Configuration;

/// Claims the ports of a device's region.
pub(crate) fn ports(first: u16, count: u16) -> Result<Ports, DeviceError> {
    // SAFETY: as argued at the top of the fence: drivers write addresses of buffers and pieces.
    unsafe { Ports::claim(first, count) }
}

/// Claims the ports of a serial port, which knows no addresses.
///
/// # Errors
/// [`DeviceError::Claimed`] if somebody has them, [`DeviceError::Refused`] if this guest may not use
/// ports.
pub fn serial_port(first: u16) -> Result<Ports, DeviceError> {
    ports(first, 8)
}

/// Maps registers in a device's region.
pub(crate) fn memory(machine: u64, length: u64) -> Result<DeviceMemory, DeviceError> {
    // SAFETY: as of `ports`.
    unsafe { DeviceMemory::map(machine, length) }
}

/// Configuration space by the ports 0xcf8 to 0xcff: the first 256 bytes of functions in segment 0.
#[derive(Debug)]
pub struct ConfigurationPorts(Ports);

/// The first of the ports.
const ADDRESS: u16 = 0xcf8;
/// Where the register is that the address names. Unit: ports.
const DATA: u64 = 4;

impl ConfigurationPorts {
    /// Claims the ports.
    ///
    /// # Errors
    /// [`DeviceError::Claimed`] if somebody has them, [`DeviceError::Refused`] if this guest may
    /// not use ports.
    pub fn claim() -> Result<Self, DeviceError> {
        ports(ADDRESS, 8).map(Self)
    }

    /// Names the register that the data ports are about.
    fn select(&self, at: Function, offset: u8) -> u64 {
        let function = u32::from(at.bus) << 16 | u32::from(at.devfn) << 8;
        self.0.write32(0, 1 << 31 | function | u32::from(offset & 0xfc));
        DATA + u64::from(offset & 3)
    }
}

impl Configuration for ConfigurationPorts {
    fn read32(&self, at: Function, offset: u8) -> u32 {
        let data = self.select(at, offset & 0xfc);
        self.0.read32(data)
    }

    fn write16(&self, at: Function, offset: u8, value: u16) {
        let data = self.select(at, offset & 0xfe);
        self.0.write16(data, value);
    }

    fn write32(&self, at: Function, offset: u8, value: u32) {
        let data = self.select(at, offset & 0xfc);
        self.0.write32(data, value);
    }
}
