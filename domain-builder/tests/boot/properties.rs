//! For any image facts and sizes: no plan, or a plan that holds together.
use std::collections::{BTreeMap, HashSet};

use domain_builder::image::Image;
use domain_builder::plan::{Entry, Extent, Kind, Level, Plan, PlanError, Request};
use hypercall_abi::types::Pfn;
use proptest::prelude::*;

use crate::elf_file::{ElfFile, INIT_P2M, MOD_START_PFN};

const WRITABLE: u64 = 2;

/// Bases where something can go wrong, give or take some pages.
fn address() -> impl Strategy<Value = u64> {
    let corner = prop_oneof![
        Just(0_u64),
        Just(1 << 21),
        Just(1 << 30),
        Just(1 << 39),
        Just(0x40_0000_0000),
        Just(1 << 47),
        Just(0xffff_8000_0000_0000),
        Just(0xffff_8800_0000_0000),
        Just(0xffff_ffff_8000_0000),
        Just(0xffff_ffff_ffff_f000),
        any::<u64>().prop_map(|any| any & !0xfff),
    ];
    (corner, -2000_i64..2000).prop_map(|(corner, pages)| corner.wrapping_add_signed(pages << 12))
}

prop_compose! {
    fn image()(
        base in address(),
        paddr in 0_u64..0x80_0000,
        memory in 16_u64..0x100_0000,
        p2m in proptest::option::of(address()),
        near in proptest::option::of(-0x4_0000_i64..0x4_0000),
        by_frame: bool,
    ) -> Vec<u8> {
        // Often so near that both ranges share tables.
        let p2m = near.map(|pages| base.wrapping_add_signed(pages << 12)).or(p2m);
        let mut elf = ElfFile::minimal(base, paddr, memory);
        if let Some(p2m) = p2m {
            elf = elf.number(INIT_P2M, p2m);
        }
        if by_frame {
            elf = elf.number(MOD_START_PFN, 1);
        }
        elf.bytes()
    }
}

fn request() -> impl Strategy<Value = Request> {
    let kind = prop_oneof![Just(Kind::Initial), Just(Kind::Toolstack)];
    let pages = prop_oneof![4 => 0_u64..0x1_0000, 1 => 0_u64..0x8_0000, 1 => any::<u64>()];
    let ramdisk = prop_oneof![2 => Just(0), 4 => 0_u64..0x200_0000, 1 => any::<u64>()];
    (kind, pages, ramdisk).prop_map(|(kind, nr_pages, ramdisk_len)| Request {
        kind,
        nr_pages,
        ramdisk_len,
    })
}

/// All parts but the mapped range, which contains most of them.
fn parts(plan: &Plan) -> Vec<Extent> {
    let optional = [plan.ramdisk, plan.store, plan.console];
    let always = [plan.image, plan.p2m, plan.p2m_tables, plan.start_info, plan.tables, plan.stack];
    optional.into_iter().flatten().chain(always).filter(|part| part.pages > 0).collect()
}

/// Every present entry by table.
type Walker = BTreeMap<Pfn, (Level, BTreeMap<u16, Entry>)>;

fn walker(plan: &Plan) -> Walker {
    let mut walker = Walker::new();
    for table in plan.page_tables() {
        let entries: BTreeMap<u16, Entry> =
            table.entries().map(|entry| (entry.slot, entry)).collect();
        let earlier = walker.insert(table.pfn(), (table.level(), entries));
        assert!(earlier.is_none(), "two tables in one frame");
    }
    walker
}

/// What the hardware would find for an address.
fn walk(walker: &Walker, root: Pfn, va: u64) -> Option<Entry> {
    let mut table = root;
    for (level, shift) in [(Level::L4, 39), (Level::L3, 30), (Level::L2, 21)] {
        let (found, entries) = &walker[&table];
        assert_eq!(*found, level);
        table = entries.get(&u16::try_from(va >> shift & 511).unwrap())?.pfn;
    }
    assert_eq!(walker[&table].0, Level::L1);
    walker[&table].1.get(&u16::try_from(va >> 12 & 511).unwrap()).copied()
}

