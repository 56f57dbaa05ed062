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

/// The type of an [`E820Entry`] that is usable memory.
pub const E820_RAM: u32 = 1;

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

/// Argument of [`INCREASE_RESERVATION`], [`DECREASE_RESERVATION`] and [`POPULATE_PHYSMAP`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct Reservation {
    /// Guest address of an array of frame numbers (`u64`), one an extent.
    pub extent_start: u64,
    /// Length of the array.
    pub nr_extents: u64,
    /// log2 of the pages in an extent.
    pub extent_order: u32,
    /// [`ADDRESS_BITS_MASK`], node in bits 8 to 15 (plus 1), and flags.
    pub mem_flags: u32,
    /// Whose memory.
    pub domid: DomId,
    /// No meaning.
    pub pad: [u16; 3],
}

abi_layout! { Reservation = "struct xen_memory_reservation", size 32, align 8 {
    extent_start @ 0, nr_extents @ 8, extent_order @ 16, mem_flags @ 20, domid @ 24, pad = "" @
    26,
}}

/// Argument of [`EXCHANGE`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct Exchange {
    /// Frames to give.
    pub given: Reservation,
    /// Frames to take; the same amount of memory.
    pub taken: Reservation,
    /// In: 0. Out: extents of `given` that are done.
    pub nr_exchanged: u64,
}

abi_layout! { Exchange = "struct xen_memory_exchange", size 72, align 8 {
    given = "in" @ 0, taken = "out" @ 32, nr_exchanged @ 64,
}}

/// Argument of [`CURRENT_RESERVATION`], [`MAXIMUM_RESERVATION`] and [`MAXIMUM_GPFN`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct DomainArg {
    /// Whose memory.
    pub domid: DomId,
}

abi_layout! { DomainArg = "struct xen_memory_domain", size 2, align 2 { domid @ 0 } }

/// Argument of [`MACHPHYS_MFN_LIST`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct MachphysMfnList {
    /// In: length of the array.
    pub max_extents: u32,
    /// No meaning.
    pub pad0: u32,
    /// In: guest address of an array for frame numbers (`u64`), each the first of 2 MiB.
    pub extent_start: u64,
    /// Out: how many there are.
    pub nr_extents: u32,
    /// No meaning.
    pub pad1: u32,
}

abi_layout! { MachphysMfnList = "struct xen_machphys_mfn_list", size 24, align 8 {
    max_extents @ 0, pad0 = "" @ 4, extent_start @ 8, nr_extents @ 16, pad1 = "" @ 20,
}}

/// Answer of [`MACHPHYS_MAPPING`]: where the machine-to-physical table is.
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct MachphysMapping {
    /// First byte.
    pub v_start: u64,
    /// First byte after it.
    pub v_end: u64,
    /// The highest frame it describes.
    pub max_mfn: u64,
}

abi_layout! { MachphysMapping = "struct xen_machphys_mapping", size 24, align 8 {
    v_start @ 0, v_end @ 8, max_mfn @ 16,
}}

/// Argument of [`MEMORY_MAP`] and [`MACHINE_MEMORY_MAP`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct MemoryMap {
    /// In: length of the array. Out: entries written.
    pub nr_entries: u32,
    /// No meaning.
    pub pad: u32,
    /// Guest address of an array of [`E820Entry`].
    pub buffer: u64,
}

abi_layout! { MemoryMap = "struct xen_memory_map", size 16, align 8 {
    nr_entries @ 0, pad = "" @ 4, buffer @ 8,
}}

/// Argument of [`SET_MEMORY_MAP`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct ForeignMemoryMap {
    /// Whose map.
    pub domid: DomId,
    /// No meaning.
    pub pad: [u16; 3],
    /// The map.
    pub map: MemoryMap,
}

abi_layout! { ForeignMemoryMap = "struct xen_foreign_memory_map", size 24, align 8 {
    domid @ 0, pad = "" @ 2, map @ 8,
}}

/// Argument of [`ACQUIRE_RESOURCE`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct AcquireResource {
    /// Whose resource.
    pub domid: DomId,
    /// 1: its grant table.
    pub kind: u16,
    /// Which part; of a grant table 0: entries, 1: status.
    pub id: u32,
    /// In: frames wanted; 0 asks how many there are. Out: that number.
    pub nr_frames: u32,
    /// Must be 0.
    pub pad: u32,
    /// In: the first.
    pub frame: u64,
    /// Guest address of an array of frame numbers (`u64`).
    pub frame_list: u64,
}

abi_layout! { AcquireResource = "struct xen_mem_acquire_resource", size 32, align 8 {
    domid @ 0, kind = "type" @ 2, id @ 4, nr_frames @ 8, pad = "pad" @ 12, frame @ 16,
    frame_list @ 24,
}}

/// One range of a virtual node's memory.
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct VmemRange {
    /// First byte. Unit: bytes.
    pub start: u64,
    /// First byte after it. Unit: bytes.
    pub end: u64,
    /// Must be 0.
    pub flags: u32,
    /// The virtual node.
    pub nid: u32,
}

abi_layout! { VmemRange = "struct xen_vmemrange", size 24, align 8 {
    start @ 0, end @ 8, flags @ 16, nid @ 20,
}}

/// Argument of [`GET_VNUMAINFO`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct VnumaTopologyInfo {
    /// Whose nodes.
    pub domid: DomId,
    /// Must be 0.
    pub pad0: u16,
    /// In: room for so many. Out: so many there are.
    pub nr_vnodes: u32,
    /// In: room for so many. Out: so many there are.
    pub nr_vcpus: u32,
    /// In: room for so many. Out: so many there are.
    pub nr_vmemranges: u32,
    /// Guest address of an array of distances (`u32`).
    pub vdistance: u64,
    /// Guest address of an array of nodes (`u32`), one a vCPU.
    pub vcpu_to_vnode: u64,
    /// Guest address of an array of [`VmemRange`].
    pub vmemrange: u64,
}

abi_layout! { VnumaTopologyInfo = "struct xen_vnuma_topology_info", size 40, align 8 {
    domid @ 0, pad0 = "pad" @ 2, nr_vnodes @ 4, nr_vcpus @ 8, nr_vmemranges @ 12, vdistance @
    16, vcpu_to_vnode @ 24, vmemrange @ 32,
}}
