//! Why a disk did not do what it was asked.

use core::fmt;

use pv_guest_sdk::device::DeviceError;

use crate::virtio::{QueueError, TransportError};

/// Why a disk did not do what it was asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DiskError {
    /// Sectors behind its end.
    Range,
    /// It is not to be written.
    ReadOnly,
    /// A piece, or the first sector, is not a multiple of the sector size; or there is no piece.
    Unaligned,
    /// It cannot do this.
    Unsupported,
    /// The device says that it failed.
    Failed,
    /// The device answers with a status that is none.
    Status(u8),
    /// The device wrote less than what it was asked for; bytes.
    Short(u32),
    /// The device broke the rules of its queue, and is not used any more.
    Queue(QueueError),
    /// The device broke the rules before.
    Broken,
    /// The device cannot be used.
    Transport(TransportError),
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range => f.write_str("sectors behind the end of the disk"),
            Self::ReadOnly => f.write_str("the disk is read-only"),
            Self::Unaligned => f.write_str("not a number of whole sectors"),
            Self::Unsupported => f.write_str("the disk cannot do this"),
            Self::Failed => f.write_str("the device failed"),
            Self::Status(status) => write!(f, "the device answered with status {status}"),
            Self::Short(length) => write!(f, "the device wrote {length} bytes only"),
            Self::Queue(error) => write!(f, "{error}"),
            Self::Broken => f.write_str("the device does not keep to the rules"),
            Self::Transport(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for DiskError {}

impl From<TransportError> for DiskError {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

impl From<DeviceError> for DiskError {
    fn from(error: DeviceError) -> Self {
        Self::Transport(error.into())
    }
}
