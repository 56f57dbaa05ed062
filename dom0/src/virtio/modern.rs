//! Registers in memory, as of version 1 of the standard.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::RefCell;

use pv_guest_sdk::device::Registers;

use super::queue::Places;
use super::transport::{NO_VECTOR, Transport, TransportError};

// Offsets in the common registers.
const OFFERED_SELECT: u64 = 0;
const OFFERED: u64 = 4;
const ACCEPTED_SELECT: u64 = 8;
const ACCEPTED: u64 = 12;
const CONFIG_VECTOR: u64 = 16;
const STATUS: u64 = 20;
const GENERATION: u64 = 21;
const QUEUE_SELECT: u64 = 22;
const QUEUE_SIZE: u64 = 24;
const QUEUE_VECTOR: u64 = 26;
const QUEUE_ENABLE: u64 = 28;
const QUEUE_NOTIFY: u64 = 30;
const QUEUE_DESCRIPTORS: u64 = 32;
const QUEUE_DRIVER: u64 = 40;
const QUEUE_DEVICE: u64 = 48;
/// The length of the common registers. Unit: bytes.
const COMMON: u64 = 56;

/// The registers of a device of version 1, each kind in a range of its own.
pub struct Modern {
    /// What all virtio devices have.
    common: Box<dyn Registers>,
    /// Where notifications go.
    notify: Box<dyn Registers>,
    /// How far those of two queues are apart. Unit: bytes.
    apart: u32,
    /// Where those of each queue that was set go. Unit: bytes.
    places: RefCell<Vec<u64>>,
    /// The reason of a wired interrupt.
    reason: Box<dyn Registers>,
    /// What the kind of device has.
    own: Option<Box<dyn Registers>>,
    /// Whether interrupts come by messages, of which number 0 is for all queues.
    messages: bool,
}

impl Modern {
    /// The registers as they were found.
    ///
    /// # Errors
    /// [`TransportError::Registers`] if ranges are too short.
    pub fn new(
        common: Box<dyn Registers>,
        (notify, apart): (Box<dyn Registers>, u32),
        reason: Box<dyn Registers>,
        own: Option<Box<dyn Registers>>,
        messages: bool,
    ) -> Result<Self, TransportError> {
        if common.length() < COMMON || reason.length() == 0 || notify.length() < 2 {
            return Err(TransportError::Registers);
        }
        Ok(Self { common, notify, apart, places: RefCell::default(), reason, own, messages })
    }

    fn write64(&self, offset: u64, value: u64) {
        let [low, high] = [value & u64::from(u32::MAX), value >> 32];
        for (offset, half) in [(offset, low), (offset + 4, high)] {
            self.common.write32(offset, u32::try_from(half).unwrap_or(0));
        }
    }
}

impl Transport for Modern {
    fn status(&self) -> u8 {
        self.common.read8(STATUS)
    }

    fn set_status(&self, status: u8) {
        self.common.write8(STATUS, status);
    }

    fn offered(&self) -> u64 {
        let half = |which| {
            self.common.write32(OFFERED_SELECT, which);
            u64::from(self.common.read32(OFFERED))
        };
        half(1) << 32 | half(0)
    }

    fn accept(&self, features: u64) {
        for (which, half) in [(0, features & u64::from(u32::MAX)), (1, features >> 32)] {
            self.common.write32(ACCEPTED_SELECT, which);
            self.common.write32(ACCEPTED, u32::try_from(half).unwrap_or(0));
        }
    }

    fn is_legacy(&self) -> bool {
        false
    }

    fn queue_size(&self, queue: u16) -> u16 {
        self.common.write16(QUEUE_SELECT, queue);
        self.common.read16(QUEUE_SIZE)
    }

    fn set_queue(&self, queue: u16, size: u16, places: Places) -> Result<(), TransportError> {
        self.common.write16(QUEUE_SELECT, queue);
        let number = u64::from(self.common.read16(QUEUE_NOTIFY));
        let at = number * u64::from(self.apart);
        if at % 2 != 0 || at + 2 > self.notify.length() {
            return Err(TransportError::Registers);
        }
        let mut all = self.places.borrow_mut();
        let length = all.len().max(usize::from(queue) + 1);
        all.resize(length, 0);
        if let Some(place) = all.get_mut(usize::from(queue)) {
            *place = at;
        }
        self.common.write16(QUEUE_SIZE, size);
        self.write64(QUEUE_DESCRIPTORS, places.descriptors);
        self.write64(QUEUE_DRIVER, places.driver);
        self.write64(QUEUE_DEVICE, places.device);
        self.common.write16(CONFIG_VECTOR, NO_VECTOR);
        if self.messages {
            self.common.write16(QUEUE_VECTOR, 0);
            if self.common.read16(QUEUE_VECTOR) != 0 {
                return Err(TransportError::Vector);
            }
        }
        self.common.write16(QUEUE_ENABLE, 1);
        Ok(())
    }

    fn notify(&self, queue: u16) {
        let at = self.places.borrow().get(usize::from(queue)).copied();
        self.notify.write16(at.unwrap_or(0), queue);
    }

    fn take_interrupt(&self) -> bool {
        self.messages || self.reason.read8(0) != 0
    }

    fn config8(&self, offset: u64) -> u8 {
        let own = self.own.as_ref().filter(|own| offset < own.length());
        own.map_or(0, |own| own.read8(offset))
    }

    fn config32(&self, offset: u64) -> u32 {
        let own = self.own.as_ref().filter(|own| offset + 4 <= own.length());
        own.map_or(0, |own| own.read32(offset))
    }

    fn generation(&self) -> u8 {
        self.common.read8(GENERATION)
    }
}
