//! The fence around devices: the only unsafe code of this guest.
//!
//! The promise that the SDK asks for (`pv_guest_sdk::device`) is kept like this. Drivers tell
//! devices three kinds of addresses: of a [`Buffer`] that they own and drop after the device was
//! reset; of a [`Piece`], which keeps its memory for as long as it lives and which a driver keeps
//! until the device is done with it, or of a [`Lent`] page or packet, which it takes back no earlier;
//! and of registers. If a device does not stop when it is reset,
//! what it was told is never given back. Configuration space is written by [`crate::pci`] alone,
//! which switches memory regions, messages and bus mastering on, and never moves a region.
#![allow(unsafe_code, reason = "the fence of this guest around devices")]

#[cfg(target_os = "none")]
mod access;
mod buffer;
#[cfg(target_os = "none")]
pub mod grant;
#[cfg(not(target_os = "none"))]
pub(crate) mod model;
mod packet;
mod piece;
mod ram;

#[cfg(target_os = "none")]
pub use access::{ConfigurationPorts, serial_port};
#[cfg(target_os = "none")]
pub(crate) use access::{memory, ports};
pub use buffer::Buffer;
pub use packet::{Lent, PacketPage, PacketPages};
pub use piece::Piece;
pub use ram::Ram;
