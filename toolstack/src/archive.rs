//! The files of a ramdisk: a cpio archive of the kind `newc`.

use core::fmt;

/// Bytes of a file's header.
const HEADER: usize = 110;
/// Fields of eight hexadecimal digits, by their number: the file's length and its name's.
const LENGTH: usize = 6;
const NAME_LENGTH: usize = 11;
/// The kind of file in the field `mode`, and what a plain file has there.
const MODE: usize = 1;
const KIND_MASK: usize = 0o170_000;
const PLAIN: usize = 0o100_000;
/// The name behind the last file.
const TRAILER: &str = "TRAILER!!!";

/// One file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct File<'a> {
    /// Its path, as it is in the archive.
    pub name: &'a str,
    /// What is in it.
    pub bytes: &'a [u8],
}

/// What is no archive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ArchiveError {
    /// No header begins at this offset. Unit: bytes.
    NoHeader(usize),
    /// The file that begins at this offset is not all there. Unit: bytes.
    Cut(usize),
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHeader(at) => write!(f, "no cpio archive (newc): no file begins at {at}"),
            Self::Cut(at) => write!(f, "a cpio archive that ends within the file at {at}"),
        }
    }
}

impl core::error::Error for ArchiveError {}

/// The plain files of an archive, in its order; after an error none.
#[must_use]
pub const fn files(archive: &[u8]) -> Files<'_> {
    Files { archive, at: 0, ended: false }
}

/// See [`files`].
#[derive(Clone, Debug)]
pub struct Files<'a> {
    archive: &'a [u8],
    at: usize,
    ended: bool,
}

impl<'a> Files<'a> {
    /// The next entry, and whether it is a plain file.
    fn entry(&mut self) -> Result<(File<'a>, bool), ArchiveError> {
        let start = self.at;
        let header = self.archive.get(start..).and_then(|rest| rest.get(..HEADER));
        let header = header.filter(|header| header.starts_with(b"070701"));
        let number = |field: usize| {
            let digits = header?.get(6 + 8 * field..14 + 8 * field)?;
            usize::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()
        };
        let numbers = (number(MODE), number(NAME_LENGTH), number(LENGTH));
        let (Some(mode), Some(name), Some(length)) = numbers else {
            return Err(ArchiveError::NoHeader(start));
        };
        let cut = ArchiveError::Cut(start);
        let behind_name = start.saturating_add(HEADER).saturating_add(name);
        let name = self.archive.get(start + HEADER..behind_name).ok_or(cut)?;
        let content = behind_name.next_multiple_of(4);
        let end = content.saturating_add(length);
        let bytes = self.archive.get(content..end).ok_or(cut)?;
        self.at = end.next_multiple_of(4);
        let name = name.strip_suffix(b"\0").unwrap_or(name);
        let name = core::str::from_utf8(name).map_err(|_| ArchiveError::NoHeader(start))?;
        Ok((File { name, bytes }, mode & KIND_MASK == PLAIN))
    }
}

impl<'a> Iterator for Files<'a> {
    type Item = Result<File<'a>, ArchiveError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.entry() {
                Ok((file, _)) if file.name == TRAILER => self.ended = true,
                Ok((file, true)) => return Some(Ok(file)),
                Ok(_) => {}
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec::Vec};

    use super::{ArchiveError, File, files};

    fn add(archive: &mut Vec<u8>, mode: u32, name: &str, bytes: &[u8]) {
        let (zero, length) = (0, bytes.len());
        let mut header = format!("070701{zero:08x}{mode:08x}");
        for _ in 0..4 {
            header += &format!("{zero:08x}");
        }
        header += &format!("{length:08X}");
        for _ in 0..4 {
            header += &format!("{zero:08x}");
        }
        header += &format!("{:08x}{zero:08x}{name}\0", name.len() + 1);
        for part in [header.as_bytes(), bytes] {
            archive.extend(part);
            archive.resize(archive.len().next_multiple_of(4), 0);
        }
    }

    fn archive() -> Vec<u8> {
        let mut archive = Vec::new();
        add(&mut archive, 0o40_755, "folder", b"");
        add(&mut archive, 0o100_644, "one", b"first");
        add(&mut archive, 0o100_755, "folder/two", b"");
        add(&mut archive, 0, "TRAILER!!!", b"");
        archive
    }

    #[test]
    fn plain_files_are_found_in_order() {
        let archive = archive();
        let found: Result<Vec<File<'_>>, _> = files(&archive).collect();
        let one = File { name: "one", bytes: b"first" };
        assert_eq!(found, Ok(Vec::from([one, File { name: "folder/two", bytes: b"" }])));
    }

    #[test]
    fn what_is_cut_or_no_archive_is_said_once() {
        let archive = archive();
        for end in 0..archive.len() - 124 {
            let found: Vec<_> = files(&archive[..end]).filter(Result::is_err).collect();
            assert_eq!(found.len(), 1, "cut at {end}");
        }
        assert_eq!(files(b"").next(), Some(Err(ArchiveError::NoHeader(0))));
        let mut broken = archive.clone();
        broken[54] = b'x';
        assert_eq!(files(&broken).next(), Some(Err(ArchiveError::NoHeader(0))));
        broken[54] = b'f';
        assert_eq!(files(&broken).next(), Some(Err(ArchiveError::Cut(0))));
    }
}
