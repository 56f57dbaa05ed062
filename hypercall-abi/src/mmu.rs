//! Page tables: `mmu_update`, `mmuext_op`, `update_va_mapping`, and the entries themselves.

pub use crate::ops::{mmu_update, mmuext};

abi_structs! {
    /// One change by `mmu_update`.
    MmuUpdate = "struct mmu_update", size 16, align 8 {
        /// Machine address of what to change; bits 0 and 1 are a command of [`mmu_update`].
        0 ptr: u64,
        /// The new entry, or the new frame number.
        8 val: u64,
    }

    /// One operation of `mmuext_op`.
    MmuextOp = "struct mmuext_op", size 24, align 8 {
        /// A command of [`mmuext`].
        0 cmd: u32,
        /// No meaning.
        4 pad: u32 = "",
        /// A machine frame, or a virtual address: the command decides.
        8 arg1: u64,
        /// A length (`u32`), the guest address of a set of vCPUs, or a machine frame.
        16 arg2: u64,
    }
}

impl MmuUpdate {
    /// The bits of `ptr` that are a command.
    pub const COMMAND_MASK: u64 = 3;
}

/// `update_va_mapping` flags: no flush.
pub const UVMF_NONE: u64 = 0;
/// `update_va_mapping` flags: flush everything.
pub const UVMF_TLB_FLUSH: u64 = 1;
/// `update_va_mapping` flags: flush the one page.
pub const UVMF_INVLPG: u64 = 2;
/// The bits of the flags that say what to flush.
pub const UVMF_FLUSHTYPE_MASK: u64 = 3;
/// `update_va_mapping` flags: on the vCPUs in the set whose guest address is in the other bits.
pub const UVMF_MULTI: u64 = 0;
/// `update_va_mapping` flags: on this vCPU; the same as a set at address 0.
pub const UVMF_LOCAL: u64 = 0;
/// `update_va_mapping` flags: on all vCPUs of the domain.
pub const UVMF_ALL: u64 = 1 << 2;

bitflags::bitflags! {
    /// The flags of a page-table entry. All bits exist, so that any entry can be taken apart.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct EntryFlags: u64 {
        /// The entry maps something; else it has no meaning to the machine.
        const PRESENT = 1 << 0;
        /// Writable.
        const RW = 1 << 1;
        /// Accessible in ring 3, where PV kernels run too.
        const USER = 1 << 2;
        /// Write-through.
        const PWT = 1 << 3;
        /// Not cached.
        const PCD = 1 << 4;
        /// Was used.
        const ACCESSED = 1 << 5;
        /// Was written.
        const DIRTY = 1 << 6;
        /// Maps a large page (levels 2 and 3); selects a memory type (level 1).
        const PSE = 1 << 7;
        /// Survives a change of page tables. Set by the hypervisor on user pages.
        const GLOBAL = 1 << 8;
        /// Left to software.
        const AVAIL = 0x7 << 9;
        /// Left to software; of the highest bits.
        const AVAIL_HIGH = 0x7ff << 52;
        /// The hypervisor's mark on a guest kernel's page, which the guest can read.
        const GUEST_KERNEL = 1 << 52;
        /// Not executable.
        const NX = 1 << 63;
    }
}

/// The bits of an entry that are the machine address of a frame.
pub const ENTRY_ADDRESS_MASK: u64 = 0x000f_ffff_ffff_f000;
/// Entries in a table of any level.
pub const ENTRIES_PER_TABLE: usize = 512;
