//! Page tables, roots and descriptors.
//!
//! Half of the calls are *apt*: they work on some toys that each have a part to play, tables of one
//! level or pages, so that tables come to stand on tables. The others take any frame as anything.

use hypercall_abi::mmu::mmuext;

use super::{After, Call, Fuzz, toy_of};
use crate::land::SELF;
use crate::raw::memory::{put, toy};

/// The toys that apt calls take as tables, by level from 1 on: the first, and how many.
const TABLES: [(u64, u64); 4] = [(64, 16), (80, 8), (88, 4), (92, 4)];
/// Those that they take as pages.
pub(super) const PAGES: (u64, u64) = (96, 64);
/// Slots of a table that apt calls use.
const SLOTS: u64 = 8;

impl Fuzz {
    pub(super) fn mmu_update(&mut self) -> Call {
        if self.random.once_in(2) {
            return self.apt_update();
        }
        let most = self.random.of([1, 1, 2, 8]);
        let count = 1 + self.random.below(most);
        let (list, said) = self.list(16, count);
        for at in (list..).step_by(16).take(usize::try_from(count).unwrap_or(0)) {
            let command = if self.random.once_in(4) { self.random.below(4) } else { 0 };
            // Only a frame's own number may be changed to what it is not.
            let place = match command {
                1 => self.toy_frame().wrapping_shl(12),
                _ => self.entry_place(),
            };
            put(at, &[place | command, self.entry()]);
        }
        let done = self.pointer();
        let domain =
            if self.random.once_in(8) { self.domain() | (self.domain() + 1) << 16 } else { SELF };
        Self::call(1, [list, said, done, domain, 0, 0])
    }

    /// One of some toys, by its number.
    pub(super) fn one_of(&mut self, (first, count): (u64, u64)) -> usize {
        toy_of(first + self.random.below(count))
    }

    /// A table of a level from 1 on, by the number of the toy.
    fn table(&mut self, level: usize) -> usize {
        self.one_of(TABLES.get(level - 1).copied().unwrap_or(PAGES))
    }

    /// Where the caller wants to be told how much was done, if anywhere.
    fn done(&mut self) -> u64 {
        if self.random.once_in(16) { self.pointer() } else { 0 }
    }

    /// An entry of a table, that names a table of the level below, a page, or nothing.
    fn apt_update(&mut self) -> Call {
        let count = self.random.of([1, 1, 2, 4]);
        let list = self.room(16 * count);
        for at in (list..).step_by(16).take(usize::try_from(count).unwrap_or(0)) {
            let level = self.random.of([1, 1, 1, 2, 2, 3, 4]);
            let (table, page) = (self.table(level), self.one_of(PAGES));
            let below = if level == 1 { page } else { self.table(level - 1) };
            let flags = self.random.of([5, 7, 0x27, 0x65]);
            let command = self.random.of([0, 0, 0, 2]);
            let entry = self.land.frames[below] << 12 | flags;
            let entry = if self.random.once_in(3) { 0 } else { entry };
            let slot = 8 * self.random.below(SLOTS);
            put(at, &[(self.land.frames[table] << 12) + (slot | command), entry]);
        }
        Self::call(1, [list, count, self.done(), SELF, 0, 0])
    }

    /// Something that can be done with a table, or with translations. A pin that is there is taken
    /// away, as the answers so far say.
    fn apt_operation(&mut self) -> Call {
        let level = self.random.of([1, 1, 1, 2, 2, 3, 4]);
        let (table, [from, to]) = (self.table(level), [(); 2].map(|()| self.one_of(PAGES)));
        let [frame, from, to] = [table, from, to].map(|it| self.land.frames[it]);
        let pin = level as u64 - 1;
        let mut after = After::Nothing;
        let operation = match self.random.below(16) {
            0..8 if self.pinned[table] => {
                after = After::Pinned(table, false);
                [mmuext::UNPIN_TABLE.into(), frame, 0]
            }
            0..8 => {
                after = After::Pinned(table, true);
                [pin, frame, 0]
            }
            8 => [mmuext::NEW_BASEPTR.into(), self.random.of(self.land.roots), 0],
            // A table that is none is so again apt for one.
            9 => [mmuext::CLEAR_PAGE.into(), self.random.of([from, frame]), 0],
            10 => [mmuext::COPY_PAGE.into(), from, to],
            11 => [self.random.of([mmuext::TLB_FLUSH_LOCAL, mmuext::TLB_FLUSH_ALL]).into(), 0, 0],
            12 => [mmuext::INVLPG_LOCAL.into(), toy(self.random.below(64)), 0],
            13 => [mmuext::SET_LDT.into(), 0, 0],
            14 => [mmuext::NEW_USER_BASEPTR.into(), self.random.of([0, frame]), 0],
            _ => [mmuext::INVLPG_ALL.into(), self.address(), 0],
        };
        let list = self.words(&operation);
        Call { number: 26, args: [list, 1, self.done(), SELF, 0, 0], after }
    }

