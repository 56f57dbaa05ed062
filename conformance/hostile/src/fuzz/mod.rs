//! Wild hypercalls that go deep: arguments are combined from what there is (frames, tables, ports,
//! grants, handles, vCPUs, addresses of every kind) and from what is wrong with a number.
//!
//! All choices come from the seed and from what was answered so far: where the hypervisor answers the
//! same, the sequence of calls is the same each time. The guest
//! keeps itself alive: it names no frame that it lives in, and sets its handlers again after calls
//! that change them.

mod control;
mod events;
mod grants;
mod memory;
mod tables;
mod values;

use hypercall_abi::memory as memory_call;
use pv_guest_sdk::println;

use crate::SECRET;
use crate::land::{Land, is_lived_in, map};
use crate::random::Random;
use crate::raw::memory::{arena, peek, poke, toy, tsc};
use crate::raw::{self, Store, TRAPPED, trap};

/// Ports, handles and grants that are remembered.
const SLOTS: usize = 64;
/// Calls of a multicall at most.
const CALLS: usize = 12;

/// A call that is to be made, and what its answer is good for.
#[derive(Clone, Copy, Debug)]
struct Call {
    number: u64,
    args: [u64; 6],
    after: After,
}

/// What is to be done after a call.
#[derive(Clone, Copy, Debug)]
enum After {
    Nothing,
    /// If it went well, the port at this address is remembered in this slot.
    Port(u64, u64),
    /// The handles of so many mappings at this address are remembered from this slot on.
    Handles(u64, u64, u64),
    /// The frames of a list become toys, from this number on: those from this place of the list on, up
    /// to the number that was answered.
    Frames(u64, u64, u64),
    /// So are toys, from this number on, given away.
    Given(u64, u64),
    /// So is what was got by the structure at this address, at once.
    Back(u64, u64),
    /// Up to the number that the structure at this address says, toys became other frames, whose list
    /// is at that address: from this number on, and from that place of the list on.
    Exchanged(u64, u64, u64, u64),
    /// If it went well, this toy is pinned, or is not.
    Pinned(usize, bool),
    /// Handlers are registered again.
    Handlers,
}

/// Counts of one hypercall.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// How often it was made.
    pub made: u64,
    /// How often its answer was no error.
    pub well: u64,
}

/// A run.
#[derive(Debug)]
pub struct Fuzz {
    random: Random,
    land: Land,
    /// Domains whose numbers are tried, this one's among them.
    peers: [u64; 4],
    ports: [u64; SLOTS],
    /// Handles of mappings, and where these are.
    handles: [(u64, u64); SLOTS],
    /// Where the next structure of this step goes.
    place: u64,
    counts: [Count; 64],
    /// Calls in multicalls.
    inner: u64,
    /// Loads and stores, and those of them that trapped.
    touches: Count,
    /// Over all that was asked, and over all that was answered.
    asked: u64,
    answered: u64,
    /// Each call is shown before it is made.
    traced: bool,
    /// The time that was last believed, and the counter then.
    clock: (u64, u64),
    /// Mappings of grants.
    granted: u64,
    /// Toys that were given away.
    gone: [bool; 256],
    /// Toys that were pinned as what they are apt for.
    pinned: [bool; 256],
    /// What was seen that nobody may see.
    leaks: u64,
}

impl Fuzz {
    /// A run that begins, of the domain with the first of two numbers, beside that with the second.
    #[must_use]
    pub fn new(land: Land, seed: u64, [own, peer]: [u64; 2]) -> Self {
        Self {
            random: Random::new(seed),
            peers: [0, peer, 1, own],
            ports: [0; SLOTS],
            handles: [(0, 0); SLOTS],
            place: 0,
            counts: [Count { made: 0, well: 0 }; 64],
            inner: 0,
            touches: Count { made: 0, well: 0 },
            asked: 0xcbf2_9ce4_8422_2325,
            answered: 0xcbf2_9ce4_8422_2325,
            traced: false,
            clock: (peek(land.shared.0 + 32 + 16), tsc()),
            granted: 0,
            gone: [false; 256],
            pinned: [false; 256],
            leaks: 0,
            land,
        }
    }

