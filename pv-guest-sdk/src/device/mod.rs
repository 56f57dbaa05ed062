//! Devices of the machine, for the domain that drives them: ports, registers in memory, memory that
//! devices read and write, interrupts.
//!
//! A device knows nothing of Rust: one that is told a machine address reads and writes there. So
//! `Ports::claim` and `DeviceMemory::map` are unsafe. Who calls them promises, for all that is
//! written through the value, that devices are told addresses of two kinds of memory alone: of
//! `DmaMemory` that is not dropped before the device is done with it, and of frames that no Rust
//! reference leads to for as long (a peer's, mapped by a grant). And not of page tables: those the
//! hypervisor does not guard against devices.
//!
//! An `Interrupt` is an owned number of the hypervisor's for a wired interrupt or a message, with
//! its port. The order in which a device comes to use is in the book's page on devices.

mod error;
#[cfg(target_os = "none")]
mod interrupt;
pub mod physdev;

pub use error::DeviceError;
#[cfg(target_os = "none")]
pub use interrupt::Interrupt;

#[cfg(target_os = "none")]
pub use crate::raw::device::{DeviceMemory, DmaMemory, Ports};

/// Registers of a device, wherever they are. An access is one instruction, behind all stores that
/// come before it.
///
/// # Panics
/// All methods, if the register is not within the range or, in memory, not aligned.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{device::Registers};
/// # fn example(device: &impl Registers) {
/// if device.length() >= 12 {
///     device.write32(0, u32::from(device.read16(8)));
///     device.write16(4, u16::from(device.read8(10)));
///     device.write8(6, 1);
/// }
/// let status = device.read32(8);
/// # }
/// ```
#[expect(missing_docs, reason = "reads and writes, by offset (unit: bytes) and width (unit: bits)")]
pub trait Registers {
    /// Unit: bytes.
    fn length(&self) -> u64;
    fn read8(&self, offset: u64) -> u8;
    fn read16(&self, offset: u64) -> u16;
    fn read32(&self, offset: u64) -> u32;
    fn write8(&self, offset: u64, value: u8);
    fn write16(&self, offset: u64, value: u16);
    fn write32(&self, offset: u64, value: u32);
    /// Writes bytes one after the other to the same register.
    ///
    /// # Examples
    /// ```no_run
    /// # use pv_guest_sdk::device::Registers;
    /// # fn example(serial_port: &impl Registers) {
    /// serial_port.write8s(0, b"ready\r\n");
    /// # }
    /// ```
    fn write8s(&self, offset: u64, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write8(offset, byte));
    }
}
