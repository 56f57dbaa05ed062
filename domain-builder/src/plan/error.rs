//! Why a domain can't be laid out: each reason one sentence that says what to do about it.
use core::fmt;

/// Why there is no plan.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PlanError {
    /// The domain has fewer frames than its parts need.
    TooLittleMemory {
        /// Frames that would do.
        needed: u64,
        /// Frames there are.
        pages: u64,
        /// Bytes of the ramdisk, which counts among the parts.
        ramdisk_len: u64,
    },
    /// More frames than any machine has.
    TooManyPages {
        /// Frames asked for.
        pages: u64,
    },
    /// The parts go past the end of the address space.
    Wraps {
        /// Where they begin.
        base: u64,
    },
    /// The parts reach into addresses that are not canonical or belong to the hypervisor.
    Forbidden {
        /// Where they begin.
        start: u64,
        /// Where they end (exclusive).
        end: u64,
    },
    /// The image is not made to be the initial domain.
    NotInitial,
    /// The hypercall page lies where nothing is mapped.
    HypercallPageOutside {
        /// Where the guest wants it.
        page: u64,
    },
    /// The guest wants its frame list where other parts are mapped.
    ListOverlaps {
        /// Where it wants the list.
        va: u64,
        /// The mapped range's start.
        start: u64,
        /// The mapped range's end (exclusive).
        end: u64,
    },
}

impl core::error::Error for PlanError {}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooLittleMemory { needed, pages, ramdisk_len } => write!(
                f,
                "too little memory: the domain has {} KiB, but its image, tables and ramdisk \
                 ({} KiB) need {} KiB; give it at least {} MiB",
                pages.saturating_mul(4),
                ramdisk_len.div_ceil(1024),
                needed.saturating_mul(4),
                needed.div_ceil(256)
            ),
            Self::TooManyPages { pages } => write!(
                f,
                "{pages} pages of memory are more than any machine has: give the domain less"
            ),
            Self::Wraps { base } => write!(
                f,
                "the domain's parts, which begin at {base:#x}, go past the end of the address \
                 space: choose a lower base (Xen notes VIRT_BASE, INIT_P2M), a smaller ramdisk or \
                 less memory"
            ),
            Self::Forbidden { start, end } => write!(
                f,
                "the domain's parts ({start:#x} to {end:#x}) reach into addresses that are not \
                 canonical or belong to the hypervisor (0x800000000000 to 0xffff880000000000): \
                 choose another base (Xen notes VIRT_BASE, INIT_P2M)"
            ),
            Self::NotInitial => f.write_str(
                "the image can't be the initial domain: its Xen note SUPPORTED_FEATURES (17) lacks \
                 bit 11 (dom0), so give a kernel that has it, or start this one as another domain",
            ),
            Self::HypercallPageOutside { page } => write!(
                f,
                "the hypercall page (Xen note HYPERCALL_PAGE) at {page:#x} lies outside of the \
                 domain's initial mapping: correct the note"
            ),
            Self::ListOverlaps { va, start, end } => write!(
                f,
                "the frame list (Xen note INIT_P2M, {va:#x}) would overlap the domain's other \
                 parts ({start:#x} to {end:#x}): move it elsewhere"
            ),
        }
    }
}
