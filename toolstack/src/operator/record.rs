//! The last bytes that a console said.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// A record of a stream that keeps the last bytes alone.
#[derive(Clone, Debug)]
pub struct Record {
    kept: VecDeque<u8>,
    most: usize,
    /// Bytes that ever came.
    end: u64,
}

impl Record {
    /// Nothing yet; at most `most` bytes are kept.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self { kept: VecDeque::new(), most, end: 0 }
    }

    /// Adds bytes; the oldest go.
    pub fn add(&mut self, bytes: &[u8]) {
        self.end += bytes.len() as u64;
        let bytes = bytes.get(bytes.len().saturating_sub(self.most)..).unwrap_or_default();
        let room = self.most - bytes.len();
        self.kept.drain(..self.kept.len().saturating_sub(room));
        self.kept.extend(bytes);
    }

    /// How many bytes ever came.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// What is kept from byte `from` of all on, at most `most` bytes; and where to go on.
    #[must_use]
    pub fn from(&self, from: u64, most: usize) -> (Vec<u8>, u64) {
        let first = self.end - self.kept.len() as u64;
        let skipped = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
        let bytes: Vec<u8> = self.kept.iter().skip(skipped).take(most).copied().collect();
        let next = first.max(from.min(self.end)) + bytes.len() as u64;
        (bytes, next)
    }
}

#[cfg(test)]
mod tests {
    use super::Record;

    #[test]
    fn the_last_bytes_are_kept_and_counted() {
        let mut record = Record::new(8);
        record.add(b"abc");
        assert_eq!(record.from(1, 9), (b"bc".to_vec(), 3));
        record.add(b"defghij");
        assert_eq!(record.from(0, 99), (b"cdefghij".to_vec(), 10), "two are gone");
        assert_eq!(record.from(0, 3), (b"cde".to_vec(), 5));
        assert_eq!(record.from(5, 3), (b"fgh".to_vec(), 8));
        assert_eq!(record.from(10, 3), (b"".to_vec(), 10));
        assert_eq!(record.from(99, 3), (b"".to_vec(), 10), "nobody has seen that");
        record.add(b"0123456789");
        assert_eq!(record.from(0, 99), (b"23456789".to_vec(), 20));
    }
}
