//! The initial address space: what is mapped where, in which order, by which entries.

use crate::case::{Case, Outcome, Test, case, equal, equal_at, holds};
use crate::raw::memory::peek;
use crate::tables::{
    FRAME, PRESENT, VIRT_BASE, WRITABLE, address_of, entry, frame_of, index, mapped_end,
    mapped_pages, mapping, page_of, top, walk,
};

const MIB: u64 = 1 << 20;
/// Everything of an entry but the frame, the no-execute bit included.
const FLAGS: u64 = !FRAME;

pub(crate) const CASES: &[Case] = &[
    case(
        "layout/pages_in_order",
        "Page n of the guest is mapped at VIRT_BASE + n pages, from page 0 to the mapped end.",
        |t| {
            for address in mapped_pages(t.boot) {
                let pfn = (address - VIRT_BASE) >> 12;
                let frame = (mapping(t.boot, address).unwrap_or(0) & FRAME) >> 12;
                equal_at("page", pfn, frame, frame_of(t.boot, pfn))?;
            }
            Ok(())
        },
    ),
    case("layout/mapped_end", "The mapped range ends at a multiple of 4 MiB.", |t| {
        let end = mapped_end(t.boot);
        holds("end", end, "a multiple of 4 MiB", end.is_multiple_of(4 * MIB))
    }),
    case(
        "layout/slack",
        "Behind the boot stack at least 512 KiB are mapped, and less than 4 MiB more than that.",
        |t| {
            let slack = mapped_end(t.boot) - t.entry.general[7];
            let fits = (MIB / 2..MIB / 2 + 4 * MIB).contains(&slack);
            holds("slack", slack, "512 KiB to 4.5 MiB", fits)
        },
    ),
    case(
        "layout/hole_below_kernel",
        "The pages between VIRT_BASE and the kernel's first address are mapped writable.",
        |t| {
            for address in (VIRT_BASE..VIRT_BASE + MIB).step_by(4096) {
                let flags = mapping(t.boot, address).unwrap_or(0) & 3;
                equal_at("flags at", address, flags, 3)?;
            }
            Ok(())
        },
    ),
    case("layout/bss_zero", "Memory of a segment behind its bytes in the file is zero.", |_| {
        let start = crate::raw::memory::arena_address();
        for address in (start..start + 4096).step_by(8) {
            equal_at("at", address, peek(address), 0)?;
        }
        Ok(())
    }),
    case(
        "layout/text_writable",
        "All of the image is mapped writable and executable, whatever its segments ask for.",
        |t| {
            let image = VIRT_BASE + MIB..crate::raw::image_end();
            for address in mapped_pages(t.boot).filter(|page| image.contains(page)) {
                let flags = mapping(t.boot, address).unwrap_or(0) & (1 << 63 | 3);
                equal_at("flags at", address, flags, 3)?;
            }
            Ok(())
        },
    ),
    case(
        "layout/l1_flags",
        "Last-level entries are present, writable, user, accessed, and marked as the guest \
         kernel's; nothing else, but dirty where the guest has written since.",
        |t| {
            let tables = table_range(t);
            for address in mapped_pages(t.boot) {
                if !tables.contains(&address) {
                    let flags = mapping(t.boot, address).unwrap_or(0) & FLAGS & !DIRTY;
                    equal_at("at", address, flags, L1_FLAGS)?;
                }
            }
            Ok(())
        },
    ),
    case(
        "layout/l1_flags_unwritten",
        "The last-level entry of a page that nobody has written is not dirty.",
        |t| {
            let flags = mapping(t.boot, VIRT_BASE).unwrap_or(0) & FLAGS;
            equal("flags", flags, L1_FLAGS)
        },
    ),
    case(
        "layout/tables_read_only",
        "The page-table frames are mapped read-only, with the other flags of ordinary pages.",
        |t| {
            for address in table_range(t).step_by(4096) {
                let flags = mapping(t.boot, address).unwrap_or(0) & FLAGS;
                equal_at("at", address, flags, L1_FLAGS & !WRITABLE)?;
            }
            Ok(())
        },
    ),
    case(
        "layout/tables_order",
        "The page-table frames are in the order in which a walk from low to high addresses \
         needs them, the lowest level first: L4, L1, L2, L3, then the other L1s.",
        |t| {
            let first = top(t.boot);
            equal("L1", table_below(t, 2, VIRT_BASE), first + 1)?;
            equal("L2", table_below(t, 3, VIRT_BASE), first + 2)?;
            equal("L3", table_below(t, 4, VIRT_BASE), first + 3)?;
            equal("second L1", table_below(t, 2, VIRT_BASE + 2 * MIB), first + 4)
        },
    ),
    case(
        "layout/l2_flags",
        "Second-level entries are present, writable, user, accessed and dirty, and nothing else.",
        |t| level_flags(t, 2, 0x67),
    ),
    case(
        "layout/l3_flags",
        "Third-level entries are present, writable, user, accessed and dirty, and nothing else.",
        |t| level_flags(t, 3, 0x67),
    ),
    case(
        "layout/l4_flags",
        "The window's top-level entry is present, writable, user, accessed and dirty, nothing else.",
        |t| level_flags(t, 4, 0x67),
    ),
    case(
        "layout/tables_counted",
        "nr_pt_frames counts exactly the tables that the mapped range uses.",
        |t| {
            let last_levels = (mapped_end(t.boot) - VIRT_BASE).div_ceil(2 * MIB);
            equal("nr_pt_frames", t.boot.start_info().nr_pt_frames, 3 + last_levels)
        },
    ),
    case(
        "layout/l1_beyond_end",
        "The entries behind the mapped end are not there at any level.",
        |t| {
            let end = mapped_end(t.boot);
            equal("L2 entry", walk(t.boot, 2, end).unwrap_or(0), 0)
        },
    ),
    case("layout/l4_other_slots", "The guest's other top-level slots are empty.", |t| {
        let used = index(4, VIRT_BASE);
        for slot in (0..512).filter(|slot| !(256..272).contains(slot) && *slot != used) {
            equal_at("slot", slot, entry(top(t.boot), slot), 0)?;
        }
        Ok(())
    }),
    case("layout/l3_other_slots", "The third-level table has one entry: the window's.", |t| {
        one_entry(t, 3)
    }),
    case(
        "layout/l2_other_slots",
        "The second-level table has entries for the mapped range alone.",
        |t| {
            let table = table_below(t, 3, VIRT_BASE);
            for slot in index(2, mapped_end(t.boot))..512 {
                equal_at("slot", slot, entry(table, slot), 0)?;
            }
            Ok(())
        },
    ),
    case(
        "layout/m2p_slot",
        "The top-level table shows the guest an entry for the table of machine frames: slot 256.",
        |t| equal("present", entry(top(t.boot), 256) & PRESENT, PRESENT),
    ),
    case(
        "layout/m2p_of_window",
        "The table of machine frames leads from each frame of the list back to its page.",
        |t| {
            for pfn in 0..t.boot.pages() {
                let mfn = frame_of(t.boot, pfn);
                equal_at("page", pfn, page_of(mfn), pfn)?;
            }
            Ok(())
        },
    ),
    case("layout/list_complete", "The list of frames has a frame for every page.", |t| {
        let whole = |pfn: &u64| (1..1 << 40).contains(&frame_of(t.boot, *pfn));
        let hole = (0..t.boot.pages()).find(|pfn| !whole(pfn));
        equal("page without a frame", hole.unwrap_or(u64::MAX), u64::MAX)
    }),
    case(
        "layout/window_order",
        "The parts follow each other without gaps: kernel, ramdisk, list, start_info, tables, stack.",
        |t| {
            let info = t.boot.start_info();
            let list = (info.mod_start + info.mod_len).next_multiple_of(4096);
            equal("ramdisk", info.mod_start, crate::raw::image_end())?;
            equal("list", info.mfn_list, list)?;
            equal("start_info", t.entry.general[4], list + info.nr_pages * 8)?;
            equal("tables", info.pt_base, t.entry.general[4] + 4096)?;
            let stack = info.pt_base + info.nr_pt_frames * 4096;
            equal("stack", t.entry.general[7] - 4096, stack)
        },
    ),
    case("layout/frames_distinct", "No frame is in the list twice.", |t| {
        // Each leads back to its own page, so two pages cannot have the same frame.
        let (mut last, mut ordered) = (0, 0_u64);
        for pfn in 0..t.boot.pages() {
            let mfn = frame_of(t.boot, pfn);
            equal_at("page", pfn, page_of(mfn), pfn)?;
            ordered += u64::from(mfn > last);
            last = mfn;
        }
        holds("ordered", ordered, "some", ordered > 0)
    }),
];

