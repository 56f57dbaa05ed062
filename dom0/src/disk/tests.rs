#![expect(clippy::cast_possible_truncation, reason = "numbers in tests are small")]

use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use std::string::String;
use std::vec::Vec;

use gpt_disk_types::{GptHeader, GptPartitionEntry, GptPartitionType, LbaLe, U32Le, guid};

use super::gpt::{GptError, partitions};
use super::{Disk, DiskError, Operation};
use crate::hw::Buffer;

/// Runs what does not wait.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a RAM disk does not wait"),
    }
}

fn write(disk: &Disk, sector: u64, bytes: &[u8]) {
    let buffer = Buffer::new(bytes.len(), 0).unwrap();
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(512), 0);
    let words: Vec<u64> =
        padded.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
    buffer.write(0, &words);
    let piece = buffer.piece(0, padded.len() as u32).unwrap();
    now(disk.transfer(Operation::Write, sector, &[piece])).unwrap();
}

/// Writes a table with its header in sector `place` and its entries from `entries` on.
fn write_table(disk: &Disk, place: u64, entries: u64, list: &[GptPartitionEntry]) {
    let mut table: Vec<u8> = list.iter().flat_map(|it| bytemuck::bytes_of(it).to_vec()).collect();
    table.resize(128 * 128, 0);
    let mut header = GptHeader {
        my_lba: LbaLe::from_u64(place),
        partition_entry_lba: LbaLe::from_u64(entries),
        number_of_partition_entries: U32Le::from_u32(128),
        ..GptHeader::default()
    };
    header.partition_entry_array_crc32.0 = U32Le::from_u32(crc32fast::hash(&table));
    header.update_header_crc32();
    write(disk, place, bytemuck::bytes_of(&header));
    write(disk, entries, &table);
}

fn entry(first: u64, last: u64, name: &str) -> GptPartitionEntry {
    GptPartitionEntry {
        partition_type_guid: GptPartitionType(guid!("0fc63daf-8483-4772-8e79-3d69d8477de4")),
        starting_lba: LbaLe::from_u64(first),
        ending_lba: LbaLe::from_u64(last),
        name: name.parse().unwrap(),
        ..GptPartitionEntry::default()
    }
}

fn found(disk: &Disk) -> Vec<(u32, String, u64, u64)> {
    let found = now(partitions(disk)).unwrap();
    found.into_iter().map(|it| (it.number, it.name, it.first, it.disk.sectors())).collect()
}

#[test]
fn partitions_are_those_of_the_table_that_are_on_the_disk() {
    let disk = Disk::ram(256).unwrap();
    assert_eq!(now(partitions(&disk)).err(), Some(GptError::Absent));
    let list = [
        entry(100, 199, "one"),
        GptPartitionEntry::default(),
        entry(2000, 2048, "behind the end"),
        entry(300, 299, "backwards"),
        entry(0, u64::MAX, "all"),
        entry(2040, 2047, "last"),
    ];
    write_table(&disk, 1, 2, &list);
    let expected = [(1, "one".into(), 100, 100), (6, "last".into(), 2040, 8)];
    assert_eq!(found(&disk), expected);
    // A partition is a disk: what is written there is in its place.
    let first = now(partitions(&disk)).unwrap().remove(0).disk;
    write(&first, 99, &[7; 512]);
    assert_eq!(now(super::gpt::read(&disk, 199, 1)).unwrap(), [7; 512]);
    let one = Buffer::new(1024, 0).unwrap().piece(0, 1024).unwrap();
    assert_eq!(now(first.transfer(Operation::Read, 99, &[one])), Err(DiskError::Range));
}

#[test]
fn a_damaged_table_is_replaced_by_the_one_at_the_end() {
    let disk = Disk::ram(256).unwrap();
    write_table(&disk, 2047, 2000, &[entry(64, 71, "second")]);
    write_table(&disk, 1, 2, &[entry(64, 71, "first")]);
    assert_eq!(found(&disk)[0].1, "first");
    // An entry is not what its checksum says.
    write(&disk, 2, &[1; 512]);
    assert_eq!(found(&disk)[0].1, "second");
    // Neither is the header.
    write(&disk, 2047, b"EFI PART");
    assert_eq!(now(partitions(&disk)).err(), Some(GptError::Absent));
}

#[test]
fn a_header_that_lies_is_no_table() {
    let disk = Disk::ram(32).unwrap();
    for (number, size, place) in [
        (u32::MAX, u32::MAX, 2),
        (0, 128, 2),
        (128, 0, 2),
        (128, 127, 2),
        (128, 128, u64::MAX),
        (128, 128, 250),
        (1 << 20, 128, 2),
    ] {
        let mut header = GptHeader {
            my_lba: LbaLe::from_u64(1),
            partition_entry_lba: LbaLe::from_u64(place),
            number_of_partition_entries: U32Le::from_u32(number),
            size_of_partition_entry: U32Le::from_u32(size),
            ..GptHeader::default()
        };
        header.update_header_crc32();
        write(&disk, 1, bytemuck::bytes_of(&header));
        assert_eq!(now(partitions(&disk)).err(), Some(GptError::Absent), "{number} {size} {place}");
    }
}

#[test]
fn regions_and_ram_disks_keep_to_their_limits() {
    let disk = Disk::ram(8).unwrap();
    write(&disk, 0, &[1; 512 * 64]);
    let region = disk.region(8, 16).unwrap();
    assert!(disk.region(60, 5).is_none() && disk.region(u64::MAX, 2).is_none());
    assert!(region.region(8, 9).is_none());
    let inner = region.region(8, 8).unwrap();
    now(inner.discard(0, 8)).unwrap();
    let whole = now(super::gpt::read(&disk, 0, 64)).unwrap();
    assert!(whole.iter().all(|&it| it == 1), "to discard costs nothing, however much it is");
    assert_eq!(now(inner.discard(8, 1)), Err(DiskError::Range));
    let own = region.resident(14, 5).unwrap();
    assert_eq!(own.length(), 2 * 512, "up to the region's end");
    now(disk.transfer(Operation::Write, 40, &[own])).unwrap();
    assert_eq!(
        now(super::gpt::read(&disk, 40, 2)).unwrap(),
        now(super::gpt::read(&disk, 22, 2)).unwrap()
    );
    assert_eq!(disk.resident(5, 64).map(|it| it.length()), Some(3 * 512), "up to the page's end");
    assert!(region.resident(16, 1).is_none() && region.resident(0, 0).is_none());
    let buffer = Buffer::new(4096, 0).unwrap();
    let piece = |length| [buffer.piece(0, length).unwrap()];
    let only = region.clone().read_only();
    assert_eq!(now(only.transfer(Operation::Write, 0, &piece(512))), Err(DiskError::ReadOnly));
    assert_eq!(now(only.transfer(Operation::Read, 0, &piece(512))), Ok(()));
    assert_eq!(now(only.discard(0, 1)), Err(DiskError::ReadOnly));
    assert_eq!(now(region.transfer(Operation::Read, 0, &piece(100))), Err(DiskError::Unaligned));
    assert_eq!(now(region.transfer(Operation::Read, 0, &[])), Err(DiskError::Unaligned));
    assert_eq!(now(region.transfer(Operation::Read, 15, &piece(1024))), Err(DiskError::Range));
    assert!(buffer.piece(4000, 97).is_none() && buffer.piece(u64::MAX, 1).is_none());
}
