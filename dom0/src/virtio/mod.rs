//! Virtio devices: queues, transports, and the drivers of block devices and network cards.
//!
//! A device comes to use by `probe::devices`, which finds it on PCI, maps its registers and sets
//! its interrupt up; a driver then talks to a [`Transport`] and a [`Queue`], which know nothing of
//! what kind of device it is. Whatever a device says that cannot be is an error, and the device is
//! not used any more.

pub mod block;
mod legacy;
mod modern;
pub mod net;
#[cfg(target_os = "none")]
pub mod probe;
pub mod queue;
pub mod transport;

pub use block::Block;
pub use legacy::Legacy;
pub use modern::Modern;
pub use net::Net;
pub use queue::{Part, Queue, QueueError};
pub use transport::{Transport, TransportError};
