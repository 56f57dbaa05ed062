//! Which addresses the page tables of a domain map, and to which frames.
//!
//! A domain makes its tables as it likes: one table can be part of a tree many times, so that few frames
//! map more than a disk could hold. Linux does so: its `espfix` stacks are a page that is mapped 65,536
//! times. So a table counts at the first few addresses alone (Linux has its image at two, by the
//! same tables), and what is looked at has a bound by the domain's memory.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::future::Future;

use hypercall_abi::mmu::{ENTRIES_PER_TABLE, ENTRY_ADDRESS_MASK, EntryFlags};
use hypercall_abi::types::{Mfn, PAGE_SHIFT, PAGE_SIZE};

/// Bits of a page's number that one level of tables translates.
const BITS: u32 = 9;
/// Levels of tables.
const LEVELS: usize = 4;
/// Pages of a whole tree.
const END: u64 = 1 << (BITS * 4);
/// The entries of the top table that are the hypervisor's.
const HYPERVISOR: core::ops::Range<u64> = 256..272;
/// The most ranges.
const MOST_RANGES: usize = 16 << 10;
/// Beside what goes by the domain's memory, so many tables are read, and pages found.
const LEAST: u64 = 4096;
/// How often a table counts in a tree.
const USES: u8 = 4;
/// How often a page may be mapped, on average.
const TIMES: u64 = 8;

/// The bytes of a frame.
pub type Bytes = [u8; PAGE_SIZE];

/// The frames of a domain.
pub trait Frames {
    /// Reads a frame. Whether it is the domain's: else nothing is read.
    ///
    /// # Errors
    ///
    /// If the domain can't be read any more, as a sentence.
    fn read(&mut self, frame: Mfn, into: &mut Bytes) -> impl Future<Output = Result<bool, String>>;
}

/// Pages that follow each other in a tree of tables.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Range {
    /// The first. Unit: pages from the lowest address of the tree on.
    pub first: u64,
    /// How many.
    pub pages: u64,
    /// The tree, by its top table.
    pub root: Mfn,
}

impl Range {
    /// The address of its first byte.
    #[must_use]
    pub const fn address(&self) -> u64 {
        // The upper half of addresses has all bits above set.
        let high = if self.first >= END / 2 { u64::MAX << 48 } else { 0 };
        self.first << PAGE_SHIFT | high
    }
}

/// What is mapped.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Mapped {
    /// By their addresses, which are different.
    pub ranges: Vec<Range>,
    /// There is more.
    pub is_cut: bool,
}

/// What trees map, of a domain of so many pages. Of an address that several map the first counts.
///
/// # Errors
///
/// What `frames` say.
pub async fn collect(
    frames: &mut impl Frames,
    roots: &[Mfn],
    pages: u64,
) -> Result<Mapped, String> {
    let mut mapped = Mapped::default();
    let mut left = LEAST.saturating_add(pages.saturating_mul(TIMES));
    let most_tables = LEAST.saturating_add(pages);
    let mut tables = 0;
    let mut first: Option<Walk> = None;
    for root in roots {
        let mut walk = Walk { uses: Some(BTreeMap::new()), ..Walk::from(*root) };
        let (mut page, mut fresh) = (0, Vec::new());
        while page < END {
            let slot = page >> (BITS * 3);
            let is_same = match &first {
                Some(first) => first.has_same(&mut walk, frames, page).await?,
                None => false,
            };
            if HYPERVISOR.contains(&slot) || is_same {
                page = (slot + 1) << (BITS * 3);
                continue;
            }
            let found = walk.find(frames, page).await?;
            if tables + walk.tables_read > most_tables || left == 0 {
                mapped.is_cut = true;
                break;
            }
            match found {
                Ok(_) if !covers(&mapped.ranges, page) => {
                    mapped.is_cut |= !add(&mut fresh, page, *root);
                    left -= 1;
                    page += 1;
                }
                Ok(_) => page += 1,
                Err(next) => page = next,
            }
        }
        tables += walk.tables_read;
        first.get_or_insert(walk);
        mapped.ranges.append(&mut fresh);
        mapped.ranges.sort_unstable_by_key(|range| range.first);
        mapped.is_cut |= mapped.ranges.len() > MOST_RANGES;
        mapped.ranges.truncate(MOST_RANGES);
    }
    Ok(mapped)
}

