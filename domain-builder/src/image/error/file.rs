//! What the file itself is: format, header, completeness.
use core::fmt;

use crate::image::Compression;

/// Why a file is no ELF64 executable for x86-64.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in the sentences below")]
pub enum FileError {
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
    Truncated { what: &'static str, needed: u64, len: u64 },
    /// Program headers of a size that ELF64 does not have.
    HeaderSize(u16),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotElf { start: [a, b, c, d], len } => write!(
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
        }
    }
}
