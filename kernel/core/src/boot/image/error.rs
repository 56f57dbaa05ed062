//! Why an image can't be a guest: each reason one sentence that says what to do about it.
use core::fmt;

use super::Compression;

/// An address that a note or the ELF header gives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// Note ENTRY, or `e_entry` of the ELF header where there is none.
    Entry,
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
            Self::Entry => "entry point (Xen note ENTRY, else the ELF header's)",
            Self::Base => "base address (Xen note VIRT_BASE)",
            Self::HypercallPage => "hypercall page (Xen note HYPERCALL_PAGE)",
            Self::P2m => "frame list (Xen note INIT_P2M)",
        })
    }
}

/// Why a file can't be booted as a 64-bit PV guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in the sentences below")]
pub enum ImageError {
    /// No ELF magic.
    NotElf { start: [u8; 4], len: u64 },
    /// A format that has to be unpacked first.
    Compressed(Compression),
    /// ELF class 32.
    ThirtyTwoBit,
    /// Neither ELF class.
    Class(u8),
    /// Big-endian.
    Endianness,
    /// Not x86-64.
    Machine(u16),
    /// Not an executable.
    Type(u16),
    /// The file ends inside of something.
    Truncated {
        what: &'static str,
        needed: u64,
        len: u64,
    },
    /// Program headers of a size that ELF64 does not have.
    HeaderSize(u16),
    /// More program headers than anyone needs.
    TooManySegments { count: u16, most: u16 },
    /// Nothing to load.
    NoSegments,
    /// The file ends inside of a segment.
    SegmentTruncated {
        number: usize,
        needed: u64,
        len: u64,
    },
    /// More bytes in the file than in memory.
    SegmentSize {
        number: usize,
        in_file: u64,
        in_memory: u64,
    },
    /// A segment goes past the end of the address space.
    SegmentWraps {
        number: usize,
        paddr: u64,
        in_memory: u64,
    },
    /// Two segments share an address.
    Overlap {
        first: usize,
        second: usize,
        at: u64,
    },
    /// A segment lies below `PADDR_OFFSET`, so below the base.
    BelowOffset { paddr: u64, paddr_offset: u64 },
    /// `VIRT_BASE` and the segments' addresses don't fit the address space.
    Wraps {
        paddr: u64,
        base: u64,
        paddr_offset: u64,
    },
    /// No note of Xen's.
    NoNotes,
    /// A number of neither 4 nor 8 bytes.
    NoteSize { note: &'static str, len: u64 },
    /// No note `XEN_VERSION`.
    VersionMissing,
    /// `XEN_VERSION` other than "xen-3.0".
    VersionUnknown,
    /// No note LOADER.
    LoaderMissing,
    /// LOADER other than "generic".
    LoaderUnknown,
    /// `PADDR_OFFSET` without `VIRT_BASE`.
    BaseMissing,
    /// An address that has to be a multiple of 4096.
    Misaligned { part: Part, address: u64 },
    /// An address that has to lie in the image.
    OutOfImage {
        part: Part,
        address: u64,
        start: u64,
        end: u64,
    },
    /// The frame list would be mapped over the image.
    P2mInImage { address: u64, start: u64, end: u64 },
    /// The image wants addresses that belong to the hypervisor.
    HypervisorRange { start: u64, end: u64 },
}

impl core::error::Error for ImageError {}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotElf {
                start: [a, b, c, d],
                len,
            } => write!(
                f,
                "not an ELF file (it begins with bytes {a:02x} {b:02x} {c:02x} {d:02x}, {len} \
                 bytes in all): give the uncompressed 64-bit ELF kernel of a Xen PV guest"
            ),
            Self::Compressed(format) => write!(
                f,
                "the image is compressed ({format}, by its first bytes): unpack it first, with \
                 `{}`, and give the ELF file inside",
                format.remedy()
            ),
            Self::ThirtyTwoBit => f.write_str(
                "a 32-bit ELF file (class byte at offset 4 is 1): only 64-bit PV guests can run \
                 here, build the kernel for x86-64",
            ),
            Self::Class(class) => write!(
                f,
                "damaged ELF header: class byte at offset 4 is {class}, not 1 or 2; rebuild or \
                 copy the image again"
            ),
            Self::Endianness => f.write_str(
                "not a little-endian ELF file (data byte at offset 5 is not 1, or version byte at \
                 offset 6 is not 1): build the kernel for x86-64",
            ),
            Self::Machine(machine) => write!(
                f,
                "an ELF file for another machine (number {machine} at offset 18, x86-64 is 62): \
                 build the kernel for x86-64"
            ),
            Self::Type(kind) => write!(
                f,
                "an ELF file of type {kind} (at offset 16), not an executable (2 or 3): link the \
                 kernel before booting it"
            ),
            Self::Truncated { what, needed, len } => write!(
                f,
                "the image is truncated: {what} end at offset {needed:#x}, but the file has only \
                 {len:#x} bytes; copy it again"
            ),
            Self::HeaderSize(size) => write!(
                f,
                "damaged ELF header: program headers of {size} bytes (at offset 54) instead of 56; \
                 rebuild or copy the image again"
            ),
            Self::TooManySegments { count, most } => write!(
                f,
                "the ELF header (offset 56) announces {count} program headers, more than {most}: \
                 link the kernel with fewer segments"
            ),
            _ => self.fmt_segments(f),
        }
    }
}

