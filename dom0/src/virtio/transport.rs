//! How a driver talks to a virtio device, whatever its registers look like.

use core::fmt;

use pv_guest_sdk::device::DeviceError;

use super::queue::Places;

/// The device was seen.
pub(super) const ACKNOWLEDGE: u8 = 1;
/// There is a driver for it.
pub(super) const DRIVER: u8 = 2;
/// The driver is ready.
pub(super) const DRIVER_OK: u8 = 4;
/// The features are chosen.
pub(super) const FEATURES_OK: u8 = 8;
/// The driver has given up.
pub(super) const FAILED: u8 = 128;

/// The feature of devices that keep to version 1 of the standard.
pub const VERSION_1: u64 = 1 << 32;
/// A vector that is none.
pub(super) const NO_VECTOR: u16 = 0xffff;
/// How often a register is read until it says what it must.
const PATIENCE: u32 = 100_000;

/// Why a device cannot be driven.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TransportError {
    /// Registers, memory or the interrupt cannot be had.
    Device(DeviceError),
    /// It has no registers where a virtio device has them.
    Registers,
    /// It does not stop when it is reset.
    Reset,
    /// It does not take the features that were chosen.
    Features(u64),
    /// It has no queue of that number.
    Queue(u16),
    /// It does not take the vector.
    Vector,
    /// The queue is where this device cannot reach it.
    Address(u64),
    /// It has no interrupt.
    Interrupt,
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(error) => write!(f, "{error}"),
            Self::Registers => f.write_str("it has not the registers of a virtio device"),
            Self::Reset => f.write_str("it does not stop when it is reset"),
            Self::Features(features) => write!(f, "it does not take the features {features:#x}"),
            Self::Queue(queue) => write!(f, "it has no queue {queue}"),
            Self::Vector => f.write_str("it does not take the vector of its interrupt"),
            Self::Address(address) => write!(f, "it cannot reach its queue at {address:#x}"),
            Self::Interrupt => f.write_str("it has no interrupt"),
        }
    }
}

impl core::error::Error for TransportError {}

impl From<DeviceError> for TransportError {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}

/// The registers of a virtio device.
pub trait Transport {
    /// The device's status, as bits.
    fn status(&self) -> u8;

    /// Sets it; 0 resets the device.
    fn set_status(&self, status: u8);

    /// What the device can do.
    fn offered(&self) -> u64;

    /// Says what of it is used.
    fn accept(&self, features: u64);

    /// Whether the device is of before version 1 of the standard.
    fn is_legacy(&self) -> bool;

    /// How many descriptors a queue has at most; 0: there is no such queue. Those of an old device
    /// are as many, not fewer.
    fn queue_size(&self, queue: u16) -> u16;

    /// Tells the device where a queue is, and has its interrupts come by the device's one vector.
    ///
    /// # Errors
    /// [`TransportError`] if the device does not take it.
    fn set_queue(&self, queue: u16, size: u16, places: Places) -> Result<(), TransportError>;

    /// Tells the device that a queue has something for it.
    fn notify(&self, queue: u16);

    /// Takes the reason of a wired interrupt: whether it was this device's. One that comes by
    /// message is always.
    fn take_interrupt(&self) -> bool;

    /// A byte of what the device says of itself. What it has not is 0.
    fn config8(&self, offset: u64) -> u8;

    /// Four bytes of it.
    fn config32(&self, offset: u64) -> u32;

    /// A count that changes whenever that does.
    fn generation(&self) -> u8;
}

/// Stops the device. It is done with all memory then.
///
/// # Errors
/// [`TransportError::Reset`] if it does not say that it has.
pub fn reset(transport: &dyn Transport) -> Result<(), TransportError> {
    transport.set_status(0);
    let stopped = (0..PATIENCE).any(|_| transport.status() == 0);
    if stopped { Ok(()) } else { Err(TransportError::Reset) }
}

/// Begins to use a device: resets it and chooses its features, of those in `wanted`. Returns them.
///
/// # Errors
/// [`TransportError::Features`] if the device does not take the choice.
pub fn begin(transport: &dyn Transport, wanted: u64) -> Result<u64, TransportError> {
    reset(transport)?;
    transport.set_status(ACKNOWLEDGE);
    transport.set_status(ACKNOWLEDGE | DRIVER);
    let features = transport.offered() & (wanted | VERSION_1);
    if transport.is_legacy() {
        transport.accept(features & !VERSION_1);
        return Ok(features & !VERSION_1);
    }
    let missing = features & VERSION_1 == 0;
    transport.accept(features);
    transport.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
    if missing || transport.status() & FEATURES_OK == 0 {
        transport.set_status(FAILED);
        return Err(TransportError::Features(features));
    }
    Ok(features)
}

/// The device may begin: its queues are set.
pub fn run(transport: &dyn Transport) {
    let chosen = if transport.is_legacy() { 0 } else { FEATURES_OK };
    transport.set_status(ACKNOWLEDGE | DRIVER | chosen | DRIVER_OK);
}

/// Reads what the device says of itself, until it has not changed meanwhile.
pub fn read_config<T>(transport: &dyn Transport, read: impl Fn(&dyn Transport) -> T) -> T {
    let mut value = read(transport);
    for _ in 0..PATIENCE {
        let before = transport.generation();
        value = read(transport);
        if transport.generation() == before {
            break;
        }
    }
    value
}
