//! Where things are: the hypervisor's part of every address space, fixed selectors, and limits.

/// First byte of the addresses that belong to the hypervisor in every address space.
pub const HYPERVISOR_VIRT_START: u64 = 0xffff_8000_0000_0000;
/// First byte after them.
pub const HYPERVISOR_VIRT_END: u64 = 0xffff_8800_0000_0000;
/// The first entry of a top-level page table that belongs to the hypervisor.
pub const HYPERVISOR_FIRST_SLOT: usize = 256;
/// How many entries of a top-level page table belong to the hypervisor.
pub const HYPERVISOR_SLOTS: usize = 16;

/// First byte of the machine-to-physical table, which guests may read: one `u64` a machine frame.
pub const MACH2PHYS_VIRT_START: u64 = 0xffff_8000_0000_0000;
/// First byte after the largest machine-to-physical table there can be.
pub const MACH2PHYS_VIRT_END: u64 = 0xffff_8040_0000_0000;
/// How many frames the largest machine-to-physical table describes.
pub const MACH2PHYS_NR_ENTRIES: u64 = (MACH2PHYS_VIRT_END - MACH2PHYS_VIRT_START) / 8;
/// What the machine-to-physical table says of a frame that is nobody's memory.
pub const INVALID_M2P_ENTRY: u64 = u64::MAX;
/// What it says of a frame shared between domains (copy-on-write).
pub const SHARED_M2P_ENTRY: u64 = u64::MAX >> 1;

/// Selector of the flat 32-bit code segment that is always there. Ring 3.
pub const FLAT_RING3_CS32: u16 = 0xe023;
/// Selector of the flat 64-bit code segment that is always there. Ring 3.
pub const FLAT_RING3_CS64: u16 = 0xe033;
/// Selector of the flat data and stack segment that is always there. Ring 3.
pub const FLAT_RING3_DS: u16 = 0xe02b;
/// What 64-bit code has in `ds`, `es`, `fs` and `gs`: the null selector.
pub const FLAT_RING3_DS64: u16 = 0;
/// 32-bit code's data selector.
pub const FLAT_RING3_DS32: u16 = FLAT_RING3_DS;
/// 32-bit code's stack selector.
pub const FLAT_RING3_SS32: u16 = FLAT_RING3_DS;
/// 64-bit code's stack selector.
pub const FLAT_RING3_SS64: u16 = FLAT_RING3_DS;
/// Code of a guest kernel; PV kernels run in ring 3 too.
pub const FLAT_KERNEL_CS: u16 = FLAT_RING3_CS64;
/// Data segments of a guest kernel at its start.
pub const FLAT_KERNEL_DS: u16 = FLAT_RING3_DS64;
/// Stack of a guest kernel.
pub const FLAT_KERNEL_SS: u16 = FLAT_RING3_SS64;
/// Code of a guest's user mode.
pub const FLAT_USER_CS: u16 = FLAT_RING3_CS64;
/// Data segments of a guest's user mode.
pub const FLAT_USER_DS: u16 = FLAT_RING3_DS64;
/// Stack of a guest's user mode.
pub const FLAT_USER_SS: u16 = FLAT_RING3_SS64;

/// How many pages of descriptors are a guest's own; the next is the hypervisor's.
pub const FIRST_RESERVED_GDT_PAGE: u32 = 14;
/// The byte in the descriptor table where the hypervisor's descriptors begin.
pub const FIRST_RESERVED_GDT_BYTE: u32 = FIRST_RESERVED_GDT_PAGE * 4096;
/// How many descriptors are a guest's own; also the index of the hypervisor's first.
pub const FIRST_RESERVED_GDT_ENTRY: u32 = FIRST_RESERVED_GDT_BYTE / 8;
/// The most descriptors a local descriptor table may have.
pub const MAX_LDT_ENTRIES: u32 = 8192;

/// How many vCPUs have their information in the shared page; others must register their own.
pub const LEGACY_MAX_VCPUS: usize = 32;

/// Bytes before `cpuid` that ask the hypervisor to execute it: `ud2` and the text `xen`.
pub const FORCED_EMULATION_PREFIX: [u8; 5] = [0x0f, 0x0b, b'x', b'e', b'n'];

/// How many bytes of a hypercall page belong to one hypercall number.
pub const HYPERCALL_PAGE_SLOT: usize = 32;
