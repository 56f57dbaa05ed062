//! Who owns each frame of memory, and what it may be used as.
//!
//! The kernel trusts no page table of a guest. Instead it counts, for every frame, the references
//! that exist to it and those that depend on its being of one type, and lets the type change only
//! when the latter are none: a frame is never mapped writable and a page table at the same time.
//!
//! - [`word`]: the state of one frame, and its only transition function, pure;
//! - [`FrameTable`]: one [`FrameInfo`] per frame of memory, the frames of each domain, and the free
//!   ones;
//! - [`Frames`]: taking and putting back references, as tokens;
//! - [`epoch`]: which CPUs must be flushed before a frame changes its type or owner.
//!
//! What the contents of a page table must be like is decided in [`crate::mm`].

pub mod epoch;
#[cfg(test)]
mod interleavings;
mod kept;
mod owned;
mod pool;
mod references;
mod table;
#[cfg(test)]
mod tests;
mod token;
pub mod word;

pub use epoch::{DirtyCpus, Epochs, FlushDue};
pub use kept::{DeviceAccess, TooManyKept};
pub use owned::Link;
pub use pool::MAX_ORDER;
pub use references::{Begun, BusyFrame, FrameError, FrameOwners, Frames, Joined, Owner, Undo};
pub use table::{FrameInfo, FrameTable};
pub use token::{FrameRef, TypeRef};
pub use word::{FrameType, Validation};
