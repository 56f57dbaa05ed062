//! Drivers of the privileged guest: PCI, virtio, and disks of several kinds.
//!
//! - [`pci`] finds the functions of the machine, and what each says of itself;
//! - [`virtio`] has the queues and transports that all virtio devices share, and the driver of
//!   block devices;
//! - [`disk`] is what the rest of the guest sees: whole devices, partitions, regions, RAM disks;
//! - [`serial`] is the port by which the host rules;
//! - [`hw`] is the fence: the one place with unsafe code;
//! - `lines` gives interrupts to the devices that share them, `disks` is a mode of the guest that
//!   tries all disks.
//!
//! Everything but the last two is built for a host as well, and tested there against devices that
//! do not keep to the rules.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod disk;
#[cfg(target_os = "none")]
pub mod disks;
pub mod hw;
#[cfg(target_os = "none")]
pub mod lines;
pub mod pci;
pub mod serial;
pub mod virtio;
