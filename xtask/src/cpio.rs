//! Archives of files as Linux takes them for its first root, and our guests as their ramdisk: cpio,
//! `newc`.

use std::path::Path;

use anyhow::{Result, bail};

/// What a file is, by the bits of its mode.
const FILE: u32 = 0o100_755;
const FOLDER: u32 = 0o040_755;
const LINK: u32 = 0o120_777;
const TERMINAL: u32 = 0o020_600;

/// An archive that grows.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
}

impl Archive {
    /// Adds a file that may be executed. Folders of its path must be in there before it.
    pub(crate) fn file(&mut self, path: &str, bytes: &[u8]) {
        self.add(path, FILE, [0; 2], bytes);
    }

    /// Adds a folder.
    pub(crate) fn folder(&mut self, path: &str) {
        self.add(path, FOLDER, [0; 2], &[]);
    }

    /// Adds a symbolic link to `target`.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.add(path, LINK, [0; 2], target.as_bytes());
    }

    /// Adds a character device, by its two numbers.
    pub(crate) fn terminal(&mut self, path: &str, numbers: [u32; 2]) {
        self.add(path, TERMINAL, numbers, &[]);
    }

    /// Adds all that is in `folder`, whose path in the archive is `path`: empty, or with a slash behind it.
    ///
    /// # Errors
    ///
    /// When something cannot be read, or has a name that is not text.
    pub(crate) fn tree(&mut self, folder: &Path, path: &str) -> Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().into_string();
            let Ok(name) = name else { bail!("a name in {} is not text", folder.display()) };
            let (path, kind) = (format!("{path}{name}"), entry.file_type()?);
            if kind.is_dir() {
                self.folder(&path);
                self.tree(&entry.path(), &format!("{path}/"))?;
            } else if kind.is_symlink() {
                self.link(&path, &std::fs::read_link(entry.path())?.display().to_string());
            } else {
                self.file(&path, &std::fs::read(entry.path())?);
            }
        }
        Ok(())
    }

    /// The whole archive. Linux reads several of them one behind the other.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, [0; 2], &[]);
        self.bytes
    }

    fn add(&mut self, path: &str, mode: u32, [major, minor]: [u32; 2], bytes: &[u8]) {
        let (length, path_length) = (bytes.len(), path.len() + 1);
        // Number, mode, owner, group, links, time, length, device, the device it is, path, check.
        let head = format!(
            "070701{:08x}{mode:08x}{:016x}{:08x}{:08x}{length:08x}{:016x}{major:08x}{minor:08x}\
             {path_length:08x}{:08x}",
            0, 0, 1, 0, 0, 0
        );
        self.bytes.extend(head.bytes());
        for part in [&*format!("{path}\0").into_bytes(), bytes] {
            self.bytes.extend(part);
            self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_begins_at_a_multiple_of_four() {
        let mut archive = Archive::default();
        archive.folder("a");
        archive.file("a/b", b"12345");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        // A head has 110 bytes: the first entry 112 with its path, the second 116 and 8 more.
        assert_eq!(bytes.get(112..118), Some(&b"070701"[..]));
        assert_eq!(bytes.get(228..236), Some(&b"12345\0\0\0"[..]));
        assert_eq!(bytes.get(236..242), Some(&b"070701"[..]));
    }
}