    /// Whether each call is shown before it is made.
    pub const fn trace(&mut self, traced: bool) {
        self.traced = traced;
    }

    /// Makes one call, alone or with others in a multicall, or touches memory. Returns how many
    /// calls it made.
    pub fn step(&mut self) -> u64 {
        // Of no call the structures need more than a page.
        self.place = arena() + 16 * self.random.below(256);
        match self.random.below(16) {
            0 | 1 => self.touch(),
            2 if self.random.once_in(4) => self.multicall(),
            _ => {
                let call = self.choose();
                self.make(call);
                1
            }
        }
    }

    fn choose(&mut self) -> Call {
        match self.random.below(64) {
            0..12 => self.mmu_update(),
            12..24 => self.extended(),
            24..32 => self.map_address(),
            32..38 => self.memory_op(),
            38..46 => self.event_channel(),
            46..53 => self.grant_table(),
            53..57 => self.vcpu_op(),
            57..59 => self.sched_op(),
            59..61 => self.descriptors(),
            61 => self.handlers(),
            62 => self.settings(),
            _ => self.others(),
        }
    }

    fn make(&mut self, call: Call) {
        let Call { number, args, after } = call;
        self.note(number, args);
        let answer = raw::call(number, args);
        self.count(number, answer >= 0 && answer != TRAPPED);
        self.answered = mixed(self.answered, answer.cast_unsigned());
        self.take(after, answer);
    }

    fn count(&mut self, number: u64, well: bool) {
        let index = usize::try_from(number).unwrap_or(63).min(63);
        let count = &mut self.counts[index];
        count.made += 1;
        count.well += u64::from(well);
    }

    fn note(&mut self, number: u64, args: [u64; 6]) {
        if self.traced {
            println!("{number} {args:x?}");
        }
        self.asked = [number].into_iter().chain(args).fold(self.asked, mixed);
    }

    fn take(&mut self, after: After, answer: i64) {
        match after {
            After::Port(at, slot) if answer == 0 => {
                self.ports[slot_of(slot)] = peek(at) & 0xffff_ffff;
            }
            After::Handles(at, count, slot) => {
                for number in 0..count {
                    let [place, _, mapped] = [0, 8, 16].map(|it| peek(at + it + 32 * number));
                    if mapped >> 16 & 0xffff == 0 {
                        self.handles[slot_of(slot + number)] = (mapped >> 32, place);
                        self.granted += 1;
                    }
                }
            }
            After::Frames(list, slot, from) if answer > 0 => {
                (from..answer.cast_unsigned().min(8))
                    .for_each(|it| self.take_frame(list, slot, it));
            }
            After::Given(slot, from) if answer > 0 => {
                (from..answer.cast_unsigned().min(8))
                    .for_each(|it| self.gone[toy_of(slot + it)] = true);
            }
            After::Back(argument, from) if answer > 0 => {
                poke(argument + 8, answer.cast_unsigned());
                let command = u64::from(memory_call::DECREASE_RESERVATION) | from << 6;
                raw::call(12, [command, argument, 0, 0, 0, 0]);
            }
            After::Exchanged(argument, list, slot, from) => {
                (from..peek(argument + 64).min(4)).for_each(|it| self.take_frame(list, slot, it));
            }
            // A refusal may be about what a wild call has done to it meanwhile.
            After::Pinned(toy, pinned) => self.pinned[toy] = pinned == (answer == 0),
            After::Handlers => trap::register(arena()),
            After::Nothing
            | After::Port(..)
            | After::Frames(..)
            | After::Given(..)
            | After::Back(..) => {}
        }
    }

