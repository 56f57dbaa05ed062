//! Memory and page tables.
//!
//! A guest's memory beyond what the loader mapped is handed out as owned `Frame`s, zeroed.
//! `Memory::map` turns a frame into a `Mapping` at an address of the kernel's choice, and
//! `Space` is an address space for user mode. A frame that is mapped belongs to its mapping, and
//! comes back when that ends: what a Rust reference sees is never mapped elsewhere.
//!
//! ```no_run,ignore-gnu
//! # use pv_guest_sdk::{BootInfo, paging::{Access, Frame, Memory, Page}};
//! # #[derive(Debug)] struct Failed;
//! # impl<T: core::fmt::Display> From<T> for Failed { fn from(_: T) -> Self { Self } }
//! # fn example(boot: &BootInfo<'static>) -> Result<(), Failed> {
//! let memory = Memory::start(boot)?;
//! let mut mapping = memory.map(Page::at(0x1000_0000).unwrap(), Frame::new()?, Access::WRITE)?;
//! mapping.store(0, 42)?;
//! mapping.protect(Access::empty())?;
//! assert!(mapping.store(0, 43).is_err());    // if the page fault's handler gives it up
//! let frame = mapping.unmap()?;
//! # Ok(())
//! # }
//! ```
//!
//! Machine frames are in page tables and in the list of frames alone; all else speaks of this
//! guest's own page numbers. Every frame the SDK hands out has one fixed address in the kernel's
//! half, so tables can be read without a hypercall.

mod entry;
mod error;
mod page;
#[cfg(any(target_os = "none", test))]
mod pool;

pub use entry::{Access, Entry, Mode};
pub use error::MemoryError;
pub use page::Page;
#[cfg(target_os = "none")]
pub(crate) use pool::Pool;

#[cfg(target_os = "none")]
pub use crate::raw::memory::{Frame, Mapping, Memory, Space, Table, Walk};
