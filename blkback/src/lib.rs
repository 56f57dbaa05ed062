//! The block back end: from a hostile ring to requests for a disk, and back.
//!
//! [`Device`] is one disk of one front end: its states in xenstore and, while a front end is
//! connected, its ring. The crate decides; it reaches the world through three traits that its owner
//! implements, in the initial domain by hypercalls and in tests by a model: [`Guest`] is the front
//! end's pages and event channel, [`Disk`] takes commands and completes them in any order, and
//! [`Nodes`] reads xenstore. What is to be written there, and when the ring is to be mapped, comes
//! back as [`Effect`]s.
//!
//! ```ignore
//! let mut device = Device::new(disk, Limits::default(), persistent);
//! device.changed(&nodes);
//! loop {
//!     for effect in device.effects() {
//!         match effect {
//!             Effect::Write(name, value) => write(name, value),
//!             Effect::Report(error) => report(error),
//!             Effect::Attach(parameters) => device.attached(attach(parameters)),
//!             Effect::Remove => return,
//!         }
//!     }
//!     match either(watches.next(), poll_fn(|cx| device.poll(cx))).await {
//!         Changed => device.changed(&nodes),
//!         Effects => {}
//!     }
//! }
//! ```
//!
//! Everything a front end writes is hostile: nodes, indices, requests, lists of segments. Each is
//! copied once and then checked. A request that may not be is answered with an error and moves no
//! data; indices that cannot be end the connection. What a front end can make the back end keep is
//! limited by [`Limits`] and by the ring's slots, and what one turn does by [`Limits::turn`].
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

extern crate alloc;

mod cache;
mod device;
mod disk;
mod flight;
mod guest;
mod nodes;
mod queue;
mod request;
mod ring;

pub use backend::Nodes;
pub use device::{Attachment, Device, Effect};
pub use disk::{Admission, Command, Discard, Disk, DiskError, Geometry, Ticket};
pub use guest::{Direction, Guest, PageCopy};
pub use nodes::Parameters;
pub use queue::Limits;
pub use ring::{Block, Ring};
pub use shared_ring::{RingError, Words};
