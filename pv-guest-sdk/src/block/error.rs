//! What can go wrong with a disk.

use core::fmt;

use hypercall_abi::blkif;

use crate::error::HypercallError;
use crate::grant::GrantError;
use crate::xenbus::State;
use crate::xenstore::StoreError;

/// What the back end did that no back end may do.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{block::{Breach, DiskError}, println};
/// # fn example(error: &DiskError) {
/// if let DiskError::Broken(Breach::Answer(number)) = error {
///     println!("the back end answers request {number}, which it was not shown");
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Breach {
    /// It answered more than was asked.
    Indices,
    /// It answered a request that is not under way (the answer's number).
    Answer(u64),
    /// The answer is not of the request's operation (the answer's).
    Operation(u8),
    /// The answer has a status that there is not.
    Status(i16),
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Indices => f.write_str("more answers than requests"),
            Self::Answer(id) => write!(f, "an answer to {id:#x}, which is not under way"),
            Self::Operation(operation) => write!(f, "an answer of operation {operation}"),
            Self::Status(status) => write!(f, "an answer of status {status}"),
        }
    }
}

/// Why a disk cannot be opened, or a request was not carried out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DiskError {
    /// The store.
    Store(StoreError),
    /// Memory, or the grant table.
    Grant(GrantError),
    /// The hypervisor refused a port.
    Hypercall(HypercallError),
    /// The back end is in this state, and will not connect.
    Refused(State),
    /// The back end has published what cannot be (the node).
    Form(&'static str),
    /// Not a whole number of the disk's sectors, or none.
    Unaligned,
    /// Behind the disk's end.
    Range,
    /// The disk can't be written.
    ReadOnly,
    /// The disk has no such operation.
    Unsupported,
    /// The back end did not do it: operation, sector (of 512 bytes), status.
    Failed(&'static str, u64, i16),
    /// The back end broke the protocol. The disk is of no use after it.
    Broken(Breach),
    /// The back end is closed or gone.
    Gone,
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => write!(f, "{error}"),
            Self::Grant(error) => write!(f, "{error}"),
            Self::Hypercall(error) => write!(f, "{error}"),
            Self::Refused(state) => write!(f, "the disk's back end is {state}"),
            Self::Form(node) => write!(f, "the disk's back end has published no valid {node}"),
            Self::Unaligned => f.write_str("not a whole number of the disk's sectors, or none"),
            Self::Range => f.write_str("behind the end of the disk"),
            Self::ReadOnly => f.write_str("the disk can't be written"),
            Self::Unsupported => f.write_str("the disk has no such operation"),
            Self::Failed(operation, sector, status) => {
                let known = blkif::STATUSES.iter().find(|(_, known)| known == status);
                let name = known.map_or("?", |&(name, _)| name);
                write!(f, "{operation} at sector {sector} = {status} ({name})")
            }
            Self::Broken(breach) => write!(f, "the disk's back end broke the protocol: {breach}"),
            Self::Gone => f.write_str("the disk's back end is gone"),
        }
    }
}

impl core::error::Error for DiskError {}

impl From<StoreError> for DiskError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<GrantError> for DiskError {
    fn from(error: GrantError) -> Self {
        Self::Grant(error)
    }
}

impl From<HypercallError> for DiskError {
    fn from(error: HypercallError) -> Self {
        Self::Hypercall(error)
    }
}
