//! `grant_table_op`: letting another domain map or copy a page. Version 1 of the table.

use crate::types::{DomId, GrantHandle, GrantRef};

pub use crate::ops::grant::*;

/// First entries of a table that the builder and the tools use.
pub const RESERVED_ENTRIES: u32 = 8;
/// The entry for the console ring.
pub const RESERVED_CONSOLE: GrantRef = GrantRef(0);
/// The entry for the xenstore ring.
pub const RESERVED_XENSTORE: GrantRef = GrantRef(1);
/// Entries in one frame of a version-1 table.
pub const ENTRIES_PER_FRAME: u32 = 512;

bitflags::bitflags! {
    /// State and limits of an entry ([`GrantEntryV1::flags`]).
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct EntryState: u16 {
        /// The domain named may use the page. Kinds are a field of two bits.
        const PERMIT_ACCESS = 1;
        /// The domain named may give a page.
        const ACCEPT_TRANSFER = 2;
        /// The bits that are the kind of entry; all of them: a grant of a grant.
        const TYPE_MASK = 3;
        /// Only for reading.
        const READONLY = 1 << 2;
        /// Set by the hypervisor: in use for reading.
        const READING = 1 << 3;
        /// Set by the hypervisor: in use for writing.
        const WRITING = 1 << 4;
        /// Part of the page's memory type.
        const PWT = 1 << 5;
        /// Part of the page's memory type.
        const PCD = 1 << 6;
        /// Part of the page's memory type.
        const PAT = 1 << 7;
        /// Only part of the page. Version 2.
        const SUB_PAGE = 1 << 8;
    }
}

bitflags::bitflags! {
    /// How to map ([`MapGrantRef::flags`]). Bits 16 on become the entry's bits left to software.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct MapFlags: u32 {
        /// For devices.
        const DEVICE_MAP = 1 << 0;
        /// For the caller's CPUs.
        const HOST_MAP = 1 << 1;
        /// Only for reading.
        const READONLY = 1 << 2;
        /// For the guest's user mode too.
        const APPLICATION_MAP = 1 << 3;
        /// `host_addr` is the machine address of the page-table entry to write.
        const CONTAINS_PTE = 1 << 4;
        /// Bits for software.
        const GUEST_AVAIL_MASK = 0xffff << 16;
    }
}

/// [`GrantCopy::flags`]: the source is a grant.
pub const COPY_SOURCE_GREF: u16 = 1 << 0;
/// [`GrantCopy::flags`]: the destination is a grant.
pub const COPY_DEST_GREF: u16 = 1 << 1;

numbers! {
    /// Every result of one operation, with its C name.
    RESULTS: i16 {
        OKAY = 0, "GNTST_okay", "Done.";
        GENERAL_ERROR = -1, "GNTST_general_error", "Failed for no reason listed here.";
        BAD_DOMAIN = -2, "GNTST_bad_domain", "No such domain.";
        BAD_GNTREF = -3, "GNTST_bad_gntref", "No such entry, or not granted to the caller.";
        BAD_HANDLE = -4, "GNTST_bad_handle", "No such mapping.";
        BAD_VIRT_ADDR = -5, "GNTST_bad_virt_addr", "The address can't be mapped at.";
        BAD_DEV_ADDR = -6, "GNTST_bad_dev_addr", "The device address is wrong.";
        NO_DEVICE_SPACE = -7, "GNTST_no_device_space", "No room in the I/O translation.";
        PERMISSION_DENIED = -8, "GNTST_permission_denied", "The caller may not.";
        BAD_PAGE = -9, "GNTST_bad_page", "The page is of the wrong kind.";
        BAD_COPY_ARG = -10, "GNTST_bad_copy_arg", "The copy would leave a page.";
        ADDRESS_TOO_BIG = -11, "GNTST_address_too_big", "The frame is beyond what was asked for.";
        EAGAIN = -12, "GNTST_eagain", "Not now; try again.";
        NO_SPACE = -13, "GNTST_no_space", "A table is full.";
    }
}

