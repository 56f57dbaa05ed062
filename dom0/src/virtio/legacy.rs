//! Registers in ports, as devices before version 1 of the standard have them, and transitional ones
//! too.

use alloc::boxed::Box;

use pv_guest_sdk::device::Registers;

use super::queue::Places;
use super::transport::{NO_VECTOR, Transport, TransportError};

const OFFERED: u64 = 0;
const ACCEPTED: u64 = 4;
const QUEUE_ADDRESS: u64 = 8;
const QUEUE_SIZE: u64 = 12;
const QUEUE_SELECT: u64 = 14;
const QUEUE_NOTIFY: u64 = 16;
const STATUS: u64 = 18;
const REASON: u64 = 19;
/// With messages alone.
const CONFIG_VECTOR: u64 = 20;
const QUEUE_VECTOR: u64 = 22;

/// The registers of an old device.
pub struct Legacy {
    ports: Box<dyn Registers>,
    /// Whether interrupts come by messages, of which number 0 is for all queues.
    messages: bool,
}

impl Legacy {
    /// The registers as they were found. `messages` must be as it is switched: it moves registers.
    ///
    /// # Errors
    /// [`TransportError::Registers`] if there are too few.
    pub fn new(ports: Box<dyn Registers>, messages: bool) -> Result<Self, TransportError> {
        let it = Self { ports, messages };
        if it.ports.length() < it.own() { Err(TransportError::Registers) } else { Ok(it) }
    }

    /// Where the registers are that the kind of device has.
    const fn own(&self) -> u64 {
        if self.messages { 24 } else { 20 }
    }
}

impl Transport for Legacy {
    fn status(&self) -> u8 {
        self.ports.read8(STATUS)
    }

    fn set_status(&self, status: u8) {
        self.ports.write8(STATUS, status);
    }

    fn offered(&self) -> u64 {
        self.ports.read32(OFFERED).into()
    }

    fn accept(&self, features: u64) {
        self.ports.write32(ACCEPTED, u32::try_from(features & u64::from(u32::MAX)).unwrap_or(0));
    }

    fn is_legacy(&self) -> bool {
        true
    }

    fn queue_size(&self, queue: u16) -> u16 {
        self.ports.write16(QUEUE_SELECT, queue);
        self.ports.read16(QUEUE_SIZE)
    }

    fn set_queue(&self, queue: u16, _size: u16, places: Places) -> Result<(), TransportError> {
        self.ports.write16(QUEUE_SELECT, queue);
        let unreachable = |_| TransportError::Address(places.descriptors);
        let page = u32::try_from(places.descriptors >> 12).map_err(unreachable)?;
        if self.messages {
            self.ports.write16(CONFIG_VECTOR, NO_VECTOR);
            self.ports.write16(QUEUE_VECTOR, 0);
            if self.ports.read16(QUEUE_VECTOR) != 0 {
                return Err(TransportError::Vector);
            }
        }
        self.ports.write32(QUEUE_ADDRESS, page);
        Ok(())
    }

    fn notify(&self, queue: u16) {
        self.ports.write16(QUEUE_NOTIFY, queue);
    }

    fn take_interrupt(&self) -> bool {
        self.messages || self.ports.read8(REASON) != 0
    }

    fn config8(&self, offset: u64) -> u8 {
        let at = self.own() + offset;
        if at < self.ports.length() { self.ports.read8(at) } else { 0 }
    }

    fn config32(&self, offset: u64) -> u32 {
        let at = self.own() + offset;
        if at + 4 <= self.ports.length() { self.ports.read32(at) } else { 0 }
    }

    fn generation(&self) -> u8 {
        0
    }
}
