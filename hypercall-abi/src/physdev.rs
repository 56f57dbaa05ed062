//! `physdev_op`: interrupts, ports and PCI devices of the real machine.

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

abi_structs! {
    /// Argument of [`EOI`].
    Eoi = "struct physdev_eoi", size 4, align 4 {
        /// The interrupt that was handled.
        0 irq: u32,
    }

    /// Argument of [`PIRQ_EOI_GMFN_V1`] and [`PIRQ_EOI_GMFN_V2`].
    PirqEoiGmfn = "struct physdev_pirq_eoi_gmfn", size 8, align 8 {
        /// Frame for a bit map: which interrupts need their end reported.
        0 gmfn: u64,
    }

    /// Argument of [`IRQ_STATUS_QUERY`].
    IrqStatusQuery = "struct physdev_irq_status_query", size 8, align 4 {
        /// In: the interrupt.
        0 irq: u32,
        /// Out: [`STATUS_NEEDS_EOI`], [`STATUS_SHARED`].
        4 flags: u32,
    }

    /// Argument of [`SET_IOPL`].
    SetIopl = "struct physdev_set_iopl", size 4, align 4 {
        /// 0 to 3; 1 is enough for the guest's kernel.
        0 iopl: u32,
    }

    /// Argument of [`SET_IOBITMAP`].
    SetIobitmap = "struct physdev_set_iobitmap", size 16, align 8 {
        /// Guest address of one bit a port; a clear bit allows it.
        0 bitmap: u64,
        /// Length. Unit: bits.
        8 nr_ports: u32,
        /// No meaning.
        12 pad: u32 = "",
    }

    /// Argument of [`APIC_READ`] and [`APIC_WRITE`].
    Apic = "struct physdev_apic", size 16, align 8 {
        /// Machine address of the I/O APIC.
        0 apic_physbase: u64,
        /// Which of its registers.
        8 reg: u32,
        /// Its contents.
        12 value: u32,
    }

    /// Argument of [`ALLOC_IRQ_VECTOR`] and [`FREE_IRQ_VECTOR`].
    Irq = "struct physdev_irq", size 8, align 4 {
        /// In: the interrupt.
        0 irq: u32,
        /// Out: a vector that means nothing to the guest.
        4 vector: u32,
    }

    /// Argument of [`MAP_PIRQ`].
    MapPirq = "struct physdev_map_pirq", size 40, align 8 {
        /// For whom.
        0 domid: DomId,
        /// No meaning.
        2 pad0: u16 = "",
        /// One of [`MAP_KINDS`].
        4 kind: i32 = "type",
        /// The wired interrupt.
        8 index: i32,
        /// In: number wanted, or negative. Out: number given.
        12 pirq: i32,
        /// The device's bus; segment in the upper half.
        16 bus: i32,
        /// Its device (times 8) and function.
        20 devfn: i32,
        /// Which entry of its table, or how many messages.
        24 entry_nr: i32,
        /// No meaning.
        28 pad1: u32 = "",
        /// Machine address of its table; 0: it has none.
        32 table_base: u64,
    }

    /// Argument of [`UNMAP_PIRQ`].
    UnmapPirq = "struct physdev_unmap_pirq", size 8, align 4 {
        /// For whom.
        0 domid: DomId,
        /// No meaning.
        2 pad: u16 = "",
        /// The number given.
        4 pirq: i32,
    }

    /// Argument of [`SETUP_GSI`].
    SetupGsi = "struct physdev_setup_gsi", size 8, align 4 {
        /// The wired interrupt.
        0 gsi: i32,
        /// 0: edge; 1: level.
        4 triggering: u8,
        /// 0: active high; 1: active low.
        5 polarity: u8,
        /// No meaning.
        6 pad: u16 = "",
    }

    /// Argument of [`GET_FREE_PIRQ`].
    GetFreePirq = "struct physdev_get_free_pirq", size 8, align 4 {
        /// One of [`MAP_KINDS`].
        0 kind: i32 = "type",
        /// Out: a number that is free.
        4 pirq: u32,
    }

    /// Argument of [`PCI_MMCFG_RESERVED`].
    PciMmcfgReserved = "struct physdev_pci_mmcfg_reserved", size 16, align 8 {
        /// Machine address of the configuration space. Unit: bytes.
        0 address: u64,
        /// Of which segment.
        8 segment: u16,
        /// First bus.
        10 start_bus: u8,
        /// Last bus.
        11 end_bus: u8,
        /// [`MMCFG_RESERVED`] or nothing.
        12 flags: u32,
    }

    /// Argument of [`PCI_DEVICE_ADD`]; with [`PCI_PXM`] a `u32` follows.
    PciDeviceAdd = "struct physdev_pci_device_add", size 12, align 4 {
        /// Segment.
        0 seg: u16,
        /// Bus.
        2 bus: u8,
        /// Device (times 8) and function.
        3 devfn: u8,
        /// [`PCI_EXTFN`], [`PCI_VIRTFN`], [`PCI_PXM`].
        4 flags: u32,
        /// Bus of the physical function.
        8 physfn_bus: u8 = "physfn.bus",
        /// Device and function of the physical function.
        9 physfn_devfn: u8 = "physfn.devfn",
        /// No meaning.
        10 pad: u16 = "",
    }

    /// Argument of [`MANAGE_PCI_ADD`], [`MANAGE_PCI_REMOVE`] and [`RESTORE_MSI`].
    ManagePci = "struct physdev_manage_pci", size 2, align 1 {
        /// Bus.
        0 bus: u8,
        /// Device (times 8) and function.
        1 devfn: u8,
    }

    /// Argument of [`MANAGE_PCI_ADD_EXT`].
    ManagePciExt = "struct physdev_manage_pci_ext", size 16, align 4 {
        /// Bus.
        0 bus: u8,
        /// Device (times 8) and function.
        1 devfn: u8,
        /// No meaning.
        2 pad0: u16 = "",
        /// 1: an extended function.
        4 is_extfn: u32,
        /// 1: a virtual function; `physfn` is its physical one.
        8 is_virtfn: u32,
        /// Bus of the physical function.
        12 physfn_bus: u8 = "physfn.bus",
        /// Device and function of the physical function.
        13 physfn_devfn: u8 = "physfn.devfn",
        /// No meaning.
        14 pad1: u16 = "",
    }

    /// Argument of [`PCI_DEVICE_REMOVE`], [`RESTORE_MSI_EXT`], [`PREPARE_MSIX`], [`RELEASE_MSIX`].
    PciDevice = "struct physdev_pci_device", size 4, align 2 {
        /// Segment.
        0 seg: u16,
        /// Bus.
        2 bus: u8,
        /// Device (times 8) and function.
        3 devfn: u8,
    }
}
