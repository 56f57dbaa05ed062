//! Uses its first disk: a FAT file system, alone or in the first partition of an MBR.
//!
//! It reads a file, checks its SHA-256 against the words of another, and writes a third with what it
//! found: `in=DATA.BIN sum=DATA.SHA out=REPORT.TXT` on the command line are the names. Then it takes
//! the disk down, brings it up again and reads what it has written.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use core::error::Error;

use embedded_sdmmc::{
    Block, BlockCount, BlockDevice, BlockIdx, Mode, TimeSource, Timestamp, VolumeIdx, VolumeManager,
};
use pv_guest_sdk::block::{Disk, DiskError, Options};
use pv_guest_sdk::grant::Grants;
use pv_guest_sdk::paging::Memory;
use pv_guest_sdk::task::block_on;
use pv_guest_sdk::vcpu::Vcpu;
use pv_guest_sdk::xenbus::Device;
use pv_guest_sdk::{BootInfo, entry, println, vary, xenstore};
use sha2::{Digest, Sha256};

pv_guest_sdk::heap!();
entry!(main);

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main(boot: &BootInfo<'static>) -> Outcome {
    let vcpu = Vcpu::start(boot)?;
    Memory::start(boot)?;
    vcpu.start_events()?;
    let grants = Grants::start(1)?;
    let store = xenstore::connect(boot)?;
    let names = ["in", "sum", "out"].map(|name| boot.argument(name));
    let [read, sum, write] = names.map(|name| name.unwrap_or_default());
    let (read, sum) = (or(read, "DATA.BIN"), or(sum, "DATA.SHA"));
    let write = or(write, "REPORT.TXT");
    let mut buffer = [0; 4096];
    let first = block_on(Device::numbers(store, "vbd", &mut buffer))?.min();
    let number = first.ok_or("this domain has no disk")?;
    let device = block_on(Device::find(store, "vbd", number))?;
    println!("disk {}", vary!("number", number));
    let disk = Volume::open(device, grants)?;
    let report = check(&disk, read, sum)?;
    write_file(&disk, write, &report)?;
    block_on(disk.disk.flush())?;
    println!("wrote {write}: {} bytes", report.len());
    let device = block_on(disk.disk.close())?;
    println!("closed");
    let disk = Volume::open(device, grants)?;
    let again = read_file(&disk, write, |_| {})?;
    if again != report.len() || digest(&disk, write)? != hex(&Sha256::digest(&report)) {
        return Err(format!("{write} is not what was written").into());
    }
    println!("{write} is what was written");
    block_on(disk.disk.close())?;
    Ok(())
}

fn or<'a>(name: &'a str, default: &'a str) -> &'a str {
    if name.is_empty() { default } else { name }
}

/// Checks a file against its sum, and says what there is to report of it.
fn check(disk: &Volume, name: &str, sum: &str) -> Outcome<String> {
    let found = digest(disk, name)?;
    let mut wanted = String::new();
    read_file(disk, sum, |bytes| wanted.push_str(&String::from_utf8_lossy(bytes)))?;
    let wanted = wanted.split_ascii_whitespace().next().unwrap_or_default();
    println!("{name}: {found}");
    if found != wanted {
        return Err(format!("{name} should have the sum {wanted}").into());
    }
    let mut zeros = 0;
    let length =
        read_file(disk, name, |bytes| zeros += bytes.iter().filter(|&&it| it == 0).count())?;
    println!("{name}: {length} bytes, {zeros} of them 0");
    Ok(format!("{found}  {name}\n{length} bytes, {zeros} of them 0\n"))
}

