//! The guest's memory: where every page is, which are free, and the tables that map them.
//!
//! The invariant of this module: a page of the pool is in exactly one of these states, and only
//! the owner of the state reads or writes it.
//!
//! - free: its first word is the pool's;
//! - a [`Frame`]: a Rust value owns it, and references come from that value alone;
//! - a page table: mapped for reading alone at its home, changed by hypercalls of this module;
//! - mapped by a [`Mapping`] or a [`Space`]: no Rust reference exists to it. It is read and
//!   written by single instructions of assembly that Rust knows nothing of.
//!
//! A page's home is its address in the kernel's half: where the loader mapped it, or in a map of
//! all other pages that this module makes.

mod contiguous;
mod frame;
mod kernel;
mod layout;
mod pinned;
mod space;
pub(super) mod tables;

pub(super) use contiguous::Run;
pub use frame::Frame;
pub use kernel::{Mapping, Memory};
pub(super) use kernel::{hook, map_kept};
pub(super) use layout::{pointer, root};
pub use pinned::Table;
pub use space::Space;
pub use tables::Walk;
