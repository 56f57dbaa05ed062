//! What a domain is given at its start, and the page it shares with the hypervisor from then on.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::layout::LEGACY_MAX_VCPUS;
use crate::types::{Mfn, Pfn, Port};

bitflags::bitflags! {
    /// What kind of domain a guest is started as ([`StartInfo::flags`]).
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct StartFlags: u32 {
        /// The domain has privileges.
        const PRIVILEGED = 1 << 0;
        /// The domain is the first one, started by the hypervisor itself.
        const INITDOMAIN = 1 << 1;
        /// [`StartInfo::mod_start`] names a list of modules instead of a ramdisk.
        const MULTIBOOT_MOD = 1 << 2;
        /// [`StartInfo::mod_start`] is a page number, and the ramdisk is not mapped.
        const MOD_START_PFN = 1 << 3;
        /// The tools can read the list of frames by its address.
        const VIRT_P2M_4TOOLS = 1 << 4;
        /// Which power-management tasks are the domain's. A field, not a flag.
        const PM_MASK = 0xff << 8;
    }
}

/// The page whose address a guest finds in `rsi` at its first instruction.
#[derive(Clone, Copy, Debug, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq)]
#[repr(C)]
pub struct StartInfo {
    /// [`StartInfo::MAGIC`], padded with zeros; other text may follow the first 14 characters.
    pub magic: [u8; 32],
    /// Memory given to the domain, and entries in the list of frames. Unit: pages.
    pub nr_pages: u64,
    /// Machine address of the shared page. Unit: bytes.
    pub shared_info: u64,
    /// See [`StartFlags`].
    pub flags: u32,
    /// No meaning.
    pub pad0: u32,
    /// Frame of the xenstore ring, or 0 in the initial domain.
    pub store_mfn: Mfn,
    /// Event channel of the xenstore ring, or 0 in the initial domain.
    pub store_evtchn: Port,
    /// No meaning.
    pub pad1: u32,
    /// Frame of the console ring. In the initial domain the lower half is instead the offset of
    /// the video console's description in this page, the upper half its size (bytes; 0: none).
    pub console_mfn: Mfn,
    /// Event channel of the console ring; 0 in the initial domain.
    pub console_evtchn: Port,
    /// No meaning.
    pub pad2: u32,
    /// Virtual address of the top-level page table.
    pub pt_base: u64,
    /// Frames of the initial page tables. Unit: pages.
    pub nr_pt_frames: u64,
    /// Virtual address of the list of frames: one machine frame number a page.
    pub mfn_list: u64,
    /// Where the ramdisk is: virtual address, or page with [`StartFlags::MOD_START_PFN`]; 0: none.
    pub mod_start: u64,
    /// Size of the ramdisk. Unit: bytes.
    pub mod_len: u64,
    /// Command line, ended by a zero.
    pub cmd_line: [u8; StartInfo::COMMAND_LINE],
    /// First page of the list of frames, if the image asked for the list at an address of its own.
    pub first_p2m_pfn: Pfn,
    /// Pages of that list and of the page tables that map it. Unit: pages.
    pub nr_p2m_frames: u64,
}

impl StartInfo {
    /// What [`StartInfo::magic`] begins with.
    pub const MAGIC: &[u8; 14] = b"xen-3.0-x86_64";
    /// Room for the command line and its zero. Unit: bytes.
    pub const COMMAND_LINE: usize = 1024;
}

abi_layout! { StartInfo = "struct start_info", size 1168, align 8 {
    magic @ 0, nr_pages @ 32, shared_info @ 40, flags @ 48, pad0 = "" @ 52, store_mfn @ 56,
    store_evtchn @ 64, pad1 = "" @ 68, console_mfn = "console.domU.mfn" @ 72,
    console_evtchn = "console.domU.evtchn" @ 80, pad2 = "" @ 84, pt_base @ 88, nr_pt_frames @ 96,
    mfn_list @ 104, mod_start @ 112, mod_len @ 120, cmd_line @ 128, first_p2m_pfn @ 1152,
    nr_p2m_frames @ 1160,
}}

/// One vCPU's part of the shared page, or of a page it registered.
#[derive(Clone, Copy, Debug, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq)]
#[repr(C)]
pub struct VcpuInfo {
    /// Not 0: an event waits. Set by the hypervisor, cleared by the guest.
    pub evtchn_upcall_pending: u8,
    /// Not 0: no upcall, please. The guest's interrupt flag, inverted.
    pub evtchn_upcall_mask: u8,
    /// No meaning.
    pub pad0: [u8; 6],
    /// Which words of the pending bits to look at: one bit a word.
    pub evtchn_pending_sel: u64,
    /// The address of the last page fault.
    pub cr2: u64,
    /// No meaning.
    pub pad1: u64,
    /// The clock.
    pub time: VcpuTimeInfo,
}

