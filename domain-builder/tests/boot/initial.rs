//! The initial domain's layout, entry for entry, as Xen 4.17.7 builds it.
//!
//! The files in `measured/` were written by a guest that printed its start-info page and its page
//! tables on real Xen. Upper part: what it was started with (its segment, its notes, pages of
//! memory, bytes of ramdisk). Lower part: what it found, a line for each run of entries whose flags
//! are equal and whose frames follow each other; `T` counts frames of page tables from the first,
//! `L3` to `L1` name frames of the tables that map the list of frames. Without Xen's own slots of
//! the L4. All numbers are hexadecimal.
use std::collections::BTreeMap;
use std::fmt::Write;

use domain_builder::image::Image;
use domain_builder::plan::{Connections, Entry, Extent, Kind, Level, Plan, Request, Table};
use hypercall_abi::types::{Mfn, Pfn};

use crate::elf_file::{ElfFile, INIT_P2M, MOD_START_PFN};

macro_rules! measured {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            let text = include_str!(concat!("measured/", stringify!($name), ".txt"));
            let (given, found) = text.split_once("\n\n").unwrap();
            assert_eq!(found.trim(), described(&planned(given)).trim());
        }
    )*};
}

measured! {
    high high_small high_odd high_large high_ramdisk_12345 high_ramdisk_5000000
    by_frame by_frame_none p2m p2m_ramdisk p2m_shares_l2 p2m_shares_l3
    like_linux like_linux_large zero zero_ramdisk
    crosses_l2 crosses_l3 unaligned_base slack slack_edge
}

fn planned(given: &str) -> Plan {
    let given: BTreeMap<&str, &str> =
        given.lines().filter_map(|line| line.split_once('=')).collect();
    let number = |name: &str| u64::from_str_radix(given[name], 16);
    let base = number("base").unwrap();
    let mut elf = ElfFile::minimal(base, number("paddr").unwrap(), number("memory").unwrap());
    elf.entry = number("entry").unwrap();
    if let Ok(p2m) = number("p2m") {
        elf = elf.number(INIT_P2M, p2m);
    }
    if given["by_frame"] == "1" {
        elf = elf.number(MOD_START_PFN, 1);
    }
    let image = Image::parse(&elf.bytes()).unwrap();
    let request = Request {
        kind: Kind::Initial,
        nr_pages: number("pages").unwrap(),
        ramdisk_len: number("ramdisk").unwrap(),
    };
    Plan::new(&image, &request).unwrap()
}

/// Start-info page, page tables, stack, end of stack and end of the range, in this order.
fn marks(plan: &Plan) -> [u64; 5] {
    let end = plan.mapped.va.unwrap() + (plan.mapped.pages << 12);
    let va = |part: Extent| part.va.unwrap();
    [va(plan.start_info), va(plan.tables), va(plan.stack), plan.stack_top, end]
}

fn initial(elf: &ElfFile, nr_pages: u64, ramdisk_len: u64) -> Plan {
    let image = Image::parse(&elf.bytes()).unwrap();
    Plan::new(&image, &Request { kind: Kind::Initial, nr_pages, ramdisk_len }).unwrap()
}

/// As Xen's boot log describes them.
#[test]
fn stock_kernels() {
    // Debian's 6.1.0-56-cloud-amd64 in 512 MiB, with a ramdisk.
    let linux = ElfFile::minimal(0xffff_ffff_8000_0000, 0x100_0000, 0x2e0_0000)
        .number(INIT_P2M, 0x80_0000_0000)
        .number(MOD_START_PFN, 1);
    let plan = initial(&linux, 0x2_0000, 6_000_000);
    let at = [0x83e0_0000_u64, 0x83e0_1000, 0x83e2_4000, 0x83e2_5000, 0x8400_0000];
    assert_eq!(marks(&plan), at.map(|low| 0xffff_ffff_0000_0000 | low));
    // Debian's GRUB 2.06 in 64 MiB.
    let plan = initial(&ElfFile::minimal(0, 0, 0x46_8cc8), 0x4000, 0);
    assert_eq!(plan.p2m.va, Some(0x46_9000));
    assert_eq!(marks(&plan), [0x48_9000, 0x48_a000, 0x49_1000, 0x49_2000, 0x80_0000]);
}

/// The plan in the words of the measuring guest.
fn described(plan: &Plan) -> String {
    let info = plan.start_info(Mfn(1), &Connections::default(), b"", |pfn| Mfn(pfn.0));
    let mut out = String::new();
    for (name, value) in [
        ("si", plan.start_info.va.unwrap()),
        ("rsp", plan.stack_top),
        ("flags", u64::from(info.flags)),
        ("pt_base", info.pt_base),
        ("nr_pt", info.nr_pt_frames),
        ("mfn_list", info.mfn_list),
        ("mod_start", info.mod_start),
        ("mod_len", info.mod_len),
        ("first_p2m", info.first_p2m_pfn.0),
        ("nr_p2m", info.nr_p2m_frames),
    ] {
        writeln!(out, "{name}={value:x}").unwrap();
    }
    let mut tables: Vec<Table<'_>> = plan.page_tables().collect();
    tables.sort_by_key(|table| table.pfn());
    for table in tables {
        let index = table.pfn().0 - plan.tables.pfn.0;
        let title = if index < plan.tables.pages {
            format!("T {index:x}")
        } else {
            let level = match table.level() {
                Level::L1 => 1,
                Level::L2 => 2,
                Level::L3 | Level::L4 => 3,
            };
            format!("L{level} {:x}", table.pfn().0)
        };
        for run in runs(plan, &table) {
            writeln!(out, "{title} {run}").unwrap();
        }
    }
    out
}

/// The runs of a table, each as text.
fn runs(plan: &Plan, table: &Table<'_>) -> Vec<String> {
    let mut runs: Vec<(Entry, u64)> = vec![];
    for mut entry in table.entries() {
        if table.level() == Level::L1 && entry.pfn == plan.stack.pfn {
            // The guest had pushed to its boot stack before it looked.
            entry.flags |= 1 << 6;
        }
        match runs.last_mut() {
            Some((first, len))
                if entry.flags == first.flags
                    && entry.pfn == Pfn(first.pfn.0 + *len)
                    && u64::from(entry.slot) == u64::from(first.slot) + *len =>
            {
                *len += 1;
            }
            _ => runs.push((entry, 1)),
        }
    }
    let text = |(first, len): &(Entry, u64)| {
        let Entry { slot, pfn, flags } = first;
        format!("slots {slot:x}+{len:x} pfn {pfn:x} flags {flags:x}")
    };
    runs.iter().map(text).collect()
}
