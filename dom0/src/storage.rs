//! The machine's disks, and who has which part of them.
//!
//! A target names a disk: `/dev/vda` the first virtio block device, `/dev/vda2` its second partition,
//! `/dev/vda@2048+8192` so many of its sectors from there on, `ram:8` a new disk of so many MiB in
//! memory, `file:NAME` a new one with a file of the bundle in it.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::error::Error;

use devices::disk::{Disk, Operation, gpt};
use devices::disks::Found;
use devices::hw::Buffer;
use pv_guest_sdk::println;

/// Sectors of 512 bytes in a page, and in a MiB.
const SECTORS_PER_PAGE: usize = 8;
const SECTORS_PER_MIB: usize = 2048;
/// The largest disk in memory. Unit: MiB.
const MOST_RAM: usize = 1024;
/// How much of a file is copied at once. Unit: bytes.
const PIECE: usize = 64 << 10;

/// All disks.
#[derive(Default)]
pub(crate) struct Storage {
    found: Vec<Found>,
    claims: RefCell<Vec<Range>>,
}

/// A part of a disk that somebody has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Range {
    /// Which of the disks.
    number: usize,
    first: u64,
    end: u64,
    read_only: bool,
}

/// A disk for one domain. It is free again when this is dropped.
pub(crate) struct Claim {
    storage: Rc<Storage>,
    range: Option<Range>,
    pub(crate) disk: Disk,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claims = self.storage.claims.borrow_mut();
        if let Some(place) = claims.iter().position(|other| Some(*other) == self.range) {
            claims.swap_remove(place);
        }
    }
}

impl Storage {
    /// The disks that were found.
    pub(crate) fn new(found: Vec<Found>) -> Rc<Self> {
        for (name, disk) in names().zip(&found) {
            println!("{name}: {} MiB, {}", disk.disk.sectors() >> 11, disk.about);
        }
        Rc::new(Self { found, claims: RefCell::default() })
    }

    /// Opens a disk for a domain, for itself alone unless it is only read.
    ///
    /// # Errors
    /// What is wrong with the target, or who has it, as a sentence.
    pub(crate) async fn open(
        self: &Rc<Self>,
        target: &str,
        read_only: bool,
        file: impl Fn(&str) -> Option<&'static [u8]>,
    ) -> Result<Claim, String> {
        if let Some(size) = target.strip_prefix("ram:") {
            let size = size.parse().ok().filter(|size| (1..=MOST_RAM).contains(size));
            let size = size.ok_or_else(|| format!("{target}: 1 to {MOST_RAM} MiB are possible"))?;
            let disk = memory(target, size * SECTORS_PER_MIB)?;
            return Ok(self.without_range(disk, read_only));
        }
        if let Some(name) = target.strip_prefix("file:") {
            let bytes = file(name).ok_or_else(|| format!("{target}: not in the bundle"))?;
            let disk = memory(target, bytes.len().div_ceil(512))?;
            fill(&disk, bytes).await.map_err(|error| format!("{target}: {error}"))?;
            return Ok(self.without_range(disk, read_only));
        }
        let (number, first, disk) = self.find(target).await?;
        let range = Range { number, first, end: first + disk.sectors(), read_only };
        let mut claims = self.claims.borrow_mut();
        if let Some(other) = claims.iter().find(|other| conflict(other, &range)) {
            let how = if other.read_only { "read" } else { "written" };
            return Err(format!("{target}: it is {how} by another domain"));
        }
        claims.push(range);
        let disk = if read_only { disk.read_only() } else { disk };
        Ok(Claim { storage: self.clone(), range: Some(range), disk })
    }

    /// How many disks domains have.
    pub(crate) fn claimed(self: &Rc<Self>) -> usize {
        // Whatever else holds it holds it once: the world.
        Rc::strong_count(self).saturating_sub(1)
    }