abi_layout! { VcpuInfo = "struct vcpu_info", size 64, align 8 {
    evtchn_upcall_pending @ 0, evtchn_upcall_mask @ 1, pad0 = "" @ 2, evtchn_pending_sel @ 8,
    cr2 = "arch.cr2" @ 16, pad1 = "arch.pad" @ 24, time @ 32,
}}

/// One vCPU's clock: nanoseconds since the hypervisor started, as a function of the counter.
///
/// `system_time + (((tsc - tsc_timestamp) << tsc_shift) * tsc_to_system_mul >> 32)`, where a
/// negative shift is to the right. Valid if `version` is even and the same before and after.
#[derive(Clone, Copy, Debug, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq)]
#[repr(C)]
pub struct VcpuTimeInfo {
    /// Odd while the rest is being written.
    pub version: u32,
    /// No meaning.
    pub pad0: u32,
    /// The counter when the rest was written. Unit: cycles.
    pub tsc_timestamp: u64,
    /// The time then. Unit: nanoseconds since the hypervisor started.
    pub system_time: u64,
    /// Nanoseconds a shifted cycle. Unit: 2^-32.
    pub tsc_to_system_mul: u32,
    /// How far to shift cycles before the multiplication. Unit: bits, to the left.
    pub tsc_shift: i8,
    /// See [`ClockFlags`].
    pub flags: u8,
    /// No meaning.
    pub pad1: [u8; 2],
}

abi_layout! { VcpuTimeInfo = "struct vcpu_time_info", size 32, align 8 {
    version @ 0, pad0 @ 4, tsc_timestamp @ 8, system_time @ 16, tsc_to_system_mul @ 24,
    tsc_shift @ 28, flags @ 29, pad1 @ 30,
}}

bitflags::bitflags! {
    /// What a guest may rely on ([`VcpuTimeInfo::flags`]).
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct ClockFlags: u8 {
        /// The clocks of all vCPUs agree, and none goes backwards.
        const TSC_STABLE = 1 << 0;
        /// The domain was stopped by its host.
        const GUEST_STOPPED = 1 << 1;
    }
}

/// The page that a domain shares with the hypervisor (3136 bytes of it).
#[derive(Clone, Copy, Debug, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq)]
#[repr(C)]
pub struct SharedInfo {
    /// The first vCPUs' parts.
    pub vcpu_info: [VcpuInfo; LEGACY_MAX_VCPUS],
    /// One bit a port: an event waits.
    pub evtchn_pending: [u64; 64],
    /// One bit a port: do not disturb.
    pub evtchn_mask: [u64; 64],
    /// Odd while the wall clock is being written.
    pub wc_version: u32,
    /// Wall-clock time at system time 0, lower half. Unit: seconds since 1970.
    pub wc_sec: u32,
    /// The part below a second. Unit: nanoseconds.
    pub wc_nsec: u32,
    /// Upper half of `wc_sec`.
    pub wc_sec_hi: u32,
    /// What the guest says about its frames.
    pub arch: ArchSharedInfo,
}

abi_layout! { SharedInfo = "struct shared_info", size 3136, align 8 {
    vcpu_info @ 0, evtchn_pending @ 2048, evtchn_mask @ 2560, wc_version @ 3072, wc_sec @ 3076,
    wc_nsec @ 3080, wc_sec_hi @ 3084, arch @ 3088,
}}

/// The guest's description of its list of frames, written by the guest for the tools to save it.
#[derive(Clone, Copy, Debug, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq)]
#[repr(C)]
pub struct ArchSharedInfo {
    /// Entries in the list. Unit: pages.
    pub max_pfn: u64,
    /// Frame of the top of a three-level tree over the list; all ones if only the address is kept.
    pub pfn_to_mfn_frame_list_list: Mfn,
    /// Why the last non-maskable interrupt came; written by the hypervisor.
    pub nmi_reason: u64,
    /// Root of page tables under which `p2m_vaddr` is valid; 0: it is not.
    pub p2m_cr3: u64,
    /// Virtual address of the list.
    pub p2m_vaddr: u64,
    /// Odd while the list is being changed.
    pub p2m_generation: u64,
}

abi_layout! { ArchSharedInfo = "struct arch_shared_info", size 48, align 8 {
    max_pfn @ 0, pfn_to_mfn_frame_list_list @ 8, nmi_reason @ 16, p2m_cr3 @ 24, p2m_vaddr @ 32,
    p2m_generation @ 40,
}}

/// One module in the list that [`StartFlags::MULTIBOOT_MOD`] announces.
#[derive(Clone, Copy, Debug, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq)]
#[repr(C)]
pub struct MultibootModule {
    /// Address of the first byte.
    pub mod_start: u32,
    /// Address after the last byte.
    pub mod_end: u32,
    /// Address of its command line, ended by a zero.
    pub cmdline: u32,
    /// Always 0.
    pub pad: u32,
}

abi_layout! { MultibootModule = "struct xen_multiboot_mod_list", size 16, align 4 {
    mod_start @ 0, mod_end @ 4, cmdline @ 8, pad @ 12,
}}

