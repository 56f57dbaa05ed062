//! The bytes on the disk. All numbers are little endian.
//!
//! | header | | record | | change | |
//! |---|---|---|---|---|---|
//! | 0 | `ParavKV1` | 0 | `KVre` | 0 | 1: set, 2: delete |
//! | 8 | bytes of a sector, u64 | 4 | bytes of its changes, u32 | 1 | bytes of the key, u16 |
//! | 16 | bytes of an area, u64 | 8 | salt, u64 | 3 | bytes of the value, u32 |
//! | 24 | generation, u64 | 16 | number, u64 | 7 | key, value |
//! | 32 | salt, u64 | 24 | checksum, u64 | | |
//! | 40 | bytes of the first keys, u64 | 32 | changes | | |
//! | 48 | checksum, u64 | | | | |
//!
//! A checksum is CRC-64/XZ of all before it and, of a record, of the changes. The first record of a
//! generation has the number 0.

use alloc::vec::Vec;

use crc::{CRC_64_XZ, Crc};

/// What the disk counts in. Unit: bytes.
pub const SECTOR: u64 = 512;
/// The longest key. Unit: bytes.
pub const KEY: usize = 1024;
/// The longest value. Unit: bytes.
pub const VALUE: usize = 16 << 10;
/// The smallest disk. Unit: bytes.
pub const LEAST: u64 = AREAS + 2 * 4 * RECORD as u64;

/// From one header to the next, and the largest sectors. Unit: bytes.
pub(crate) const SLOT: usize = 4096;
/// Where the areas begin. Unit: bytes.
pub(crate) const AREAS: u64 = 2 * SLOT as u64;
/// A record has fewer bytes of changes before its last change is added.
pub(crate) const PAYLOAD: usize = 48 << 10;
/// The most bytes of a record with what fills its last sector.
pub(crate) const RECORD: usize = 72 << 10;
/// What comes before the changes.
pub(crate) const HEAD: usize = 32;
/// What comes before a change's key.
pub(crate) const CHANGE: usize = 7;
const _: () = assert!(HEAD + PAYLOAD + CHANGE + KEY + VALUE + SLOT <= RECORD);

const MAGIC: &[u8; 8] = b"ParavKV1";
const RECORD_MAGIC: &[u8; 4] = b"KVre";
const CRC: Crc<u64> = Crc::<u64>::new(&CRC_64_XZ);

/// The number at a place. Bytes that are not there are 0.
fn word<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    if let Some(bytes) = bytes.get(at..at + N) {
        word[..N].copy_from_slice(bytes);
    }
    u64::from_le_bytes(word)
}

fn size(bytes: &[u8], at: usize) -> usize {
    usize::try_from(word::<4>(bytes, at)).unwrap_or(usize::MAX)
}

/// A header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    /// Unit: bytes.
    pub(crate) sector: u64,
    /// How long an area is. Unit: bytes.
    pub(crate) area: u64,
    /// How often the log was begun anew.
    pub(crate) generation: u64,
    /// What this generation's records have.
    pub(crate) salt: u64,
    /// How much of the log must be there. Unit: bytes.
    pub(crate) least: u64,
}

impl Header {
    /// As it is on the disk.
    pub(crate) fn encode(&self) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        bytes[..8].copy_from_slice(MAGIC);
        let numbers = [self.sector, self.area, self.generation, self.salt, self.least];
        for (at, number) in (8..).step_by(8).zip(numbers) {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        let sum = CRC.checksum(&bytes[..48]);
        bytes[48..56].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// From what is on the disk, if it is one.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let sum = CRC.checksum(bytes.get(..48)?);
        let at = |at| word::<8>(bytes, at);
        let header =
            Self { sector: at(8), area: at(16), generation: at(24), salt: at(32), least: at(40) };
        let sound = header.sector.is_power_of_two()
            && (SECTOR..=SLOT as u64).contains(&header.sector)
            && header.area.is_multiple_of(SLOT as u64)
            && header.least <= header.area;
        (bytes.starts_with(MAGIC) && at(48) == sum && sound).then_some(header)
    }

    /// Whether bytes are what a torn header leaves.
    pub(crate) fn is_torn(bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC) && Self::decode(bytes).is_none()
    }

    /// Where this header is. Unit: bytes.
    pub(crate) const fn slot(&self) -> u64 {
        (self.generation & 1) * SLOT as u64
    }

    /// Where its area is. Unit: bytes.
    pub(crate) const fn start(&self) -> u64 {
        AREAS + (self.generation & 1) * self.area
    }
}

/// Where the next record of a log goes, and what it must say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    /// From the area's beginning. Unit: bytes.
    pub(crate) offset: u64,
    salt: u64,
    number: u64,
}

impl Place {
    /// The first of a generation.
    pub(crate) const fn first(salt: u64) -> Self {
        Self { offset: 0, salt, number: 0 }
    }

    /// The record of these changes, and the place behind it.
    pub(crate) fn seal(&self, payload: &[u8], sector: u64) -> (Vec<u8>, Self) {
        let mut bytes = Vec::with_capacity(RECORD);
        bytes.extend_from_slice(RECORD_MAGIC);
        bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
        for number in [self.salt, self.number] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let sum = checksum(&bytes, payload);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes.extend_from_slice(payload);
        let length = padded(bytes.len(), sector);
        bytes.resize(length, 0);
        (bytes, self.behind(length))
    }

    /// The place behind a record of so many bytes.
    pub(crate) const fn behind(&self, length: usize) -> Self {
        let offset = self.offset + length as u64;
        Self { offset, salt: self.salt, number: self.number + 1 }
    }

    /// How many bytes the record has that begins like this, if it is of this generation and has the
    /// number of this place, or that and `later`.
    pub(crate) fn length(&self, head: &[u8], later: u64, sector: u64) -> Option<usize> {
        let ours = head.starts_with(RECORD_MAGIC)
            && word::<8>(head, 8) == self.salt
            && word::<8>(head, 16) == self.number + later;
        let length = size(head, 4).checked_add(HEAD)?;
        (ours && length <= RECORD - SLOT).then(|| padded(length, sector))
    }
}

/// The changes of a record, if all of it is there.
pub(crate) fn open(bytes: &[u8]) -> Option<&[u8]> {
    let payload = bytes.get(HEAD..size(bytes, 4).checked_add(HEAD)?)?;
    (checksum(bytes.get(..24)?, payload) == word::<8>(bytes, 24)).then_some(payload)
}

fn checksum(head: &[u8], payload: &[u8]) -> u64 {
    let mut digest = CRC.digest();
    digest.update(head);
    digest.update(payload);
    digest.finalize()
}

/// So many bytes and what fills the sector.
pub(crate) fn padded(length: usize, sector: u64) -> usize {
    length.next_multiple_of(usize::try_from(sector).unwrap_or(SLOT))
}
