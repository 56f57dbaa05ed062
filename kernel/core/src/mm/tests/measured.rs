//! What Xen 4.17 answered to the same requests, as its initial domain.

use hypercall_abi::errno::Errno;
use hypercall_abi::mmu::mmuext::*;
use hypercall_abi::types::{DomId, Mfn};

use super::world::*;
use crate::mm::descriptor::checked;
use crate::mm::*;

#[test]
fn level_1_entries_read_back_with_their_marks() {
    let flags = [
        (0x1, 0x10_0000_0000_0005),
        (0x3, 0x10_0000_0000_0007),
        (0x5, 0x105),
        (0x67, 0x167),
        (0x101, 0x10_0000_0000_0105),
        (0x105, 0x105),
        (0x10_0000_0000_0001, 0x10_0000_0000_0005),
        (0x10_0000_0000_0005, 0x10_0000_0000_0005),
        (0x10_0000_0000_0107, 0x10_0000_0000_0107),
        (0x8000_0000_0000_0067, 0x8000_0000_0000_0167),
        (0xffe, 0xffe),
    ];
    for (written, read) in flags {
        assert_eq!(Entry(written).adjusted(Level::L1), Entry(read), "{written:#x}");
    }
    for level in [Level::L2, Level::L3] {
        assert_eq!(Entry(0x43).adjusted(level), Entry(0x47));
        assert_eq!(Entry(0x10_0000_0000_0001).adjusted(level), Entry(0x10_0000_0000_0005));
    }
    assert_eq!(Entry(0x1).adjusted(Level::L4), Entry(0x25));
    assert_eq!(Entry(0x42).adjusted(Level::L4), Entry(0x42));
    assert_eq!(Entry(0x67).adjusted(Level::L1).uncached(), Entry(0x17f));
    // PAT, PCD and PWT, as asked for and as they are.
    let cache = [0, 0x08, 0x10, 0x18, 0x80, 0x88, 0x90, 0x98];
    let settled = [0x18, 0x18, 0x10, 0x18, 0x80, 0x18, 0x90, 0x98];
    for (cache, settled) in cache.into_iter().zip(settled) {
        assert_eq!(Entry(P | cache).uncached(), Entry(P | settled), "{cache:#x}");
    }
}

#[test]
fn bits_are_refused_one_by_one() {
    for bit in 1..64 {
        let entry = Entry(P | 1 << bit);
        let cache = matches!(bit, 3 | 4 | 7);
        assert_eq!(entry.refused_bits(Level::L1, false) != 0, cache, "bit {bit}");
        assert_eq!(entry.refused_bits(Level::L1, true), 0, "bit {bit}");
        for level in [Level::L2, Level::L3, Level::L4] {
            assert_eq!(entry.refused_bits(level, true) != 0, cache || bit == 8, "bit {bit}");
        }
    }
}

#[test]
fn descriptors_come_out_as_measured() {
    let measured = [
        (0, Some(0)),
        (0x00cf_9200_0000_ffff, Some(0x00cf_f200_0000_ffff)),
        (0x00cf_fa00_0000_ffff, Some(0x00cf_fa00_0000_ffff)),
        (0x00af_9a00_0000_ffff, Some(0x00af_fa00_0000_ffff)),
        (0x00ef_9a00_0000_ffff, Some(0x00ef_fa00_0000_ffff)),
        (0x0000_8b00_0000_0067, None),
        (0x0000_8900_0000_0067, None),
        (0x0000_8200_0000_0067, None),
        (0x0000_8000_0000_0067, Some(0x0000_8000_0000_0067)),
        (0x0000_8c00_0008_0000, Some(0x0000_8c00_000b_0000)),
        (0x0000_ec00_0008_0000, Some(0x0000_8c00_000b_0000)),
        (0x0000_8c00_e008_0000, None),
        (0x0000_8c00_e033_0000, Some(0x0000_8c00_e033_0000)),
        (0x0000_8c01_000c_0000, None),
        (0x0000_8e00_0008_0000, None),
        (0x0000_8f00_0008_0000, None),
        (0x0000_0b00_0000_0067, Some(0x0000_0b00_0000_0067)),
        (0x0000_7b00_0000_0067, Some(0x0000_7b00_0000_0067)),
        (0x0000_8500_0000_0067, None),
        (0x0000_1f00_0000_1234, Some(0x0000_1f00_0000_1234)),
    ];
    for (written, read) in measured {
        assert_eq!(checked(written), read, "{written:#018x}");
    }
}

