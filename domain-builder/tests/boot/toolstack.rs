//! Layouts of domains that the toolstack builds, measured on Xen 4.17.7: stock kernels.
use domain_builder::image::Image;
use domain_builder::plan::{Connections, Extent, Kind, Level, Plan, Request};
use hypercall_abi::start::StartFlags;
use hypercall_abi::types::{Mfn, Pfn, Port};

use crate::elf_file::{ElfFile, INIT_P2M, MOD_START_PFN};

const PAGES: u64 = 512 << 8;
/// Linux had 384 MiB of its 512 at the start.
const LINUX_PAGES: u64 = 384 << 8;

fn plan(elf: &ElfFile, nr_pages: u64, ramdisk_len: u64) -> Plan {
    let image = Image::parse(&elf.bytes()).unwrap();
    Plan::new(&image, &Request { kind: Kind::Toolstack, nr_pages, ramdisk_len }).unwrap()
}

/// Debian's Linux 6.1: notes INIT_P2M and MOD_START_PFN, a ramdisk of 0x546 pages.
fn linux() -> Plan {
    let elf = ElfFile::minimal(0xffff_ffff_8000_0000, 0x100_0000, 0x3a0_0000)
        .number(INIT_P2M, 0x80_0000_0000)
        .number(MOD_START_PFN, 1);
    plan(&elf, LINUX_PAGES, 0x54_5123)
}

fn extent(va: u64, pfn: u64, pages: u64) -> Extent {
    Extent { va: Some(va), pfn: Pfn(pfn), pages }
}

#[test]
fn linux_layout() {
    let plan = linux();
    assert_eq!(plan.mapped, extent(0xffff_ffff_8000_0000, 0, 0x4c00));
    assert_eq!(plan.image, extent(0xffff_ffff_8100_0000, 0x1000, 0x3a00));
    assert_eq!(plan.start_info, extent(0xffff_ffff_84a0_0000, 0x4a00, 1));
    assert_eq!(plan.store, Some(extent(0xffff_ffff_84a0_1000, 0x4a01, 1)));
    assert_eq!(plan.console, Some(extent(0xffff_ffff_84a0_2000, 0x4a02, 1)));
    assert_eq!(plan.tables, extent(0xffff_ffff_84a0_3000, 0x4a03, 0x29));
    assert_eq!(plan.stack, extent(0xffff_ffff_84a2_c000, 0x4a2c, 1));
    assert_eq!(plan.stack_top, 0xffff_ffff_84a2_d000);
    assert_eq!(plan.ramdisk, Some(Extent { va: None, pfn: Pfn(0x4c00), pages: 0x546 }));
    assert_eq!(plan.p2m, extent(0x80_0000_0000, 0x5146, 0xc0));
    assert_eq!(plan.p2m_tables, Extent { va: None, pfn: Pfn(0x5206), pages: 3 });
}

#[test]
fn linux_tables_lie_root_first() {
    let plan = linux();
    let pfns = |level| -> Vec<u64> {
        plan.page_tables().filter(|t| t.level() == level).map(|t| t.pfn().0).collect()
    };
    assert_eq!(pfns(Level::L4), [0x4a03]);
    assert_eq!(pfns(Level::L3), [0x4a04, 0x5206]);
    assert_eq!(pfns(Level::L2), [0x4a05, 0x5207]);
    let l1s: Vec<u64> = (0x4a06..0x4a2c).chain([0x5208]).collect();
    assert_eq!(pfns(Level::L1), l1s);
}

#[test]
fn linux_flags_are_the_toolstacks() {
    let plan = linux();
    for table in plan.page_tables() {
        for entry in table.entries() {
            let own_table = entry.pfn >= plan.tables.pfn && entry.pfn < plan.tables.end();
            let expected = match table.level() {
                Level::L1 if own_table => 0x61,
                Level::L1 => 0x63,
                _ => 0x67,
            };
            assert_eq!(entry.flags, expected, "{:?} {entry:?}", table.level());
        }
    }
}

#[test]
fn linux_start_info() {
    let plan = linux();
    let ports = Connections { store: Port(1), console: Port(2), video: None };
    let info = plan.start_info(Mfn(0x77), &ports, b"root=/dev/xvda", |pfn| Mfn(pfn.0 + 0x10_0000));
    assert_eq!(&info.magic[..15], b"xen-3.0-x86_64\0");
    assert_eq!(info.nr_pages, LINUX_PAGES);
    assert_eq!(info.shared_info, 0x77000);
    assert_eq!(info.flags, StartFlags::MOD_START_PFN.bits());
    assert_eq!((info.store_mfn, info.store_evtchn), (Mfn(0x10_4a01), Port(1)));
    assert_eq!((info.console_mfn, info.console_evtchn), (Mfn(0x10_4a02), Port(2)));
    assert_eq!((info.pt_base, info.nr_pt_frames), (0xffff_ffff_84a0_3000, 0x29));
    assert_eq!((info.mod_start, info.mod_len), (0x4c00, 0x54_5123));
    assert_eq!(info.mfn_list, 0x80_0000_0000);
    assert_eq!((info.first_p2m_pfn, info.nr_p2m_frames), (Pfn(0x5146), 0xc3));
    assert_eq!(&info.cmd_line[..15], b"root=/dev/xvda\0");
}

#[test]
fn mini_os_layout() {
    // 128 MiB: its list has 0x20 pages.
    let plan = plan(&ElfFile::minimal(0, 0, 0x6_f000), 0x20 * 512, 0);
    assert_eq!(plan.p2m, extent(0x6_f000, 0x6f, 0x20));
    assert_eq!(plan.start_info, extent(0x8_f000, 0x8f, 1));
    assert_eq!(plan.store, Some(extent(0x9_0000, 0x90, 1)));
    assert_eq!(plan.console, Some(extent(0x9_1000, 0x91, 1)));
    assert_eq!(plan.tables, extent(0x9_2000, 0x92, 5));
    assert_eq!(plan.stack, extent(0x9_7000, 0x97, 1));
    assert_eq!(plan.mapped.pages, 0x400);
}

#[test]
fn grub_layout() {
    let plan = plan(&ElfFile::minimal(0, 0, 0x61_4000), PAGES, 0);
    assert_eq!(plan.p2m, extent(0x61_4000, 0x614, 0x100));
    assert_eq!(plan.start_info, extent(0x71_4000, 0x714, 1));
    assert_eq!(plan.store, Some(extent(0x71_5000, 0x715, 1)));
    assert_eq!(plan.console, Some(extent(0x71_6000, 0x716, 1)));
    assert_eq!(plan.tables, extent(0x71_7000, 0x717, 7));
    assert_eq!(plan.stack, extent(0x71_e000, 0x71e, 1));
    assert_eq!(plan.mapped.pages, 0x800);
}
