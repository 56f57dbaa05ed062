//! The page tables of a plan: which there are, in which frames, with which entries.
//!
//! Nothing of a table is stored. A table is named by its level and by the number of its first page
//! divided by the pages it covers; from these two follow its frame and every entry.
use hypercall_abi::types::Pfn;

use super::{Extent, Kind, PAGE, Plan};

/// Bits of a page number that one level of tables resolves.
const LEVEL_BITS: u32 = 9;
/// Entries of a table.
const SLOTS: u16 = 512;
/// Bits of an address that the tables look at.
const ADDRESS_BITS: u64 = (1 << 48) - 1;

/// Flags of entries, as the guest finds them.
mod flag {
    pub(super) const PRESENT: u64 = 1 << 0;
    pub(super) const WRITABLE: u64 = 1 << 1;
    pub(super) const USER: u64 = 1 << 2;
    pub(super) const ACCESSED: u64 = 1 << 5;
    pub(super) const DIRTY: u64 = 1 << 6;
    /// Xen's mark for a page of the guest's kernel, in the bits that are free for software.
    pub(super) const GUEST_KERNEL: u64 = 1 << 52;

    /// Entries above the L1.
    pub(super) const TABLE: u64 = PRESENT | WRITABLE | USER | ACCESSED | DIRTY;
    /// Pages of the initial domain: what ring 0 makes of a toolstack's flags.
    pub(super) const INITIAL: u64 = PRESENT | WRITABLE | USER | ACCESSED | GUEST_KERNEL;
    /// Pages as a toolstack writes them; ring 0 adds the rest when it validates the table.
    pub(super) const TOOLSTACK: u64 = PRESENT | WRITABLE | ACCESSED | DIRTY;
}

/// Level of a table.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// Maps pages.
    L1,
    /// Refers to L1 tables.
    L2,
    /// Refers to L2 tables.
    L3,
    /// The root.
    L4,
}

impl Level {
    /// Bits by which a page number is shifted to get the number of this level's table.
    const fn shift(self) -> u32 {
        match self {
            Self::L1 => LEVEL_BITS,
            Self::L2 => 2 * LEVEL_BITS,
            Self::L3 => 3 * LEVEL_BITS,
            Self::L4 => 4 * LEVEL_BITS,
        }
    }

    const fn below(self) -> Option<Self> {
        match self {
            Self::L1 => None,
            Self::L2 => Some(Self::L1),
            Self::L3 => Some(Self::L2),
            Self::L4 => Some(Self::L3),
        }
    }
}

/// Numbers from `first` up to, not including, `end`; empty if that is not larger.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Numbers {
    first: u64,
    end: u64,
}

impl Numbers {
    const fn len(self) -> u64 {
        self.end.saturating_sub(self.first)
    }

    const fn index_of(self, number: u64) -> Option<u64> {
        if number < self.end { number.checked_sub(self.first) } else { None }
    }
}

/// A range of pages by their numbers: the 48 low bits of their addresses, divided by 4096.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Span(Numbers);

impl Span {
    /// From address `start` to `end`, both multiples of a page; both in the same canonical half.
    pub(super) const fn new(start: u64, end: u64) -> Self {
        let first = (start & ADDRESS_BITS) / PAGE;
        Self(Numbers { first, end: first.saturating_add(end.saturating_sub(start) / PAGE) })
    }

    fn of(part: &Extent) -> Self {
        let first = (part.va.unwrap_or_default() & ADDRESS_BITS) / PAGE;
        Self(Numbers { first, end: first.saturating_add(part.pages) })
    }

    /// Numbers of the tables of `level` that this range needs.
    const fn tables(self, level: Level) -> Numbers {
        let first = self.0.first >> level.shift();
        match self.0.end.checked_sub(1) {
            Some(last) if self.0.len() > 0 => {
                Numbers { first, end: (last >> level.shift()).saturating_add(1) }
            }
            _ => Numbers { first, end: first },
        }
    }

