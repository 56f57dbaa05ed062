//! The log of a disk's writes that QEMU's filter `blklogwrites` makes, in the format of Linux' target
//! `log-writes` of its device mapper: a sector for the log itself, then for each operation a sector that
//! says what it was, and the data. All numbers are 64 bits long and little endian but for the size of
//! sectors.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Result, ensure};

/// How the log begins.
const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
/// Its sectors, as the filter makes them if it is not told otherwise. Unit: bytes.
pub(super) const SECTOR: usize = 512;

/// The flag of an operation: what was written before is there for good.
const FLUSH: u64 = 1;

/// What was done to the disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Operation {
    /// Bytes were written from a sector on.
    Write(usize, Vec<u8>),
    /// What was written before is there for good.
    Flush,
}

/// A log that may still grow.
pub(super) struct Log {
    file: File,
    /// Where its next operation is. Unit: bytes.
    next: u64,
    /// What has been read of it.
    pub(super) operations: Vec<Operation>,
}

impl Log {
    /// An empty log, for QEMU to fill, of at most so many bytes.
    ///
    /// # Errors
    ///
    /// When the file cannot be made.
    pub(super) fn create(path: &Path, most: u64) -> Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        file.set_len(most)?;
        Ok(Self { file, next: SECTOR as u64, operations: Vec::new() })
    }

    /// Reads what has come, and says how many operations there have been. One that QEMU has told its
    /// guest of is there.
    ///
    /// # Errors
    ///
    /// When the log has not the form of one.
    pub(super) fn read(&mut self) -> Result<usize> {
        let mut head = [0; SECTOR];
        self.file.read_exact_at(&mut head, 0)?;
        if word(&head, 0) == 0 {
            return Ok(0);
        }
        let size = u32::try_from(word(&head, 24) & 0xffff_ffff)?;
        let known = (word(&head, 0), word(&head, 8), size as usize) == (MAGIC, VERSION, SECTOR);
        ensure!(known, "the log of writes has another form");
        loop {
            self.file.read_exact_at(&mut head, self.next)?;
            let [sector, count, flags, _] = [0, 8, 16, 24].map(|at| word(&head, at));
            if count == 0 && flags == 0 {
                return Ok(self.operations.len());
            }
            ensure!(flags & !FLUSH == 0, "an operation with the flags {flags:#x}");
            if count != 0 {
                let mut data = vec![0; usize::try_from(count)? * SECTOR];
                self.file.read_exact_at(&mut data, self.next + SECTOR as u64)?;
                self.operations.push(Operation::Write(usize::try_from(sector)?, data));
            }
            if flags & FLUSH != 0 {
                ensure!(count == 0, "a write that is a flush as well");
                self.operations.push(Operation::Flush);
            }
            self.next += (1 + count) * SECTOR as u64;
        }
    }
}

fn word(bytes: &[u8; SECTOR], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_as_it_grows() {
        let path = std::env::temp_dir().join(format!("paravane-log-{}", std::process::id()));
        let mut log = Log::create(&path, 1 << 20).expect("log");
        assert_eq!(log.read().expect("nothing yet"), 0);
        let put = |at: u64, numbers: &[u64]| {
            let bytes: Vec<u8> = numbers.iter().flat_map(|it| it.to_le_bytes()).collect();
            log.file.write_all_at(&bytes, at).expect("write");
        };
        put(0, &[MAGIC, VERSION, 0, 512]);
        put(512, &[8, 2, 0, 0]);
        log.file.write_all_at(&[7; 1024], 1024).expect("write");
        put(2048, &[0, 0, FLUSH, 0]);
        assert_eq!(log.read().expect("two"), 2);
        assert_eq!(log.operations, [Operation::Write(8, vec![7; 1024]), Operation::Flush]);
        let bytes = 4_u64.to_le_bytes();
        log.file.write_all_at(&bytes, 2560 + 16).expect("write");
        log.read().expect_err("a discard");
        std::fs::remove_file(path).expect("remove");
    }
}
