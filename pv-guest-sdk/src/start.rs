//! The start-of-day page, as the ABI lays it out.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

bitflags::bitflags! {
    /// What kind of domain a guest is started as.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct StartFlags: u32 {
        /// The domain has privileges.
        const PRIVILEGED = 1;
        /// The domain is the first one.
        const INITDOMAIN = 2;
        /// The ramdisk field names a list of modules.
        const MULTIBOOT_MOD = 4;
        /// The ramdisk field is a page number, and the ramdisk is not mapped.
        const MOD_START_PFN = 8;
        /// The list of frames is also published by its address.
        const VIRT_P2M_4TOOLS = 16;
    }
}

/// The page a guest is given at its start (address in `rsi`).
#[derive(Clone, Copy, Debug, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq)]
#[repr(C)]
#[expect(missing_docs, reason = "stand-in until hypercall-abi has it")]
pub struct StartInfo {
    pub magic: [u8; 32],
    pub nr_pages: u64,
    pub shared_info: u64,
    pub flags: u32,
    pub reserved_52: u32,
    pub store_mfn: u64,
    pub store_evtchn: u32,
    pub reserved_68: u32,
    pub console: [u8; 16],
    pub pt_base: u64,
    pub nr_pt_frames: u64,
    pub mfn_list: u64,
    pub mod_start: u64,
    pub mod_len: u64,
    pub cmd_line: [u8; 1024],
    pub first_p2m_pfn: u64,
    pub nr_p2m_frames: u64,
}

const _: () = assert!(size_of::<StartInfo>() == 1168);
const _: () = assert!(core::mem::offset_of!(StartInfo, pt_base) == 88);