/// Present, writable, user, accessed, and the mark of the guest kernel's own pages.
const L1_FLAGS: u64 = 0x0010_0000_0000_0027;
const DIRTY: u64 = 0x40;

fn table_range(t: &Test<'_>) -> core::ops::Range<u64> {
    let info = t.boot.start_info();
    info.pt_base..info.pt_base + info.nr_pt_frames * 4096
}

/// The page of the table to which the entry of `level` for `address` leads.
fn table_below(t: &Test<'_>, level: u32, address: u64) -> u64 {
    page_of((walk(t.boot, level, address).unwrap_or(0) & FRAME) >> 12)
}

fn level_flags(t: &Test<'_>, level: u32, expected: u64) -> Outcome {
    let step = 1 << (12 + 9 * (level - 1));
    for address in (VIRT_BASE..mapped_end(t.boot)).step_by(step) {
        let entry = walk(t.boot, level, address).unwrap_or(0);
        equal_at("at", address, entry & FLAGS, expected)?;
    }
    Ok(())
}

fn one_entry(t: &Test<'_>, level: u32) -> Outcome {
    let table = table_below(t, level + 1, VIRT_BASE);
    let used = index(level, VIRT_BASE);
    for slot in (0..512).filter(|&slot| slot != used) {
        equal_at("slot", slot, entry(table, slot), 0)?;
    }
    holds("table", address_of(table), "mapped", mapping(t.boot, address_of(table)).is_some())
}