    /// How many tables map this range, the root included.
    pub(super) fn table_count(self) -> u64 {
        [Level::L1, Level::L2, Level::L3, Level::L4]
            .iter()
            .fold(0, |sum: u64, &level| sum.saturating_add(self.tables(level).len()))
    }

    /// How many tables this range needs beyond those of `other`, which it does not overlap.
    pub(super) fn new_tables(self, other: Self) -> u64 {
        [Level::L1, Level::L2, Level::L3]
            .iter()
            .fold(0, |sum: u64, &level| sum.saturating_add(self.beyond(other, level).len()))
    }

    /// Tables of `level` for this range that `other` does not have. As neither range overlaps the
    /// other, they share at most the tables at one end.
    const fn beyond(self, other: Self, level: Level) -> Numbers {
        let (own, has) = (self.tables(level), other.tables(level));
        if self.0.first >= other.0.first {
            let first = if own.first > has.end { own.first } else { has.end };
            Numbers { first, end: own.end }
        } else {
            let end = if own.end < has.first { own.end } else { has.first };
            Numbers { first: own.first, end }
        }
    }
}

/// One page table of a plan.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    plan: &'a Plan,
    level: Level,
    number: u64,
    pfn: Pfn,
}

/// One present entry of a page table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Index in the table, below 512.
    pub slot: u16,
    /// The frame it refers to.
    pub pfn: Pfn,
    /// Every bit of the entry but the frame number.
    pub flags: u64,
}

impl Table<'_> {
    /// Its level.
    #[must_use]
    pub const fn level(&self) -> Level {
        self.level
    }

    /// The frame it lies in.
    #[must_use]
    pub const fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// Its present entries in the order of their slots. None is in slots 256 to 271 of the L4.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        let table = *self;
        (0..SLOTS).filter_map(move |slot| table.entry(slot))
    }

    fn entry(&self, slot: u16) -> Option<Entry> {
        let child = (self.number << LEVEL_BITS) | u64::from(slot);
        let (pfn, flags) = match self.level.below() {
            Some(level) => (self.plan.table_frame(level, child)?, flag::TABLE),
            None => self.plan.page(child)?,
        };
        Some(Entry { slot, pfn, flags })
    }
}

/// Iterator over the tables of a plan, from the root down. See [`Plan::page_tables`].
#[derive(Clone, Copy, Debug)]
pub struct Tables<'a> {
    plan: &'a Plan,
    /// What comes next: for the mapped range, or beyond it for the list of frames.
    level: Option<Level>,
    beyond: bool,
    index: u64,
}

impl<'a> Iterator for Tables<'a> {
    type Item = Table<'a>;

    fn next(&mut self) -> Option<Table<'a>> {
        loop {
            let level = self.level?;
            let numbers = self.plan.numbers(level, self.beyond);
            if self.index < numbers.len() {
                let number = numbers.first.checked_add(self.index)?;
                self.index = self.index.checked_add(1)?;
                let pfn = self.plan.table_frame(level, number)?;
                return Some(Table { plan: self.plan, level, number, pfn });
            }
            self.index = 0;
            if self.beyond {
                self.level = level.below();
            }
            self.beyond = !self.beyond;
        }
    }
}

impl Plan {
    /// The root of the page tables.
    #[must_use]
    pub const fn root(&self) -> Pfn {
        self.tables.pfn
    }

