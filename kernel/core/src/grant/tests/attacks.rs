//! What guests have tried on other systems, and what a peer must not be able to do.

use core::sync::atomic::Ordering;

use hypercall_abi::grant::{self, COPY_DEST_GREF, COPY_SOURCE_GREF, CopyPtr, GrantCopy};
use hypercall_abi::types::{DomId, GrantHandle, Mfn};

use super::world::*;
use crate::grant::{MAX_HANDLES, Status, Unmap};
use crate::mm::{Budget, Level};
use crate::platform::Platform;

const DEVICE: u32 = 1;
const HOST: u32 = 2;
const ONLY_READ: u32 = 4;
const BY_ENTRY: u32 = 16;

/// An entry that admits the domain with this number (1 more than its index) to a frame.
fn entry(flags: u64, domain: u64, mfn: Mfn) -> u64 {
    flags | domain << 16 | mfn.0 << 32
}

const fn unmap(handle: GrantHandle, slot: u64) -> Unmap {
    Unmap { handle, host_addr: slot << 12, dev_bus_addr: 0, new_addr: 0 }
}

/// Domain 1 (index 0) grants a frame, domain 2 maps it at page 5.
fn granted(flags: u32) -> (World, Mfn, GrantHandle) {
    let world = World::new(64, 2);
    let mfn = world.frame(0);
    world.grant(0, 9, entry(1, 2, mfn));
    let (handle, mapped) = world.map(1, (1, 9), (flags, 5 << 12)).unwrap();
    assert_eq!(mapped, mfn);
    world.check();
    (world, mfn, handle)
}

fn becomes_table(world: &World, mfn: Mfn) -> bool {
    world.machine().on(0);
    let pinned = world.mm(0).take_table(mfn, Level::L1, &mut Budget::unlimited());
    let Ok(held) = pinned else { return false };
    world.machine().check_tlbs();
    world.mm(0).drop_table(held, &mut Budget::unlimited());
    world.check();
    true
}

#[test]
fn what_was_unmapped_is_cached_nowhere() {
    let (world, mfn, handle) = granted(HOST);
    assert!(!becomes_table(&world, mfn));
    assert_eq!(world.unmap(1, &[unmap(handle, 5)]), [0]);
    world.check();
    assert_eq!(world.shared(0, 9).load(Ordering::Relaxed) & 0xffff, 1);
    assert!(becomes_table(&world, mfn));
}

#[test]
fn a_batch_is_flushed_for_once() {
    let (world, mfn, handle) = granted(HOST);
    let (other, _) = world.map(1, (1, 9), (HOST | ONLY_READ, 6 << 12)).unwrap();
    let before = world.machine().flushes();
    assert_eq!(world.unmap(1, &[unmap(handle, 5), unmap(other, 6)]), [0, 0]);
    assert_eq!(world.machine().flushes(), before + 1);
    assert!(becomes_table(&world, mfn));
}

#[test]
fn a_mapping_that_was_written_over_is_cached_nowhere() {
    let (world, mfn, _) = granted(HOST);
    let own = world.frame(1);
    world.machine().on(1);
    let at = world.l1[1].address() + 8 * 5;
    let request = hypercall_abi::mmu::MmuUpdate { ptr: at, val: own.address() | P | RW };
    let source = crate::mm::Source::Own;
    world.mm(1).one_update(request, source, &mut Budget::unlimited()).unwrap();
    world.check();
    assert!(becomes_table(&world, mfn));
}

#[test]
fn a_mapping_whose_table_went_is_cached_nowhere() {
    let (world, mfn, handle) = granted(HOST);
    let (table, _) = (world.frame(1), world.unmap(1, &[unmap(handle, 5)]));
    let held = world.mm(1).take_table(table, Level::L1, &mut Budget::unlimited()).unwrap();
    let by_entry = (HOST | BY_ENTRY, table.address());
    world.map(1, (1, 9), by_entry).unwrap();
    assert!(!becomes_table(&world, mfn));
    world.machine().on(1);
    world.mm(1).drop_table(held, &mut Budget::unlimited());
    world.check();
    assert!(becomes_table(&world, mfn));
}

