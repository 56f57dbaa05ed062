//! Two CPUs of a domain at once, in orders of what they do drawn by `shuttle`.

use std::sync::Arc;

use core::sync::atomic::Ordering;

use hypercall_abi::mmu::mmuext::*;
use hypercall_abi::mmu::{MmuUpdate, MmuextOp};
use hypercall_abi::types::Mfn;
use shuttle::sync::atomic::AtomicBool;
use shuttle::thread;

use super::world::*;
use crate::mm::*;
use crate::platform::Platform;

/// How many orders.
const ORDERS: usize = 2000;

/// A place where the other CPU may come in between.
fn step(waits: bool) {
    if waits {
        thread::yield_now();
    } else {
        let _ = AtomicBool::new(false).load(Ordering::SeqCst);
    }
}

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
    world.machine.pause_with(Some(step));
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

/// A domain gives up another's page, which that makes a table as soon as it can: nobody has it cached by then.
fn unmapped_and_pinned() {
    let world = World::new(16, 2, 2);
    let (page, foreign) = (world.frame(0), world.frame(1));
    let [l4, .., l1] = world.chain(0, page, P | RW);
    world.machine.on(0);
    world.domains[0].memory.dirty().enter(world.machine.cpu());
    world.ext(0, 0, NEW_BASEPTR, l4.0).unwrap();
    let update = |world: &World, val| {
        let source = Source::Foreign(&world.domains[1].memory);
        let request = MmuUpdate { ptr: at(l1, 1), val };
        world.mm(0).one_update(request, source, &mut Budget::new()).unwrap();
    };
    update(&world, entry(foreign, P | RW));
    world.machine.check_tlbs();

    world.machine.pause_with(Some(step));
    let world = Arc::new(world);
    let other = Arc::clone(&world);
    let owner = thread::spawn(move || {
        other.machine.on(1);
        for _ in 0..20 {
            if other.mm(1).pin(foreign, Level::L1, &mut Budget::unlimited()).is_ok() {
                other.machine.check_tlbs();
                break;
            }
        }
    });
    world.machine.on(0);
    update(&world, 0);
    owner.join().unwrap();
    world.machine.pause_with(None);
    world.check();
}

#[test]
fn a_page_is_cached_by_nobody_when_its_owner_gets_it_back() {
    shuttle::check_random(unmapped_and_pinned, ORDERS);
}
