//! Event channels: ports by which domains, virtual CPUs and interrupts signal each other.
//!
//! A `Channel` is an owned port; dropping it closes the port. An event that comes is given to the
//! port's handler, if it has one, and to whoever waits: a virtual CPU in `Channel::wait`, a task in
//! `Channel::notified`. An event that nobody waited for is remembered until somebody does, once
//! however often it came.
//!
//! ```no_run,ignore-gnu
//! # use pv_guest_sdk::{HypercallError, event::Channel, println, vcpu::Vcpu};
//! # fn example(vcpu: &'static Vcpu) -> Result<(), HypercallError> {
//! vcpu.start_events()?;
//! let channel = Channel::ipi(vcpu.id())?;
//! channel.handle(&|port| println!("an event at port {}", port.0));
//! channel.send()?;
//! # Ok(())
//! # }
//! ```
//!
//! A handler runs on the virtual CPU that the port notifies, at any instruction, with events held
//! back. It must not wait: of the locks, [`crate::lock::Held`] alone is for handlers.

#[cfg(target_os = "none")]
mod channel;
pub mod port;
#[cfg(any(test, target_os = "none"))]
mod scan;
mod signal;

#[cfg(target_os = "none")]
pub use channel::{Channel, Handler, Notified};
#[cfg(target_os = "none")]
pub(crate) use channel::{kick, on_upcall, prepare};
pub use port::{State, Status};
#[cfg(any(test, target_os = "none"))]
pub(crate) use scan::bits;
pub use signal::Signal;