    fn without_range(self: &Rc<Self>, disk: Disk, read_only: bool) -> Claim {
        let disk = if read_only { disk.read_only() } else { disk };
        Claim { storage: self.clone(), range: None, disk }
    }

    /// A disk by its name: its number, its first sector, and itself.
    async fn find(&self, target: &str) -> Result<(usize, u64, Disk), String> {
        let name = target.strip_prefix("/dev/").unwrap_or(target);
        let base = name.get(..3).unwrap_or_default();
        let rest = name.get(3..).unwrap_or_default();
        let place = names().zip(&self.found).position(|(name, _)| name == base);
        let Some((number, found)) = place.and_then(|at| Some((at, self.found.get(at)?))) else {
            return Err(format!("{target}: there is no such disk ({})", self.list()));
        };
        if rest.is_empty() {
            return Ok((number, 0, found.disk.clone()));
        }
        if let Some((first, count)) = rest.strip_prefix('@').and_then(|it| it.split_once('+')) {
            let range = first.parse().ok().zip(count.parse().ok());
            let region = range.and_then(|(first, count)| {
                Some((first, found.disk.region(first, count).filter(|_| count > 0)?))
            });
            let (first, disk) = region.ok_or_else(|| format!("{target}: not within the disk"))?;
            return Ok((number, first, disk));
        }
        let partitions = gpt::partitions(&found.disk).await;
        let partitions = partitions.map_err(|error| format!("{target}: {error}"))?;
        let wanted = partitions.into_iter().find(|it| Ok(it.number) == rest.parse());
        let it = wanted.ok_or_else(|| format!("{target}: there is no such partition"))?;
        Ok((number, it.first, it.disk))
    }

    /// The names of all disks.
    fn list(&self) -> String {
        let names: Vec<String> = names().take(self.found.len()).collect();
        if names.is_empty() { "there are none".into() } else { names.join(", ") }
    }
}

/// The names of disks, in their order.
fn names() -> impl Iterator<Item = String> {
    ('a'..='z').map(|letter| format!("vd{letter}"))
}

/// Whether two domains can't have both.
const fn conflict(one: &Range, other: &Range) -> bool {
    one.number == other.number
        && one.first < other.end
        && other.first < one.end
        && !(one.read_only && other.read_only)
}

/// A disk in memory.
fn memory(target: &str, sectors: usize) -> Result<Disk, String> {
    let disk = Disk::ram(sectors.div_ceil(SECTORS_PER_PAGE));
    let disk = disk.map_err(|error| format!("{target}: {error}"))?;
    let sectors = u64::try_from(sectors).unwrap_or(u64::MAX);
    disk.region(0, sectors).ok_or_else(|| format!("{target}: it is empty"))
}

/// Writes bytes from the beginning of a disk on.
async fn fill(disk: &Disk, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let buffer = Buffer::new(PIECE, 0)?;
    for (piece, sector) in bytes.chunks(PIECE).zip((0..).step_by(PIECE / 512)) {
        put(disk, &buffer, sector, piece).await?;
    }
    Ok(())
}

/// Writes bytes from a sector on, through a buffer that has room for them; the last sector is filled with
/// zeros.
///
/// # Errors
/// What the disk says.
pub(crate) async fn put(
    disk: &Disk,
    buffer: &Buffer,
    sector: u64,
    bytes: &[u8],
) -> Result<(), Box<dyn Error>> {
    let mut words = [0; 128];
    for (part, offset) in bytes.chunks(words.len() * 8).zip((0..).step_by(words.len() * 8)) {
        words.fill(0);
        for (word, bytes) in words.iter_mut().zip(part.chunks(8)) {
            let mut whole = [0; 8];
            whole.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            *word = u64::from_le_bytes(whole);
        }
        buffer.write(offset, &words);
    }
    let length = u32::try_from(bytes.len().next_multiple_of(512))?;
    let part = buffer.piece(0, length).ok_or("too long")?;
    Ok(disk.transfer(Operation::Write, sector, &[part]).await?)
}
