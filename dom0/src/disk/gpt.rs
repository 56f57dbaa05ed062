//! Partitions by GUIDs.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use bytemuck::Pod;
use gpt_disk_types::{GptHeader, GptPartitionEntry, GptPartitionType};

use super::{Disk, DiskError, Operation};
use crate::hw::Buffer;

/// The most bytes of a table that are read.
const MOST: u64 = 128 << 10;

/// A partition.
pub struct Partition {
    /// Its place in the table, from 1.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: GptPartitionType,
    /// Its first sector on the disk. Unit: 512 bytes.
    pub first: u64,
    /// The partition as a disk.
    pub disk: Disk,
}

/// Why a disk has no partitions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GptError {
    /// Neither at the beginning nor at the end of the disk is a table.
    Absent,
    /// The disk cannot be read.
    Disk(DiskError),
}

impl fmt::Display for GptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("no table of partitions"),
            Self::Disk(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for GptError {}

impl From<DiskError> for GptError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

/// The partitions of a disk: by the table at its beginning, or if that is damaged by the one at its
/// end. Those that are not on the disk are left out.
///
/// # Errors
/// [`GptError::Absent`] without a table whose checksums are right.
pub async fn partitions(disk: &Disk) -> Result<Vec<Partition>, GptError> {
    let block = u64::from(disk.limits().sector_size / 512);
    let last = (disk.sectors() / block).saturating_sub(1);
    for place in [1, last] {
        if let Some(found) = table(disk, block, place).await? {
            return Ok(found);
        }
    }
    Err(GptError::Absent)
}

/// The partitions by the table whose header is in block `place`; blocks are of the disk's own size.
async fn table(disk: &Disk, block: u64, place: u64) -> Result<Option<Vec<Partition>>, DiskError> {
    let Ok(bytes) = read(disk, place.saturating_mul(block), block).await else { return Ok(None) };
    let Some(header) = part::<GptHeader>(&bytes, 0).filter(|header| {
        let own = header.my_lba.to_u64() == place;
        own && header.is_signature_valid() && header.calculate_header_crc32() == header.header_crc32
    }) else {
        return Ok(None);
    };
    let size = u64::from(header.size_of_partition_entry.to_u32());
    let length = u64::from(header.number_of_partition_entries.to_u32()) * size;
    let right = size >= size_of::<GptPartitionEntry>() as u64 && (1..=MOST).contains(&length);
    let sectors = length.div_ceil(512).next_multiple_of(block);
    let first = header.partition_entry_lba.to_u64().checked_mul(block).filter(|_| right);
    let Some(first) = first else { return Ok(None) };
    let bytes = match read(disk, first, sectors).await {
        Err(DiskError::Range) => return Ok(None),
        read => read?,
    };
    let entries = usize::try_from(length).ok().and_then(|length| bytes.get(..length));
    let Some(entries) = entries else { return Ok(None) };
    if crc32fast::hash(entries) != header.partition_entry_array_crc32.0.to_u32() {
        return Ok(None);
    }
    let step = usize::try_from(size).unwrap_or(usize::MAX);
    let entries = (1..).zip(entries.chunks_exact(step));
    Ok(Some(entries.filter_map(|(number, entry)| partition(disk, block, number, entry)).collect()))
}

fn partition(disk: &Disk, block: u64, number: u32, bytes: &[u8]) -> Option<Partition> {
    let entry = part::<GptPartitionEntry>(bytes, 0).filter(GptPartitionEntry::is_used)?;
    let (start, end) = (entry.starting_lba.to_u64(), entry.ending_lba.to_u64());
    let count = end.checked_sub(start)?.checked_add(1)?.checked_mul(block)?;
    let first = start.checked_mul(block)?;
    let disk = disk.region(first, count)?;
    let (name, kind) = (entry.name, entry.partition_type_guid);
    Some(Partition { number, name: name.chars().collect(), kind, first, disk })
}

/// Reads sectors into bytes of this program.
///
/// # Errors
/// As of [`Disk::transfer`].
pub async fn read(disk: &Disk, sector: u64, sectors: u64) -> Result<Vec<u8>, DiskError> {
    let length = usize::try_from(sectors * 512).map_err(|_| DiskError::Range)?;
    let buffer = Buffer::new(length, 0)?;
    let piece = u32::try_from(length).ok().and_then(|length| buffer.piece(0, length));
    let piece = piece.ok_or(DiskError::Range)?;
    disk.transfer(Operation::Read, sector, &[piece]).await?;
    let mut words = alloc::vec![0_u64; length / 8];
    buffer.read(0, &mut words);
    Ok(words.iter().flat_map(|word| word.to_le_bytes()).collect())
}

fn part<T: Pod>(bytes: &[u8], offset: usize) -> Option<T> {
    let bytes = bytes.get(offset..offset.checked_add(size_of::<T>())?)?;
    bytemuck::try_pod_read_unaligned(bytes).ok()
}
