//! ELF notes by which a kernel image tells the builder what it is and wants.
//!
//! Notes belong to the owner `"Xen"`. A value is a string, or a number of 4 or 8 bytes.

/// The owner of these notes, without its terminating zero.
pub const OWNER: &str = "Xen";

numbers! {
    /// Every note a builder reads, with its C name.
    ALL: u32 {
        INFO = 0, "XEN_ELFNOTE_INFO", "Free text.";
        ENTRY = 1, "XEN_ELFNOTE_ENTRY", "Virtual address of the first instruction.";
        HYPERCALL_PAGE = 2, "XEN_ELFNOTE_HYPERCALL_PAGE", "Virtual address of a page to fill with hypercall stubs.";
        VIRT_BASE = 3, "XEN_ELFNOTE_VIRT_BASE", "Virtual address that physical address 0 is mapped at.";
        PADDR_OFFSET = 4, "XEN_ELFNOTE_PADDR_OFFSET", "What to subtract from the image's physical addresses. Unit: bytes.";
        XEN_VERSION = 5, "XEN_ELFNOTE_XEN_VERSION", "The interface the image is written for, as text: `xen-3.0`.";
        GUEST_OS = 6, "XEN_ELFNOTE_GUEST_OS", "The name of the guest system, as text.";
        GUEST_VERSION = 7, "XEN_ELFNOTE_GUEST_VERSION", "Its version, as text.";
        LOADER = 8, "XEN_ELFNOTE_LOADER", "The loader it wants, as text: `generic`.";
        PAE_MODE = 9, "XEN_ELFNOTE_PAE_MODE", "Of 32-bit guests only.";
        FEATURES = 10, "XEN_ELFNOTE_FEATURES", "Features by name, separated by `|`; `!` before one makes it required.";
        BSD_SYMTAB = 11, "XEN_ELFNOTE_BSD_SYMTAB", "Wants its symbol table loaded after the image.";
        HV_START_LOW = 12, "XEN_ELFNOTE_HV_START_LOW", "Lowest address the hypervisor may use.";
        L1_MFN_VALID = 13, "XEN_ELFNOTE_L1_MFN_VALID", "Mask and value that tell entries with a frame number. For migration.";
        SUSPEND_CANCEL = 14, "XEN_ELFNOTE_SUSPEND_CANCEL", "A suspend may return 1 for cancelled.";
        INIT_P2M = 15, "XEN_ELFNOTE_INIT_P2M", "Virtual address at which it wants its list of frames.";
        MOD_START_PFN = 16, "XEN_ELFNOTE_MOD_START_PFN", "Can do with a ramdisk that is not mapped.";
        SUPPORTED_FEATURES = 17, "XEN_ELFNOTE_SUPPORTED_FEATURES", "Features as a bit mask; see `version::Features`.";
        PHYS32_ENTRY = 18, "XEN_ELFNOTE_PHYS32_ENTRY", "Physical address of a 32-bit entry. Not for PV guests.";
    }
}
