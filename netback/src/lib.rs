//! The network back end: packets from and to hostile rings, and a switch between them.
//!
//! [`Device`] is one network device of one front end: its states in xenstore and, while a front end
//! is connected, its two rings. [`Switch`] carries packets between its ports: devices, a physical
//! card, this domain's own stack. The crate decides; it reaches the world through traits that its
//! owner implements, in the initial domain by hypercalls and in tests by a model: [`Guest`] is the
//! front end's pages and event channels, [`Pool`] and [`Buffer`] are pages of this domain's own, and
//! [`Nodes`] reads xenstore. What is to be written there, and when the rings are to be mapped, comes
//! back as [`Effect`]s.
//!
//! ```ignore
//! let switch = RefCell::new(Switch::new(pool));
//! let rules = Rules { address: Mac::parse(&mac), is_strict: true, ..Rules::default() };
//! let port = switch.borrow_mut().add(rules)?;
//! let mut device = Device::new(port, Limits::default());
//! device.changed(&nodes);
//! loop {
//!     for effect in device.effects() {
//!         match effect {
//!             Effect::Write(name, value) => write(name, value),
//!             Effect::Report(error) => report(error),
//!             Effect::Attach(parameters) => device.attached(attach(parameters)),
//!             Effect::Remove => return switch.borrow_mut().remove(port),
//!         }
//!     }
//!     match either(watches.next(), poll_fn(|cx| device.poll(&mut switch.borrow_mut(), cx))).await {
//!         Changed => device.changed(&nodes),
//!         Effects => {}
//!     }
//! }
//! ```
//!
//! Everything a front end writes is hostile: nodes, indices, slots, extra infos, packets. Each is
//! copied once and then checked. A packet that may not be is answered with an error and goes
//! nowhere; indices that cannot be end the connection. What waits for a port is limited by its
//! [`Rules`], what one turn does by [`Limits`], and what a front end sends by the node `rate`.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

extern crate alloc;

mod device;
mod guest;
mod headers;
mod nodes;
pub mod offload;
mod packet;
mod queue;
mod rate;
mod rx;
mod switch;
mod tx;

pub use backend::Nodes;
pub use device::{Attachment, Device, Effect};
pub use guest::{Copy, Direction, Guest, Piece, Side};
pub use headers::Headers;
pub use nodes::{Parameters, Ports};
pub use packet::{Buffer, Checksum, Family, Packet, Pool, Segmentation};
pub use queue::Limits;
pub use shared_ring::{RingError, Words};
pub use switch::{Counters, Flow, Mac, PortId, Rules, Switch, Takes};