fn check_parts(plan: &Plan) {
    let parts = parts(plan);
    assert!(plan.mapped.pages <= plan.nr_pages);
    let mut used = HashSet::new();
    for part in &parts {
        assert!(part.end().0 <= plan.nr_pages, "{part:?} beyond memory");
        for pfn in part.pfn.0..part.end().0 {
            assert!(used.insert(pfn), "{part:?} overlaps another part at {pfn:#x}");
        }
        let inside = part.end().0 <= plan.mapped.pages;
        assert!(inside || part.pfn.0 >= plan.mapped.pages, "{part:?} half mapped");
        if inside && part.pfn.0 < plan.mapped.pages {
            assert_eq!(part.va, plan.mapped.va.map(|base| base + (part.pfn.0 << 12)));
        }
    }
    assert!(plan.p2m.pages * 512 >= plan.nr_pages);
    assert!(plan.mapped.pages >= plan.stack.end().0 + 128, "too little behind the stack");
}

fn check_tables(plan: &Plan) {
    let walker = walker(plan);
    assert_eq!(walker.len() as u64, plan.table_count());
    let is_table = |pfn: Pfn| walker.contains_key(&pfn);
    for part in [plan.tables, plan.p2m_tables] {
        assert!((part.pfn.0..part.end().0).all(|pfn| is_table(Pfn(pfn))));
    }
    let mut mapped = 0;
    let mut expect = |part: Extent| {
        for page in 0..part.pages {
            let va = part.va.unwrap() + (page << 12);
            let entry = walk(&walker, plan.root(), va).expect("a hole in the mapping");
            assert_eq!(entry.pfn, Pfn(part.pfn.0 + page), "at {va:#x}");
            assert_eq!(entry.flags & WRITABLE == 0, is_table(entry.pfn), "at {va:#x}");
            mapped += 1;
        }
    };
    expect(plan.mapped);
    if plan.p2m.pfn.0 >= plan.mapped.pages {
        expect(plan.p2m);
    }
    let leaves = walker.values().filter(|(level, _)| *level == Level::L1);
    assert_eq!(leaves.map(|(_, entries)| entries.len()).sum::<usize>(), mapped);
    let (_, root) = &walker[&plan.root()];
    assert!(root.keys().all(|slot| !(256..272).contains(slot)), "the hypervisor's slots");
    for (level, entries) in walker.values() {
        let tables_only = entries.values().all(|entry| is_table(entry.pfn));
        assert!(*level == Level::L1 || tables_only, "an entry above L1 that is no table");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_holds_together(file in image(), request in request()) {
        if let Ok(image) = Image::parse(&file)
            && let Ok(plan) = Plan::new(&image, &request)
        {
            let start = plan.image.va.unwrap();
            prop_assert!(start <= image.start && image.start - start < 4096);
            prop_assert_eq!(plan.image.pages, (image.end - start).div_ceil(4096));
            check_parts(&plan);
            check_tables(&plan);
        }
    }

    #[test]
    fn the_memory_said_to_be_needed_is_enough_and_no_less(file in image(), request in request()) {
        if let Ok(image) = Image::parse(&file)
            && let Err(PlanError::TooLittleMemory { needed, .. }) = Plan::new(&image, &request)
        {
            let with = |nr_pages| Plan::new(&image, &Request { nr_pages, ..request });
            prop_assert!(needed > request.nr_pages);
            prop_assert!(with(needed - 1).is_err());
            if needed < 1 << 40 {
                prop_assert!(with(needed).is_ok(), "{:?}", with(needed));
            }
        }
    }

    #[test]
    fn any_sizes_give_an_answer(
        start: u64, memory: u64, base: u64, p2m: Option<u64>, by_frame: bool, request in request()
    ) {
        let mut elf = ElfFile::minimal(base & !0xfff, start, memory);
        if let Some(p2m) = p2m {
            elf = elf.number(INIT_P2M, p2m & !0xfff);
        }
        if by_frame {
            elf = elf.number(MOD_START_PFN, 1);
        }
        if let Ok(image) = Image::parse(&elf.bytes()) {
            let _ = Plan::new(&image, &request);
        }
    }
}
