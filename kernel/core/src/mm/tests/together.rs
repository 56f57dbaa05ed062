//! Two CPUs of a domain at once, in orders of what they do drawn by `shuttle`.

use std::sync::Arc;

use core::sync::atomic::Ordering;

use hypercall_abi::mmu::MmuextOp;
use hypercall_abi::mmu::mmuext::*;
use hypercall_abi::types::Mfn;
use shuttle::sync::atomic::AtomicBool;
use shuttle::thread;

use super::world::*;
use crate::mm::*;
use crate::platform::Platform;

/// How many orders.
const ORDERS: usize = 2000;

/// What one CPU has unpinned is memory when it is told so, though another one helped to undo it.
fn unpinned_is_undone() {
    let world = World::new(64, 2, 1);
    let l4 = world.tree(0, world.frame(0), 2);
    let mut budget = Budget::unlimited();
    world.mm(0).pin(l4, Level::L4, &mut budget).unwrap();
    let unpin = MmuextOp { cmd: UNPIN_TABLE, arg1: l4.0, ..Default::default() };
    let roots = &world.domains[0].roots[0];
    let mut budget = Budget::of(1);
    world.mm(0).one_extended(roots, None, unpin, &mut budget, &mut |_| {}).unwrap();

    world.machine.pause_with(Some(|_| thread::yield_now()));
    let world = Arc::new(world);
    let finish = |world: &World, cpu| {
        world.machine.on(cpu);
        while world.mm(0).finish_pending(&mut Budget::of(1)).is_err() {}
        let left = (0..64).filter(|mfn| world.machine.frames().word(Mfn(*mfn)).typed() > 0);
        assert_eq!(left.count(), 0, "a table is in use that nobody refers to");
    };
    let other = Arc::clone(&world);
    let helper = thread::spawn(move || finish(&other, 1));
    finish(&world, 0);
    helper.join().unwrap();
    world.machine.pause_with(None);
}

#[test]
fn unpinned_is_undone_in_any_order() {
    shuttle::check_random(unpinned_is_undone, ORDERS);
}

/// Two frames that refer to each other, each checked as a table above the other: who gives up waits for
/// nobody that waits for him.
fn pinned_both_ways() {
    let world = World::new(8, 2, 1);
    let frames = [world.frame(0), world.frame(0)];
    for (table, other) in [frames, [frames[1], frames[0]]].map(Into::into) {
        world.poke(table, 0, entry(other, P | RW));
    }
    world.machine.pause_with(Some(|waits| {
        if waits {
            thread::yield_now();
        } else {
            let _ = AtomicBool::new(false).load(Ordering::SeqCst);
        }
    }));
    let world = Arc::new(world);
    let pin = move |world: &World, cpu: usize, level| {
        for _ in 0..6 {
            world.machine.on(cpu);
            let pinned = world.mm(0).pin(frames[cpu], level, &mut Budget::unlimited());
            assert!(matches!(pinned, Err(Stop::Refused(_))));
        }
    };
    let other = Arc::clone(&world);
    let helper = thread::spawn(move || pin(&other, 1, Level::L4));
    pin(&world, 0, Level::L3);
    helper.join().unwrap();
    world.machine.pause_with(None);
    world.check();
}

#[test]
fn nobody_waits_for_who_waits_for_him() {
    shuttle::check_random(pinned_both_ways, ORDERS);
}
