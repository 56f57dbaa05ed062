//! What can go wrong.

use core::error::Error;
use core::fmt;

use crate::format::{KEY, VALUE};

/// Why a change is not made. Nothing has happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The key is empty, or longer than [`KEY`].
    Key,
    /// The value is longer than [`VALUE`].
    Value,
    /// There is no room on the disk, or in memory. Deleting makes some.
    Full,
    /// There is no room in this batch, but in the next.
    Later,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => write!(f, "a key has 1 to {KEY} bytes"),
            Self::Value => write!(f, "a value has {VALUE} bytes at most"),
            Self::Full => f.write_str("the store is full: nothing was changed"),
            Self::Later => f.write_str("the batch is full"),
        }
    }
}

impl Error for Refusal {}

/// Why a store is of no use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoreError<E> {
    /// The disk says so.
    Disk(E),
    /// The disk has too few sectors, or fewer than when it was formatted.
    Small,
    /// Its sectors are larger than when it was formatted, or larger than 4096 bytes.
    Sectors,
    /// The disk holds something else, and was not to be formatted.
    Foreign,
    /// What must be on the disk is not there: the byte where it is missed.
    Damaged(u64),
    /// There are more keys and values than this machine has memory for.
    Memory,
    /// An earlier commit failed or was dropped, or one is under way: what is on the disk has to be
    /// read again.
    Failed,
}

impl<E> From<E> for StoreError<E> {
    fn from(error: E) -> Self {
        Self::Disk(error)
    }
}

impl<E: fmt::Display> fmt::Display for StoreError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => write!(f, "the disk: {error}"),
            Self::Small => f.write_str("the disk is too small"),
            Self::Sectors => f.write_str("the disk's sectors are too large"),
            Self::Foreign => {
                f.write_str("the disk holds something else: say `format` to lose that")
            }
            Self::Damaged(at) => write!(f, "the store is damaged at byte {at} of the disk"),
            Self::Memory => f.write_str("the memory is too small for what is on the disk"),
            Self::Failed => f.write_str("the disk has failed: start again"),
        }
    }
}

impl<E: Error> Error for StoreError<E> {}
