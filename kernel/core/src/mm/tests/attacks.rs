//! What guests have tried on other systems, each with a name.

use hypercall_abi::mmu::mmuext::*;
use hypercall_abi::types::Mfn;

use super::world::*;
use crate::frames::FrameType;
use crate::mm::*;
use crate::platform::Platform;

fn in_use(mfn: Mfn, is: FrameType, want: FrameType) -> Result<(), Why> {
    Err(Why::InUse { mfn, is, want })
}

#[test]
fn a_tree_is_pinned_used_and_unpinned() {
    let world = World::new(64, 1, 1);
    let page = world.frame(0);
    let [l4, .., l1] = world.chain(0, page, P | RW);
    world.ext(0, 0, PIN_L4_TABLE, l4.0).unwrap();
    world.check();
    world.ext(0, 0, NEW_BASEPTR, l4.0).unwrap();
    world.check();
    assert_eq!(world.peek(l1, 0), entry(page, P | RW | US | MARK));
    assert_eq!(world.ext(0, 0, PIN_L4_TABLE, l4.0), Err(Why::Pinned(l4)));
    world.ext(0, 0, UNPIN_TABLE, l4.0).unwrap();
    world.check();
    assert_eq!(world.ext(0, 0, UNPIN_TABLE, l4.0), Err(Why::NotPinned(l4)));
    world.check();
}

#[test]
fn a_table_is_not_mapped_writable() {
    let world = World::new(64, 1, 1);
    let page = world.frame(0);
    let [l4, l3, l2, l1] = world.chain(0, page, P);
    world.ext(0, 0, PIN_L4_TABLE, l4.0).unwrap();
    let types = [FrameType::L4, FrameType::L3, FrameType::L2, FrameType::L1];
    for (table, is) in [l4, l3, l2, l1].into_iter().zip(types) {
        let refused = world.update(0, at(l1, 1), entry(table, P | RW));
        assert_eq!(refused, in_use(table, is, FrameType::Writable));
        world.update(0, at(l1, 1), entry(table, P)).unwrap();
        world.check();
    }
}

#[test]
fn a_frame_mapped_writable_becomes_no_table() {
    let world = World::new(64, 1, 1);
    let victim = world.frame(0);
    let [l4, .., l1] = world.chain(0, victim, P | RW);
    world.ext(0, 0, PIN_L4_TABLE, l4.0).unwrap();
    let levels = [
        (PIN_L1_TABLE, FrameType::L1),
        (PIN_L2_TABLE, FrameType::L2),
        (PIN_L3_TABLE, FrameType::L3),
        (PIN_L4_TABLE, FrameType::L4),
    ];
    for (pin, want) in levels {
        assert_eq!(world.ext(0, 0, pin, victim.0), in_use(victim, FrameType::Writable, want));
    }
    world.update(0, at(l1, 0), entry(victim, P)).unwrap();
    world.ext(0, 0, PIN_L1_TABLE, victim.0).unwrap();
    world.check();
}

#[test]
fn a_recursive_root_is_refused() {
    let world = World::new(64, 1, 1);
    let page = world.frame(0);
    let [l4, l3, ..] = world.chain(0, page, P);
    world.poke(l4, 300, entry(l4, P));
    let refused = world.ext(0, 0, PIN_L4_TABLE, l4.0);
    assert_eq!(refused, in_use(l4, FrameType::L4, FrameType::L3));
    world.check();
    world.poke(l4, 300, 0);
    world.ext(0, 0, PIN_L4_TABLE, l4.0).unwrap();
    let refused = world.update(0, at(l4, 300), entry(l4, P));
    assert_eq!(refused, in_use(l4, FrameType::L4, FrameType::L3));
    let refused = world.update(0, at(l3, 1), entry(l3, P));
    assert_eq!(refused, in_use(l3, FrameType::L3, FrameType::L2));
    world.check();
}

#[test]
fn the_hypervisor_slots_are_not_the_guests() {
    let world = World::new(64, 1, 1);
    let page = world.frame(0);
    let [l4, l3, ..] = world.chain(0, page, P);
    // What is written there before is ignored and replaced, not checked.
    world.poke(l4, 256, entry(page, P | RW));
    world.ext(0, 0, PIN_L4_TABLE, l4.0).unwrap();
    for slot in 256..272 {
        // The table of machine frames is there for a root of the kernel's.
        let shown = if slot == 256 { 0 } else { crate::fake::HYPERVISOR_ENTRY };
        assert_eq!(world.peek(l4, slot), shown);
        let refused = world.update(0, at(l4, slot as u64), entry(l3, P | RW));
        assert_eq!(refused, Err(Why::HypervisorSlot));
        assert_eq!(world.update(0, at(l4, slot as u64), 0), Err(Why::HypervisorSlot));
    }
    world.update(0, at(l4, 272), entry(l3, P | RW)).unwrap();
    world.check();
    // A former root doesn't tell where the hypervisor's tables are.
    world.ext(0, 0, UNPIN_TABLE, l4.0).unwrap();
    assert!((256..272).all(|slot| world.peek(l4, slot) == 0));
}