#[test]
fn errors_have_their_numbers() {
    let world = World::new(64, 1, 1);
    let page = world.frame(0);
    let [l4, l3, l2, l1] = world.chain(0, page, P | RW);
    world.ext(0, 0, NEW_BASEPTR, l4.0).unwrap();
    let update = |table: Mfn, index, value| {
        let request = hypercall_abi::mmu::MmuUpdate { ptr: at(table, index), val: value };
        match world.mm(0).one_update(request, Source::Own, &mut Budget::new()) {
            Err(Stop::Refused(refusal)) => refusal.errno(),
            other => panic!("{other:?}"),
        }
    };
    let free = Mfn(0);
    assert_eq!(update(l1, 1, entry(l1, P | RW)), Errno::EBUSY);
    assert_eq!(update(l1, 1, entry(free, P)), Errno::EBUSY);
    assert_eq!(update(l1, 1, entry(Mfn(0xfee00), P)), Errno::EPERM);
    assert_eq!(update(l1, 1, entry(Mfn((1 << 40) - 1), P)), Errno::EINVAL);
    assert_eq!(update(l1, 1, entry(page, P | 1 << 7)), Errno::EINVAL);
    assert_eq!(update(l2, 1, entry(l2, P)), Errno::EINVAL);
    assert_eq!(update(l2, 1, entry(page, P)), Errno::EINVAL);
    assert_eq!(update(l3, 1, entry(l2, P | 1 << 8)), Errno::EINVAL);
    assert_eq!(update(l4, 256, entry(l3, P)), Errno::EINVAL);
    assert_eq!(update(free, 0, 0), Errno::EINVAL);
    // A level-1 table that is refused because of what it maps, hooked into one above.
    let bad = world.frame(0);
    world.poke(bad, 9, entry(free, P));
    assert_eq!(update(l2, 1, entry(bad, P)), Errno::EBUSY);
}

#[test]
fn a_refusal_is_said_in_plain_words() {
    let world = World::new(64, 1, 1);
    let page = world.frame(0);
    let [l4, _, _, l1] = world.chain(0, page, P | RW);
    world.ext(0, 0, NEW_BASEPTR, l4.0).unwrap();
    let request = hypercall_abi::mmu::MmuUpdate { ptr: at(l1, 17), val: entry(l1, P | RW) };
    let refused = world.mm(0).one_update(request, Source::Own, &mut Budget::new());
    let Err(Stop::Refused(refusal)) = refused else { panic!("{refused:?}") };
    let said = std::format!("{refusal}");
    let expected = std::format!(
        "L1 entry 17 of frame {l1:#x}: frame {l1:#x} can't be mapped writable: it is an L1 table"
    );
    assert_eq!(said, expected);
}

#[test]
fn a_page_given_back_while_mapped_stays_until_it_is_unmapped() {
    let world = World::new(64, 1, 1);
    let page = world.frame(0);
    let [l4, _, _, l1] = world.chain(0, page, P | RW);
    world.ext(0, 0, NEW_BASEPTR, l4.0).unwrap();
    let pages = world.domains[0].memory.pages();
    // Twice: the second has nothing to do, and succeeds.
    world.mm(0).take_away(page).unwrap();
    world.mm(0).take_away(page).unwrap();
    world.check();
    assert_eq!(world.domains[0].memory.pages(), pages);
    world.update(0, at(l1, 0), 0).unwrap();
    world.check();
    assert_eq!(world.domains[0].memory.pages(), pages - 1);
    assert_eq!(world.update(0, at(l1, 0), entry(page, P)), Err(Why::NotOwned(page)));
}

