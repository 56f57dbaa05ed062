//! The segments, each alone and against each other.
use core::fmt;

/// Why segments can't be loaded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in the sentences below")]
pub enum SegmentError {
    /// More program headers than anyone needs.
    TooMany { count: u16, most: u16 },
    /// Nothing to load.
    None,
    /// The file ends inside of a segment.
    Truncated { number: usize, needed: u64, len: u64 },
    /// More bytes in the file than in memory.
    Size { number: usize, in_file: u64, in_memory: u64 },
    /// A segment goes past the end of the address space.
    Wraps { number: usize, paddr: u64, in_memory: u64 },
    /// Two segments share an address.
    Overlap { first: usize, second: usize, at: u64 },
}

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooMany { count, most } => write!(
                f,
                "the ELF header (offset 56) announces {count} program headers, more than {most}: \
                 link the kernel with fewer segments"
            ),
            Self::None => f.write_str(
                "no segment to load: none of the program headers is a PT_LOAD with permissions and \
                 a size, so check the kernel's linker script",
            ),
            Self::Truncated { number, needed, len } => write!(
                f,
                "the image is truncated: segment {number} ends at offset {needed:#x}, but the file \
                 has only {len:#x} bytes; copy it again"
            ),
            Self::Size { number, in_file, in_memory } => write!(
                f,
                "segment {number} has more bytes in the file ({in_file:#x}) than in memory \
                 ({in_memory:#x}): the image is damaged, link or copy it again"
            ),
            Self::Wraps { number, paddr, in_memory } => write!(
                f,
                "segment {number} (physical address {paddr:#x}, {in_memory:#x} bytes) goes past \
                 the end of the address space: check the load addresses in the linker script"
            ),
            Self::Overlap { first, second, at } => write!(
                f,
                "segments {first} and {second} overlap at physical address {at:#x}: check the load \
                 addresses in the linker script"
            ),
        }
    }
}
