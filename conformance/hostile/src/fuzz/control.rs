//! Handlers, settings, and what is not for this guest.

use hypercall_abi::{domctl, sysctl};

use super::{After, Call, Fuzz};
use crate::raw::memory::{put, spare};
use crate::raw::trap;

impl Fuzz {
    /// Handlers that are set again afterwards.
    pub(super) fn handlers(&mut self) -> Call {
        let (number, args) = match self.random.below(5) {
            0 => {
                let mut words = [0; 12];
                for row in words.chunks_exact_mut(2).take(5) {
                    row[0] = self.random.next() & 0xe0ff_ffff | 0xe033_0000;
                    row[1] = self.random.of([trap::give_up(3), 1, 1 << 46]);
                }
                words[8] = if self.random.once_in(3) { self.random.wild() } else { words[8] };
                let at = self.words(&words);
                (0, [self.maybe(at), 0, 0, 0, 0, 0])
            }
            1 => {
                let [event, failsafe] = trap::callbacks();
                (4, [self.random.of([event, 1 << 63]), failsafe, self.random.wild(), 0, 0, 0])
            }
            2 => {
                let words = [self.about(8) & 0xffff | self.random.below(4) << 16, 1 << 62];
                let at = self.words(&words);
                (30, [self.random.below(3), self.maybe(at), 0, 0, 0, 0])
            }
            3 => (28, [self.random.below(3), self.pointer(), 0, 0, 0, 0]),
            _ => (3, [self.random.wild(), self.random.wild(), 0, 0, 0, 0]),
        };
        Call { number, args, after: After::Handlers }
    }

    pub(super) fn settings(&mut self) -> Call {
        match self.random.below(8) {
            0 => Self::call(5, [self.random.below(3), 0, 0, 0, 0, 0]),
            1 => Self::call(8, [self.about(9), self.random.of([0, 1 << 10, 0x401]), 0, 0, 0, 0]),
            2 => {
                let address = self.random.of([0, 1 << 62, spare(5), 0xffff_8400_0000_0000]);
                Self::call(8, [self.random.below(4), address, 0, 0, 0, 0])
            }
            3 => Self::call(9, [self.about(9), 0, 0, 0, 0, 0]),
            4 => Self::call(25, [self.about(5), self.random.wild(), 0, 0, 0, 0]),
            5 => Self::call(21, [self.about(3), self.about(40), 0, 0, 0, 0]),
            6 => {
                let words = [self.random.wild(), self.pointer()];
                let argument = self.words(&words);
                Self::call(33, [self.about(34), self.maybe(argument), 0, 0, 0, 0])
            }
            _ => Self::call(17, [self.about(12), self.pointer(), 0, 0, 0, 0]),
        }
    }

    /// What is refused to this guest, and numbers that nobody has.
    pub(super) fn others(&mut self) -> Call {
        match self.random.below(8) {
            0 | 1 => {
                let (command, domain) = (self.about(90), self.domain());
                let wrong = u64::from(self.random.once_in(8));
                let version = u64::from(domctl::INTERFACE_VERSION) + wrong;
                let at = self.room(144);
                put(at, &[command & 0xffff_ffff | version << 32, domain, self.random.wild()]);
                Self::call(36, [self.maybe(at), 0, 0, 0, 0, 0])
            }
            2 => {
                let (command, at) = (self.about(30), self.room(144));
                let version = u64::from(sysctl::INTERFACE_VERSION);
                put(at, &[command & 0xffff_ffff | version << 32, self.random.wild()]);
                Self::call(35, [self.maybe(at), 0, 0, 0, 0, 0])
            }
            3 => Self::call(7, [self.pointer(), 0, 0, 0, 0, 0]),
            // Text of no length, or none that can be read: the console is everybody's.
            4 => Self::call(18, [self.random.below(4), self.about(2) & !1, 1 << 63, 0, 0, 0]),
            5 => Self::call(55, [self.about(3), self.pointer(), 0, 0, 0, 0]),
            _ => {
                // Not those that are made elsewhere, with care.
                let number =
                    self.random.of([11, 19, 27, 31, 34, 37, 38, 39, 40, 41, 42, 48, 49, 63]);
                let number = if self.random.once_in(4) { self.random.wild() | 64 } else { number };
                let [a, b, c] = [(); 3].map(|()| self.pointer());
                Self::call(number, [self.about(20), a, b, c, 0, 0])
            }
        }
    }
}