#[test]
fn what_was_used_stays_so_even_in_an_entry_that_is_not_present() {
    let world = World::new(64, 1, 1);
    let page = world.frame(0);
    let [l4, _, _, l1] = world.chain(0, page, P | RW | 0x60);
    world.ext(0, 0, NEW_BASEPTR, l4.0).unwrap();
    world.update(0, at(l1, 0) | 2, 0).unwrap();
    assert_eq!(world.peek(l1, 0), 0x60);
    world.update(0, at(l1, 0), 0).unwrap();
    assert_eq!(world.peek(l1, 0), 0);
}

#[test]
fn a_guest_with_devices_selects_the_caching_of_its_memory_too() {
    let mut world = World::new(64, 1, 1);
    let page = world.frame(0);
    let [l4, l3, _, l1] = world.chain(0, page, P);
    world.ext(0, 0, NEW_BASEPTR, l4.0).unwrap();
    assert_eq!(world.update(0, at(l1, 1), entry(page, P | US | 0x98)), Err(Why::Bits(0x98)));
    let memory = std::mem::replace(&mut world.domains[0].memory, DomainMemory::new(DomId(9), 0));
    world.domains[0].memory = memory.with_devices();
    world.update(0, at(l1, 1), entry(page, P | US | 0x98)).unwrap();
    assert_eq!(world.peek(l1, 1), entry(page, P | US | GLOBAL | 0x98));
    assert_eq!(world.update(0, at(l4, 1), entry(l3, P | 0x98)), Err(Why::Bits(0x98)));
    world.check();
}

#[test]
fn removing_a_table_is_seen_at_once() {
    let world = World::new(64, 1, 1);
    let page = world.frame(0);
    let [l4, l3, l2, l1] = world.chain(0, page, P);
    world.domains[0].memory.dirty().enter(world.machine.cpu());
    world.ext(0, 0, NEW_BASEPTR, l4.0).unwrap();
    let flushes = world.machine.flushes();
    world.update(0, at(l1, 0), 0).unwrap();
    assert_eq!(world.machine.flushes(), flushes);
    for (table, value) in [(l2, 0), (l3, 0), (l3, entry(l2, P)), (l3, entry(l2, P | RW))] {
        let present = world.peek(table, 0) & P != 0;
        let flushes = world.machine.flushes();
        world.update(0, at(table, 0), value).unwrap();
        assert_eq!(world.machine.flushes() > flushes, present);
    }
}

#[test]
fn tables_of_other_domains_are_not_referred_to() {
    let world = World::new(64, 1, 2);
    let page = world.frame(0);
    let [l4, l3, _, l1] = world.chain(0, page, P);
    world.ext(0, 0, NEW_BASEPTR, l4.0).unwrap();
    let other = &world.domains[1].memory;
    for source in [Source::Devices, Source::Foreign(other)] {
        let request = hypercall_abi::mmu::MmuUpdate { ptr: at(l4, 1), val: entry(l3, P) };
        let refused = world.mm(0).one_update(request, source, &mut Budget::new());
        let Err(Stop::Refused(refusal)) = refused else { panic!("{refused:?}") };
        assert_eq!((refusal.why, refusal.errno()), (Why::ForeignTable, Errno::EINVAL));
    }
    let request = hypercall_abi::mmu::MmuUpdate { ptr: at(l1, 1), val: entry(page, P) };
    let refused = world.mm(0).one_update(request, Source::Foreign(other), &mut Budget::new());
    let Err(Stop::Refused(refusal)) = refused else { panic!("{refused:?}") };
    assert_eq!((refusal.why, refusal.errno()), (Why::NotOwned(page), Errno::EBUSY));
}

#[test]
fn a_batch_begins_in_guest_memory_or_nowhere() {
    let begins = [
        (0, true),
        (0x7fff_ffff_fff8, true),
        (0x8000_0000_0000, false),
        (0xffff_7fff_ffff_fff8, false),
        (0xffff_8000_0000_0000, false),
        (0xffff_87ff_ffff_fff8, false),
        (0xffff_8800_0000_0000, true),
        (u64::MAX, true),
    ];
    for (address, good) in begins {
        assert_eq!(Batch { address, count: 0, done: 0 }.begins_in_guest(), good, "{address:#x}");
    }
}

