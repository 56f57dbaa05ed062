//! Keys and values on a disk whose power may fail at any time.
//!
//! [`Store`] keeps all of them in memory, and on a [`Disk`] a log of changes. [`Store::commit`] has put
//! a [`Batch`] of changes there for good when it returns; after a failure at any other time either all
//! of a batch is there or nothing. [`Store::open`] reads the log, and says in [`Recovery`] what it
//! found. [`request`] reads what clients ask for.
//!
//! # On the disk
//!
//! | byte | |
//! |---|---|
//! | 0, 4096 | headers: one of them is in use, the other is zero or was not finished |
//! | 8192 | the first area |
//! | 8192 + its length | the second area |
//!
//! A header has a generation, one more each time; an even one uses the first header and area, an odd
//! one the second. Its log begins with all keys as they were when the generation began. When the area
//! is full the next generation is written to the other area, then flushed, then its header, then
//! flushed; only now is anything of the old one given up.
//!
//! A record is a batch. It fills whole sectors of the disk, and no other record comes before it is
//! flushed, so that only the last can be torn. It names its number and the generation's salt, which
//! nobody has used before: what an earlier generation has left behind is never taken for a record. A
//! checksum covers all of it.
//! What must be there and is not, such as the records a header counts or one that a later record follows,
//! is [`StoreError::Damaged`]: no crash explains it.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod batch;
mod error;
mod format;
mod replay;
pub mod request;
mod store;
mod table;

pub use batch::{Batch, Change};
pub use error::{Refusal, StoreError};
pub use format::{KEY, LEAST, SECTOR, VALUE};
pub use replay::{Format, Options, Recovery};
pub use store::{Counts, Disk, Store};
