//! What drivers reach devices by: ports, registers in memory, memory that devices read and write.
//!
//! A device that is told a machine address reads and writes there whatever Rust thinks of it. So
//! whoever claims ports or maps registers promises, once and for all that is done with them, that
//! the device is told addresses of nothing but [`DmaMemory`] that stays until the device is done,
//! or of frames that no Rust reference leads to.

mod dma;
mod ends;
mod memory;
mod ports;

pub use dma::DmaMemory;
pub(crate) use ends::waits;
pub use memory::DeviceMemory;
pub use ports::Ports;
