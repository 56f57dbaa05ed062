//! The block device's ring: requests for sectors of a disk, and their answers.
//!
//! The ring lies in one page or several that follow each other: [`SharedRing`]'s indices, then
//! slots of the size of a [`Request`]. A response takes the place of a request that was taken.

use crate::types::GrantRef;

/// What the ring's units of length and place are. Unit: bytes.
pub const SECTOR_SIZE: u32 = 512;
/// Segments in a request itself.
pub const DIRECT_SEGMENTS: u32 = 11;
/// Pages of segments that an indirect request can name.
pub const INDIRECT_PAGES: u32 = 8;
/// Segments in a page that an indirect request names.
pub const SEGMENTS_PER_PAGE: u32 = 512;
/// The most pages a ring has, as a power of two.
pub const MAX_RING_ORDER: u32 = 4;
/// Slots of a ring of 2^n pages, by n.
pub const RING_SLOTS: [u32; 5] = [32, 64, 128, 256, 512];
/// What precedes the first slot. Unit: bytes.
pub const RING_HEADER: u32 = 64;
/// Size of a slot. Unit: bytes.
pub const SLOT_SIZE: u32 = 112;
/// The layout of requests that 64-bit guests speak: the front end's node `protocol`.
pub const PROTOCOL: &str = "x86_64-abi";

numbers! {
    /// Every operation with its C name ([`Request::operation`]).
    OPERATIONS: u8 {
        READ = 0, "BLKIF_OP_READ", "From the disk to memory.";
        WRITE = 1, "BLKIF_OP_WRITE", "From memory to the disk.";
        WRITE_BARRIER = 2, "BLKIF_OP_WRITE_BARRIER", "A write that no other passes.";
        FLUSH = 3, "BLKIF_OP_FLUSH_DISKCACHE", "What was written survives a power cut.";
        RESERVED = 4, "BLKIF_OP_RESERVED_1", "Packets for a device; not in use.";
        DISCARD = 5, "BLKIF_OP_DISCARD", "Sectors whose content is not needed any more.";
        INDIRECT = 6, "BLKIF_OP_INDIRECT", "A read or write whose segments are in other pages.";
    }
}

numbers! {
    /// Every result with its C name ([`Response::status`]).
    STATUSES: i16 {
        STATUS_OKAY = 0, "BLKIF_RSP_OKAY", "Done.";
        STATUS_ERROR = -1, "BLKIF_RSP_ERROR", "Not done, or in part.";
        STATUS_NOT_SUPPORTED = -2, "BLKIF_RSP_EOPNOTSUPP", "The back end has no such operation.";
    }
}

numbers! {
    /// Every bit of the back end's node `info` with its C name.
    INFO: u32 {
        INFO_CDROM = 1, "VDISK_CDROM", "A CD drive.";
        INFO_REMOVABLE = 2, "VDISK_REMOVABLE", "The medium can be taken out.";
        INFO_READONLY = 4, "VDISK_READONLY", "Can't be written.";
    }
}

/// [`DiscardRequest::flag`]: no copy of the content may remain.
pub const DISCARD_SECURE: u8 = 1;

abi_structs! {
    /// A part of a page that takes part in a transfer.
    Segment = "struct blkif_request_segment", size 8, align 4 {
        /// The page.
        0 gref: GrantRef,
        /// The first sector of the page, 0 to 7.
        4 first_sect: u8,
        /// The last one, which takes part too; at most 7.
        5 last_sect: u8,
        /// Not used.
        6 pad: u16 = "",
    }

    /// What a slot holds: a read, write, barrier or flush, or in its first bytes one of the other
    /// two kinds.
    Request = "struct blkif_request", size 112, align 8 {
        /// One of [`OPERATIONS`].
        0 operation: u8,
        /// How many of `seg` there are.
        1 nr_segments: u8,
        /// The device's number in the front end; nobody needs it.
        2 handle: u16,
        /// Not used.
        4 pad: u32 = "",
        /// Chosen by the front end, repeated in the response.
        8 id: u64,
        /// Where on the disk. Unit: sectors of 512 bytes.
        16 sector_number: u64,
        /// Where in memory, in the disk's order.
        24 seg: [Segment; 11],
    }

    /// A [`Request`] with [`DISCARD`].
    DiscardRequest = "struct blkif_request_discard", size 32, align 8 {
        /// [`DISCARD`].
        0 operation: u8,
        /// [`DISCARD_SECURE`] or 0.
        1 flag: u8,
        /// As in [`Request`].
        2 handle: u16,
        /// Not used.
        4 pad: u32 = "",
        /// As in [`Request`].
        8 id: u64,
        /// As in [`Request`].
        16 sector_number: u64,
        /// How much. Unit: sectors of 512 bytes.
        24 nr_sectors: u64,
    }

    /// A [`Request`] with [`INDIRECT`].
    IndirectRequest = "struct blkif_request_indirect", size 64, align 8 {
        /// [`INDIRECT`].
        0 operation: u8,
        /// [`READ`] or [`WRITE`].
        1 indirect_op: u8,
        /// How many segments there are in all.
        2 nr_segments: u16,
        /// Not used.
        4 pad: u32 = "",
        /// As in [`Request`].
        8 id: u64,
        /// As in [`Request`].
        16 sector_number: u64,
        /// As in [`Request`].
        24 handle: u16,
        /// Not used.
        26 pad1: u16 = "",
        /// Pages full of [`Segment`]; as many as `nr_segments` needs.
        28 indirect_grefs: [GrantRef; 8],
        /// Not used.
        60 pad2: u32 = "",
    }

    /// The answer to a request.
    Response = "struct blkif_response", size 16, align 8 {
        /// The request's.
        0 id: u64,
        /// The request's.
        8 operation: u8,
        /// Zero, so that nothing leaks.
        9 pad: u8 = "",
        /// One of [`STATUSES`].
        10 status: i16,
        /// Zero, so that nothing leaks.
        12 pad1: u32 = "",
    }

    /// The ring in shared pages. Indices run on without end; a slot is an index's remainder of the
    /// number of slots. Both ends write: this type tells where things are, and is not for viewing.
    SharedRing = "struct blkif_sring", size 176, align 8 {
        /// How much the front end has put.
        0 req_prod: u32,
        /// The request, as a value of `req_prod`, of which the back end wants to hear.
        4 req_event: u32,
        /// How much the back end has put.
        8 rsp_prod: u32,
        /// The response, as a value of `rsp_prod`, of which the front end wants to hear.
        12 rsp_event: u32,
        /// Not used.
        16 pad: [u8; 48] = "",
        /// The first slot of [`RING_SLOTS`].
        64 first: Request = "ring[0]",
    }
}
