//! Tries every disk of the machine: the guest's mode `disks`.
//!
//! Words: `scratch=SECTOR` writes 256 sectors from there on, reads them back and discards them;
//! `again` lets all disks go and brings them up once more; `measure` times a RAM disk, which counts instructions where time does.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::error::Error;
use core::future::poll_fn;
use core::pin::pin;

use futures_util::future::{Either, join_all, select, try_join_all};
use pv_guest_sdk::device::physdev::{self, Source};
use pv_guest_sdk::paging::Memory;
use pv_guest_sdk::time::Instant;
use pv_guest_sdk::{BootInfo, HypercallError, Machine, println, task, vary, vcpu::Vcpu};

use crate::disk::{Command, Disk, DiskError, Operation, Session, gpt};
use crate::hw::{Buffer, ConfigurationPorts, Piece};
use crate::lines::Lines;
use crate::pci::{self, Device};
use crate::virtio::{Block, TransportError, probe};

/// What is read of each disk to be summed up. Unit: sectors.
const SAMPLE: u64 = 64;
/// Requests at once, and the length of each. Unit: sectors.
const DEPTH: u64 = 32;
const EACH: u64 = 8;
/// Reads that are timed.
const READS: u64 = 1024;

/// A disk that was found.
pub struct Found {
    /// The disk.
    pub disk: Disk,
    /// A word or two on how it is driven.
    pub about: String,
}

/// Finds the machine's disks, tries each, and says how it went.
///
/// # Errors
/// If the machine's devices cannot be reached, or a disk does not work.
pub fn run(boot: &BootInfo<'static>) -> Result<(), Box<dyn Error>> {
    let vcpu = Vcpu::start(boot)?;
    Memory::start(boot)?;
    vcpu.start_events()?;
    let config = ConfigurationPorts::claim()?;
    announce(&config)?;
    let has = |word: &str| boot.arguments().any(|it| it == word);
    // What the first time leaves behind would be in the way of the second.
    for _ in 0..if has("again") { 2 } else { 1 } {
        once(boot, &config)?;
    }
    if has("measure") { task::block_on(measure()) } else { Ok(()) }
}

/// Tells the hypervisor of all functions.
///
/// # Errors
/// If it does not want to know.
pub fn announce(config: &ConfigurationPorts) -> Result<(), HypercallError> {
    for function in pci::functions(config) {
        let device = Device::at(config, function);
        let ((vendor, id), class) = (device.id(), device.class());
        println!("pci {function}: {vendor:04x}:{id:04x}, class {class}");
        physdev::add(&Machine, function)?;
    }
    Ok(())
}

/// Brings all disks up, tries each, and lets them go.
fn once(boot: &BootInfo<'static>, config: &ConfigurationPorts) -> Result<(), Box<dyn Error>> {
    let mut lines = Lines::default();
    let (disks, mut failed) = find(config, &mut lines);
    let scratch = boot.argument("scratch").map(str::parse).transpose()?;
    let work = async {
        for (number, found) in disks.iter().enumerate() {
            if let Err(error) = examine(number, found, scratch).await {
                println!("disk {number}: {error}");
                failed += 1;
            }
        }
        println!("{} disks, {failed} failed", disks.len());
        if failed == 0 { Ok(()) } else { Err("not all disks work".into()) }
    };
    let serve = try_join_all(lines.iter().map(|line| line.serve()));
    task::block_on(async {
        // Lines are served until the work ends; without a line there is nothing to serve.
        match select(pin!(work), pin!(serve)).await {
            Either::Left((done, _)) => done,
            Either::Right((Ok(_), work)) => work.await,
            Either::Right((Err(error), _)) => Err(error.into()),
        }
    })
}

/// Brings up all functions that are disks; their interrupts are in `lines`, to be served. Returns
/// them, and how many could not be.
pub fn find(config: &ConfigurationPorts, lines: &mut Lines) -> (Vec<Found>, usize) {
    let (mut disks, mut failed) = (Vec::new(), 0);
    for function in pci::functions(config) {
        let device = Device::at(config, function);
        if probe::kind(device) != Some(probe::BLOCK) {
            continue;
        }
        match bring_up(device, lines) {
            Ok(found) => {
                println!("disk {}: at {function}, {}", disks.len(), found.about);
                disks.push(found);
            }
            Err(error) => {
                println!("disk at {function}: {error}");
                failed += 1;
            }
        }
    }
    (disks, failed)
}

fn bring_up(
    device: Device<'_, ConfigurationPorts>,
    lines: &mut Lines,
) -> Result<Found, TransportError> {
    let found = probe::device(device, lines)?;
    let age = if found.transport.is_legacy() { "legacy" } else { "modern" };
    let source = match found.line.source() {
        Source::Message { .. } => "message".into(),
        Source::Wire(wire) | Source::Legacy(wire) => format!("wire {wire}"),
    };
    let about = format!("{age}, interrupt by {source}, {}", vary!("end", found.line.reports_end()));
    let block = Rc::new(Block::start(found.transport)?);
    found.line.add(block.clone());
    Ok(Found { disk: Disk::virtio(block), about })
}

