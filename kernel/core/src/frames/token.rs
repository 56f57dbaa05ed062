//! References to frames, held by Rust code.
//!
//! One token is one count. Tokens can't be copied: each is put back exactly once, or becomes a
//! page-table entry, which holds the count from then on. The pairs [`FrameRef::into_entry`] and
//! [`FrameRef::from_entry`], [`TypeRef::into_entry`] and [`TypeRef::from_entry`] are the only places
//! where counts cross between Rust values and memory; what they promise is checked by
//! the audit of the fake machine, which counts all entries of all tables from scratch.

use hypercall_abi::types::Mfn;

use super::word::FrameType;

/// A reference that keeps a frame with its owner, whatever it is used as.
#[must_use = "a reference must be put back or become an entry"]
#[derive(Debug)]
pub struct FrameRef {
    mfn: Mfn,
}

impl FrameRef {
    pub(super) const fn new(mfn: Mfn) -> Self {
        Self { mfn }
    }

    /// The frame.
    #[must_use]
    pub const fn mfn(&self) -> Mfn {
        self.mfn
    }

    /// The count goes into an entry, or another place outside Rust's sight, that the caller writes
    /// now.
    #[must_use]
    pub const fn into_entry(self) -> Mfn {
        self.mfn
    }

    /// The count comes out of an entry that the caller has just removed, or could just as well have
    /// removed: nobody else will take it out.
    pub const fn from_entry(mfn: Mfn) -> Self {
        Self { mfn }
    }
}

/// A reference that also keeps the frame's type.
#[must_use = "a reference must be put back or become an entry"]
#[derive(Debug)]
pub struct TypeRef {
    mfn: Mfn,
    frame_type: FrameType,
}

impl TypeRef {
    pub(super) const fn new(mfn: Mfn, frame_type: FrameType) -> Self {
        Self { mfn, frame_type }
    }

    /// The frame.
    #[must_use]
    pub const fn mfn(&self) -> Mfn {
        self.mfn
    }

    /// What the frame is as long as this exists.
    #[must_use]
    pub const fn frame_type(&self) -> FrameType {
        self.frame_type
    }

    /// The count goes into an entry, a pin or a root, that the caller writes now.
    #[must_use]
    pub const fn into_entry(self) -> Mfn {
        self.mfn
    }

    /// The count comes out of an entry, a pin or a root that the caller has just removed.
    pub const fn from_entry(mfn: Mfn, frame_type: FrameType) -> Self {
        Self { mfn, frame_type }
    }
}
