//! Page tables, roots and descriptors.

use hypercall_abi::mmu::mmuext;

use super::{Call, Fuzz};
use crate::land::SELF;
use crate::raw::memory::put;

impl Fuzz {
    pub(super) fn mmu_update(&mut self) -> Call {
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
