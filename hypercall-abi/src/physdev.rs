//! `physdev_op`: interrupts, ports and PCI devices of the real machine.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::types::DomId;

pub use crate::ops::physdev::*;

/// [`IrqStatusQuery::flags`]: the guest must report the end of the interrupt.
pub const STATUS_NEEDS_EOI: u32 = 1 << 0;
/// [`IrqStatusQuery::flags`]: several domains share the interrupt.
pub const STATUS_SHARED: u32 = 1 << 1;

numbers! {
    /// What [`MAP_PIRQ`] can map, with its C name ([`MapPirq::kind`]).
    MAP_KINDS: i32 {
        MAP_MSI = 0, "MAP_PIRQ_TYPE_MSI", "A message of a device in segment 0.";
        MAP_GSI = 1, "MAP_PIRQ_TYPE_GSI", "A wired interrupt.";
        MAP_UNKNOWN = 2, "MAP_PIRQ_TYPE_UNKNOWN", "Nothing.";
        MAP_MSI_SEG = 3, "MAP_PIRQ_TYPE_MSI_SEG", "A message; the segment is in the upper half of `bus`.";
        MAP_MULTI_MSI = 4, "MAP_PIRQ_TYPE_MULTI_MSI", "Several messages; their number is `entry_nr`.";
    }
}

/// [`PciDeviceAdd::flags`]: an extended function.
pub const PCI_EXTFN: u32 = 1 << 0;
/// [`PciDeviceAdd::flags`]: a virtual function; `physfn` is its physical one.
pub const PCI_VIRTFN: u32 = 1 << 1;
/// [`PciDeviceAdd::flags`]: a proximity domain (`u32`) follows the structure.
pub const PCI_PXM: u32 = 1 << 2;
/// [`PciMmcfgReserved::flags`]: the firmware says that the range is reserved.
pub const MMCFG_RESERVED: u32 = 1;

/// Argument of [`EOI`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct Eoi {
    /// The interrupt that was handled.
    pub irq: u32,
}

abi_layout! { Eoi = "struct physdev_eoi", size 4, align 4 { irq @ 0 } }

/// Argument of [`PIRQ_EOI_GMFN_V1`] and [`PIRQ_EOI_GMFN_V2`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct PirqEoiGmfn {
    /// Frame for a bit map: which interrupts need their end reported.
    pub gmfn: u64,
}

abi_layout! { PirqEoiGmfn = "struct physdev_pirq_eoi_gmfn", size 8, align 8 { gmfn @ 0 } }

/// Argument of [`IRQ_STATUS_QUERY`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct IrqStatusQuery {
    /// In: the interrupt.
    pub irq: u32,
    /// Out: [`STATUS_NEEDS_EOI`], [`STATUS_SHARED`].
    pub flags: u32,
}

abi_layout! { IrqStatusQuery = "struct physdev_irq_status_query", size 8, align 4 {
    irq @ 0, flags @ 4,
}}

/// Argument of [`SET_IOPL`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct SetIopl {
    /// 0 to 3; 1 is enough for the guest's kernel.
    pub iopl: u32,
}

abi_layout! { SetIopl = "struct physdev_set_iopl", size 4, align 4 { iopl @ 0 } }

/// Argument of [`SET_IOBITMAP`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct SetIobitmap {
    /// Guest address of one bit a port; a clear bit allows it.
    pub bitmap: u64,
    /// Length. Unit: bits.
    pub nr_ports: u32,
    /// No meaning.
    pub pad: u32,
}

abi_layout! { SetIobitmap = "struct physdev_set_iobitmap", size 16, align 8 {
    bitmap @ 0, nr_ports @ 8, pad = "" @ 12,
}}

/// Argument of [`APIC_READ`] and [`APIC_WRITE`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct Apic {
    /// Machine address of the I/O APIC.
    pub apic_physbase: u64,
    /// Which of its registers.
    pub reg: u32,
    /// Its contents.
    pub value: u32,
}

abi_layout! { Apic = "struct physdev_apic", size 16, align 8 {
    apic_physbase @ 0, reg @ 8, value @ 12,
}}

/// Argument of [`ALLOC_IRQ_VECTOR`] and [`FREE_IRQ_VECTOR`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct Irq {
    /// In: the interrupt.
    pub irq: u32,
    /// Out: a vector that means nothing to the guest.
    pub vector: u32,
}

abi_layout! { Irq = "struct physdev_irq", size 8, align 4 { irq @ 0, vector @ 4 } }

