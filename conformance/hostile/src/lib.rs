//! Guests that attack the hypervisor under them (`docs/src/hostile.md`).
//!
//! `fuzz` makes wild hypercalls by the million, `attack` tries named tricks, `heartbeat` is the
//! neighbour that must not notice. [`raw`] is the fence, [`land`] what such a guest has of its own.
#![no_std]

pub mod fuzz;
pub mod land;
pub mod random;
pub mod raw;
pub mod slate;

/// What the neighbour's memory is full of, and nobody else may see.
pub const SECRET: u64 = 0x5ec7_e75e_c7e7_0bad;
