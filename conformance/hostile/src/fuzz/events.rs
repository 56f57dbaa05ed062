//! Events, waiting, timers, vCPUs.

use hypercall_abi::{event, sched, vcpu};

use super::{After, Call, Fuzz};
use crate::land::SELF;
use crate::raw::memory::{peek, poke, tsc};

impl Fuzz {
    pub(super) fn event_channel(&mut self) -> Call {
        let command = match self.random.below(64) {
            0 => event::RESET.into(),
            1..8 => u64::from(event::ALLOC_UNBOUND),
            8..14 => event::BIND_INTERDOMAIN.into(),
            14..18 => event::BIND_VIRQ.into(),
            18..24 => event::BIND_IPI.into(),
            24..34 => event::CLOSE.into(),
            34..46 => event::SEND.into(),
            _ => self.about(15),
        };
        let pair = |low: u64, high: u64| low & 0xffff_ffff | high << 32;
        let slot = self.random.below(64);
        // Where the port is in the answer.
        let (words, port) = match u32::try_from(command).unwrap_or(u32::MAX) {
            event::ALLOC_UNBOUND => {
                let first = if self.random.once_in(4) { self.domain() } else { SELF };
                ([first | self.domain() << 16, 0, 0], Some(4))
            }
            event::BIND_INTERDOMAIN => ([pair(self.domain(), self.port()), 0, 0], Some(8)),
            event::BIND_VIRQ => ([pair(self.about(26), self.vcpu()), 0, 0], Some(8)),
            event::BIND_IPI => ([pair(self.vcpu(), 0), 0, 0], Some(4)),
            event::BIND_VCPU => ([pair(self.port(), self.vcpu()), 0, 0], None),
            event::STATUS => ([pair(self.domain(), self.port()), 0, 0], None),
            event::RESET => ([self.domain(), 0, 0], None),
            _ => ([pair(self.port(), self.about(16)), self.pointer(), 0], None),
        };
        let at = self.words(&words);
        let after = port.map_or(After::Nothing, |offset| After::Port(at + offset, slot));
        if self.random.once_in(32) {
            // The older form has the command in the structure.
            let at = self.words(&[command, words[0], words[1]]);
            return Self::call(16, [self.maybe(at), 0, 0, 0, 0, 0]);
        }
        Call { number: 32, args: [command, self.maybe(at), 0, 0, 0, 0], after }
    }

    /// Nothing that ends the guest, or lets it wait for ever.
    pub(super) fn sched_op(&mut self) -> Call {
        let shared = self.land.shared.0;
        match self.random.below(32) {
            0 => Self::call(29, [sched::YIELD.into(), 0, 0, 0, 0, 0]),
            1 => Self::call(6, [0, 0, 0, 0, 0, 0]),
            // In a multicall a call before it might take back what is pending.
            2..6 if self.is_alone() => {
                // Something is pending: it comes back at once.
                poke(shared, peek(shared) | 1);
                Self::call(29, [sched::BLOCK.into(), 0, 0, 0, 0, 0])
            }
            // Nor might its structure stay: an answer over its time would let it wait for days.
            6..16 if self.is_alone() => {
                let ports = [(); 2].map(|()| self.port() | self.port() << 32);
                let (ports, near) = (self.words(&ports), self.now());
                let soon = self.random.of([1, near.wrapping_add(20_000)]);
                let ports = self.maybe(ports);
                let words = [ports, self.random.count(4) & 0xffff_ffff, soon];
                let argument = self.exact(&words);
                Self::call(29, [sched::POLL.into(), argument, 0, 0, 0, 0])
            }
            16..22 => {
                let seconds = if self.random.once_in(2) { 0 } else { 0x7fff_0000 };
                // A new one that is due at once would bite.
                let words = [self.about(4) & 0xffff_ffff | u64::from(seconds == 0) | seconds << 32];
                let argument = self.exact(&words);
                Self::call(29, [sched::WATCHDOG.into(), argument, 0, 0, 0, 0])
            }
            22..26 => {
                let words = [self.random.of([0, 1, 7, 100]) | self.about(4) << 32];
                let argument = self.words(&words);
                Self::call(29, [sched::REMOTE_SHUTDOWN.into(), argument, 0, 0, 0, 0])
            }
            26 => {
                let words = [self.about(300)];
                let argument = self.words(&words);
                Self::call(29, [sched::PIN_OVERRIDE.into(), argument, 0, 0, 0, 0])
            }
            _ => {
                let when = match self.random.below(3) {
                    0 => 0,
                    1 => self.random.wild(),
                    _ => self.now().wrapping_add(self.random.below(1 << 20)),
                };
                Self::call(15, [when, 0, 0, 0, 0, 0])
            }
        }
    }