#[test]
fn only_roots_of_the_kernel_show_the_table_of_frames() {
    let world = World::new(64, 1, 1);
    let page = world.frame(0);
    let [l4, ..] = world.chain(0, page, P | RW | US);
    let [other, ..] = world.chain(0, page, P | RW | US);
    let shown = |root| world.peek(root, 256) != 0;
    let memory = &world.domains[0].memory;
    for root in [l4, other] {
        world.ext(0, 0, PIN_L4_TABLE, root.0).unwrap();
        world.ext(0, 0, NEW_USER_BASEPTR, root.0).unwrap();
        assert!(!shown(root));
    }
    world.ext(0, 0, NEW_BASEPTR, l4.0).unwrap();
    assert!(shown(l4));
    memory.enable_assist(hypercall_abi::vm_assist::TYPE_M2P_STRICT);
    world.ext(0, 0, NEW_USER_BASEPTR, l4.0).unwrap();
    world.ext(0, 0, NEW_BASEPTR, other.0).unwrap();
    assert!(!shown(l4) && !shown(other));
    world.ext(0, 0, NEW_USER_BASEPTR, 0).unwrap();
    world.ext(0, 0, UNPIN_TABLE, l4.0).unwrap();
    world.ext(0, 0, PIN_L4_TABLE, l4.0).unwrap();
    assert!(shown(l4));
    world.check();
}

#[test]
fn a_frame_of_another_domain_is_not_mapped() {
    let world = World::new(64, 1, 2);
    let page = world.frame(0);
    let [l4, .., l1] = world.chain(0, page, P);
    world.ext(0, 0, PIN_L4_TABLE, l4.0).unwrap();
    let foreign = world.frame(1);
    assert_eq!(world.update(0, at(l1, 1), entry(foreign, P)), Err(Why::NotOwned(foreign)));
    assert_eq!(world.update(0, at(l1, 1), entry(foreign, P | RW)), Err(Why::NotOwned(foreign)));
    assert_eq!(world.ext(0, 0, PIN_L1_TABLE, foreign.0), Err(Why::NotOwned(foreign)));
    assert_eq!(world.ext(0, 0, UNPIN_TABLE, foreign.0), Err(Why::NotOwned(foreign)));
    assert_eq!(world.ext(0, 0, CLEAR_PAGE, foreign.0), Err(Why::NotOwned(foreign)));
    assert_eq!(world.update(0, at(foreign, 1), 0), Err(Why::NotOwned(foreign)));
    world.check();
}

#[test]
fn what_is_no_memory_is_not_mapped() {
    let world = World::new(64, 1, 1);
    let page = world.frame(0);
    let [l4, .., l1] = world.chain(0, page, P);
    world.ext(0, 0, PIN_L4_TABLE, l4.0).unwrap();
    for mfn in [Mfn(64), Mfn(0xfee00), Mfn(1 << 39), Mfn((1 << 40) - 1)] {
        assert_eq!(world.update(0, at(l1, 1), entry(mfn, P)), Err(Why::Device(mfn)));
    }
    world.check();
}

#[test]
fn a_kernels_or_free_frame_is_not_mapped() {
    let world = World::new(64, 1, 1);
    let page = world.frame(0);
    let [l4, .., l1] = world.chain(0, page, P);
    world.ext(0, 0, PIN_L4_TABLE, l4.0).unwrap();
    let kernels = world.machine.frames().alloc_kernel(&world.machine, 1).unwrap();
    for mfn in [kernels, Mfn(0)] {
        assert_eq!(world.update(0, at(l1, 1), entry(mfn, P)), Err(Why::NotOwned(mfn)));
        assert_eq!(world.update(0, at(mfn, 1), 0), Err(Why::NotOwned(mfn)));
        assert_eq!(world.ext(0, 0, PIN_L4_TABLE, mfn.0), Err(Why::NotOwned(mfn)));
    }
}

#[test]
fn a_frame_shared_by_the_kernel_is_writable_and_never_a_table() {
    let world = World::new(64, 1, 1);
    let page = world.frame(0);
    let [l4, .., l1] = world.chain(0, page, P);
    world.ext(0, 0, PIN_L4_TABLE, l4.0).unwrap();
    let id = world.domains[0].memory.id();
    let shared = world.machine.frames().alloc_shared(&world.machine, id).unwrap().into_entry();
    world.holders.lock().unwrap().shared.push(shared);
    world.check();
    world.update(0, at(l1, 1), entry(shared, P | RW)).unwrap();
    world.check();
    world.update(0, at(l1, 1), 0).unwrap();
    let refused = world.ext(0, 0, PIN_L1_TABLE, shared.0);
    assert_eq!(refused, in_use(shared, FrameType::Writable, FrameType::L1));
    world.check();
}

