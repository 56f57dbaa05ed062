//! `xen_version`: what the hypervisor is and offers.

pub use crate::ops::version::*;

/// The version that [`VERSION`] answers: 4.17, major in the upper half.
pub const NUMBER: u32 = 4 << 16 | 17;
/// Room for the answer of [`EXTRAVERSION`], its zero included. Unit: bytes.
pub const EXTRAVERSION_SIZE: usize = 16;
/// Room for the answer of [`CAPABILITIES`], its zero included. Unit: bytes.
pub const CAPABILITIES_SIZE: usize = 1024;
/// Room for the answer of [`CHANGESET`], its zero included. Unit: bytes.
pub const CHANGESET_SIZE: usize = 64;
/// Room for the answer of [`COMMANDLINE`], its zero included. Unit: bytes.
pub const COMMANDLINE_SIZE: usize = 1024;
/// Size of the answer of [`GUEST_HANDLE`]. Unit: bytes.
pub const HANDLE_SIZE: usize = 16;

bitflags::bitflags! {
    /// What is offered to a guest: the answer of [`GET_FEATURES`] for sub-map 0.
    ///
    /// An image may also name bits it supports or requires in its ELF notes.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct Features: u32 {
        /// Page tables need not be read-only to the guest.
        const WRITABLE_PAGE_TABLES = 1 << 0;
        /// Descriptor tables need not be read-only to the guest.
        const WRITABLE_DESCRIPTOR_TABLES = 1 << 1;
        /// The guest's frame numbers are translated by hardware.
        const AUTO_TRANSLATED_PHYSMAP = 1 << 2;
        /// The guest's kernel runs in ring 0.
        const SUPERVISOR_MODE_KERNEL = 1 << 3;
        /// Top-level tables may lie above 4 GiB. Of 32-bit guests.
        const PAE_PGDIR_ABOVE_4GB = 1 << 4;
        /// Updates can preserve the accessed and dirty bits.
        const MMU_PT_UPDATE_PRESERVE_AD = 1 << 5;
        /// Pages can be cleared and copied by `mmuext_op`.
        const HIGHMEM_ASSIST = 1 << 6;
        /// Mapping a grant can set the bits left to software in the entry.
        const GNTTAB_MAP_AVAIL_BITS = 1 << 7;
        /// Of hardware-virtualised guests.
        const HVM_CALLBACK_VECTOR = 1 << 8;
        /// Of hardware-virtualised guests.
        const HVM_SAFE_PVCLOCK = 1 << 9;
        /// Of hardware-virtualised guests.
        const HVM_PIRQS = 1 << 10;
        /// The guest is, or can be, the initial domain.
        const DOM0 = 1 << 11;
        /// Virtual nodes can be named in memory requests.
        const MEMORY_OP_VNODE_SUPPORTED = 1 << 13;
        /// Of another architecture.
        const ARM_SMCCC_SUPPORTED = 1 << 14;
        /// The firmware's tables may be anywhere. Of PVH guests.
        const LINUX_RSDP_UNRESTRICTED = 1 << 15;
        /// Frame numbers are not machine frame numbers.
        const NOT_DIRECT_MAPPED = 1 << 16;
        /// Frame numbers are machine frame numbers (of a PV guest: without meaning).
        const DIRECT_MAPPED = 1 << 17;
    }
}

abi_structs! {
    /// Argument of [`GET_FEATURES`].
    FeatureInfo = "struct xen_feature_info", size 8, align 4 {
        /// In: which 32 features. Only 0 has any.
        0 submap_idx: u32,
        /// Out: see [`Features`].
        4 submap: u32,
    }

    /// Answer of [`COMPILE_INFO`]: texts, each ended by a zero.
    CompileInfo = "struct xen_compile_info", size 144, align 1 {
        /// The compiler and its version.
        0 compiler: [u8; 64],
        /// Who compiled.
        64 compile_by: [u8; 16],
        /// Where.
        80 compile_domain: [u8; 32],
        /// When.
        112 compile_date: [u8; 32],
    }

    /// Answer of [`PLATFORM_PARAMETERS`].
    PlatformParameters = "struct xen_platform_parameters", size 8, align 8 {
        /// The first address of the hypervisor's part of every address space.
        0 virt_start: u64,
    }

    /// Argument of [`BUILD_ID`]: this header, and after it room for the identity's bytes.
    BuildId = "struct xen_build_id", size 4, align 4 {
        /// In: how much room follows; must not be 0. Unit: bytes.
        0 len: u32,
    }
}