#[test]
fn devices_that_the_kernel_drives_are_read_at_most() {
    use crate::frames::DeviceAccess;
    let mut world = World::new(64, 1, 1);
    world.machine.keep_device(Mfn(0xfee00), 0x100, DeviceAccess::None);
    world.machine.keep_device(Mfn(0xfec00), 1, DeviceAccess::Read);
    world.domains[0].memory = DomainMemory::new(DomId(1), 0).with_devices();
    let page = world.frame(0);
    let [l4, _, l2, l1] = world.chain(0, page, P);
    world.ext(0, 0, NEW_BASEPTR, l4.0).unwrap();
    let device = |mfn, flags| entry(Mfn(mfn), flags | US);
    for flags in [P, P | RW] {
        for mfn in [0xfee00, 0xfee01, 0xfeeff] {
            let refused = world.update(0, at(l1, 1), device(mfn, flags));
            assert_eq!(refused, Err(Why::KeptDevice(Mfn(mfn))));
        }
        world.update(0, at(l1, 1), device(0xfec00, flags)).unwrap();
        assert_eq!(world.peek(l1, 1), device(0xfec00, P | GLOBAL | 0x18));
        world.update(0, at(l1, 1), device(0xfef00, flags)).unwrap();
        assert_eq!(world.peek(l1, 1), device(0xfef00, flags | GLOBAL | 0x18));
    }
    // In a table that is checked as a whole.
    let table = world.frame(0);
    world.poke(table, 0, device(0xfec00, P | RW));
    world.update(0, at(l2, 1), entry(table, P | RW)).unwrap();
    assert_eq!(world.peek(table, 0) & RW, 0);
    let table = world.frame(0);
    world.poke(table, 0, device(0xfee00, P));
    assert_eq!(world.update(0, at(l2, 2), entry(table, P)), Err(Why::KeptDevice(Mfn(0xfee00))));
    world.check();
}

#[test]
fn only_what_takes_long_is_continued() {
    use crate::mm::reservation::{bad_continuation, begun, continued, sub_op};
    let (no, never) = (Some(Errno::EINVAL), Some(Errno::ENOSYS));
    let ops = [(0, None), (1, None), (6, None), (28, None), (11, no), (2, no), (3, no), (15, no)];
    for (op, answer) in ops.into_iter().chain([(26, no), (5, never), (12, never), (50, never)]) {
        for done in [1, 1 << 20, 1 << 26, 1 << 57] {
            let command = continued(op, done);
            assert_eq!((command, begun(command)), (op | done << 6, done));
            assert_eq!(u64::from(sub_op(command)), op);
            assert_eq!(bad_continuation(command), answer, "{command:#x}");
        }
        assert_eq!(bad_continuation(op), None);
    }
    assert_eq!([4 | 1 << 63, 14 | 1 << 32].map(bad_continuation), [no; 2]);
    for op in [7, 23] {
        assert_eq!(bad_continuation(continued(op, 0xffff)), None);
        assert_eq!(bad_continuation(continued(op, 1 << 16)), Some(Errno::EDOM));
    }
}

#[test]
fn what_a_guest_has_not_is_refused_in_its_own_way() {
    let world = World::new(64, 1, 1);
    let page = world.frame(0);
    let [l4, ..] = world.chain(0, page, P | RW | US);
    world.ext(0, 0, NEW_BASEPTR, l4.0).unwrap();
    let ask = |target, command, argument| match world.mm(0).memory_op(
        target,
        command,
        argument,
        &mut Budget::new(),
    ) {
        Progress::Refused { refusal, .. } => Err(refusal.errno()),
        Progress::Done(value) => Ok(value),
        Progress::Again { .. } => panic!("a query goes on"),
    };
    let own = Ok(&world.domains[0].memory);
    for (command, errno) in [(7, Errno::EACCES), (15, Errno::EACCES), (26, Errno::EOPNOTSUPP)] {
        assert_eq!(ask(own, command, 0), Err(errno), "{command}");
        assert_eq!(ask(Err(Why::Domain(DomId(9))), command, 0), Err(Errno::ESRCH), "{command}");
        assert_eq!(ask(own, command, 0x1000), Err(Errno::EFAULT), "{command}");
    }
    assert_eq!((ask(own, 18, 0x1000), ask(own, 19, 0x1000)), (Ok(0), Ok(0)));
}
