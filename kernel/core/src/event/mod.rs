//! Event channels: ports by which domains, vCPUs and virtual interrupts signal each other.
//!
//! A domain has a table of ports ([`Ports`]); what each is connected to stands under a lock of its
//! own (`channel.rs`). `binding.rs` makes and connects them, `closing.rs` takes them apart, `send.rs`
//! is the fast path, `virq.rs` the way of the kernel's own signals, and `pending.rs` the one place
//! that changes the bits a guest sees. All of it are methods of [`System`](crate::system::System).
//!
//! A connected port holds a reference to its peer's domain, and at any time:
//!
//! - If A is connected to B, then B is connected to A, or it is closed but not free again. So while
//!   somebody holds A's lock, B's number is nobody else's.
//! - A port that is closed becomes free, for others to take, only after its peer no longer names it.
//!   Who signals by the peer holds the peer's lock meanwhile: nothing is raised at a port after that.
//!
//! Binding a new port A to B holds both their locks, by their domains' numbers and then by their
//! own, and is the only operation that holds two. Closing A goes step by step: mark A closed and
//! take the peer out; under B's lock, if B is connected to A, mark it unbound; clear A's pending
//! bit; make A free. When both ends are closed at once each finds the other closed, or already
//! something else, which is not connected to it.

mod binding;
mod channel;
mod closing;
#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod model;
mod pending;
mod pirq;
mod send;
mod table;
#[cfg(test)]
mod tests;
mod virq;
#[cfg(test)]
pub(crate) mod world;

pub use binding::Status;
pub use closing::Swept;
pub use table::Ports;
pub use virq::VirqPorts;
