//! `memory_op`: how much memory a domain has, which frames, and what the machine has.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::types::DomId;

pub use crate::ops::memory::*;

/// [`Reservation::mem_flags`]: the bits that limit a frame's address to that many bits; 0: no limit.
pub const ADDRESS_BITS_MASK: u32 = 0xff;
/// [`Reservation::mem_flags`]: memory may be given only when touched.
pub const POPULATE_ON_DEMAND: u32 = 1 << 16;
/// [`Reservation::mem_flags`]: only from the node named.
pub const EXACT_NODE: u32 = 1 << 17;
/// [`Reservation::mem_flags`]: the node named is a virtual one.
pub const VNODE: u32 = 1 << 18;

/// [`AcquireResource::kind`]: pages of an emulator of devices.
pub const RESOURCE_IOREQ_SERVER: u16 = 0;
/// [`AcquireResource::kind`]: buffers of a trace of a vCPU.
pub const RESOURCE_VMTRACE: u16 = 2;
/// [`AcquireResource::kind`]: the frames of a domain's grant table.
pub const RESOURCE_GRANT_TABLE: u16 = 1;

/// The type of an [`E820Entry`] that is usable memory.
pub const E820_RAM: u32 = 1;
/// Of [`E820Entry::kind`]: neither memory nor anything to be had.
pub const E820_RESERVED: u32 = 2;

/// One range of a memory map. Entries follow each other without a gap.
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct E820Entry {
    /// First byte. Unit: bytes.
    pub addr: U64,
    /// Unit: bytes.
    pub size: U64,
    /// [`E820_RAM`], or something else than memory.
    pub kind: U32,
}

const _: () = assert!(size_of::<E820Entry>() == 20, "E820Entry: size changed");