    /// The time, as the shared page says, unless a wild call has written there: then long ago.
    fn now(&mut self) -> u64 {
        let (time, counter) = (peek(self.land.shared.0 + 32 + 16), tsc());
        let (last, then) = self.clock;
        // No counter runs slower than one in a nanosecond.
        let near = (last..last + counter.wrapping_sub(then) + 1_000_000).contains(&time);
        if near {
            self.clock = (time, counter);
            time
        } else {
            0
        }
    }

    pub(super) fn vcpu_op(&mut self) -> Call {
        let (mut command, mut number) = (self.about(15), self.vcpu());
        let frame = self.toy_frame();
        let argument = match u32::try_from(command & 0xffff_ffff).unwrap_or(0) {
            vcpu::INITIALISE => {
                number |= 1;
                self.new_vcpu(number)
            }
            // Nobody would bring it up again, and its information stays where it is read.
            vcpu::DOWN | vcpu::REGISTER_VCPU_INFO if number & 0xffff_ffff == 0 => {
                command = vcpu::IS_UP.into();
                0
            }
            vcpu::REGISTER_VCPU_INFO => {
                let offset = self.random.of([0, 8, 64, 4032, 4040, 4096, 1 << 31]);
                self.words(&[frame, offset])
            }
            vcpu::SET_PERIODIC_TIMER => {
                let period = self.random.of([0, 1, 999_999, 50_000_000, 1 << 62, u64::MAX]);
                self.words(&[period])
            }
            vcpu::SET_SINGLESHOT_TIMER => {
                let words = [self.random.wild(), self.random.below(3)];
                self.words(&words)
            }
            _ => {
                let pointer = self.pointer();
                self.words(&[pointer])
            }
        };
        // Areas that are registered by chance would be written where structures are.
        let register = matches!(
            u32::try_from(command & 0xffff_ffff).unwrap_or(0),
            vcpu::REGISTER_RUNSTATE_MEMORY_AREA | vcpu::REGISTER_VCPU_TIME_MEMORY_AREA
        );
        let argument = if register { argument } else { self.maybe(argument) };
        Self::call(24, [command, number, argument, 0, 0, 0])
    }

    /// The context of a vCPU that takes itself down, with one thing that is strange.
    fn new_vcpu(&mut self, number: u64) -> u64 {
        let (kind, wild, frame) = (self.random.below(12), self.random.wild(), self.toy_frame());
        let entries = self.random.of([1, 512, 7168, 7169, u64::MAX]);
        self.land.context(number, |context| match kind {
            0 => context.user_regs.rip = wild & 0xffff_ffff_ffff | 0x8000_0000_0000,
            1 => (context.ldt_base, context.ldt_ents) = (wild, entries),
            2 => (context.gdt_frames[0], context.gdt_ents) = (frame, entries.min(512)),
            3 => context.ctrlreg[1] = frame << 12,
            4 => context.ctrlreg[3] = frame << 12 | 1 << 51,
            5 => context.kernel_sp = wild,
            6 => context.fs_base = wild,
            7 => context.gs_base_user = wild,
            8 => context.debugreg[0] = wild,
            9 => context.event_callback_eip = wild,
            10 => context.flags |= 1 << 5,
            _ => {}
        })
    }
}