    pub(super) fn map_address(&mut self) -> Call {
        let (address, entry) = (self.address(), self.entry());
        let flags = match self.random.below(4) {
            0 => self.random.below(8),
            1 => self.pointer() & !3 | self.random.below(4),
            _ => 2,
        };
        if self.random.once_in(8) {
            return Self::call(22, [address, entry, flags, self.domain(), 0, 0]);
        }
        Self::call(14, [address, entry, flags, 0, 0, 0])
    }

    pub(super) fn extended(&mut self) -> Call {
        if self.random.once_in(2) {
            return self.apt_operation();
        }
        let most = self.random.of([1, 1, 4]);
        let count = 1 + self.random.below(most);
        let (list, said) = self.list(24, count);
        for at in (list..).step_by(24).take(usize::try_from(count).unwrap_or(0)) {
            let operation = self.operation();
            put(at, &operation);
        }
        let done = self.pointer();
        let domain = if self.random.once_in(8) { self.domain() } else { SELF };
        Self::call(26, [list, said, done, domain, 0, 0])
    }

    fn operation(&mut self) -> [u64; 3] {
        let command = match self.random.below(16) {
            0..6 => self.random.below(4),
            6..9 => mmuext::UNPIN_TABLE.into(),
            9 => self.random.of([mmuext::NEW_BASEPTR, mmuext::NEW_USER_BASEPTR]).into(),
            10 => self.random.of([mmuext::CLEAR_PAGE, mmuext::COPY_PAGE]).into(),
            _ => self.about(22) & 0xffff_ffff,
        };
        let (first, second) = match u32::try_from(command).unwrap_or(u32::MAX) {
            // Only with these two this guest can go on.
            mmuext::NEW_BASEPTR => (self.random.of(self.land.roots), 0),
            mmuext::NEW_USER_BASEPTR if self.random.once_in(2) => (0, 0),
            mmuext::INVLPG_LOCAL | mmuext::INVLPG_ALL => (self.address(), 0),
            mmuext::INVLPG_MULTI | mmuext::TLB_FLUSH_MULTI => (self.address(), self.pointer()),
            mmuext::SET_LDT => (self.address(), self.about(8193)),
            mmuext::UNPIN_TABLE if self.random.once_in(16) => (self.random.of(self.land.roots), 0),
            _ => (self.frame(), self.frame()),
        };
        [command, first, second]
    }

    pub(super) fn descriptors(&mut self) -> Call {
        if self.random.once_in(2) {
            let kinds = [0x00cf_9a00, 0x00cf_f200, 0x00af_fa00, 0x0000_ec00, 0x0000_8900, 0, 1];
            let high = self.random.of(kinds) | self.random.below(2) << 15;
            let descriptor = match self.random.below(4) {
                0 => self.random.next(),
                _ => high << 32 | self.random.below(1 << 32),
            };
            let place = self
                .frame()
                .wrapping_shl(12)
                .wrapping_add(self.random.below(512) * 8 + self.random.of([0, 0, 0, 4, 1]));
            return Self::call(10, [place, descriptor, 0, 0, 0, 0]);
        }
        let frames = [(); 4].map(|()| self.toy_frame());
        let (list, entries) = (self.words(&frames), self.random.of([0, 1, 512, 513, 2048, 7168]));
        Self::call(2, [self.maybe(list), self.random.count(entries), 0, 0, 0, 0])
    }
}
