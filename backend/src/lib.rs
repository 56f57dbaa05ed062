//! The life of a device's back end, of whatever kind: its states and the front end's, and their
//! nodes in xenstore.
//!
//! [`Life`] decides what follows from where both ends are; what is particular to disks or to
//! networks is their [`Kind`]. Both read xenstore through [`Nodes`], which the owner implements, and
//! what is to be done comes back as [`Effect`]s. What front ends write is hostile: it is checked
//! here, and an error that quotes it garbles no log.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

extern crate alloc;

mod life;
mod nodes;

pub use life::{Effect, Kind, Life};
pub use nodes::{Nodes, decimal, quoted};
