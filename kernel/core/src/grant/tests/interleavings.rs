//! Operations of two CPUs at the same time, in many of the orders in which their steps can come.

use std::sync::Arc;

use core::sync::atomic::Ordering;

use hypercall_abi::grant;
use hypercall_abi::types::{GrantHandle, Mfn};
use shuttle::sync::atomic::AtomicBool;
use shuttle::thread;

use super::world::*;
use crate::grant::Unmap;
use crate::mm::{Budget, Level};
use crate::platform::Platform;

const HOST: u32 = 2;
const DEVICE: u32 = 1;
/// Orders tried of each pair: as many in which the CPUs take turns, and in which one does much while
/// the other waits.
const ORDERS: usize = if cfg!(debug_assertions) { 100 } else { 20_000 };

fn orders(pair: fn()) {
    shuttle::check_random(pair, ORDERS);
    shuttle::check_pct(pair, ORDERS, 3);
}

/// A place where the other CPU may come in between.
fn step(waits: bool) {
    if waits {
        thread::yield_now();
    } else {
        let _ = AtomicBool::new(false).load(Ordering::SeqCst);
    }
}

/// Domain 1 admits domain 2 to a frame by entry 9.
fn granted() -> (World, Mfn) {
    let world = World::new(40, 3);
    let mfn = world.frame(0);
    world.grant(0, 9, 1 | 2 << 16 | mfn.0 << 32);
    world.machine().pause_with(Some(step));
    (world, mfn)
}

/// Runs both at the same time; then everything is counted.
fn both<A: Send + 'static, B: Send + 'static>(
    world: World,
    first: impl FnOnce(&World) -> A + Send + 'static,
    second: impl FnOnce(&World) -> B + Send + 'static,
) -> (World, A, B) {
    let world = Arc::new(world);
    let (one, other) = (Arc::clone(&world), Arc::clone(&world));
    let first = thread::spawn(move || first(&one));
    let second = thread::spawn(move || second(&other));
    let (first, second) = (first.join().unwrap(), second.join().unwrap());
    world.machine().pause_with(None);
    world.check();
    (Arc::into_inner(world).unwrap(), first, second)
}

fn gone(handle: GrantHandle, mfn: Mfn, slot: u64) -> Unmap {
    Unmap { handle, host_addr: slot << 12, dev_bus_addr: mfn.address(), new_addr: 0 }
}

/// Maps and unmaps; whether it could.
fn map_and_unmap(world: &World, flags: u32, slot: u64) -> bool {
    let Ok((handle, mfn)) = world.map(1, (1, 9), (flags, slot << 12)) else { return false };
    let unmapped = world.unmap(1, &[gone(handle, mfn, slot)]);
    assert_eq!(unmapped, [0]);
    true
}

/// The guest takes its grant back, if nobody uses it, as guests do.
fn revoke(world: &World) -> bool {
    let word = world.shared(0, 9);
    let now = word.load(Ordering::SeqCst);
    now & 0x18 == 0 && word.compare_exchange(now, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}

#[test]
fn what_was_taken_back_is_used_by_nobody() {
    orders(|| {
        for flags in [HOST, DEVICE, HOST | DEVICE] {
            let (world, mfn) = granted();
            let use_it = move |world: &World| map_and_unmap(world, flags, 5);
            let (_, _, revoked) = both(world, use_it, move |world| {
                let revoked = revoke(world);
                if revoked {
                    world.machine().on(0);
                    let pinned = world.mm(0).pin(mfn, Level::L1, &mut Budget::unlimited());
                    assert_eq!(pinned, Ok(()), "a page that was taken back is in use");
                    world.machine().check_tlbs();
                }
                revoked
            });
            let _ = revoked;
        }
    });
}

#[test]
fn a_mapping_is_undone_once() {
    orders(|| {
        let (world, mfn) = granted();
        let (handle, _) = world.map(1, (1, 9), (HOST | DEVICE, 5 << 12)).unwrap();
        let unmap = move |world: &World| world.unmap(1, &[gone(handle, mfn, 5)]);
        let (world, first, second) = both(world, unmap, unmap);
        let mut statuses = [first[0], second[0]];
        statuses.sort_unstable();
        assert_eq!(statuses, [grant::BAD_HANDLE, 0]);
        assert_eq!(world.shared(0, 9).load(Ordering::SeqCst) & 0xffff, 1);
    });
}

#[test]
fn two_map_at_one_place() {
    orders(|| {
        let (world, mfn) = granted();
        let map = |world: &World| world.map(1, (1, 9), (HOST, 5 << 12)).unwrap().0;
        let (world, first, second) = both(world, map, map);
        assert_ne!(first, second);
        // One of the entries is gone, and with it the means to end that mapping.
        let all = [gone(first, mfn, 5), gone(second, mfn, 5)];
        assert_eq!(world.unmap(1, &all), [0, grant::GENERAL_ERROR]);
        world.check();
    });
}

#[test]
fn the_granter_ends_meanwhile() {
    orders(|| {
        let (world, mfn) = granted();
        let use_it = |world: &World| map_and_unmap(world, HOST | DEVICE, 5);
        let (world, ..) = both(world, use_it, move |world| {
            world.machine().on(0);
            world.mm(0).take_away(mfn).unwrap();
            world.grants(0).end_table()
        });
        assert!(world.grants(0).end_table());
        world.check();
        assert_eq!(world.machine().frames().owner(mfn), None);
    });
}

#[test]
fn the_table_grows_on_two_cpus() {
    orders(|| {
        let (world, _) = granted();
        let free = world.machine().frames().free_count();
        let grow = |world: &World| world.grow(0, 3);
        let (world, ..) = both(world, grow, grow);
        assert_eq!(world.domains[0].grants.len(), 3);
        assert_eq!(world.machine().frames().free_count(), free - 2);
    });
}