#[test]
fn devices_keep_a_page_writable() {
    let (world, mfn, handle) = granted(DEVICE);
    assert!(!becomes_table(&world, mfn));
    let gone = Unmap { handle, host_addr: 0, dev_bus_addr: mfn.address(), new_addr: 0 };
    assert_eq!(world.unmap(1, &[gone, gone]), [0, grant::BAD_HANDLE]);
    assert!(becomes_table(&world, mfn));
}

#[test]
fn a_table_frame_becomes_no_page_table() {
    let world = World::new(64, 1);
    assert!(!becomes_table(&world, world.domains[0].grants.frame(0).unwrap()));
}

#[test]
fn a_page_given_back_stays_until_its_mapping_goes() {
    for flags in [HOST, HOST | ONLY_READ, DEVICE, DEVICE | ONLY_READ] {
        let (world, mfn, handle) = granted(flags);
        world.machine().on(0);
        world.mm(0).take_away(mfn).unwrap();
        world.check();
        assert_eq!(world.machine().frames().owner(mfn), Some(DomId(1)));
        let host_addr = if flags & HOST != 0 { 5 << 12 } else { 0 };
        let gone = Unmap { handle, host_addr, dev_bus_addr: mfn.address(), new_addr: 0 };
        assert_eq!(world.unmap(1, &[gone]), [0]);
        assert_eq!(world.machine().frames().owner(mfn), None);
        world.check();
    }
}

#[test]
fn an_entry_is_read_once() {
    // While it is in use, what the guest writes there decides nothing.
    let (world, mfn, handle) = granted(HOST);
    let other = world.frame(0);
    world.grant(0, 9, entry(1, 2, other));
    let (second, mapped) = world.map(1, (1, 9), (HOST, 6 << 12)).unwrap();
    assert_eq!(mapped, mfn);
    world.check();
    assert_eq!(world.unmap(1, &[unmap(handle, 5), unmap(second, 6)]), [0, 0]);
    world.check();
    assert_eq!(world.map(1, (1, 9), (HOST, 5 << 12)).unwrap().1, other);
}

#[test]
fn handles_are_the_callers_own() {
    let (world, _, handle) = granted(HOST);
    assert_eq!(world.unmap(0, &[unmap(handle, 5)]), [grant::BAD_HANDLE]);
    assert_eq!(world.unmap(1, &[unmap(GrantHandle(u32::MAX), 5)]), [grant::BAD_HANDLE]);
    world.check();
}

#[test]
fn handles_come_to_an_end() {
    let world = World::new(64, 1);
    world.grow(0, 8);
    let mfn = world.frame(0);
    let grants = world.grants(0);
    let mut made = 0;
    let status = 'all: loop {
        let reference = made / 128;
        assert!(reference < 8 * 512);
        world.grant(0, reference, entry(1, 1, mfn));
        if reference == 4 {
            // Two frames of them are there now, and no more allowed: for one more round they are.
            world.domains[0].grants.set_handle_limit(2);
            let more = world.map(0, (1, reference), (DEVICE | ONLY_READ, 0));
            assert_eq!(more.err(), Some(Status(grant::NO_SPACE)));
            world.domains[0].grants.set_handle_limit(u32::MAX);
        }
        for _ in 0..128 {
            match world.map(0, (1, reference), (DEVICE | ONLY_READ, 0)) {
                Ok(_) => made += 1,
                Err(status) => break 'all status,
            }
        }
    };
    assert_eq!((status, made), (Status(grant::NO_SPACE), MAX_HANDLES));
    let mut slices = 0;
    while grants.end_mappings(&mut Budget::new()).is_err() {
        slices += 1;
    }
    assert!((100..10_000).contains(&slices));
    world.check();
    assert!(grants.end_table());
}