impl ImageError {
    fn fmt_segments(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoSegments => f.write_str(
                "no segment to load: none of the program headers is a PT_LOAD with permissions and \
                 a size, so check the kernel's linker script",
            ),
            Self::SegmentTruncated {
                number,
                needed,
                len,
            } => write!(
                f,
                "the image is truncated: segment {number} ends at offset {needed:#x}, but the file \
                 has only {len:#x} bytes; copy it again"
            ),
            Self::SegmentSize {
                number,
                in_file,
                in_memory,
            } => write!(
                f,
                "segment {number} has more bytes in the file ({in_file:#x}) than in memory \
                 ({in_memory:#x}): the image is damaged, link or copy it again"
            ),
            Self::SegmentWraps {
                number,
                paddr,
                in_memory,
            } => write!(
                f,
                "segment {number} (physical address {paddr:#x}, {in_memory:#x} bytes) goes past \
                 the end of the address space: check the load addresses in the linker script"
            ),
            Self::Overlap { first, second, at } => write!(
                f,
                "segments {first} and {second} overlap at physical address {at:#x}: check the load \
                 addresses in the linker script"
            ),
            Self::BelowOffset {
                paddr,
                paddr_offset,
            } => write!(
                f,
                "the segment at physical address {paddr:#x} lies below the base of the guest's \
                 memory (Xen note PADDR_OFFSET is {paddr_offset:#x}): correct the note or the load \
                 addresses"
            ),
            Self::Wraps {
                paddr,
                base,
                paddr_offset,
            } => write!(
                f,
                "the segments end beyond the address space (physical address {paddr:#x} with Xen \
                 notes VIRT_BASE {base:#x} and PADDR_OFFSET {paddr_offset:#x}): correct the notes \
                 or the load addresses"
            ),
            _ => self.fmt_notes(f),
        }
    }

    fn fmt_notes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoNotes => f.write_str(
                "no Xen notes, neither in PT_NOTE segments nor in note sections: this is not a \
                 kernel for Xen PV (a Linux kernel needs CONFIG_XEN_PV)",
            ),
            Self::NoteSize { note, len } => write!(
                f,
                "Xen note {note} holds {len} bytes where a number of 4 or 8 bytes belongs: correct \
                 the note"
            ),
            Self::VersionMissing => {
                f.write_str("Xen note XEN_VERSION (5) is missing: add it with value \"xen-3.0\"")
            }
            Self::VersionUnknown => f.write_str(
                "Xen note XEN_VERSION (5) does not begin with \"xen-3.0\", the only interface \
                 there is: correct the note",
            ),
            Self::LoaderMissing => {
                f.write_str("Xen note LOADER (8) is missing: add it with value \"generic\"")
            }
            Self::LoaderUnknown => f.write_str(
                "Xen note LOADER (8) does not begin with \"generic\": this kernel asks for another \
                 loader and can't be booted until the note is changed",
            ),
            Self::BaseMissing => f.write_str(
                "Xen note PADDR_OFFSET (4) is given without VIRT_BASE (3): add VIRT_BASE or drop \
                 PADDR_OFFSET",
            ),
            Self::Misaligned { part, address } => write!(
                f,
                "the {part} at {address:#x} is not a multiple of 4096: correct it in the kernel"
            ),
            Self::OutOfImage {
                part,
                address,
                start,
                end,
            } => write!(
                f,
                "the {part} at {address:#x} lies outside of the image ({start:#x} to {end:#x}): \
                 correct the notes or the load addresses"
            ),
            Self::P2mInImage {
                address,
                start,
                end,
            } => write!(
                f,
                "the frame list (Xen note INIT_P2M) at {address:#x} lies inside of the image \
                 ({start:#x} to {end:#x}): move it elsewhere"
            ),
            Self::HypervisorRange { start, end } => write!(
                f,
                "the image ({start:#x} to {end:#x}, from Xen note VIRT_BASE) runs into the \
                 hypervisor's addresses (0xffff800000000000 to 0xffff880000000000): link it elsewhere"
            ),
            // The other arms are those of the two functions above.
            _ => f.write_str("the image is not a PV guest"),
        }
    }
}