#[test]
fn a_stale_translation_never_reaches_a_new_table() {
    let world = World::new(64, 2, 1);
    let page = world.frame(0);
    let [l4, .., l1] = world.chain(0, page, P | RW);
    for cpu in 0..2 {
        world.machine.on(cpu);
        world.domains[0].memory.dirty().enter(world.machine.cpu());
        world.ext(0, cpu, NEW_BASEPTR, l4.0).unwrap();
    }
    world.check();
    // Both CPUs have the page cached writable. The guest removes the mapping and flushes nothing.
    world.update(0, at(l1, 0), 0).unwrap();
    world.check();
    let before = world.machine.flushes();
    world.ext(0, 0, PIN_L1_TABLE, page.0).unwrap();
    assert_eq!(world.machine.flushes(), before + 2);
    world.check();
    // Back to a writable page: what was cached as a table must go too.
    world.ext(0, 0, UNPIN_TABLE, page.0).unwrap();
    world.update(0, at(l1, 0), entry(page, P | RW)).unwrap();
    world.check();
}

#[test]
fn a_flush_by_the_guest_is_not_repeated() {
    let world = World::new(64, 1, 1);
    let page = world.frame(0);
    let [l4, .., l1] = world.chain(0, page, P | RW);
    world.domains[0].memory.dirty().enter(world.machine.cpu());
    world.ext(0, 0, NEW_BASEPTR, l4.0).unwrap();
    world.update(0, at(l1, 0), 0).unwrap();
    world.ext(0, 0, TLB_FLUSH_LOCAL, 0).unwrap();
    let before = world.machine.flushes();
    world.ext(0, 0, PIN_L1_TABLE, page.0).unwrap();
    assert_eq!(world.machine.flushes(), before);
    world.check();
}

#[test]
fn a_table_that_is_refused_leaves_nothing() {
    let world = World::new(64, 1, 2);
    let page = world.frame(0);
    let [l4, l3, l2, l1] = world.chain(0, page, P | RW);
    let foreign = world.frame(1);
    world.poke(l1, 511, entry(foreign, P));
    for (pin, table) in
        [(PIN_L1_TABLE, l1), (PIN_L2_TABLE, l2), (PIN_L3_TABLE, l3), (PIN_L4_TABLE, l4)]
    {
        assert_eq!(world.ext(0, 0, pin, table.0), Err(Why::NotOwned(foreign)));
        world.check();
        for mfn in [l4, l3, l2, l1, page] {
            let word = world.machine.frames().word(mfn);
            assert_eq!((word.typed(), word.general()), (0, 1), "frame {mfn:#x}");
        }
    }
}

/// Domain 0 on CPU 0 maps a page of domain 1 writable, and loses it by `lose`. Then domain 1, which
/// never ran on CPU 0, makes the page a table.
fn foreign_page_becomes_a_table(lose: impl Fn(&World, [Mfn; 4])) {
    let world = World::new(64, 2, 2);
    let page = world.frame(0);
    let tables = world.chain(0, page, P);
    world.domains[0].memory.dirty().enter(world.machine.cpu());
    world.ext(0, 0, NEW_BASEPTR, tables[0].0).unwrap();
    let foreign = world.frame(1);
    let request =
        hypercall_abi::mmu::MmuUpdate { ptr: at(tables[3], 5), val: entry(foreign, P | RW) };
    let source = Source::Foreign(&world.domains[1].memory);
    world.mm(0).one_update(request, source, &mut Budget::new()).unwrap();
    world.check();
    lose(&world, tables);
    world.check();
    world.machine.on(1);
    world.ext(1, 1, PIN_L1_TABLE, foreign.0).unwrap();
    world.check();
}

#[test]
fn a_foreign_page_that_was_unmapped_is_not_cached() {
    foreign_page_becomes_a_table(|world, [.., l1]| world.update(0, at(l1, 5), 0).unwrap());
}

#[test]
fn a_foreign_page_whose_table_went_is_not_cached() {
    foreign_page_becomes_a_table(|world, [_, _, l2, _]| {
        world.update(0, at(l2, 0), 0).unwrap();
    });
}

#[test]
fn what_is_interrupted_is_finished() {
    // Pin and unpin a tree in the smallest slices there are; nothing may be left in between.
    let world = World::new(64, 1, 1);
    let l4 = world.tree(0, world.frame(0), 5);
    for cmd in [PIN_L4_TABLE, UNPIN_TABLE] {
        let operation = hypercall_abi::mmu::MmuextOp { cmd, arg1: l4.0, ..Default::default() };
        let roots = &world.domains[0].roots[0];
        let mm = world.mm(0);
        let mut slices = 0;
        // Unpinning is done at once, and what is left of it pending.
        let mut asked = mm.one_extended(roots, None, operation, &mut Budget::of(1), &mut |_| {});
        while asked == Err(Stop::Again) {
            world.check();
            slices += 1;
            assert!(slices < 100, "no progress");
            asked = mm.one_extended(roots, None, operation, &mut Budget::of(1), &mut |_| {});
        }
        asked.unwrap();
        while mm.finish_pending(&mut Budget::of(1)).is_err() {
            world.check();
            slices += 1;
            assert!(slices < 100, "no progress");
        }
        assert!(slices >= 5, "{slices}");
        world.check();
    }
    for mfn in (0..64).map(Mfn) {
        assert_eq!(world.machine.frames().word(mfn).typed(), 0, "frame {mfn:#x}");
    }
}
