//! `grant_table_op`: letting another domain map or copy a page. Version 1 of the table.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

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

/// One entry of the table in shared memory (read and written whole only when not in use).
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct GrantEntryV1 {
    /// See [`EntryState`].
    pub flags: u16,
    /// Who may use the page.
    pub domid: DomId,
    /// The machine frame granted.
    pub frame: u32,
}

abi_layout! { GrantEntryV1 = "struct grant_entry_v1", size 8, align 4 {
    flags @ 0, domid @ 2, frame @ 4,
}}

/// Argument of [`MAP_GRANT_REF`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct MapGrantRef {
    /// In: virtual address to map at, or the machine address of an entry.
    pub host_addr: u64,
    /// In: see [`MapFlags`].
    pub flags: u32,
    /// In: the entry.
    pub grant_ref: GrantRef,
    /// In: whose.
    pub dom: DomId,
    /// Out: one of [`RESULTS`].
    pub status: i16,
    /// Out: name of the mapping.
    pub handle: GrantHandle,
    /// Out: machine address of the page. Unit: bytes.
    pub dev_bus_addr: u64,
}

abi_layout! { MapGrantRef = "struct gnttab_map_grant_ref", size 32, align 8 {
    host_addr @ 0, flags @ 8, grant_ref = "ref" @ 12, dom @ 16, status @ 18, handle @ 20,
    dev_bus_addr @ 24,
}}

/// Argument of [`UNMAP_GRANT_REF`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct UnmapGrantRef {
    /// In: where it is mapped, or 0.
    pub host_addr: u64,
    /// In: the device mapping, or 0.
    pub dev_bus_addr: u64,
    /// In: the mapping.
    pub handle: GrantHandle,
    /// Out: one of [`RESULTS`].
    pub status: i16,
    /// No meaning.
    pub pad: u16,
}

abi_layout! { UnmapGrantRef = "struct gnttab_unmap_grant_ref", size 24, align 8 {
    host_addr @ 0, dev_bus_addr @ 8, handle @ 16, status @ 20, pad = "" @ 22,
}}

/// Argument of [`UNMAP_AND_REPLACE`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct UnmapAndReplace {
    /// In: where it is mapped.
    pub host_addr: u64,
    /// In: the address whose entry takes its place.
    pub new_addr: u64,
    /// In: the mapping.
    pub handle: GrantHandle,
    /// Out: one of [`RESULTS`].
    pub status: i16,
    /// No meaning.
    pub pad: u16,
}

abi_layout! { UnmapAndReplace = "struct gnttab_unmap_and_replace", size 24, align 8 {
    host_addr @ 0, new_addr @ 8, handle @ 16, status @ 20, pad = "" @ 22,
}}

/// Argument of [`SETUP_TABLE`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct SetupTable {
    /// In: whose table.
    pub dom: DomId,
    /// No meaning.
    pub pad0: u16,
    /// In: how many frames it shall have.
    pub nr_frames: u32,
    /// Out: one of [`RESULTS`].
    pub status: i16,
    /// No meaning.
    pub pad1: [u16; 3],
    /// In: guest address of an array for the machine frames (`u64`).
    pub frame_list: u64,
}

abi_layout! { SetupTable = "struct gnttab_setup_table", size 24, align 8 {
    dom @ 0, pad0 = "" @ 2, nr_frames @ 4, status @ 8, pad1 = "" @ 10, frame_list @ 16,
}}

/// Argument of [`DUMP_TABLE`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct DumpTable {
    /// In: whose table.
    pub dom: DomId,
    /// Out: one of [`RESULTS`].
    pub status: i16,
}

abi_layout! { DumpTable = "struct gnttab_dump_table", size 4, align 2 { dom @ 0, status @ 2 } }

/// Argument of [`QUERY_SIZE`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct QuerySize {
    /// In: whose table.
    pub dom: DomId,
    /// No meaning.
    pub pad0: u16,
    /// Out: frames it has.
    pub nr_frames: u32,
    /// Out: frames it may have.
    pub max_nr_frames: u32,
    /// Out: one of [`RESULTS`].
    pub status: i16,
    /// No meaning.
    pub pad1: u16,
}

abi_layout! { QuerySize = "struct gnttab_query_size", size 16, align 4 {
    dom @ 0, pad0 = "" @ 2, nr_frames @ 4, max_nr_frames @ 8, status @ 12, pad1 = "" @ 14,
}}

