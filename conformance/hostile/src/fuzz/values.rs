//! The values that calls are made of.

use super::{After, Call, Fuzz, slot_of};
use crate::land::{FAR_SLOT, SELF, is_lived_in};
use crate::raw::memory::{arena, arena_end, put, toy};

/// Toys that are mapped at addresses of their own; the others are frames alone.
const ADDRESSES: u64 = 64;

impl Fuzz {
    /// A call whose answer is good for nothing.
    pub(super) const fn call(number: u64, args: [u64; 6]) -> Call {
        Call { number, args, after: After::Nothing }
    }

    /// A number below `end`, or once in a while any number.
    pub(super) fn about(&mut self, end: u64) -> u64 {
        if self.random.once_in(16) { self.random.wild() } else { self.random.below(end) }
    }

    /// Room for a structure in the arena. Sometimes it ends where the arena does, if there is but one.
    pub(super) fn room(&mut self, bytes: u64) -> u64 {
        let bytes = bytes.next_multiple_of(16);
        if self.random.once_in(16) && self.place < arena() + 0x2000 {
            return arena_end() - bytes;
        }
        // An answer may be longer than what was asked.
        let at = self.place;
        self.place += bytes + 64;
        at
    }

    /// Whether the call is not for a multicall: structures of those lie further behind.
    pub(super) fn is_alone(&self) -> bool {
        self.place < arena() + 0xa000
    }

    /// Room for a list, and the count that is said: a wrong one is of a list at the arena's end, so that
    /// what lies behind it is not taken for more of it.
    pub(super) fn list(&mut self, size: u64, count: u64) -> (u64, u64) {
        let said = self.random.count(count);
        let at = self.room(size * count);
        if said != count && self.is_alone() {
            (arena_end() - size * count, said)
        } else {
            (at, count)
        }
    }

    /// A structure of words that nothing else is written over: another one would be the guest's end.
    pub(super) fn exact(&mut self, words: &[u64]) -> u64 {
        let at = self.place;
        self.place += (8 * words.len() as u64 + 8) & !15;
        put(at, words);
        at
    }

    /// A structure of words in the arena; its address.
    pub(super) fn words(&mut self, words: &[u64]) -> u64 {
        let at = self.room(8 * words.len() as u64);
        put(at, words);
        at
    }

    /// The address of a structure, or once in a while another one.
    pub(super) fn maybe(&mut self, structure: u64) -> u64 {
        if self.random.once_in(20) { self.pointer() } else { structure }
    }

    /// An address to which a call may write: the arena, a toy's, or one that is none.
    pub(super) fn pointer(&mut self) -> u64 {
        match self.random.below(10) {
            // Not where structures are: what is registered there is written at any time.
            0..5 => arena() + 0x4000 + 8 * self.random.below(2000),
            5 => arena_end() - self.random.below(64),
            6 | 7 => toy(self.random.below(ADDRESSES)) + self.random.of([0, 8, 4088, 4092, 4095]),
            8 => 0,
            _ => self.random.wild(),
        }
    }

    /// An address to be mapped or touched: a toy's, one far away, or one that is none.
    pub(super) fn address(&mut self) -> u64 {
        match self.random.below(10) {
            0..7 => toy(self.random.below(ADDRESSES)),
            7 | 8 => {
                let slots = [self.random.below(3), self.random.below(2), self.random.below(2)];
                let [l1, l2, l3] = slots;
                0xffff_0000_0000_0000 | FAR_SLOT << 39 | l3 << 30 | l2 << 21 | l1 << 12
            }
            _ => self.random.wild(),
        }
    }

    /// A frame that this guest may do anything to: mostly its own.
    pub(super) fn frame(&mut self) -> u64 {
        if self.random.below(8) != 0 {
            return self.toy_frame();
        }
        let last = self.land.last_frame;
        let toy = self.toy_frame();
        let frame = match self.random.below(8) {
            0 => self.random.below(0x1000),
            1 => self.random.of([0xa0, 0xb8, 0xf0, 0xfec00, 0xfee00, 0xfed00, 0xe0000, 0xfd000]),
            2 => last.wrapping_add(self.random.below(4)).wrapping_sub(2),
            3 => self.random.of([1 << 28, 1 << 36, 1 << 40, 1 << 52, u64::MAX]) - 1,
            4 => self.land.shared.1,
            5 => self.land.grant_frame,
            6 => self.random.below(last | 1),
            _ => self.random.wild(),
        };
        let cut = [frame, frame & 0xff_ffff_ffff, frame & 0xffff_ffff];
        if cut.into_iter().any(is_lived_in) { toy } else { frame }
    }

    pub(super) fn toy_frame(&mut self) -> u64 {
        // Few are used often, so that they are in use as something; those of apt calls are seldom.
        let end = self.random.of([8, 32, 64]) * if self.random.once_in(16) { 4 } else { 1 };
        self.land.frames[usize::try_from(self.random.below(end)).unwrap_or(0)]
    }

    /// A page-table entry.
    pub(super) fn entry(&mut self) -> u64 {
        let frame = self.frame();
        let flags = match self.random.below(16) {
            0..6 => 5,
            6..10 => 7,
            10 => 0x27,
            11 => 0x67 | 1 << 63,
            12 => self.random.below(1 << 12),
            13 => self.random.below(1 << 12) | self.random.next() << 52,
            14 => return 0,
            _ => 0x25 | self.random.of([0x10, 0x18, 0x80, 0x100, 0x200, 1 << 52, 1 << 62]),
        };
        frame.wrapping_shl(12) | flags
    }

    /// The machine address of an entry that may be changed: in a toy, in the loader's table where it
    /// maps a toy, in a root where nothing is.
    pub(super) fn entry_place(&mut self) -> u64 {
        match self.random.below(16) {
            0..2 => self.land.entry_of(toy(self.random.below(ADDRESSES))),
            2 => {
                let root = self.random.of(self.land.roots);
                (root << 12) + 8 * (FAR_SLOT + self.random.below(2))
            }
            _ => {
                let index = if self.random.once_in(4) { 512 } else { 4 };
                (self.frame().wrapping_shl(12)).wrapping_add(8 * self.random.below(index))
            }
        }
    }

    /// A domain: this one, one of the others, or none.
    pub(super) fn domain(&mut self) -> u64 {
        match self.random.below(8) {
            0..5 => SELF,
            5 | 6 => self.random.of(self.peers),
            _ => self.random.of([0x7ff1, 0x7ff2, 0x7ff4, 0x7fff, 0xffff, 100]),
        }
    }

    pub(super) fn port(&mut self) -> u64 {
        if self.random.once_in(8) {
            return self.random.of([0, 1, 2, 3, 1023, 1024, 4095, 4096, 1 << 17, 0xffff_ffff]);
        }
        self.ports[slot_of(self.random.below(64))]
    }

    pub(super) fn vcpu(&mut self) -> u64 {
        self.about(5)
    }
}
