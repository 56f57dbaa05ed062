//! Interrupts of devices: from the wire or the message to a domain's port.
//!
//! An interrupt of the machine has a number, its *irq*: that of its line (a *GSI*), or one beyond all
//! lines for a message (MSI, MSI-X). A domain knows it under a number of its own, its *pirq*
//! (`physdev_op` map_pirq), and binds that to a port (`event_channel_op` bind_pirq). From then on the
//! source is open and each interrupt raises the port.
//!
//! Every mapping has a place in [`Interrupts`], and the place *is* the vector: the same on all CPUs, so
//! that moving an interrupt to another CPU is one write, and none that is under way gets lost. There
//! are 191.
//!
//! - An edge or a message is acknowledged at once; that it comes again while its event is still
//!   pending costs the time of setting a bit that is set.
//! - A level is masked, then acknowledged, and stays masked until the guest reports its end (`eoi`) or
//!   closes the port: a device that nobody looks after costs one interrupt.
//!
//! `line.rs` knows the wires, `table.rs` who has what, `mapping.rs` gives and takes numbers, `delivery.rs`
//! is the way of an interrupt, `device.rs` programs the messages of PCI devices, and `config.rs` is their
//! configuration space as the initial domain sees it.
//!
//! All that changes mappings holds the lock `Interrupts::setup`; a place has a lock of its own, which is
//! all that a coming interrupt takes, and which it lets go before it raises the port. Ports are locked
//! under `setup`, never the other way round.

mod config;
mod delivery;
mod device;
mod line;
mod mapping;
mod table;
#[cfg(test)]
mod tests;

pub use device::{Function, Table};
pub use line::{Line, Lines, MOST_LINES, Polarity, Trigger};
pub use mapping::Kind;
pub use table::{Interrupts, PIRQS, Pirqs};

use crate::cpu::CpuId;

/// What an input of an I/O APIC does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Route {
    /// The vector it raises.
    pub vector: u8,
    /// Where.
    pub cpu: CpuId,
    /// Edge or level.
    pub trigger: Trigger,
    /// What counts as raised.
    pub polarity: Polarity,
}

/// A write that raises an interrupt.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Message {
    /// Where the device writes.
    pub address: u64,
    /// What.
    pub data: u32,
}
