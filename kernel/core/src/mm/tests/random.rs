//! Random calls of two hostile domains on two CPUs, all invariants checked after each.
//!
//! `PARAVANE_SEED` repeats a run, `PARAVANE_SEQUENCES` says how long it is.

use std::vec::Vec;

use hypercall_abi::mmu::MmuextOp;
use hypercall_abi::mmu::mmuext::*;
use hypercall_abi::types::Mfn;

use super::world::*;
use crate::frames::FrameType;
use crate::mm::reservation::Extents;
use crate::mm::*;
use crate::platform::Platform;

/// Frames of the machine: few, so that they meet again soon.
const FRAMES: usize = 40;
const STEPS: usize = 24;
/// The entries that are used: with all four levels the hypervisor's first and the last.
const SLOTS: [u64; 5] = [0, 1, 256, 300, 511];

/// A small generator of numbers; its quality does not matter, its being repeatable does.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % below
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.next(of.len() as u64)).unwrap()]
    }

    fn chance(&mut self, of: u64) -> bool {
        self.next(of) == 0
    }
}

struct Game {
    world: World,
    random: Random,
    /// Frames each domain had at first; what it guesses at.
    known: Vec<Vec<Mfn>>,
}

impl Game {
    fn new(seed: u64) -> Self {
        let world = World::new(FRAMES, 2, 2);
        let mut known = Vec::new();
        for domain in 0..2 {
            let frames: Vec<Mfn> = (0..14).map(|_| world.frame(domain)).collect();
            known.push(frames);
            let id = world.domains[domain].memory.id();
            let shared = world.machine.frames().alloc_shared(&world.machine, id).unwrap();
            known[domain].push(shared.mfn());
            world.holders.lock().unwrap().shared.push(shared.into_entry());
        }
        let mut game = Self { world, random: Random(seed | 1), known };
        for domain in 0..2 {
            game.build(domain);
        }
        game
    }

    /// The domain builds a tree in the frames it has, and runs on it.
    fn build(&mut self, domain: usize) {
        let frames = self.known[domain].clone();
        let [l4, l3, l2, l1, a, b, c, ..] = frames[..] else { panic!() };
        let world = &self.world;
        world.poke(l4, 0, entry(l3, P | RW));
        world.poke(l3, 0, entry(l2, P | RW));
        world.poke(l2, 0, entry(l1, P | RW));
        for (slot, leaf) in [(0, a), (1, b), (300, c)] {
            world.poke(l1, slot, entry(leaf, P | RW));
        }
        world.machine.on(domain);
        world.domains[domain].memory.dirty().enter(world.machine.cpu());
        world.ext(domain, domain, NEW_BASEPTR, l4.0).unwrap();
        world.check();
    }

    /// A frame: mostly one of its own.
    fn frame(&mut self, domain: usize) -> Mfn {
        let whose = if self.random.chance(12) { 1 - domain } else { domain };
        if self.random.chance(40) {
            return Mfn(self.random.next(FRAMES as u64 + 3));
        }
        let known = &self.known[whose];
        let index = self.random.next(known.len() as u64);
        known[usize::try_from(index).unwrap()]
    }

    fn entry(&mut self, domain: usize) -> u64 {
        if self.random.chance(4) {
            return 0;
        }
        let flags = self.random.one(&[P, P | RW, P | RW, P | RW | US, P | US, P | RW | GLOBAL]);
        entry(self.frame(domain), flags)
    }

    /// A write as the guest's own instruction makes it: only where a CPU could have it cached
    /// writable.
    fn poke(&mut self, domain: usize) {
        let mfn = self.frame(domain);
        let word = self.world.machine.frames().word(mfn);
        let own =
            self.world.machine.frames().owner(mfn) == Some(self.world.domains[domain].memory.id());
        if own && word.frame_type() == FrameType::Writable && word.typed() > 0 {
            let slot = usize::try_from(self.random.one(&SLOTS)).unwrap();
            let value = self.entry(domain);
            self.world.poke(mfn, slot, value);
        }
    }

