//! What memory there is.

use hypercall_abi::memory as abi;

use super::{After, Call, Fuzz, toy_of};
use crate::land::SELF;

impl Fuzz {
    pub(super) fn memory_op(&mut self) -> Call {
        match self.random.below(8) {
            0..5 => self.reservation(),
            5 => self.exchange(),
            _ => {
                let words = [self.domain(), self.frame(), self.pointer(), self.about(8)];
                let (argument, command) = (self.words(&words), self.about(30));
                // Lists of frames that are given away are made elsewhere.
                let command = match command & 0x3f {
                    0 | 1 | 6 | 11 => 4,
                    _ => command,
                };
                Self::call(12, [command, self.maybe(argument), 0, 0, 0, 0])
            }
        }
    }

    fn order(&mut self) -> u64 {
        if self.random.once_in(8) { self.random.of([1, 2, 9, 10, 18, 63, 64, 255]) } else { 0 }
    }

    /// Toys are given away, and what was given away is asked for again: a toy that is there is not
    /// replaced, since nobody could find it any more.
    fn reservation(&mut self) -> Call {
        let (wish, slot) = (1 + self.random.below(8), self.random.below(256));
        let [any, strange] = [self.random.once_in(8), self.random.once_in(8)];
        let (more, wild) = (self.random.once_in(2), [(); 8].map(|()| self.about(1 << 20)));
        let (order, bits) = (self.order(), self.random.of([0, 0, 0, 0, 0, 13, 20, 32, 255]));
        let domain = if self.random.once_in(8) { self.domain() } else { SELF };
        // Those before the first that counts stay as they are.
        let from = if self.random.once_in(16) { self.random.below(4) } else { 0 };
        let frame = self.frame();
        let first = (slot..slot + 256).find(|&at| self.gone[toy_of(at)]);
        let (command, list, count, after, order) = match first {
            Some(first) if !any => {
                let gone = (first..first + wish).take_while(|&at| self.gone[toy_of(at)]).count();
                let list = self.words(&wild);
                (abi::POPULATE_PHYSMAP, list, gone as u64, After::Frames(list, first, from), 0)
            }
            // As much as there is, in extents of any size. It goes back: nobody could find it any more.
            _ if any && more => {
                let list = self.words(&wild);
                let op = if strange { abi::INCREASE_RESERVATION } else { abi::POPULATE_PHYSMAP };
                (op, list, wish, After::Back(0, from), order)
            }
            _ => {
                let toys = [0, 1, 2, 3, 4, 5, 6, 7].map(|it| self.land.frames[toy_of(slot + it)]);
                let list = self.words(&if strange { [frame; 8] } else { toys });
                let after = if strange { After::Nothing } else { After::Given(slot, from) };
                (abi::DECREASE_RESERVATION, list, wish, after, 0)
            }
        };
        let argument = self.words(&[list, count, order | bits << 32, domain]);
        let command = u64::from(command) | from << 6;
        let passed = self.maybe(argument);
        let after = match after {
            // What is asked then is what another call has left.
            _ if passed != argument => After::Nothing,
            After::Back(..) => After::Back(argument, from),
            after => after,
        };
        Call { number: 12, args: [command, passed, 0, 0, 0, 0], after }
    }

    fn exchange(&mut self) -> Call {
        let slot = self.random.below(256);
        let given = [0, 1, 2, 3].map(|number| self.land.frames[toy_of(slot + number)]);
        let taken = [(); 4].map(|()| self.random.below(1 << 16));
        let count = 1 + self.random.below(4);
        let (list, new) = (self.words(&given), self.words(&taken));
        let order = if self.random.once_in(8) { self.random.of([1, 2, 9, 64]) } else { 0 };
        let (domain, done) = (SELF, if self.random.once_in(8) { self.about(4) } else { 0 });
        let out = [new, self.random.count(count).min(4), order, domain];
        let [a, b, c, d] = out;
        let argument = self.words(&[list, count, 0, domain, a, b, c, d, done]);
        let args = [abi::EXCHANGE.into(), self.maybe(argument), 0, 0, 0, 0];
        Call { number: 12, args, after: After::Exchanged(argument, new, slot, done) }
    }
}