/// Argument of [`MAP_PIRQ`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct MapPirq {
    /// For whom.
    pub domid: DomId,
    /// No meaning.
    pub pad0: u16,
    /// One of [`MAP_KINDS`].
    pub kind: i32,
    /// The wired interrupt.
    pub index: i32,
    /// In: number wanted, or negative. Out: number given.
    pub pirq: i32,
    /// The device's bus; segment in the upper half.
    pub bus: i32,
    /// Its device (times 8) and function.
    pub devfn: i32,
    /// Which entry of its table, or how many messages.
    pub entry_nr: i32,
    /// No meaning.
    pub pad1: u32,
    /// Machine address of its table; 0: it has none.
    pub table_base: u64,
}

abi_layout! { MapPirq = "struct physdev_map_pirq", size 40, align 8 {
    domid @ 0, pad0 = "" @ 2, kind = "type" @ 4, index @ 8, pirq @ 12, bus @ 16, devfn @ 20,
    entry_nr @ 24, pad1 = "" @ 28, table_base @ 32,
}}

/// Argument of [`UNMAP_PIRQ`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct UnmapPirq {
    /// For whom.
    pub domid: DomId,
    /// No meaning.
    pub pad: u16,
    /// The number given.
    pub pirq: i32,
}

abi_layout! { UnmapPirq = "struct physdev_unmap_pirq", size 8, align 4 {
    domid @ 0, pad = "" @ 2, pirq @ 4,
}}

/// Argument of [`SETUP_GSI`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct SetupGsi {
    /// The wired interrupt.
    pub gsi: i32,
    /// 0: edge; 1: level.
    pub triggering: u8,
    /// 0: active high; 1: active low.
    pub polarity: u8,
    /// No meaning.
    pub pad: u16,
}

abi_layout! { SetupGsi = "struct physdev_setup_gsi", size 8, align 4 {
    gsi @ 0, triggering @ 4, polarity @ 5, pad = "" @ 6,
}}

/// Argument of [`GET_FREE_PIRQ`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct GetFreePirq {
    /// One of [`MAP_KINDS`].
    pub kind: i32,
    /// Out: a number that is free.
    pub pirq: u32,
}

abi_layout! { GetFreePirq = "struct physdev_get_free_pirq", size 8, align 4 {
    kind = "type" @ 0, pirq @ 4,
}}

/// Argument of [`PCI_MMCFG_RESERVED`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct PciMmcfgReserved {
    /// Machine address of the configuration space. Unit: bytes.
    pub address: u64,
    /// Of which segment.
    pub segment: u16,
    /// First bus.
    pub start_bus: u8,
    /// Last bus.
    pub end_bus: u8,
    /// [`MMCFG_RESERVED`] or nothing.
    pub flags: u32,
}

abi_layout! { PciMmcfgReserved = "struct physdev_pci_mmcfg_reserved", size 16, align 8 {
    address @ 0, segment @ 8, start_bus @ 10, end_bus @ 11, flags @ 12,
}}

/// Argument of [`PCI_DEVICE_ADD`]; with [`PCI_PXM`] a `u32` follows.
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct PciDeviceAdd {
    /// Segment.
    pub seg: u16,
    /// Bus.
    pub bus: u8,
    /// Device (times 8) and function.
    pub devfn: u8,
    /// [`PCI_EXTFN`], [`PCI_VIRTFN`], [`PCI_PXM`].
    pub flags: u32,
    /// Bus of the physical function.
    pub physfn_bus: u8,
    /// Device and function of the physical function.
    pub physfn_devfn: u8,
    /// No meaning.
    pub pad: u16,
}

abi_layout! { PciDeviceAdd = "struct physdev_pci_device_add", size 12, align 4 {
    seg @ 0, bus @ 2, devfn @ 3, flags @ 4, physfn_bus = "physfn.bus" @ 8, physfn_devfn =
    "physfn.devfn" @ 9, pad = "" @ 10,
}}

/// Argument of [`PCI_DEVICE_REMOVE`], [`RESTORE_MSI_EXT`], [`PREPARE_MSIX`], [`RELEASE_MSIX`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct PciDevice {
    /// Segment.
    pub seg: u16,
    /// Bus.
    pub bus: u8,
    /// Device (times 8) and function.
    pub devfn: u8,
}

abi_layout! { PciDevice = "struct physdev_pci_device", size 4, align 2 {
    seg @ 0, bus @ 2, devfn @ 3,
}}