/// Says what a disk is and what is on it, and tries what it can.
async fn examine(number: usize, found: &Found, scratch: Option<u64>) -> Result<(), Box<dyn Error>> {
    let (disk, limits) = (&found.disk, found.disk.limits());
    println!(
        "disk {number}: {} sectors, of {} bytes, physical {}, {}, {}",
        limits.sectors,
        limits.sector_size,
        limits.physical_size,
        if limits.read_only { "read-only" } else { "writable" },
        if limits.discard.is_some() { "discards" } else { "keeps all" }
    );
    match gpt::partitions(disk).await {
        Ok(partitions) => {
            for it in partitions {
                let (first, sectors, name) = (it.first, it.disk.sectors(), it.name);
                println!(
                    "disk {number}: partition {} `{name}`, {} at {first}, {sectors} sectors, begins {:#010x}",
                    it.number,
                    it.kind,
                    checksum(&it.disk, 0, sectors.min(SAMPLE)).await?
                );
            }
        }
        Err(error) => println!("disk {number}: {error}"),
    }
    let sample = limits.sectors.min(SAMPLE);
    println!("disk {number}: begins {:#010x}", checksum(disk, 0, sample).await?);
    println!(
        "disk {number}: ends {:#010x}",
        checksum(disk, limits.sectors - sample, sample).await?
    );
    if let Some(sector) = scratch.filter(|_| !limits.read_only) {
        try_writing(number, disk, sector).await?;
    }
    disk.flush().await?;
    println!("disk {number}: flushed");
    Ok(())
}

/// The checksum of some sectors, read by a request for each page, all at once.
async fn checksum(disk: &Disk, first: u64, sectors: u64) -> Result<u32, Box<dyn Error>> {
    let buffer = Buffer::new(usize::try_from(512 * sectors)?, 0)?;
    all(disk, Operation::Read, first, sectors, &buffer).await?;
    Ok(sum(&buffer, sectors))
}

fn sum(buffer: &Buffer, sectors: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for offset in 0..64 * usize::try_from(sectors).unwrap_or(0) {
        let mut word = [0];
        buffer.read(8 * offset, &mut word);
        hasher.update(&word[0].to_le_bytes());
    }
    hasher.finalize()
}

/// Transfers sectors by requests of a page, each of two pieces, all of them at once.
async fn all(
    disk: &Disk,
    operation: Operation,
    first: u64,
    sectors: u64,
    buffer: &Buffer,
) -> Result<(), DiskError> {
    let requests = (0..sectors).step_by(8).map(|sector| async move {
        let length = 512 * u32::try_from(EACH.min(sectors - sector)).unwrap_or(0);
        let own = disk.limits().sector_size;
        let half = (length / 2).next_multiple_of(own).min(length);
        let piece = |offset: u32, length| {
            buffer.piece(512 * sector + u64::from(offset), length).filter(|_| length != 0)
        };
        let list: Vec<Piece> =
            [piece(0, half), piece(half, length - half)].into_iter().flatten().collect();
        disk.transfer(operation, first + sector, &list).await
    });
    join_all(requests).await.into_iter().collect()
}

/// Writes, flushes, reads back and discards.
async fn try_writing(number: usize, disk: &Disk, first: u64) -> Result<(), Box<dyn Error>> {
    let sectors = DEPTH * EACH;
    let length = usize::try_from(512 * sectors)?;
    let (written, read) = (Buffer::new(length, 0)?, Buffer::new(length, 32)?);
    for (word, offset) in (first..).zip((0..length).step_by(8)) {
        written.write(offset, &[word.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number as u64]);
    }
    all(disk, Operation::Write, first, sectors, &written).await?;
    disk.flush().await?;
    all(disk, Operation::Read, first, sectors, &read).await?;
    let (sum, expected) = (sum(&read, sectors), sum(&written, sectors));
    if sum != expected {
        return Err(format!("wrote {expected:#010x}, read {sum:#010x}").into());
    }
    println!("disk {number}: {DEPTH} requests at once were written, and read back {sum:#010x}");
    match disk.discard(first, sectors).await {
        Ok(()) => println!("disk {number}: discarded"),
        Err(DiskError::Unsupported) => println!("disk {number}: discards nothing"),
        Err(error) => return Err(error.into()),
    }
    let piece = [read.piece(0, 4096).ok_or("no piece")?];
    let behind = disk.transfer(Operation::Read, disk.sectors(), &piece).await;
    println!("disk {number}: behind the end: {behind:?}");
    Ok(())
}

/// Times reads of 4 KiB from a RAM disk, one after the other and 32 at once.
async fn measure() -> Result<(), Box<dyn Error>> {
    let (disk, buffer) = (Disk::ram(256)?, Buffer::new(4096 * 32, 0)?);
    let pieces: Vec<Piece> = (0..DEPTH).filter_map(|it| buffer.piece(4096 * it, 4096)).collect();
    let start = Instant::now();
    for (sector, piece) in (0..READS).zip(pieces.iter().cycle()) {
        disk.transfer(Operation::Read, 8 * sector % 2048, core::slice::from_ref(piece)).await?;
    }
    let one = (Instant::now() - start).as_nanos() / u128::from(READS);
    let mut session = Session::new(disk);
    let start = Instant::now();
    for _ in 0..READS / DEPTH {
        for (number, piece) in (0..).zip(&pieces) {
            let sector = 8 * u64::from(number);
            let list = core::slice::from_ref(piece);
            let command = Command::Transfer(Operation::Read, sector, list);
            session.submit(number, command).map_err(|_| "no room in a session")?;
        }
        for _ in &pieces {
            poll_fn(|context| session.poll(context)).await.1?;
        }
    }
    let many = (Instant::now() - start).as_nanos() / u128::from(READS);
    println!(
        "ram disk, 4 KiB: {} ns one by one, {} ns 32 at once",
        vary!("ns", one),
        vary!("ns", many)
    );
    Ok(())
}
