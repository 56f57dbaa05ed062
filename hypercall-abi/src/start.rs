//! What a domain is given at its start, and the page it shares with the hypervisor from then on.

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

abi_structs! {
    /// The page whose address a guest finds in `rsi` at its first instruction.
    StartInfo = "struct start_info", size 1168, align 8 {
        /// [`StartInfo::MAGIC`], padded with zeros; other text may follow the first 14 characters.
        0 magic: [u8; 32],
        /// Memory given to the domain, and entries in the list of frames. Unit: pages.
        32 nr_pages: u64,
        /// Machine address of the shared page. Unit: bytes.
        40 shared_info: u64,
        /// See [`StartFlags`].
        48 flags: u32,
        /// No meaning.
        52 pad0: u32 = "",
        /// Frame of the xenstore ring, or 0 in the initial domain.
        56 store_mfn: Mfn,
        /// Event channel of the xenstore ring, or 0 in the initial domain.
        64 store_evtchn: Port,
        /// No meaning.
        68 pad1: u32 = "",
        /// Frame of the console ring. In the initial domain the lower half is instead the offset of
        /// the video console's description in this page, the upper half its size (bytes; 0: none).
        72 console_mfn: Mfn = "console.domU.mfn",
        /// Event channel of the console ring; 0 in the initial domain.
        80 console_evtchn: Port = "console.domU.evtchn",
        /// No meaning.
        84 pad2: u32 = "",
        /// Virtual address of the top-level page table.
        88 pt_base: u64,
        /// Frames of the initial page tables. Unit: pages.
        96 nr_pt_frames: u64,
        /// Virtual address of the list of frames: one machine frame number a page.
        104 mfn_list: u64,
        /// Where the ramdisk is: virtual address, or page with [`StartFlags::MOD_START_PFN`]; 0: none.
        112 mod_start: u64,
        /// Size of the ramdisk. Unit: bytes.
        120 mod_len: u64,
        /// Command line, ended by a zero.
        128 cmd_line: [u8; StartInfo::COMMAND_LINE],
        /// First page of the list of frames, if the image asked for the list at an address of its own.
        1152 first_p2m_pfn: Pfn,
        /// Pages of that list and of the page tables that map it. Unit: pages.
        1160 nr_p2m_frames: u64,
    }

    /// One vCPU's part of the shared page, or of a page it registered.
    VcpuInfo = "struct vcpu_info", size 64, align 8 {
        /// Not 0: an event waits. Set by the hypervisor, cleared by the guest.
        0 evtchn_upcall_pending: u8,
        /// Not 0: no upcall, please. The guest's interrupt flag, inverted.
        1 evtchn_upcall_mask: u8,
        /// No meaning.
        2 pad0: [u8; 6] = "",
        /// Which words of the pending bits to look at: one bit a word.
        8 evtchn_pending_sel: u64,
        /// The address of the last page fault.
        16 cr2: u64 = "arch.cr2",
        /// No meaning.
        24 pad1: u64 = "arch.pad",
        /// The clock.
        32 time: VcpuTimeInfo,
    }

    /// One vCPU's clock: nanoseconds since the hypervisor started, as a function of the counter.
    ///
    /// `system_time + (((tsc - tsc_timestamp) << tsc_shift) * tsc_to_system_mul >> 32)`, where a
    /// negative shift is to the right. Valid if `version` is even and the same before and after.
    VcpuTimeInfo = "struct vcpu_time_info", size 32, align 8 {
        /// Odd while the rest is being written.
        0 version: u32,
        /// No meaning.
        4 pad0: u32,
        /// The counter when the rest was written. Unit: cycles.
        8 tsc_timestamp: u64,
        /// The time then. Unit: nanoseconds since the hypervisor started.
        16 system_time: u64,
        /// Nanoseconds a shifted cycle. Unit: 2^-32.
        24 tsc_to_system_mul: u32,
        /// How far to shift cycles before the multiplication. Unit: bits, to the left.
        28 tsc_shift: i8,
        /// See [`ClockFlags`].
        29 flags: u8,
        /// No meaning.
        30 pad1: [u8; 2],
    }

    /// The page that a domain shares with the hypervisor (3136 bytes of it).
    SharedInfo = "struct shared_info", size 3136, align 8 {
        /// The first vCPUs' parts.
        0 vcpu_info: [VcpuInfo; LEGACY_MAX_VCPUS],
        /// One bit a port: an event waits.
        2048 evtchn_pending: [u64; 64],
        /// One bit a port: do not disturb.
        2560 evtchn_mask: [u64; 64],
        /// Odd while the wall clock is being written.
        3072 wc_version: u32,
        /// Wall-clock time at system time 0, lower half. Unit: seconds since 1970.
        3076 wc_sec: u32,
        /// The part below a second. Unit: nanoseconds.
        3080 wc_nsec: u32,
        /// Upper half of `wc_sec`.
        3084 wc_sec_hi: u32,
        /// What the guest says about its frames.
        3088 arch: ArchSharedInfo,
    }

    /// The guest's description of its list of frames, written by the guest for the tools to save it.
    ArchSharedInfo = "struct arch_shared_info", size 48, align 8 {
        /// Entries in the list. Unit: pages.
        0 max_pfn: u64,
        /// Frame of the top of a three-level tree over the list; all ones if only the address is kept.
        8 pfn_to_mfn_frame_list_list: Mfn,
        /// Why the last non-maskable interrupt came; written by the hypervisor.
        16 nmi_reason: u64,
        /// Root of page tables under which `p2m_vaddr` is valid; 0: it is not.
        24 p2m_cr3: u64,
        /// Virtual address of the list.
        32 p2m_vaddr: u64,
        /// Odd while the list is being changed.
        40 p2m_generation: u64,
    }

    /// One module in the list that [`StartFlags::MULTIBOOT_MOD`] announces.
    MultibootModule = "struct xen_multiboot_mod_list", size 16, align 4 {
        /// Address of the first byte.
        0 mod_start: u32,
        /// Address after the last byte.
        4 mod_end: u32,
        /// Address of its command line, ended by a zero.
        8 cmdline: u32,
        /// Always 0.
        12 pad: u32,
    }

    /// The initial domain's video console in text mode, of which the last 24 bytes are not used.
    VgaConsoleText = "struct dom0_vga_console_info", size 40, align 4 {
        /// [`VGA_TEXT_MODE_3`].
        0 video_type: u8,
        /// No meaning.
        1 pad0: [u8; 3] = "",
        /// Unit: scan lines.
        4 font_height: u16 = "u.text_mode_3.font_height",
        /// Column of the cursor.
        6 cursor_x: u16 = "u.text_mode_3.cursor_x",
        /// Row of the cursor.
        8 cursor_y: u16 = "u.text_mode_3.cursor_y",
        /// Unit: characters.
        10 rows: u16 = "u.text_mode_3.rows",
        /// Unit: characters.
        12 columns: u16 = "u.text_mode_3.columns",
        /// No meaning.
        14 pad1: u16 = "",
        /// What the frame-buffer form needs besides; 0.
        16 rest: [u32; 6] = "",
    }

    /// The initial domain's video console as a frame buffer.
    VgaConsoleLfb = "struct dom0_vga_console_info", size 40, align 4 {
        /// [`VGA_VESA_LFB`] or [`VGA_EFI_LFB`].
        0 video_type: u8,
        /// No meaning.
        1 pad0: [u8; 3] = "",
        /// Unit: pixels.
        4 width: u16 = "u.vesa_lfb.width",
        /// Unit: pixels.
        6 height: u16 = "u.vesa_lfb.height",
        /// Unit: bytes.
        8 bytes_per_line: u16 = "u.vesa_lfb.bytes_per_line",
        /// Unit: bits.
        10 bits_per_pixel: u16 = "u.vesa_lfb.bits_per_pixel",
        /// Machine address of the first pixel, lower half.
        12 lfb_base: u32 = "u.vesa_lfb.lfb_base",
        /// Unit: 64 KiB with VESA, bytes with EFI.
        16 lfb_size: u32 = "u.vesa_lfb.lfb_size",
        /// Where red is in a pixel. Unit: bits.
        20 red_pos: u8 = "u.vesa_lfb.red_pos",
        /// How wide red is. Unit: bits.
        21 red_size: u8 = "u.vesa_lfb.red_size",
        /// Where green is in a pixel. Unit: bits.
        22 green_pos: u8 = "u.vesa_lfb.green_pos",
        /// How wide green is. Unit: bits.
        23 green_size: u8 = "u.vesa_lfb.green_size",
        /// Where blue is in a pixel. Unit: bits.
        24 blue_pos: u8 = "u.vesa_lfb.blue_pos",
        /// How wide blue is. Unit: bits.
        25 blue_size: u8 = "u.vesa_lfb.blue_size",
        /// Where the unused part is in a pixel. Unit: bits.
        26 rsvd_pos: u8 = "u.vesa_lfb.rsvd_pos",
        /// How wide the unused part is. Unit: bits.
        27 rsvd_size: u8 = "u.vesa_lfb.rsvd_size",
        /// The VESA BIOS's capabilities.
        28 gbl_caps: u32 = "u.vesa_lfb.gbl_caps",
        /// The VESA BIOS's attributes of the mode.
        32 mode_attrs: u16 = "u.vesa_lfb.mode_attrs",
        /// No meaning.
        34 pad: u16 = "u.vesa_lfb.pad",
        /// Upper half of `lfb_base`.
        36 ext_lfb_base: u32 = "u.vesa_lfb.ext_lfb_base",
    }
}

impl StartInfo {
    /// What [`StartInfo::magic`] begins with.
    pub const MAGIC: &[u8; 14] = b"xen-3.0-x86_64";
    /// Room for the command line and its zero. Unit: bytes.
    pub const COMMAND_LINE: usize = 1024;
}

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

/// [`VgaConsoleText::video_type`]: text mode 3.
pub const VGA_TEXT_MODE_3: u8 = 0x03;
/// [`VgaConsoleLfb::video_type`]: a linear frame buffer set up by the VESA BIOS.
pub const VGA_VESA_LFB: u8 = 0x23;
/// [`VgaConsoleLfb::video_type`]: a linear frame buffer set up by EFI.
pub const VGA_EFI_LFB: u8 = 0x70;