abi_structs! {
    /// Argument of [`INCREASE_RESERVATION`], [`DECREASE_RESERVATION`] and [`POPULATE_PHYSMAP`].
    Reservation = "struct xen_memory_reservation", size 32, align 8 {
        /// Guest address of an array of frame numbers (`u64`), one an extent.
        0 extent_start: u64,
        /// Length of the array.
        8 nr_extents: u64,
        /// log2 of the pages in an extent.
        16 extent_order: u32,
        /// [`ADDRESS_BITS_MASK`], node in bits 8 to 15 (plus 1), and flags.
        20 mem_flags: u32,
        /// Whose memory.
        24 domid: DomId,
        /// No meaning.
        26 pad: [u16; 3] = "",
    }

    /// Argument of [`EXCHANGE`].
    Exchange = "struct xen_memory_exchange", size 72, align 8 {
        /// Frames to give.
        0 given: Reservation = "in",
        /// Frames to take; the same amount of memory.
        32 taken: Reservation = "out",
        /// In: 0. Out: extents of `given` that are done.
        64 nr_exchanged: u64,
    }

    /// Argument of [`CURRENT_RESERVATION`], [`MAXIMUM_RESERVATION`] and [`MAXIMUM_GPFN`].
    DomainArg = "struct xen_memory_domain", size 2, align 2 {
        /// Whose memory.
        0 domid: DomId,
    }

    /// Argument of [`ADD_TO_PHYSMAP`].
    AddToPhysmap = "struct xen_add_to_physmap", size 24, align 8 {
        /// Whose map of frames.
        0 domid: DomId,
        /// Pages, of a range.
        2 size: u16,
        /// What `idx` is a number of.
        4 space: u32,
        /// What to map.
        8 idx: u64,
        /// Where.
        16 gpfn: u64,
    }

    /// Argument of [`ADD_TO_PHYSMAP_BATCH`].
    AddToPhysmapBatch = "struct xen_add_to_physmap_batch", size 32, align 8 {
        /// Whose map of frames.
        0 domid: DomId,
        /// What the numbers are numbers of.
        2 space: u16,
        /// Pages.
        4 size: u16,
        /// Whose pages, if they are another domain's.
        6 foreign_domid: DomId = "u.foreign_domid",
        /// Guest address of what to map (`u64`).
        8 idxs: u64,
        /// Guest address of where (`u64`).
        16 gpfns: u64,
        /// Guest address of the answers (`i32`).
        24 errs: u64,
    }

    /// Argument of [`REMOVE_FROM_PHYSMAP`].
    RemoveFromPhysmap = "struct xen_remove_from_physmap", size 16, align 8 {
        /// Whose map of frames.
        0 domid: DomId,
        /// Three words of padding.
        2 pad: [u16; 3] = "",
        /// What to unmap.
        8 gpfn: u64,
    }

    /// Argument of [`GET_VNUMAINFO`].
    VnumaTopology = "struct xen_vnuma_topology_info", size 40, align 8 {
        /// Whose nodes.
        0 domid: DomId,
        /// Must be 0.
        2 pad: u16,
        /// Room for nodes.
        4 nr_vnodes: u32,
        /// Room for vCPUs.
        8 nr_vcpus: u32,
        /// Room for ranges of memory.
        12 nr_vmemranges: u32,
        /// Guest address of the distances (`u32`).
        16 vdistance: u64 = "vdistance.h",
        /// Guest address of the vCPUs' nodes (`u32`).
        24 vcpu_to_vnode: u64 = "vcpu_to_vnode.h",
        /// Guest address of the ranges.
        32 vmemrange: u64 = "vmemrange.h",
    }

    /// Argument of [`MACHPHYS_MFN_LIST`].
    MachphysMfnList = "struct xen_machphys_mfn_list", size 24, align 8 {
        /// In: length of the array.
        0 max_extents: u32,
        /// No meaning.
        4 pad0: u32 = "",
        /// In: guest address of an array for frame numbers (`u64`), each the first of 2 MiB.
        8 extent_start: u64,
        /// Out: how many there are.
        16 nr_extents: u32,
        /// No meaning.
        20 pad1: u32 = "",
    }

    /// Answer of [`MACHPHYS_MAPPING`]: where the machine-to-physical table is.
    MachphysMapping = "struct xen_machphys_mapping", size 24, align 8 {
        /// First byte.
        0 v_start: u64,
        /// First byte after it.
        8 v_end: u64,
        /// The highest frame it describes.
        16 max_mfn: u64,
    }

    /// Argument of [`MEMORY_MAP`] and [`MACHINE_MEMORY_MAP`].
    MemoryMap = "struct xen_memory_map", size 16, align 8 {
        /// In: length of the array. Out: entries written.
        0 nr_entries: u32,
        /// No meaning.
        4 pad: u32 = "",
        /// Guest address of an array of [`E820Entry`].
        8 buffer: u64,
    }

    /// Argument of [`SET_MEMORY_MAP`].
    ForeignMemoryMap = "struct xen_foreign_memory_map", size 24, align 8 {
        /// Whose map.
        0 domid: DomId,
        /// No meaning.
        2 pad: [u16; 3] = "",
        /// The map.
        8 map: MemoryMap,
    }

    /// Argument of [`ACQUIRE_RESOURCE`].
    AcquireResource = "struct xen_mem_acquire_resource", size 32, align 8 {
        /// Whose resource.
        0 domid: DomId,
        /// 1: its grant table.
        2 kind: u16 = "type",
        /// Which part; of a grant table 0: entries, 1: status.
        4 id: u32,
        /// In: frames wanted; 0 asks how many there are. Out: that number.
        8 nr_frames: u32,
        /// Must be 0.
        12 pad: u32 = "pad",
        /// In: the first.
        16 frame: u64,
        /// Guest address of an array of frame numbers (`u64`).
        24 frame_list: u64,
    }

    /// One range of a virtual node's memory.
    VmemRange = "struct xen_vmemrange", size 24, align 8 {
        /// First byte. Unit: bytes.
        0 start: u64,
        /// First byte after it. Unit: bytes.
        8 end: u64,
        /// Must be 0.
        16 flags: u32,
        /// The virtual node.
        20 nid: u32,
    }

    /// Argument of [`GET_VNUMAINFO`].
    VnumaTopologyInfo = "struct xen_vnuma_topology_info", size 40, align 8 {
        /// Whose nodes.
        0 domid: DomId,
        /// Must be 0.
        2 pad0: u16 = "pad",
        /// In: room for so many. Out: so many there are.
        4 nr_vnodes: u32,
        /// In: room for so many. Out: so many there are.
        8 nr_vcpus: u32,
        /// In: room for so many. Out: so many there are.
        12 nr_vmemranges: u32,
        /// Guest address of an array of distances (`u32`).
        16 vdistance: u64,
        /// Guest address of an array of nodes (`u32`), one a vCPU.
        24 vcpu_to_vnode: u64,
        /// Guest address of an array of [`VmemRange`].
        32 vmemrange: u64,
    }
}
