//! What the back end asks of a disk.

use core::task::{Context, Poll};

/// What a disk is like. It does not change while the disk is served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Geometry {
    /// How large it is. Unit: sectors of 512 bytes.
    pub sectors: u64,
    /// What it can read and write alone: a power of two of at least 512. Unit: bytes.
    pub sector_size: u32,
    /// What it can write without reading first: a multiple of `sector_size`. Unit: bytes.
    pub physical_sector_size: u32,
    /// Whether it can't be written.
    pub read_only: bool,
    /// Whether it has a cache that [`Command::Flush`] empties.
    pub flush: bool,
    /// How it discards, if it does.
    pub discard: Option<Discard>,
}

/// What a disk can discard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Discard {
    /// What it discards as a whole. Unit: bytes.
    pub granularity: u32,
    /// Where the first such whole begins. Unit: bytes.
    pub alignment: u32,
}

/// What a disk is to do. All ranges are within the disk and multiples of its sector size. `P` is
/// memory that takes part: each piece lies within one page, and begins and ends at a multiple of
/// the disk's sector size.
#[derive(Clone, Copy, Debug)]
pub enum Command<'a, P> {
    /// Sectors into memory.
    Read {
        /// The first sector. Unit: 512 bytes.
        sector: u64,
        /// Where to, in the disk's order. Their number is that of a request's segments at most.
        pieces: &'a [P],
    },
    /// Memory into sectors.
    Write {
        /// The first sector. Unit: 512 bytes.
        sector: u64,
        /// Where from, in the disk's order.
        pieces: &'a [P],
    },
    /// All writes that are completed survive a power cut when this completes. Only if
    /// [`Geometry::flush`].
    Flush,
    /// Forgets sectors, as many as it likes. Only if [`Geometry::discard`].
    Discard {
        /// The first sector. Unit: 512 bytes.
        sector: u64,
        /// How many; not 0.
        count: u64,
    },
}

/// Which command completed. Not in use again before that.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Ticket(pub u32);

/// Why a command failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DiskError {
    /// The device says so, or is gone. Some of the sectors may have been transferred.
    Failed,
    /// The device has no such command after all.
    Unsupported,
}

/// Whether a command was accepted.
#[must_use]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admission {
    /// It will complete.
    Accepted,
    /// There is no room; ask again after another of *this* disk's commands completed.
    ///
    /// A disk that shares its device with others must accept one command at least, or keep it,
    /// when none of its own is under way: nothing would make the back end ask again.
    Full,
}

/// A disk, or a part of one, that belongs to one device: commands go in, completions come out in
/// any order. `P` is the memory of [`crate::Guest::Piece`].
pub trait Disk<P> {
    /// What it is like.
    fn geometry(&self) -> Geometry;

    /// The memory of sectors from `sector` on, `most` or as many of those as lie in one page, and
    /// how many these are: for a disk that lies as a whole in this domain's memory. The back end
    /// then copies between it and the front end's pages, and asks for no transfers.
    fn resident(&self, sector: u64, most: u16) -> Option<(P, u16)> {
        let _ = (sector, most);
        None
    }

    /// Begins a command. The list of pieces is the caller's; the pieces are cloned for as long as
    /// the device may use them.
    fn submit(&mut self, ticket: Ticket, command: Command<'_, P>) -> Admission;

    /// The next completion; or it wakes the caller's task when there is one.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Ticket, Result<(), DiskError>)>;
}