    /// Makes a frame of a list a toy, unless it is one that this guest lives in.
    fn take_frame(&mut self, list: u64, slot: u64, number: u64) {
        let frame = peek(list + 8 * number);
        let place = toy_of(slot + number);
        if !is_lived_in(frame) {
            self.land.frames[place] = frame;
            self.gone[place] = false;
        }
    }

    /// Several calls as one, among them some that are too many.
    fn multicall(&mut self) -> u64 {
        let count = 1 + self.random.below(CALLS as u64);
        // From here on structures do not lie at the arena's end, where each would be over the last.
        let list = arena() + 0xa000;
        self.place = list + 64 * count;
        let mut after = [After::Nothing; CALLS];
        for (number, after) in (0..count).zip(&mut after) {
            let call = self.choose();
            self.note(call.number, call.args);
            let [a, b, c, d, e, f] = call.args;
            raw::memory::put(list + 64 * number, &[call.number, 0, a, b, c, d, e, f]);
            *after = call.after;
        }
        let asked = if self.random.once_in(16) { count + self.random.below(3) } else { count };
        // What lies behind the list is empty: a call to set the trap table, to none.
        let answer = raw::call(13, [list, asked.min(count), 0, 0, 0, 0]);
        self.count(13, answer == 0);
        for (number, after) in (0..count).zip(after) {
            let [call, answer] = [0, 8].map(|at| peek(list + 64 * number + at));
            self.count(call, answer.cast_signed() >= 0);
            self.answered = mixed(self.answered, answer);
            self.take(after, answer.cast_signed());
        }
        self.inner += count;
        count + 1
    }

    /// A load or a store, mostly of a page that may be a table.
    fn touch(&mut self) -> u64 {
        let page = self.address() & !4095;
        let address = page + 8 * self.random.below(512);
        let (how, value, write) =
            (self.random.of(Store::ALL), self.entry(), self.random.once_in(2));
        let is_kernel = (0xffff_8080_0000_0000..0xffff_8800_0000_0000).contains(&address);
        let went = if write {
            raw::store(address, value, how)
        } else {
            let loaded = raw::load(address);
            self.leaks += u64::from(loaded == Some(SECRET));
            self.answered = mixed(self.answered, loaded.unwrap_or(1));
            loaded.is_some()
        };
        // What ring 0 has must not be there for ring 3.
        self.leaks += u64::from(went && is_kernel);
        self.touches.made += 1;
        self.touches.well += u64::from(went);
        0
    }

    /// All toys that can be are mapped and looked at for what is not this guest's. Returns what was
    /// seen so far.
    pub fn look(&mut self) -> u64 {
        for number in 0..256 {
            let frame = self.land.frames[number];
            if map(toy(0), frame << 12 | crate::land::READ) == 0 {
                let page = (toy(0)..).step_by(8).take(512);
                self.leaks += page.filter(|&at| raw::load(at) == Some(SECRET)).count() as u64;
            }
        }
        map(toy(0), 0);
        self.leaks
    }

    /// Prints what was done. Returns whether all was well.
    pub fn report(&mut self) -> bool {
        let leaks = self.look();
        let [mut made, mut well] = [0, 0];
        for (number, count) in self.counts.iter().enumerate().filter(|(_, it)| it.made != 0) {
            println!("call {number}: {} of {} well", count.well, count.made);
            made += count.made;
            well += count.well;
        }
        let (inner, traps) = (self.inner, trap::count());
        println!("{} of {} loads and stores went through", self.touches.well, self.touches.made);
        println!("{} grants were mapped", self.granted);
        println!("{well} of {made} calls well, {inner} in multicalls, {traps} traps");
        println!("asked {:016x}, answered {:016x}", self.asked, self.answered);
        println!("{leaks} leaks");
        leaks == 0
    }
}

/// A hash with a word more in it.
const fn mixed(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x100_0000_01b3).rotate_left(17)
}

fn slot_of(number: u64) -> usize {
    usize::try_from(number % SLOTS as u64).unwrap_or(0)
}

fn toy_of(number: u64) -> usize {
    usize::try_from(number % 256).unwrap_or(0)
}