fn digest(disk: &Volume, name: &str) -> Outcome<String> {
    let mut sum = Sha256::new();
    read_file(disk, name, |bytes| sum.update(bytes))?;
    Ok(hex(&sum.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a file of the root folder piece by piece, and returns its length.
fn read_file(disk: &Volume, name: &str, mut piece: impl FnMut(&[u8])) -> Outcome<usize> {
    let manager = VolumeManager::new(disk, NoClock);
    let volume = manager.open_volume(VolumeIdx(0)).map_err(wrong)?;
    let folder = volume.open_root_dir().map_err(wrong)?;
    let file = folder.open_file_in_dir(name, Mode::ReadOnly).map_err(wrong)?;
    let (mut buffer, mut length) = ([0; 4096], 0);
    while !file.is_eof() {
        let read = file.read(&mut buffer).map_err(wrong)?;
        piece(&buffer[..read]);
        length += read;
    }
    Ok(length)
}

fn write_file(disk: &Volume, name: &str, text: &str) -> Outcome {
    let manager = VolumeManager::new(disk, NoClock);
    let volume = manager.open_volume(VolumeIdx(0)).map_err(wrong)?;
    let folder = volume.open_root_dir().map_err(wrong)?;
    let file = folder.open_file_in_dir(name, Mode::ReadWriteCreateOrTruncate).map_err(wrong)?;
    file.write(text.as_bytes()).map_err(wrong)?;
    file.close().map_err(wrong)?;
    Ok(())
}

fn wrong(error: embedded_sdmmc::Error<DiskError>) -> Box<dyn Error> {
    format!("the file system: {error:?}").into()
}

/// A disk as the file system's crate wants it, with an MBR even if it has none.
struct Volume {
    disk: Box<Disk<'static, Grants>>,
    /// What comes before the disk, if it has no partitions.
    front: Option<Block>,
}

impl Volume {
    fn open(device: Device<'static>, grants: Grants) -> Outcome<Self> {
        let disk = block_on(Disk::open(device, grants, Options::default()))?;
        let info = disk.info();
        println!("open: {} sectors of {} bytes", info.sectors, info.sector_size);
        let mut first = [0; Block::LEN];
        block_on(disk.read(0, &mut first))?;
        let front = is_file_system(&first).then(|| partition_of(info.sectors));
        println!("{}", if front.is_some() { "a file system" } else { "partitions" });
        large(&disk)?;
        Ok(Self { disk: Box::new(disk), front })
    }
}

/// Reads the beginning of a disk at once, in several requests, and by sectors.
fn large(disk: &Disk<'_, Grants>) -> Outcome {
    let mut all = vec![0; 600 << 10];
    block_on(disk.read(0, &mut all))?;
    let mut sector = [0; Block::LEN];
    for (number, part) in (0..).zip(all.chunks(Block::LEN)) {
        block_on(disk.read(number, &mut sector))?;
        if sector != part {
            return Err(format!("sector {number} is another in a large read").into());
        }
    }
    println!("read at once and by sectors: the same");
    Ok(())
}

/// Whether a sector is a FAT file system's first: it says how large its sectors are.
fn is_file_system(sector: &[u8]) -> bool {
    sector.starts_with(&[0xeb]) && sector[11..13] == [0, 2]
}

/// A partition table with one partition of so many sectors, behind it.
fn partition_of(sectors: u64) -> Block {
    let mut block = Block::new();
    block.contents[446 + 4] = 0x0c;
    block.contents[446 + 8] = 1;
    let sectors = u32::try_from(sectors).unwrap_or(u32::MAX);
    block.contents[446 + 12..446 + 16].copy_from_slice(&sectors.to_le_bytes());
    block.contents[510..].copy_from_slice(&[0x55, 0xaa]);
    block
}

impl BlockDevice for &Volume {
    type Error = DiskError;

    fn read(&self, blocks: &mut [Block], start: BlockIdx) -> Result<(), DiskError> {
        for (block, at) in blocks.iter_mut().zip(u64::from(start.0)..) {
            match (&self.front, at) {
                (Some(front), 0) => *block = front.clone(),
                (front, at) => {
                    let at = at - u64::from(front.is_some());
                    block_on(self.disk.read(at, &mut block.contents))?;
                }
            }
        }
        Ok(())
    }

    fn write(&self, blocks: &[Block], start: BlockIdx) -> Result<(), DiskError> {
        for (block, at) in blocks.iter().zip(u64::from(start.0)..) {
            let at = at.checked_sub(u64::from(self.front.is_some())).ok_or(DiskError::Range)?;
            block_on(self.disk.write(at, &block.contents))?;
        }
        Ok(())
    }

    fn num_blocks(&self) -> Result<BlockCount, DiskError> {
        let sectors = self.disk.info().sectors + u64::from(self.front.is_some());
        Ok(BlockCount(u32::try_from(sectors).unwrap_or(u32::MAX)))
    }
}

/// All files are of the beginning of 1980, on every machine.
struct NoClock;

impl TimeSource for NoClock {
    fn get_timestamp(&self) -> Timestamp {
        Timestamp {
            year_since_1970: 10,
            zero_indexed_month: 0,
            zero_indexed_day: 0,
            hours: 0,
            minutes: 0,
            seconds: 0,
        }
    }
}