    fn update(&mut self, domain: usize) {
        let table = self.frame(domain);
        let command = self.random.one(&[0, 0, 0, 2]);
        let ptr = at(table, self.random.one(&SLOTS)) | command;
        let foreign = self.random.chance(6);
        let value = self.entry(if foreign { 1 - domain } else { domain });
        let request = hypercall_abi::mmu::MmuUpdate { ptr, val: value };
        let mut budget = self.budget();
        let mm = self.world.mm(domain);
        let _ = mm.finish_pending(&mut Budget::unlimited());
        let other = &self.world.domains[1 - domain].memory;
        let source = if foreign { Source::Foreign(other) } else { Source::Own };
        let _ = mm.one_update(request, source, &mut budget);
    }

    fn extended(&mut self, domain: usize) {
        let cmd = self.random.one(&[
            PIN_L1_TABLE,
            PIN_L1_TABLE,
            PIN_L2_TABLE,
            PIN_L3_TABLE,
            PIN_L4_TABLE,
            UNPIN_TABLE,
            UNPIN_TABLE,
            NEW_BASEPTR,
            NEW_USER_BASEPTR,
            TLB_FLUSH_LOCAL,
            TLB_FLUSH_ALL,
            CLEAR_PAGE,
            COPY_PAGE,
        ]);
        let (arg1, arg2) = (self.frame(domain).0, self.frame(domain).0);
        let operation = MmuextOp { cmd, pad: 0, arg1, arg2 };
        let mut budget = self.budget();
        let mm = self.world.mm(domain);
        if mm.finish_pending(&mut budget).is_err() {
            return;
        }
        // Sometimes the guest does not come back for the rest.
        let roots = &self.world.domains[domain].roots[domain];
        let mut tries = self.random.next(3);
        while tries > 0
            && mm.one_extended(roots, None, operation, &mut budget, &mut |_| {}) == Err(Stop::Again)
        {
            self.world.check();
            budget = Budget::of(200);
            tries -= 1;
        }
    }

    fn budget(&mut self) -> Budget {
        let size = self.random.one(&[1, 1, 600, 1200, 5000]);
        Budget::of(size)
    }

    /// Gives memory back, takes other.
    fn reserve(&mut self, domain: usize) {
        if self.random.chance(2) {
            let mfn = self.frame(domain);
            let _ = self.world.mm(domain).take_away(mfn);
        } else {
            let extents = Extents { list: 0, count: 1, order: 0, address_bits: None };
            if let Some(mfn) = self.world.mm(domain).give_extent(extents) {
                self.known[domain].push(mfn);
            }
        }
    }

    fn direct(&mut self, domain: usize) {
        // The L1 is not mapped anywhere, so the address is that of no table; but some L1 entries map
        // tables read-only by now.
        let address = self.random.one(&SLOTS) << 12 | self.random.one(&SLOTS) << 3;
        let value = self.entry(domain);
        let roots = &self.world.domains[domain].roots[domain];
        let _ = self.world.mm(domain).write_direct(roots, address & 0x1f_ffff, |_| (value, ()));
    }

    fn step(&mut self) {
        let domain = usize::try_from(self.random.next(2)).unwrap();
        self.world.machine.on(domain);
        match self.random.next(16) {
            0..=5 => self.update(domain),
            6..=10 => self.extended(domain),
            11 | 12 => self.poke(domain),
            13 => self.direct(domain),
            _ => self.reserve(domain),
        }
        self.world.check();
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn random_calls_break_nothing() {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let first = number(
        "PARAVANE_SEED",
        u64::from(time.subsec_nanos()) << 32 | time.as_secs() & 0xffff_ffff,
    );
    let count = number("PARAVANE_SEQUENCES", if cfg!(debug_assertions) { 300 } else { 100_000 });
    for sequence in 0..count {
        let seed = first.wrapping_add(sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let played = std::panic::catch_unwind(|| {
            let mut game = Game::new(seed);
            (0..STEPS).for_each(|_| game.step());
        });
        assert!(played.is_ok(), "PARAVANE_SEED={seed} PARAVANE_SEQUENCES=1 repeats this");
    }
}
