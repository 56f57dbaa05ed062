//! Addresses from notes, from the ELF header and from segments, against each other.
use core::fmt;

/// An address that a note gives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// Note `VIRT_BASE`.
    Base,
    /// Note `HYPERCALL_PAGE`.
    HypercallPage,
    /// Note `INIT_P2M`.
    P2m,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base => "base address (Xen note VIRT_BASE)",
            Self::HypercallPage => "hypercall page (Xen note HYPERCALL_PAGE)",
            Self::P2m => "frame list (Xen note INIT_P2M)",
        })
    }
}

/// Why an image's addresses don't fit together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in the sentences below")]
pub enum PlaceError {
    /// A segment lies below `PADDR_OFFSET`, so below the base.
    BelowOffset { paddr: u64, paddr_offset: u64 },
    /// `VIRT_BASE` and the segments' addresses don't fit the address space.
    Wraps { paddr: u64, base: u64, paddr_offset: u64 },
    /// An address that has to be a multiple of 4096.
    Misaligned { part: Part, address: u64 },
    /// The entry point does not lie in the image.
    EntryOutside { entry: u64, start: u64, end: u64 },
    /// The frame list would be mapped over the image.
    P2mInImage { address: u64, start: u64, end: u64 },
    /// The image wants addresses that belong to the hypervisor.
    HypervisorRange { start: u64, end: u64 },
}

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::BelowOffset { paddr, paddr_offset } => write!(
                f,
                "the segment at physical address {paddr:#x} lies below the base of the guest's \
                 memory (Xen note PADDR_OFFSET is {paddr_offset:#x}): correct the note or the load \
                 addresses"
            ),
            Self::Wraps { paddr, base, paddr_offset } => write!(
                f,
                "the segments end beyond the address space (physical address {paddr:#x} with Xen \
                 notes VIRT_BASE {base:#x} and PADDR_OFFSET {paddr_offset:#x}): correct the notes \
                 or the load addresses"
            ),
            Self::Misaligned { part, address } => write!(
                f,
                "the {part} at {address:#x} is not a multiple of 4096: correct it in the kernel"
            ),
            Self::EntryOutside { entry, start, end } => write!(
                f,
                "the entry point {entry:#x} (Xen note ENTRY, else the ELF header's) lies outside of \
                 the image ({start:#x} to {end:#x}): correct the note or the load addresses"
            ),
            Self::P2mInImage { address, start, end } => write!(
                f,
                "the frame list (Xen note INIT_P2M) at {address:#x} lies inside of the image \
                 ({start:#x} to {end:#x}): move it elsewhere"
            ),
            Self::HypervisorRange { start, end } => write!(
                f,
                "the image ({start:#x} to {end:#x}, from Xen note VIRT_BASE) runs into the \
                 hypervisor's addresses (0xffff800000000000 to 0xffff880000000000): link it elsewhere"
            ),
        }
    }
}