/// One end of a copy.
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct CopyPtr {
    /// An entry (lower half) or a machine frame: [`GrantCopy::flags`] decides.
    pub page: u64,
    /// Whose.
    pub domid: DomId,
    /// Where in the page. Unit: bytes.
    pub offset: u16,
    /// No meaning.
    pub pad: u32,
}

abi_layout! { CopyPtr = "struct gnttab_copy_ptr", size 16, align 8 {
    page = "u" @ 0, domid @ 8, offset @ 10, pad = "" @ 12,
}}

/// Argument of [`COPY`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct GrantCopy {
    /// In: from where.
    pub source: CopyPtr,
    /// In: to where.
    pub dest: CopyPtr,
    /// In: how much. Unit: bytes.
    pub len: u16,
    /// In: [`COPY_SOURCE_GREF`], [`COPY_DEST_GREF`].
    pub flags: u16,
    /// Out: one of [`RESULTS`].
    pub status: i16,
    /// No meaning.
    pub pad: u16,
}

abi_layout! { GrantCopy = "struct gnttab_copy", size 40, align 8 {
    source @ 0, dest @ 16, len @ 32, flags @ 34, status @ 36, pad = "" @ 38,
}}

/// Argument of [`TRANSFER`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct Transfer {
    /// In: the machine frame to give.
    pub mfn: u64,
    /// In: to whom.
    pub domid: DomId,
    /// No meaning.
    pub pad0: u16,
    /// In: by which entry.
    pub grant_ref: GrantRef,
    /// Out: one of [`RESULTS`].
    pub status: i16,
    /// No meaning.
    pub pad1: [u16; 3],
}

abi_layout! { Transfer = "struct gnttab_transfer", size 24, align 8 {
    mfn @ 0, domid @ 8, pad0 = "" @ 10, grant_ref = "ref" @ 12, status @ 16, pad1 = "" @ 18,
}}

/// Argument of [`SET_VERSION`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct SetVersion {
    /// In: version wanted. Out: version now.
    pub version: u32,
}

abi_layout! { SetVersion = "struct gnttab_set_version", size 4, align 4 { version @ 0 } }

/// Argument of [`GET_VERSION`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct GetVersion {
    /// In: whose table.
    pub dom: DomId,
    /// No meaning.
    pub pad: u16,
    /// Out: its version.
    pub version: u32,
}

abi_layout! { GetVersion = "struct gnttab_get_version", size 8, align 4 {
    dom @ 0, pad = "pad" @ 2, version @ 4,
}}

/// Argument of [`GET_STATUS_FRAMES`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct GetStatusFrames {
    /// In: how many frames.
    pub nr_frames: u32,
    /// In: whose table.
    pub dom: DomId,
    /// Out: one of [`RESULTS`].
    pub status: i16,
    /// In: guest address of an array for frames (`u64`).
    pub frame_list: u64,
}

abi_layout! { GetStatusFrames = "struct gnttab_get_status_frames", size 16, align 8 {
    nr_frames @ 0, dom @ 4, status @ 6, frame_list @ 8,
}}

/// Argument of [`SWAP_GRANT_REF`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct SwapGrantRef {
    /// In: one entry.
    pub ref_a: GrantRef,
    /// In: the other.
    pub ref_b: GrantRef,
    /// Out: one of [`RESULTS`].
    pub status: i16,
    /// No meaning.
    pub pad: u16,
}

abi_layout! { SwapGrantRef = "struct gnttab_swap_grant_ref", size 12, align 4 {
    ref_a @ 0, ref_b @ 4, status @ 8, pad = "" @ 10,
}}

/// Argument of [`CACHE_FLUSH`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct CacheFlush {
    /// In: a machine address, or an entry (lower half).
    pub target: u64,
    /// In: where in the page. Unit: bytes.
    pub offset: u16,
    /// In: how much. Unit: bytes.
    pub length: u16,
    /// In: bit 0: write back; bit 1: discard; bit 31: the target is an entry.
    pub op: u32,
}

abi_layout! { CacheFlush = "struct gnttab_cache_flush", size 16, align 8 {
    target = "a" @ 0, offset @ 8, length @ 10, op @ 12,
}}