fn covers(ranges: &[Range], page: u64) -> bool {
    let behind = ranges.partition_point(|range| range.first <= page);
    let before = behind.checked_sub(1).and_then(|at| ranges.get(at));
    before.is_some_and(|range| page - range.first < range.pages)
}

/// Adds a page behind all others. Whether there was room.
fn add(ranges: &mut Vec<Range>, page: u64, root: Mfn) -> bool {
    if let Some(last) = ranges.last_mut().filter(|last| last.first + last.pages == page) {
        last.pages += 1;
        return true;
    }
    let has_room = ranges.len() < MOST_RANGES;
    if has_room {
        ranges.push(Range { first: page, pages: 1, root });
    }
    has_room
}

/// A walk through a tree: of each level, the table that was read last.
#[derive(Debug)]
pub(super) struct Walk {
    root: Mfn,
    /// From the lowest level on, with the pages that each is for: their number without its low bits.
    tables: [(Option<u64>, Box<Bytes>); LEVELS],
    tables_read: u64,
    /// How often each table below the top was met, if that is to be counted.
    uses: Option<BTreeMap<Mfn, u8>>,
}

impl Walk {
    /// From a top table on.
    pub(super) fn from(root: Mfn) -> Self {
        let tables = core::array::from_fn(|_| (None, Box::new([0; PAGE_SIZE])));
        Self { root, tables, tables_read: 0, uses: None }
    }

    pub(super) const fn root(&self) -> Mfn {
        self.root
    }

    /// The frame of a page; if it has none, the first page behind that may have one.
    pub(super) async fn find(
        &mut self,
        frames: &mut impl Frames,
        page: u64,
    ) -> Result<Result<Mfn, u64>, String> {
        let mut frame = self.root;
        for (level, shift) in [(3, 3 * BITS), (2, 2 * BITS), (1, BITS), (0, 0)] {
            let above = shift + BITS;
            if level + 1 < LEVELS && !self.counts(level, page >> above, frame) {
                return Ok(Err(((page >> above) + 1) << above));
            }
            let entry = self.entry(frames, (level, frame), page).await?;
            let flags = EntryFlags::from_bits_retain(entry);
            // No guest has larger pages.
            if !flags.contains(EntryFlags::PRESENT) || level > 0 && flags.contains(EntryFlags::PSE)
            {
                return Ok(Err(((page >> shift) + 1) << shift));
            }
            frame = Mfn((entry & ENTRY_ADDRESS_MASK) >> PAGE_SHIFT);
        }
        Ok(Ok(frame))
    }

    /// Whether a table counts for these pages: not so if it was met at too many other places.
    fn counts(&mut self, level: usize, pages: u64, table: Mfn) -> bool {
        let is_here = self.tables.get(level).is_some_and(|(of, _)| *of == Some(pages));
        let Some(uses) = self.uses.as_mut().filter(|_| !is_here) else { return true };
        let count = uses.entry(table).or_default();
        *count = count.saturating_add(1);
        *count <= USES
    }

    /// The entry for a page in a table, which is read unless it was.
    async fn entry(
        &mut self,
        frames: &mut impl Frames,
        (level, table): (usize, Mfn),
        page: u64,
    ) -> Result<u64, String> {
        let Some((of, bytes)) = self.tables.get_mut(level) else { return Ok(0) };
        let lowest = page.unbounded_shr(BITS * u32::try_from(level).unwrap_or(u32::MAX));
        let wanted = Some(lowest >> BITS);
        if *of != wanted {
            self.tables_read += 1;
            if !frames.read(table, bytes).await? {
                bytes.fill(0);
            }
            *of = wanted;
        }
        let index = usize::try_from(lowest).unwrap_or(0) % ENTRIES_PER_TABLE;
        Ok(bytes.as_chunks().0.get(index).map_or(0, |entry| u64::from_le_bytes(*entry)))
    }

    /// Whether another tree has the same table below the top for a page.
    async fn has_same(
        &self,
        other: &mut Self,
        frames: &mut impl Frames,
        page: u64,
    ) -> Result<bool, String> {
        let at = usize::try_from(page >> (BITS * 3)).unwrap_or(0);
        let entry = other.entry(frames, (LEVELS - 1, other.root), page).await?;
        let top = self.tables.last().map_or(&[][..], |(_, bytes)| bytes.as_chunks().0);
        Ok(top.get(at).is_some_and(|own| u64::from_le_bytes(*own) == entry))
    }
}