    /// All page tables, each before those it refers to.
    #[must_use]
    pub const fn page_tables(&self) -> Tables<'_> {
        Tables { plan: self, level: Some(Level::L4), beyond: false, index: 0 }
    }

    /// Frames of page tables, those for the list of frames included.
    #[must_use]
    pub const fn table_count(&self) -> u64 {
        self.tables.pages.saturating_add(self.p2m_tables.pages)
    }

    /// The list of frames, if it lies outside of the mapped range.
    pub(super) fn list_apart(&self) -> Option<Span> {
        let inside = self.p2m.va.is_some_and(|va| self.frame_at(va).is_some());
        (!inside).then(|| Span::of(&self.p2m))
    }

    /// Numbers of the tables of a level for the mapped range, or those needed beyond it.
    fn numbers(&self, level: Level, beyond: bool) -> Numbers {
        let mapped = Span::of(&self.mapped);
        match (beyond, self.list_apart()) {
            (false, _) => mapped.tables(level),
            (true, Some(list)) if level != Level::L4 => list.beyond(mapped, level),
            (true, _) => Numbers { first: 0, end: 0 },
        }
    }

    /// The frame of the table `number` of `level`, if there is one.
    fn table_frame(&self, level: Level, number: u64) -> Option<Pfn> {
        let (start, index) = match self.numbers(level, false).index_of(number) {
            Some(_) if self.kind == Kind::Initial => {
                (self.tables.pfn, self.interleaved(level, number)?)
            }
            Some(index) => (self.tables.pfn, self.above(level, false).checked_add(index)?),
            None => {
                let index = self.numbers(level, true).index_of(number)?;
                (self.p2m_tables.pfn, self.above(level, true).checked_add(index)?)
            }
        };
        Some(Pfn(start.0.checked_add(index)?))
    }

    /// Tables that come before those of `level` where levels follow each other from the root down.
    fn above(&self, level: Level, beyond: bool) -> u64 {
        [Level::L2, Level::L3, Level::L4]
            .iter()
            .filter(|&&upper| upper > level)
            .fold(0, |sum: u64, &upper| sum.saturating_add(self.numbers(upper, beyond).len()))
    }

    /// Index of a table in the initial domain's order: the L4, then the L1 tables, and after each
    /// L1 that is the first in its L2 (and L3) that table. `None` for a table there is not.
    fn interleaved(&self, level: Level, number: u64) -> Option<u64> {
        if level == Level::L4 {
            return Some(0);
        }
        let begun_before = |l1: u64, upper: Level| {
            let numbers = self.numbers(upper, false);
            let first_l1 = self.numbers(Level::L1, false).first;
            match l1.checked_sub(1) {
                Some(before) if l1 > first_l1 => {
                    let last = before >> upper.shift().saturating_sub(Level::L1.shift());
                    last.saturating_sub(numbers.first).saturating_add(1)
                }
                _ => 0,
            }
        };
        let l1s = self.numbers(Level::L1, false);
        let own_l1 = number << level.shift().saturating_sub(Level::L1.shift());
        let l1 = own_l1.max(l1s.first);
        let behind = match level {
            Level::L1 => 0,
            Level::L2 => 1,
            Level::L3 | Level::L4 => 2,
        };
        l1s.index_of(l1)?
            .checked_add(begun_before(l1, Level::L2))?
            .checked_add(begun_before(l1, Level::L3))?
            .checked_add(behind)?
            .checked_add(1)
    }

    /// The frame behind a page, and the flags it is mapped with.
    fn page(&self, page: u64) -> Option<(Pfn, u64)> {
        let Some(index) = Span::of(&self.mapped).0.index_of(page) else {
            let index = self.list_apart()?.0.index_of(page)?;
            return Some((Pfn(self.p2m.pfn.0.checked_add(index)?), self.writable(true)));
        };
        let pfn = Pfn(index);
        let within = |part: &Extent| pfn >= part.pfn && pfn < part.end();
        let flags = if within(&self.tables) {
            self.writable(false) & !flag::WRITABLE
        } else {
            self.writable(within(&self.image) || within(&self.p2m) || within(&self.start_info))
        };
        Some((pfn, flags))
    }

    /// Flags of an ordinary page. The initial domain sees which pages its builder wrote.
    const fn writable(&self, written: bool) -> u64 {
        match self.kind {
            Kind::Initial if written => flag::INITIAL | flag::DIRTY,
            Kind::Initial => flag::INITIAL,
            Kind::Toolstack => flag::TOOLSTACK,
        }
    }
}