/// [`VgaConsoleText::video_type`]: text mode 3.
pub const VGA_TEXT_MODE_3: u8 = 0x03;
/// [`VgaConsoleLfb::video_type`]: a linear frame buffer set up by the VESA BIOS.
pub const VGA_VESA_LFB: u8 = 0x23;
/// [`VgaConsoleLfb::video_type`]: a linear frame buffer set up by EFI.
pub const VGA_EFI_LFB: u8 = 0x70;

/// The initial domain's video console in text mode, of which the last 24 bytes are not used.
#[derive(Clone, Copy, Debug, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq)]
#[repr(C)]
pub struct VgaConsoleText {
    /// [`VGA_TEXT_MODE_3`].
    pub video_type: u8,
    /// No meaning.
    pub pad0: [u8; 3],
    /// Unit: scan lines.
    pub font_height: u16,
    /// Column of the cursor.
    pub cursor_x: u16,
    /// Row of the cursor.
    pub cursor_y: u16,
    /// Unit: characters.
    pub rows: u16,
    /// Unit: characters.
    pub columns: u16,
    /// No meaning.
    pub pad1: u16,
    /// What the frame-buffer form needs besides; 0.
    pub rest: [u32; 6],
}

abi_layout! { VgaConsoleText = "struct dom0_vga_console_info", size 40, align 4 {
    video_type @ 0, pad0 = "" @ 1, font_height = "u.text_mode_3.font_height" @ 4,
    cursor_x = "u.text_mode_3.cursor_x" @ 6, cursor_y = "u.text_mode_3.cursor_y" @ 8,
    rows = "u.text_mode_3.rows" @ 10, columns = "u.text_mode_3.columns" @ 12, pad1 = "" @ 14,
    rest = "" @ 16,
}}

/// The initial domain's video console as a frame buffer.
#[derive(Clone, Copy, Debug, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq)]
#[repr(C)]
pub struct VgaConsoleLfb {
    /// [`VGA_VESA_LFB`] or [`VGA_EFI_LFB`].
    pub video_type: u8,
    /// No meaning.
    pub pad0: [u8; 3],
    /// Unit: pixels.
    pub width: u16,
    /// Unit: pixels.
    pub height: u16,
    /// Unit: bytes.
    pub bytes_per_line: u16,
    /// Unit: bits.
    pub bits_per_pixel: u16,
    /// Machine address of the first pixel, lower half.
    pub lfb_base: u32,
    /// Unit: 64 KiB with VESA, bytes with EFI.
    pub lfb_size: u32,
    /// Where red is in a pixel. Unit: bits.
    pub red_pos: u8,
    /// How wide red is. Unit: bits.
    pub red_size: u8,
    /// Where green is in a pixel. Unit: bits.
    pub green_pos: u8,
    /// How wide green is. Unit: bits.
    pub green_size: u8,
    /// Where blue is in a pixel. Unit: bits.
    pub blue_pos: u8,
    /// How wide blue is. Unit: bits.
    pub blue_size: u8,
    /// Where the unused part is in a pixel. Unit: bits.
    pub rsvd_pos: u8,
    /// How wide the unused part is. Unit: bits.
    pub rsvd_size: u8,
    /// The VESA BIOS's capabilities.
    pub gbl_caps: u32,
    /// The VESA BIOS's attributes of the mode.
    pub mode_attrs: u16,
    /// No meaning.
    pub pad: u16,
    /// Upper half of `lfb_base`.
    pub ext_lfb_base: u32,
}

abi_layout! { VgaConsoleLfb = "struct dom0_vga_console_info", size 40, align 4 {
    video_type @ 0, pad0 = "" @ 1, width = "u.vesa_lfb.width" @ 4, height = "u.vesa_lfb.height" @ 6,
    bytes_per_line = "u.vesa_lfb.bytes_per_line" @ 8,
    bits_per_pixel = "u.vesa_lfb.bits_per_pixel" @ 10, lfb_base = "u.vesa_lfb.lfb_base" @ 12,
    lfb_size = "u.vesa_lfb.lfb_size" @ 16, red_pos = "u.vesa_lfb.red_pos" @ 20,
    red_size = "u.vesa_lfb.red_size" @ 21, green_pos = "u.vesa_lfb.green_pos" @ 22,
    green_size = "u.vesa_lfb.green_size" @ 23, blue_pos = "u.vesa_lfb.blue_pos" @ 24,
    blue_size = "u.vesa_lfb.blue_size" @ 25, rsvd_pos = "u.vesa_lfb.rsvd_pos" @ 26,
    rsvd_size = "u.vesa_lfb.rsvd_size" @ 27,
    gbl_caps = "u.vesa_lfb.gbl_caps" @ 28, mode_attrs = "u.vesa_lfb.mode_attrs" @ 32,
    pad = "u.vesa_lfb.pad" @ 34, ext_lfb_base = "u.vesa_lfb.ext_lfb_base" @ 36,
}}
