//! Which physical memory there is, and the boot allocator that gives it out until the frame table
//! takes over.

use core::sync::atomic::Ordering;

use heapless::Vec;

use super::layout::DIRECT_SIZE;
use super::multiboot::MapEntry;
use super::phys;

const PAGE: u64 = 4096;
/// Never given out: firmware data, the boot loader's, and the page other CPUs start in. From the initial
/// domain's start on it is a device, as it has always been to Xen's: Linux looks for tables there.
pub(crate) const LOW_MEMORY: u64 = 1 << 20;
const USABLE: u32 = 1;
/// Most separate ranges kept.
pub(crate) const RANGES: usize = 128;

/// Physical bytes `start..end`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Range {
    /// First byte.
    pub start: u64,
    /// First byte behind it.
    pub end: u64,
}

impl Range {
    /// Length in bytes.
    pub(crate) const fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether there is nothing in it.
    pub(crate) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The smallest range of whole pages that holds all of it.
    pub(crate) const fn outward(&self) -> Self {
        Self { start: self.start & !(PAGE - 1), end: self.end.next_multiple_of(PAGE) }
    }

    /// The largest range of whole pages inside it; may be empty.
    pub(crate) const fn inward(&self) -> Self {
        Self { start: self.start.next_multiple_of(PAGE), end: self.end & !(PAGE - 1) }
    }
}

/// A list of ranges, sorted and apart from each other.
pub(crate) type Ranges = Vec<Range, RANGES>;

/// The usable memory of `map` in whole pages, sorted, below `limit` bytes and what the direct map can
/// hold.
///
/// Where lines contradict each other, whatever is not usable memory wins.
pub(crate) fn usable(map: &[MapEntry], limit: Option<u64>) -> Ranges {
    let limit = limit.unwrap_or(DIRECT_SIZE).min(DIRECT_SIZE);
    let mut ram = Ranges::new();
    let range = |entry: &MapEntry| Range {
        start: entry.base.min(limit),
        end: entry.base.saturating_add(entry.length).min(limit),
    };
    for entry in map.iter().filter(|entry| entry.kind == USABLE) {
        let part = range(entry).inward();
        // Against lines that overlap: what is known already is not added twice.
        remove(&mut ram, part);
        if !part.is_empty() {
            let _ = ram.push(part);
        }
    }
    for entry in map.iter().filter(|entry| entry.kind != USABLE) {
        remove(&mut ram, range(entry).outward());
    }
    ram.sort_unstable_by_key(|range| range.start);
    ram
}

/// Whether all of `part` lies in one of `ranges`.
pub(crate) fn contains(ranges: &Ranges, part: Range) -> bool {
    ranges.iter().any(|range| range.start <= part.start && part.end <= range.end)
}

/// Takes `hole` out of every range of `ranges`.
fn remove(ranges: &mut Ranges, hole: Range) {
    let mut left = Ranges::new();
    for range in ranges.iter() {
        let before = Range { start: range.start, end: range.end.min(hole.start) };
        let behind = Range { start: range.start.max(hole.end).max(before.end), end: range.end };
        for part in [before, behind] {
            if !part.is_empty() {
                // A range that no longer fits is memory lost, not memory given out twice.
                let _ = left.push(part);
            }
        }
    }
    *ranges = left;
}

/// The boot allocator: hands out physical pages, takes none back.
#[derive(Debug)]
pub(crate) struct Memory {
    free: Ranges,
    /// Pages at and above this cannot be reached yet.
    reachable: u64,
}

impl Memory {
    /// An allocator for `ram` above the first MiB; what is in use must then be [reserved].
    ///
    /// [reserved]: Self::reserve
    pub(crate) fn new(ram: &Ranges) -> Self {
        let mut free = ram.clone();
        remove(&mut free, Range { start: 0, end: LOW_MEMORY });
        Self { free, reachable: phys::BOOT_MAPPED }
    }

    /// Lifts the limit the boot page tables set: from now on all memory may be given out.
    pub(crate) fn reach_all(&mut self) {
        self.reachable = DIRECT_SIZE;
    }

    /// Never gives out any page of `range`.
    pub(crate) fn reserve(&mut self, range: Range) {
        remove(&mut self.free, range.outward());
    }

    /// Physical address of `count` adjacent pages, zeroed, aligned to `align` bytes (a power of two,
    /// at least a page); `None` when no free range holds them.
    pub(crate) fn alloc_pages(&mut self, count: u64, align: u64) -> Option<u64> {
        let bytes = count.checked_mul(PAGE)?;
        let place = |range: &Range| {
            let start = range.start.checked_next_multiple_of(align)?;
            let end = start.checked_add(bytes)?;
            (end <= range.end && end <= self.reachable).then_some(Range { start, end })
        };
        let found = self.free.iter().find_map(place)?;
        remove(&mut self.free, found);
        phys::zero(found.start, bytes);
        Some(found.start)
    }

    /// A copy of a text, cut to a page, where nobody else writes; `None` without memory.
    pub(crate) fn keep(&mut self, text: &[u8]) -> Option<&'static [u8]> {
        let page = self.alloc_pages(1, PAGE)?;
        let words = phys::table(page).iter().zip(text.chunks(8));
        let length = words.fold(0, |length, (word, chunk)| {
            let value = chunk.iter().rfold(0, |value, &byte| value << 8 | u64::from(byte));
            word.store(value, Ordering::Relaxed);
            length + chunk.len() as u64
        });
        phys::left_behind(page, length)
    }

    /// What has not been given out, sorted.
    pub(crate) fn free(&self) -> &[Range] {
        &self.free
    }

    /// Bytes that have not been given out.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.free.iter().map(Range::len).sum()
    }
}
