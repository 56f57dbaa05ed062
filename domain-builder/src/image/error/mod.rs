//! Why an image can't be a guest: each reason one sentence that says what to do about it.
mod file;
mod note;
mod place;
mod segment;

use core::fmt;

pub use self::file::FileError;
pub use self::note::NoteError;
pub use self::place::{Part, PlaceError};
pub use self::segment::SegmentError;

/// Why a file can't be booted as a 64-bit PV guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ImageError {
    /// It is not the right kind of file.
    File(FileError),
    /// Its segments can't be loaded.
    Segment(SegmentError),
    /// Its notes don't make it a PV guest.
    Note(NoteError),
    /// Its addresses don't fit together.
    Place(PlaceError),
}

impl core::error::Error for ImageError {}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Segment(error) => error.fmt(f),
            Self::Note(error) => error.fmt(f),
            Self::Place(error) => error.fmt(f),
        }
    }
}

impl From<FileError> for ImageError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl From<SegmentError> for ImageError {
    fn from(error: SegmentError) -> Self {
        Self::Segment(error)
    }
}

impl From<NoteError> for ImageError {
    fn from(error: NoteError) -> Self {
        Self::Note(error)
    }
}

impl From<PlaceError> for ImageError {
    fn from(error: PlaceError) -> Self {
        Self::Place(error)
    }
}
