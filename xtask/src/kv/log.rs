//! The log of a disk's writes that QEMU's filter `blklogwrites` makes, in the format of Linux' target
//! `log-writes` of its device mapper: a sector for the log itself, then for each operation a sector that
//! says what it was, and the data. All numbers are 64 bits long and little endian but for the size of
//! sectors.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Result, bail, ensure};

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

impl Operation {
    /// Whether it is the store's header, which makes a log begin.
    pub(super) fn is_header(&self) -> bool {
        matches!(self, Self::Write(..16, data) if data.iter().any(|&byte| byte != 0))
    }
}

/// A log that may still grow.
pub(super) struct Log {
    file: File,
    /// Where its next operation is. Unit: bytes.
    next: u64,
    /// Where the operations are that have been seen. Unit: bytes.
    seen: Vec<u64>,
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
        Ok(Self { file, next: SECTOR as u64, seen: Vec::new() })
    }

    /// Looks at what has come, and says how many operations there have been. One that QEMU has told its
    /// guest of is there; of one that it is still to tell of the data may not be.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub(super) fn count(&mut self) -> Result<usize> {
        loop {
            let (_, count, flags) = self.operation(self.next)?;
            if count == 0 && flags == 0 {
                return Ok(self.seen.len());
            }
            self.seen.push(self.next);
            self.next += (1 + count) * SECTOR as u64;
        }
    }

    /// All of it, when QEMU has ended.
    ///
    /// # Errors
    ///
    /// When it has not the form of a log, or there is something in it that the guest does not do.
    pub(super) fn operations(mut self) -> Result<Vec<Operation>> {
        self.count()?;
        // QEMU writes this at each flush, and without one not at all.
        let head = self.sector(0)?;
        let form = (word(&head, 0), word(&head, 8), word(&head, 24) & 0xffff_ffff);
        let known = [(MAGIC, VERSION, SECTOR as u64), (0, 0, 0)];
        ensure!(known.contains(&form), "the log of writes has another form");
        let operation = |at: &u64| match self.operation(*at)? {
            (sector, count, 0) => {
                let mut data = vec![0; usize::try_from(count)? * SECTOR];
                self.file.read_exact_at(&mut data, at + SECTOR as u64)?;
                Ok(Operation::Write(usize::try_from(sector)?, data))
            }
            (_, 0, FLUSH) => Ok(Operation::Flush),
            (_, _, flags) => bail!("an operation with the flags {flags:#x}"),
        };
        self.seen.iter().map(operation).collect()
    }

    /// The sector, the count of sectors and the flags of an operation at a byte.
    fn operation(&self, at: u64) -> Result<(u64, u64, u64)> {
        let head = self.sector(at)?;
        Ok((word(&head, 0), word(&head, 8), word(&head, 16)))
    }

    fn sector(&self, at: u64) -> Result<[u8; SECTOR]> {
        let mut sector = [0; SECTOR];
        self.file.read_exact_at(&mut sector, at)?;
        Ok(sector)
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
        assert_eq!(log.count().expect("nothing yet"), 0);
        let file = log.file.try_clone().expect("file");
        let put = |at: u64, numbers: &[u64]| {
            let bytes: Vec<u8> = numbers.iter().flat_map(|it| it.to_le_bytes()).collect();
            file.write_all_at(&bytes, at).expect("write");
        };
        put(512, &[8, 2, 0, 0]);
        assert_eq!(log.count().expect("the first"), 1);
        put(2048, &[0, 0, FLUSH, 0]);
        assert_eq!(log.count().expect("two"), 2);
        put(1024, &[7; 128]);
        put(0, &[MAGIC, VERSION, 2, 512]);
        let data = [7_u64; 128].iter().flat_map(|it| it.to_le_bytes()).collect();
        let operations = log.operations().expect("operations");
        assert_eq!(operations, [Operation::Write(8, data), Operation::Flush]);
        std::fs::remove_file(path).expect("remove");
    }
}
