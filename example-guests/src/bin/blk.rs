//! Uses its first disk: a FAT file system, alone or in the first partition of an MBR.
//!
//! It reads a file, checks its SHA-256 against the words of another, and writes a third with what it
//! found: `in=DATA.BIN sum=DATA.SHA out=REPORT.TXT` on the command line are the names. Then it takes
//! the disk down, brings it up again and reads what it has written.
//!
//! With the word `measure` it does none of that, but reads again and again, and tells what a read
//! costs in units of the processor's counter: instructions of the whole machine, where those are
//! counted; with `longest` what the dearest of many cost. With `load` it writes and reads until it is ended.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use core::cell::Cell;
use core::error::Error;
use core::future::Future;

use embedded_sdmmc::{
    Block, BlockCount, BlockDevice, BlockIdx, Mode, TimeSource, Timestamp, VolumeIdx, VolumeManager,
};
use pv_guest_sdk::block::{Disk, DiskError, Options};
use pv_guest_sdk::grant::Grants;
use pv_guest_sdk::paging::Memory;
use pv_guest_sdk::raw::registers::counter;
use pv_guest_sdk::task::{Executor, block_on};
use pv_guest_sdk::vcpu::Vcpu;
use pv_guest_sdk::xenbus::Device;
use pv_guest_sdk::{BootInfo, entry, println, vary, xenstore};
use sha2::{Digest, Sha256};

// Functions that need much of the stack are not inlined: not all need it at the same time.
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
    let is = |wanted| boot.arguments().any(|word| word == wanted);
    if is("measure") {
        return measure(device, grants);
    }
    if is("longest") {
        return longest(device, grants);
    }
    if is("load") {
        return load(device, grants);
    }
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

/// Reads of each kind that are measured, after as many that are not.
const READS: u32 = 256;

/// Tells what reads cost: 4 KiB one after the other, 32 of them at once, and 128 KiB.
#[inline(never)]
fn measure(device: Device<'static>, grants: Grants) -> Outcome {
    let disk = block_on(Disk::open(device, grants, Options::default()))?;
    for (length, depth) in [(4096, 1), (4096, 32), (128 << 10, 1)] {
        let mut cost = 0;
        for _ in 0..2 {
            let before = counter();
            readers(&disk, length, depth)?;
            cost = (counter() - before) / u64::from(READS);
        }
        println!("{length} bytes at depth {depth}: {}", vary!("cost", cost));
    }
    Ok(())
}

/// Tells what the dearest read of many cost.
#[inline(never)]
fn longest(device: Device<'static>, grants: Grants) -> Outcome {
    let disk = block_on(Disk::open(device, grants, Options::default()))?;
    let (mut most, mut buffer) = (0, vec![0; 4096]);
    for _ in 0..16 * READS {
        let before = counter();
        block_on(disk.read(0, &mut buffer))?;
        most = most.max(counter() - before);
    }
    println!("dearest of {} reads: {}", 16 * READS, vary!("cost", most));
    Ok(())
}

/// Reads [`READS`] times, `depth` at once.
#[inline(never)]
fn readers(disk: &Disk<'static, Grants>, length: usize, depth: u32) -> Outcome {
    let failed = Cell::new(None);
    let executor = Executor::<Box<dyn Future<Output = ()> + '_>>::default();
    for reader in 0..depth {
        let failed = &failed;
        let task: Box<dyn Future<Output = ()> + '_> = Box::new(async move {
            let mut buffer = vec![0; length];
            for number in 0..READS / depth {
                let sector = u64::from(number % 8 * depth + reader) * (length as u64 / 512);
                if let Err(error) = disk.read(sector, &mut buffer).await {
                    failed.set(Some(error));
                }
            }
        });
        if executor.spawn(Box::into_pin(task)).is_err() {
            return Err("too many tasks".into());
        }
    }
    executor.run();
    failed.take().map_or(Ok(()), |error| Err(error.into()))
}

/// Keeps the disk at work for ever.
#[inline(never)]
fn load(device: Device<'static>, grants: Grants) -> Outcome {
    let disk = block_on(Disk::open(device, grants, Options::default()))?;
    println!("at work");
    let pattern = vec![0x5a; 64 << 10];
    loop {
        block_on(disk.write(0, &pattern))?;
        readers(&disk, 4096, 32)?;
    }
}

fn or<'a>(name: &'a str, default: &'a str) -> &'a str {
    if name.is_empty() { default } else { name }
}

/// Checks a file against its sum, and says what there is to report of it.
#[inline(never)]
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
#[inline(never)]
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

#[inline(never)]
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
    #[inline(never)]
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
#[inline(never)]
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
