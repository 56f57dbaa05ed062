//! Grants, of this guest to itself and among domains.

use hypercall_abi::grant;

use super::tables::PAGES;
use super::{After, Call, Fuzz, slot_of};
use crate::land::Land;
use crate::raw::memory::{put, spare};
use crate::raw::{Store, store};

/// Entries that are used.
const ENTRIES: u64 = 64;
/// Entries that grant pages to this guest itself half of the time.
const APT: u64 = 8;

impl Fuzz {
    pub(super) fn grant_table(&mut self) -> Call {
        match self.random.below(16) {
            0..3 => self.permit(),
            3..7 => self.map_grants(),
            7..11 => self.unmap_grants(),
            11..13 => self.copy_grants(),
            _ => {
                let command = self.random.of([3, 4, 6, 8, 9, 10, 11, 12, 13, 2]);
                let (entry, list) = (self.about(ENTRIES), self.pointer());
                let first = match command {
                    2 | 6 | 9 => self.domain() | self.random.of([0, 1, 1, 2, 64, 65]) << 32,
                    11 => entry & 0xffff_ffff | self.about(ENTRIES) << 32,
                    _ => self.domain(),
                };
                let second = if command == 9 { 0 } else { self.random.below(4) << 32 };
                let argument = self.words(&[first, second, list, 0]);
                let count = self.random.of([1, 1, 1, 0, 2]);
                Self::call(20, [command, self.maybe(argument), count, 0, 0, 0])
            }
        }
    }

    /// Changes an entry of the table, then asks for the table's size.
    fn permit(&mut self) -> Call {
        let (entry, flags, domain, frame) = if self.random.once_in(2) {
            let page = self.one_of(PAGES);
            (8 + self.random.below(APT), 1, self.peers[3], self.land.frames[page])
        } else {
            let flags = self.random.of([1, 1, 1, 5, 0, 2, 3, 0x19, 0x109, 0xffff]);
            (8 + self.random.below(ENTRIES), flags, self.own_or_peer(), self.frame())
        };
        if self.land.grant_frame != 0 {
            let word = flags | (domain & 0xffff) << 16 | frame << 32;
            // The frame stays or is another: bits of both might be one that this guest lives in.
            let (word, how) = self.random.of([(word, Store::Move), (word | !0xffff, Store::And)]);
            store(spare(Land::GRANTS) + 8 * entry, word, how);
        }
        let words = [self.domain(), 0];
        let argument = self.words(&words);
        Self::call(20, [grant::QUERY_SIZE.into(), argument, 1, 0, 0, 0])
    }

    fn own_or_peer(&mut self) -> u64 {
        if self.random.once_in(8) { self.domain() } else { self.random.of(self.peers) }
    }

    fn map_grants(&mut self) -> Call {
        let count = 1 + self.random.below(4);
        let (list, slot) = (self.room(32 * count), self.random.below(64));
        for at in (list..).step_by(32).take(usize::try_from(count).unwrap_or(0)) {
            let (flags, entry, domain) = if self.random.once_in(2) {
                (self.random.of([2, 6]), 8 + self.random.below(APT), self.peers[3])
            } else {
                let flags = self.random.of([2, 2, 2, 6, 3, 1, 18, 10, 0, 0xff]);
                (flags, 8 + self.about(ENTRIES), self.own_or_peer() & 0xffff)
            };
            let address = if flags & 16 != 0 { self.entry_place() } else { self.address() };
            put(at, &[address, flags | entry << 32, domain | 0xffff << 16, 0]);
        }
        let args = [grant::MAP_GRANT_REF.into(), list, count, 0, 0, 0];
        Call { number: 20, args, after: After::Handles(list, count, slot) }
    }

    fn unmap_grants(&mut self) -> Call {
        let replace = self.random.once_in(4);
        let count = 1 + self.random.below(4);
        let list = self.room(24 * count);
        for at in (list..).step_by(24).take(usize::try_from(count).unwrap_or(0)) {
            let (known, there) = self.handles[slot_of(self.random.below(64))];
            let handle = match self.random.below(16) {
                0 => self.random.wild() & 0xffff_ffff,
                _ => known,
            };
            let address = match self.random.below(8) {
                0 => self.entry_place(),
                1 => self.address(),
                _ => there,
            };
            let second = match (replace, self.random.below(8)) {
                (true, _) => self.address(),
                (false, 0) => self.frame().wrapping_shl(12),
                _ => 0,
            };
            put(at, &[address, second, handle]);
        }
        let command = if replace { grant::UNMAP_AND_REPLACE } else { grant::UNMAP_GRANT_REF };
        // What lies behind the list could replace a page that this guest needs.
        let count = if replace { count } else { self.random.count(count) };
        let list = if replace { list } else { self.maybe(list) };
        Self::call(20, [command.into(), list, count, 0, 0, 0])
    }

    fn copy_grants(&mut self) -> Call {
        let (flags, lengths) = (self.random.below(4), [0, 1, 8, 4095, 4096, 4097, 0xffff]);
        let (from, to) = (self.copy_end(flags & 1 != 0), self.copy_end(flags & 2 != 0));
        let length = self.random.of(lengths);
        let [a, b] = from;
        let [c, d] = to;
        let list = self.words(&[a, b, c, d, length | flags << 16]);
        let count = self.random.of([1, 1, 1, 0]);
        Self::call(20, [grant::COPY.into(), self.maybe(list), count, 0, 0, 0])
    }

    fn copy_end(&mut self, is_entry: bool) -> [u64; 2] {
        let what = if is_entry { 8 + self.about(ENTRIES) } else { self.frame() };
        let domain = if is_entry { self.own_or_peer() } else { self.domain() };
        [what, domain & 0xffff | self.random.of([0, 0, 0, 8, 4095, 4096]) << 16]
    }
}