#[test]
fn the_dead_release_what_they_mapped() {
    let (mut world, mfn, _) = granted(HOST | DEVICE);
    world.end(1);
    assert_eq!(world.shared(0, 9).load(Ordering::Relaxed) & 0xffff, 1);
    assert!(becomes_table(&world, mfn));
}

#[test]
fn what_the_dead_granted_stays_while_it_is_mapped() {
    let (mut world, mfn, handle) = granted(HOST);
    world.end(0);
    assert_eq!(world.machine().frames().owner(mfn), Some(DomId(1)));
    assert!(!world.grants(0).end_table());
    // Nobody else can begin to use anything of it.
    world.grant(0, 10, entry(1, 2, mfn));
    assert_eq!(world.map(1, (1, 10), (HOST, 6 << 12)), Err(Status(grant::BAD_PAGE)));
    assert_eq!(world.unmap(1, &[unmap(handle, 5)]), [0]);
    world.check();
    assert_eq!(world.machine().frames().owner(mfn), None);
    assert!(world.grants(0).end_table());
    world.check();
}

fn end(page: u64, domid: u16, offset: u16) -> CopyPtr {
    CopyPtr { page, domid: DomId(domid), offset, ..CopyPtr::default() }
}

#[test]
fn copies_reach_granted_bytes_alone() {
    let world = World::new(64, 3);
    let (theirs, mine) = (world.frame(0), world.frame(1));
    world.grant(0, 3, entry(1 | 4, 2, theirs));
    world.word(theirs, 1).store(0x1234, Ordering::Relaxed);
    let source = GrantCopy {
        source: end(3, 1, 8),
        dest: end(mine.0, DomId::SELF.0, 16),
        len: 8,
        flags: COPY_SOURCE_GREF,
        ..GrantCopy::default()
    };
    let back =
        GrantCopy { source: source.dest, dest: source.source, flags: COPY_DEST_GREF, ..source };
    let unnamed = GrantCopy { source: end(theirs.0, DomId::SELF.0, 8), flags: 0, ..source };
    let statuses = world.copy(1, &[source, back, unnamed]);
    assert_eq!(statuses, [0, grant::GENERAL_ERROR, grant::BAD_PAGE]);
    assert_eq!(world.word(mine, 2).load(Ordering::Relaxed), 0x1234);
    world.check();
    assert_eq!(world.copy(2, &[source]), [grant::GENERAL_ERROR]);
    assert_eq!(world.shared(0, 3).load(Ordering::Relaxed) & 0xffff, 5);
    world.check();
}

/// What counts the uses of entries is the granting domain's, and stays as long as it does.
#[test]
fn naming_entries_that_are_not_there_costs_their_domain_nothing() {
    let world = World::new(64, 2);
    // The caller's first handle costs the caller something.
    assert_eq!(world.map(1, (1, 512), (HOST, 5 << 12)).err(), Some(Status::BAD_REFERENCE));
    let before = world.machine().objects();
    for reference in [1023, 8 * 512, 64 * 512 - 1, 64 * 512, u32::MAX] {
        let mapped = world.map(1, (1, reference), (HOST, 5 << 12));
        assert_eq!(mapped.err(), Some(Status::BAD_REFERENCE));
    }
    assert_eq!(world.machine().objects(), before);
    world.check();
}

#[test]
fn naming_entries_that_do_not_admit_costs_their_domain_nothing() {
    let world = World::new(64, 2);
    let mfn = world.frame(0);
    for (reference, value) in [(9, 0), (300, 0), (10, entry(1, 7, mfn)), (301, entry(2, 2, mfn))] {
        world.grant(0, reference, value);
    }
    // The caller's first handle costs the caller something.
    assert_eq!(world.map(1, (1, 9), (HOST, 5 << 12)).err(), Some(Status::GENERAL));
    let before = world.machine().objects();
    for reference in [9, 10, 300, 301] {
        assert_eq!(world.map(1, (1, reference), (HOST, 5 << 12)).err(), Some(Status::GENERAL));
    }
    assert_eq!(world.machine().objects(), before);
    world.check();
}