abi_structs! {
    /// One entry of the table in shared memory (read and written whole only when not in use).
    GrantEntryV1 = "struct grant_entry_v1", size 8, align 4 {
        /// See [`EntryState`].
        0 flags: u16,
        /// Who may use the page.
        2 domid: DomId,
        /// The machine frame granted.
        4 frame: u32,
    }

    /// Argument of [`MAP_GRANT_REF`].
    MapGrantRef = "struct gnttab_map_grant_ref", size 32, align 8 {
        /// In: virtual address to map at, or the machine address of an entry.
        0 host_addr: u64,
        /// In: see [`MapFlags`].
        8 flags: u32,
        /// In: the entry.
        12 grant_ref: GrantRef = "ref",
        /// In: whose.
        16 dom: DomId,
        /// Out: one of [`RESULTS`].
        18 status: i16,
        /// Out: name of the mapping.
        20 handle: GrantHandle,
        /// Out: machine address of the page. Unit: bytes.
        24 dev_bus_addr: u64,
    }

    /// Argument of [`UNMAP_GRANT_REF`].
    UnmapGrantRef = "struct gnttab_unmap_grant_ref", size 24, align 8 {
        /// In: where it is mapped, or 0.
        0 host_addr: u64,
        /// In: the device mapping, or 0.
        8 dev_bus_addr: u64,
        /// In: the mapping.
        16 handle: GrantHandle,
        /// Out: one of [`RESULTS`].
        20 status: i16,
        /// No meaning.
        22 pad: u16 = "",
    }

    /// Argument of [`UNMAP_AND_REPLACE`].
    UnmapAndReplace = "struct gnttab_unmap_and_replace", size 24, align 8 {
        /// In: where it is mapped.
        0 host_addr: u64,
        /// In: the address whose entry takes its place.
        8 new_addr: u64,
        /// In: the mapping.
        16 handle: GrantHandle,
        /// Out: one of [`RESULTS`].
        20 status: i16,
        /// No meaning.
        22 pad: u16 = "",
    }

    /// Argument of [`SETUP_TABLE`].
    SetupTable = "struct gnttab_setup_table", size 24, align 8 {
        /// In: whose table.
        0 dom: DomId,
        /// No meaning.
        2 pad0: u16 = "",
        /// In: how many frames it shall have.
        4 nr_frames: u32,
        /// Out: one of [`RESULTS`].
        8 status: i16,
        /// No meaning.
        10 pad1: [u16; 3] = "",
        /// In: guest address of an array for the machine frames (`u64`).
        16 frame_list: u64,
    }

    /// Argument of [`DUMP_TABLE`].
    DumpTable = "struct gnttab_dump_table", size 4, align 2 {
        /// In: whose table.
        0 dom: DomId,
        /// Out: one of [`RESULTS`].
        2 status: i16,
    }

    /// Argument of [`QUERY_SIZE`].
    QuerySize = "struct gnttab_query_size", size 16, align 4 {
        /// In: whose table.
        0 dom: DomId,
        /// No meaning.
        2 pad0: u16 = "",
        /// Out: frames it has.
        4 nr_frames: u32,
        /// Out: frames it may have.
        8 max_nr_frames: u32,
        /// Out: one of [`RESULTS`].
        12 status: i16,
        /// No meaning.
        14 pad1: u16 = "",
    }

    /// One end of a copy.
    CopyPtr = "struct gnttab_copy_ptr", size 16, align 8 {
        /// An entry (lower half) or a machine frame: [`GrantCopy::flags`] decides.
        0 page: u64 = "u",
        /// Whose.
        8 domid: DomId,
        /// Where in the page. Unit: bytes.
        10 offset: u16,
        /// No meaning.
        12 pad: u32 = "",
    }

    /// Argument of [`COPY`].
    GrantCopy = "struct gnttab_copy", size 40, align 8 {
        /// In: from where.
        0 source: CopyPtr,
        /// In: to where.
        16 dest: CopyPtr,
        /// In: how much. Unit: bytes.
        32 len: u16,
        /// In: [`COPY_SOURCE_GREF`], [`COPY_DEST_GREF`].
        34 flags: u16,
        /// Out: one of [`RESULTS`].
        36 status: i16,
        /// No meaning.
        38 pad: u16 = "",
    }

    /// Argument of [`TRANSFER`].
    Transfer = "struct gnttab_transfer", size 24, align 8 {
        /// In: the machine frame to give.
        0 mfn: u64,
        /// In: to whom.
        8 domid: DomId,
        /// No meaning.
        10 pad0: u16 = "",
        /// In: by which entry.
        12 grant_ref: GrantRef = "ref",
        /// Out: one of [`RESULTS`].
        16 status: i16,
        /// No meaning.
        18 pad1: [u16; 3] = "",
    }

    /// Argument of [`SET_VERSION`].
    SetVersion = "struct gnttab_set_version", size 4, align 4 {
        /// In: version wanted. Out: version now.
        0 version: u32,
    }

    /// Argument of [`GET_VERSION`].
    GetVersion = "struct gnttab_get_version", size 8, align 4 {
        /// In: whose table.
        0 dom: DomId,
        /// No meaning.
        2 pad: u16 = "pad",
        /// Out: its version.
        4 version: u32,
    }

    /// Argument of [`GET_STATUS_FRAMES`].
    GetStatusFrames = "struct gnttab_get_status_frames", size 16, align 8 {
        /// In: how many frames.
        0 nr_frames: u32,
        /// In: whose table.
        4 dom: DomId,
        /// Out: one of [`RESULTS`].
        6 status: i16,
        /// In: guest address of an array for frames (`u64`).
        8 frame_list: u64,
    }

    /// Argument of [`SWAP_GRANT_REF`].
    SwapGrantRef = "struct gnttab_swap_grant_ref", size 12, align 4 {
        /// In: one entry.
        0 ref_a: GrantRef,
        /// In: the other.
        4 ref_b: GrantRef,
        /// Out: one of [`RESULTS`].
        8 status: i16,
        /// No meaning.
        10 pad: u16 = "",
    }

    /// Argument of [`CACHE_FLUSH`].
    CacheFlush = "struct gnttab_cache_flush", size 16, align 8 {
        /// In: a machine address, or an entry (lower half).
        0 target: u64 = "a",
        /// In: where in the page. Unit: bytes.
        8 offset: u16,
        /// In: how much. Unit: bytes.
        10 length: u16,
        /// In: bit 0: write back; bit 1: discard; bit 31: the target is an entry.
        12 op: u32,
    }
}
