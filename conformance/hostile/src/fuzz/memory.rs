//! What memory there is.

use hypercall_abi::memory as abi;

use super::{After, Call, Fuzz};
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

    fn reservation(&mut self) -> Call {
        let count = 1 + self.random.below(8);
        let command = self.random.of([
            abi::INCREASE_RESERVATION,
            abi::POPULATE_PHYSMAP,
            abi::DECREASE_RESERVATION,
            abi::DECREASE_RESERVATION,
        ]);
        let slot = self.random.below(256);
        let mut frames = [0; 8];
        for (frame, number) in frames.iter_mut().zip(slot..) {
            *frame = match command {
                abi::DECREASE_RESERVATION => {
                    let place = usize::try_from(number % 256).unwrap_or(0);
                    if self.random.once_in(8) { self.frame() } else { self.land.frames[place] }
                }
                _ => self.about(1 << 20),
            };
        }
        // A frame's neighbours are others than toys.
        let order = if command == abi::DECREASE_RESERVATION { 0 } else { self.order() };
        let list = self.words(&frames);
        let bits = self.random.of([0, 0, 0, 12, 13, 20, 32, 255]);
        let domain = if self.random.once_in(8) { self.domain() } else { SELF };
        let asked =
            if command == abi::DECREASE_RESERVATION { count } else { self.random.count(count) };
        // Never more than there are places for: what lies behind them is not a frame to give away.
        let count = asked.min(8);
        let words = [list, count, order | bits << 32, domain];
        let (argument, done) = (self.words(&words), self.random.once_in(16));
        let command = u64::from(command) | if done { self.random.below(4) << 6 } else { 0 };
        let after = if order == 0 { After::Frames(list, slot) } else { After::Nothing };
        let after = if command & 0x3f == 1 { After::Nothing } else { after };
        Call { number: 12, args: [command, self.maybe(argument), 0, 0, 0, 0], after }
    }

    fn exchange(&mut self) -> Call {
        let slot = self.random.below(256);
        let place = |number: u64| usize::try_from(number % 256).unwrap_or(0);
        let given = [0, 1, 2, 3].map(|number| self.land.frames[place(slot + number)]);
        let taken = [(); 4].map(|()| self.random.below(1 << 16));
        let count = 1 + self.random.below(4);
        let (list, new) = (self.words(&given), self.words(&taken));
        let order = if self.random.once_in(8) { self.random.of([1, 2, 9, 64]) } else { 0 };
        let (domain, done) = (SELF, if self.random.once_in(8) { self.about(4) } else { 0 });
        let out = [new, self.random.count(count).min(4), order, domain];
        let [a, b, c, d] = out;
        let argument = self.words(&[list, count, 0, domain, a, b, c, d, done]);
        let args = [abi::EXCHANGE.into(), self.maybe(argument), 0, 0, 0, 0];
        Call { number: 12, args, after: After::Exchanged(argument, new, slot) }
    }
}
