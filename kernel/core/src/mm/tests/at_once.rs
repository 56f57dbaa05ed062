//! Random calls of two CPUs at the same time, in orders of their steps that `shuttle` draws; afterwards all
//! references are counted.
//!
//! `SHUTTLE_RANDOM_SEED` repeats an order, `PARAVANE_ORDERS` says how many there are.

use std::sync::Arc;
use std::vec::Vec;

use core::sync::atomic::Ordering;

use hypercall_abi::mmu::mmuext::*;
use hypercall_abi::mmu::{MmuUpdate, MmuextOp};
use hypercall_abi::types::Mfn;
use shuttle::rand::Rng;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::atomic::AtomicBool;
use shuttle::thread;

use super::world::*;
use crate::mm::reservation::Extents;
use crate::mm::*;
use crate::platform::Platform;

const FRAMES: usize = 40;
/// Calls of each CPU.
const CALLS: usize = 6;
const SLOTS: [usize; 4] = [0, 1, 300, 511];

fn orders(play: fn()) {
    let count = std::env::var("PARAVANE_ORDERS").ok().and_then(|count| count.parse().ok());
    let count = count.unwrap_or(if cfg!(debug_assertions) { 300 } else { 50_000 });
    let config = || {
        let mut config = shuttle::Config::new();
        config.stack_size = 1 << 18;
        config
    };
    shuttle::Runner::new(RandomScheduler::new(count), config()).run(play);
    shuttle::Runner::new(PctScheduler::new(4, count), config()).run(play);
}

/// A place where the other CPU may come in between.
fn step(waits: bool) {
    if waits {
        thread::yield_now();
    } else {
        let _ = AtomicBool::new(false).load(Ordering::SeqCst);
    }
}

fn one<T: Copy>(of: &[T]) -> T {
    of[shuttle::rand::thread_rng().gen_range(0..of.len())]
}

/// What is known of two domains, each of which has a tree that it runs on.
struct Game {
    world: World,
    frames: [Vec<Mfn>; 2],
}

impl Game {
    /// The CPUs run vCPUs of these domains.
    fn new(runs: [usize; 2]) -> Self {
        let world = World::new(FRAMES, 2, 2);
        let frames = [0, 1].map(|domain| (0..12).map(|_| world.frame(domain)).collect());
        let game = Self { world, frames };
        for domain in [0, 1] {
            game.fill(domain);
        }
        for (cpu, domain) in runs.into_iter().enumerate() {
            game.world.machine.on(cpu);
            game.world.domains[domain].memory.dirty().enter(game.world.machine.cpu());
            game.world.ext(domain, cpu, NEW_BASEPTR, game.frames[domain][0].0).unwrap();
        }
        game.world.check();
        game
    }

    /// Four frames become a tree when they are used so; what could be tables too is full of entries.
    fn fill(&self, domain: usize) {
        let frames = &self.frames[domain];
        for (table, below) in frames.iter().zip(&frames[1..5]) {
            self.world.poke(*table, 0, entry(*below, P | RW));
        }
        for &table in &frames[5..] {
            for slot in SLOTS {
                self.world.poke(table, slot, self.entry(domain));
            }
        }
    }

    fn frame(&self, domain: usize) -> Mfn {
        one(&self.frames[domain])
    }

    fn entry(&self, domain: usize) -> u64 {
        match one(&[0, P, P | RW, P | RW, P | RW | US]) {
            0 => 0,
            flags => entry(self.frame(domain), flags),
        }
    }

    fn call(&self, cpu: usize, domain: usize) {
        let mm = self.world.mm(domain);
        let mut budget = Budget::of(one(&[1, 600, 5000]));
        self.world.machine.on(cpu);
        match one(&[0, 0, 0, 1, 1, 1, 1, 2, 3]) {
            0 => {
                let _ = mm.finish_pending(&mut Budget::unlimited());
                let foreign = one(&[false, false, true]);
                let val = self.entry(if foreign { 1 - domain } else { domain });
                let ptr = at(self.frame(domain), one(&SLOTS) as u64) | one(&[0, 2]);
                let other = &self.world.domains[1 - domain].memory;
                let source = if foreign { Source::Foreign(other) } else { Source::Own };
                let _ = mm.one_update(MmuUpdate { ptr, val }, source, &mut budget);
            }
            1 => {
                let cmd = one(&[
                    PIN_L1_TABLE,
                    PIN_L2_TABLE,
                    PIN_L3_TABLE,
                    PIN_L4_TABLE,
                    UNPIN_TABLE,
                    UNPIN_TABLE,
                    NEW_BASEPTR,
                    NEW_USER_BASEPTR,
                    CLEAR_PAGE,
                    COPY_PAGE,
                ]);
                let (arg1, arg2) = (self.frame(domain).0, self.frame(domain).0);
                let operation = MmuextOp { cmd, pad: 0, arg1, arg2 };
                let roots = &self.world.domains[domain].roots[cpu];
                if mm.finish_pending(&mut budget).is_ok() {
                    let _ = mm.one_extended(roots, None, operation, &mut budget, &mut |_| {});
                }
            }
            2 => {
                let _ = mm.take_away(self.frame(domain));
            }
            _ => {
                let extents = Extents { list: 0, count: 1, order: 0, address_bits: None };
                let _ = mm.give_extent(extents);
            }
        }
    }
}

fn play(runs: [usize; 2]) {
    let game = Arc::new(Game::new(runs));
    game.world.machine.pause_with(Some(step));
    let cpus = [0, 1].map(|cpu| {
        let game = Arc::clone(&game);
        thread::spawn(move || {
            for _ in 0..CALLS {
                game.call(cpu, runs[cpu]);
                // Whatever the other one has half done: what is cached must be true at any time.
                game.world.machine.check_tlbs();
            }
        })
    });
    cpus.into_iter().for_each(|cpu| cpu.join().unwrap());
    game.world.machine.pause_with(None);
    game.world.check();
    for domain in [0, 1] {
        game.world.mm(domain).finish_pending(&mut Budget::unlimited()).unwrap();
    }
    game.world.check();
}

#[test]
fn two_cpus_of_a_domain() {
    orders(|| play([0, 0]));
}

#[test]
fn two_domains() {
    orders(|| play([0, 1]));
}
