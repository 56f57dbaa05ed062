//! Recognises kernels that were not unpacked, by their first bytes.
use core::fmt;

/// How an image is packed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Compression {
    /// `gzip` (RFC 1952).
    Gzip,
    /// `xz`.
    Xz,
    /// `zstd`.
    Zstd,
    /// `lz4`, frame or legacy format.
    Lz4,
    /// `bzip2`.
    Bzip2,
    /// `lzma` ("alone" format).
    Lzma,
    /// `lzop`.
    Lzop,
    /// A Linux boot image (`vmlinuz`) around a compressed kernel.
    BzImage,
}

/// What each format begins with. The lzma entry is its usual property byte and dictionary size.
const MAGIC: [(&[u8], Compression); 8] = [
    (&[0x1f, 0x8b], Compression::Gzip),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], Compression::Xz),
    (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
    (&[0x04, 0x22, 0x4d, 0x18], Compression::Lz4),
    (&[0x02, 0x21, 0x4c, 0x18], Compression::Lz4),
    (b"BZh", Compression::Bzip2),
    (&[0x5d, 0, 0], Compression::Lzma),
    (&[0x89, b'L', b'Z', b'O', 0], Compression::Lzop),
];

/// Where a Linux boot image has its "HdrS".
const LINUX_MAGIC_AT: usize = 0x202;

impl Compression {
    /// The format `file` begins like, if it is one of these.
    #[must_use]
    pub fn of(file: &[u8]) -> Option<Self> {
        if file.starts_with(&elf::abi::ELFMAGIC) {
            return None;
        }
        let linux = file.get(LINUX_MAGIC_AT..).is_some_and(|rest| rest.starts_with(b"HdrS"));
        if linux {
            return Some(Self::BzImage);
        }
        MAGIC.iter().find(|(magic, _)| file.starts_with(magic)).map(|&(_, format)| format)
    }

    /// Its usual name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::Bzip2 => "bzip2",
            Self::Lzma => "lzma",
            Self::Lzop => "lzop",
            Self::BzImage => "a Linux bzImage",
        }
    }

    /// The command that unpacks it.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Gzip => "gzip -dc IMAGE > KERNEL",
            Self::Xz => "xz -dc IMAGE > KERNEL",
            Self::Zstd => "zstd -dc IMAGE > KERNEL",
            Self::Lz4 => "lz4 -dc IMAGE > KERNEL",
            Self::Bzip2 => "bzip2 -dc IMAGE > KERNEL",
            Self::Lzma => "xz --format=lzma -dc IMAGE > KERNEL",
            Self::Lzop => "lzop -dc IMAGE > KERNEL",
            Self::BzImage => "extract-vmlinux IMAGE > KERNEL",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
