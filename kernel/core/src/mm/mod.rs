//! What a guest may do with memory: page tables, descriptors, its reservation.
//!
//! Guests write their own page tables, with machine frame numbers in them, but never directly: a
//! frame that is a page table is not writable to its owner, and each entry is checked here before it
//! is written. [`crate::frames`] counts; this module says what an entry must be like and what it
//! counts as.
//!
//! - [`entry`]: the bits of one entry, pure;
//! - [`tables`]: checking a whole table and its children, and undoing it, in pieces;
//! - [`change`]: replacing one entry;
//! - [`direct`]: writes to tables that fault, and become updates;
//! - [`update`], [`ext`], [`reservation`], [`descriptor`]: the hypercalls.
//!
//! What Linux people call a linear page table, a table that refers to one of its own level, does
//! not exist here: an entry of level n refers to level n - 1 only. So a table never waits for itself,
//! and recursion is at most four deep.

pub mod batch;
pub mod change;
pub mod descriptor;
pub mod direct;
pub mod entry;
mod exchange;
pub mod ext;
pub mod granted;
pub mod memory;
pub mod progress;
pub mod refusal;
mod release;
pub mod reservation;
pub mod roots;
pub mod tables;
#[cfg(test)]
mod tests;
pub mod update;
pub mod walk;

pub use batch::Batch;
pub(crate) use change::DEVICE_LIMIT;
pub use change::{Keep, Source};
pub use entry::{Entry, Level};
pub use ext::Ldt;
pub use granted::EntryAt;
pub use memory::DomainMemory;
pub use progress::{Budget, Progress, Stop};
pub use refusal::{Place, Refusal, Why};
pub use roots::{Mode, VcpuRoots};
pub use update::Rights;

use hypercall_abi::types::Mfn;

use crate::frames::{FrameOwners, Frames, Owner};
use crate::platform::Platform;

/// The memory of one domain, together with the machine: what all operations here are methods of.
#[derive(Debug)]
pub struct Mm<'a, P, O> {
    /// The machine.
    pub platform: &'a P,
    /// The domain whose tables are worked on.
    pub memory: &'a DomainMemory,
    /// Its frames, and everybody's.
    pub frames: Frames<'a, P, O>,
}

impl<P, O> Clone for Mm<'_, P, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P, O> Copy for Mm<'_, P, O> {}

impl<'a, P: Platform, O: FrameOwners> Mm<'a, P, O> {
    /// Works on the tables of `memory`'s domain.
    pub const fn new(platform: &'a P, memory: &'a DomainMemory, owners: &'a O) -> Self {
        Self { platform, memory, frames: Frames::new(platform, owners) }
    }

    /// The same for another domain's tables.
    pub(crate) const fn on<'b>(&'b self, memory: &'b DomainMemory) -> Mm<'b, P, O> {
        Mm { platform: self.platform, memory, frames: self.frames }
    }

    fn owner(&self) -> Owner<'a> {
        self.memory.as_owner()
    }

    fn owns(&self, mfn: Mfn) -> bool {
        self.frames.is_owner(mfn, self.memory.id())
    }
}
