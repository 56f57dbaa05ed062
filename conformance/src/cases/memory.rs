//! `memory_op`: how much memory there is, and where the hypervisor's tables lie.

use crate::call::{EFAULT, ENOSYS, MEMORY_OP, hypercall};
use crate::case::{Case, case, equal, equal_at, holds};
use crate::raw::memory::{arena_address, fill_arena, get, put};
use crate::tables::{M2P, frame_of};

const SELF: [u8; 2] = 0x7ff0_u16.to_le_bytes();

pub(crate) const CASES: &[Case] = &[
    case("memory/current", "Sub-operation 3 answers the pages a domain has.", |t| {
        put(0, &SELF);
        let pages = i64::try_from(t.boot.pages()).unwrap_or(0);
        equal("answer", hypercall(MEMORY_OP, &[3, arena_address()]), pages)
    }),
    case("memory/maximum", "Sub-operation 4 answers the pages a domain may have.", |t| {
        put(0, &SELF);
        let pages = i64::try_from(t.boot.pages()).unwrap_or(0);
        let answer = hypercall(MEMORY_OP, &[4, arena_address()]);
        holds("answer", answer, "at least what it has", answer >= pages)
    }),
    case("memory/last_frame", "Sub-operation 2 answers a frame behind all of the guest's.", |t| {
        let last = hypercall(MEMORY_OP, &[2]);
        let pages = 0..t.boot.pages();
        let highest = pages.map(|pfn| frame_of(t.boot, pfn)).max().unwrap_or(0);
        holds("answer", last, "at least the highest frame", last.cast_unsigned() >= highest)
    }),
    case("memory/no_domain", "A domain that is not there answers -ESRCH.", |_| {
        for operation in [3, 4] {
            put(0, &77_u16.to_le_bytes());
            let answer = hypercall(MEMORY_OP, &[operation, arena_address()]);
            equal_at("answer of", operation, answer, -3)?;
        }
        Ok(())
    }),
    case("memory/unmapped", "An unmapped argument answers -EFAULT.", |_| {
        for operation in [3, 4, 5, 10, 12] {
            let answer = hypercall(MEMORY_OP, &[operation, 0x1000]);
            equal_at("answer of", operation, answer, EFAULT)?;
        }
        Ok(())
    }),
    case("memory/m2p", "Sub-operation 12 tells where the table of machine frames lies.", |_| {
        fill_arena(0);
        equal("answer", hypercall(MEMORY_OP, &[12, arena_address()]), 0)?;
        equal("start", u64::from_le_bytes(get(0)), M2P)?;
        equal("end", u64::from_le_bytes(get(8)), M2P + (1 << 38))
    }),
    case(
        "memory/m2p_frames",
        "Sub-operation 12 tells how many frames the table has room for.",
        |t| {
            fill_arena(0);
            equal("answer", hypercall(MEMORY_OP, &[12, arena_address()]), 0)?;
            let frames = u64::from_le_bytes(get(16));
            let pages = 0..t.boot.pages();
            let highest = pages.map(|pfn| frame_of(t.boot, pfn)).max().unwrap_or(0);
            holds("frames", frames, "more than the highest frame", frames > highest)
        },
    ),
    case("memory/m2p_extent", "Sub-operation 12 writes 24 bytes.", |_| {
        fill_arena(0xaa);
        equal("answer", hypercall(MEMORY_OP, &[12, arena_address()]), 0)?;
        equal("byte 24", get::<1>(24)[0], 0xaa)
    }),
    case("memory/own_map", "An initial domain has no memory map of its own: -ENOSYS.", |_| {
        map(9, 16, ENOSYS).map(drop)
    }),
    case(
        "memory/machine_map",
        "Sub-operation 10 lists the machine's memory, lowest first.",
        |_| {
            let count = map(10, 64, 0)?;
            holds("entries", count, "1 to 64", (1..=64).contains(&count))?;
            let mut end = 0;
            for entry in 0..u64::from(count) {
                let at = usize::try_from(entry * 20).unwrap_or(0) + 64;
                let (start, size) = (u64::from_le_bytes(get(at)), u64::from_le_bytes(get(at + 8)));
                holds("start", start, "behind the entry before", start >= end)?;
                end = start + size;
            }
            Ok(())
        },
    ),
    case("memory/machine_map_none", "Sub-operation 10 with no room: -EINVAL.", |_| {
        map(10, 0, crate::call::EINVAL).map(drop)
    }),
    case("memory/machine_map_short", "Sub-operation 10 with too little room: -EINVAL.", |_| {
        map(10, 1, crate::call::EINVAL).map(drop)
    }),
    case("memory/unknown", "Unknown sub-operations answer -ENOSYS.", |_| {
        for operation in [29, 30, 40, 63] {
            let answer = hypercall(MEMORY_OP, &[operation, arena_address()]);
            equal_at("answer of", operation, answer, ENOSYS)?;
        }
        Ok(())
    }),
    case("memory/continued", "A query cannot be continued: bits from 6 on answer -EINVAL.", |_| {
        put(0, &SELF);
        for operation in [1 << 6 | 3, 1 << 32 | 3, 1 << 63 | 3] {
            let answer = hypercall(MEMORY_OP, &[operation, arena_address()]);
            equal_at("answer of", operation, answer, crate::call::EINVAL)?;
        }
        Ok(())
    }),
    case("memory/decrease_populate", "A frame can be given back, and another taken.", |t| {
        let page = arena_address() + 2 * 4096;
        let pfn = (page - crate::tables::VIRT_BASE) >> 12;
        let own = frame_of(t.boot, pfn);
        let pages = i64::try_from(t.boot.pages()).unwrap_or(0);
        equal("unmapping", hypercall(crate::call::UPDATE_VA_MAPPING, &[page, 0, 2]), 0)?;
        equal("given back", reservation(1, own), 1)?;
        put(512, &SELF);
        let left = hypercall(MEMORY_OP, &[3, arena_address() + 512]);
        equal("taken", reservation(6, pfn), 1)?;
        let fresh = u64::from_le_bytes(get(64));
        crate::raw::memory::poke(t.boot.start_info().mfn_list + pfn * 8, fresh);
        let entry = fresh << 12 | 0x63;
        equal("mapping", hypercall(crate::call::UPDATE_VA_MAPPING, &[page, entry, 2]), 0)?;
        equal("pages between", left, pages - 1)?;
        equal("page of the frame", crate::tables::page_of(fresh), pfn)
    }),
    case("memory/decrease_nothing", "A frame that does not exist is not given back.", |_| {
        equal("given back", reservation(1, 1 << 40), 0)
    }),
];

/// Asks for a memory map of at most `room` entries; returns the number of entries.
fn map(operation: u64, room: u32, expected: i64) -> Result<u32, crate::case::Verdict> {
    fill_arena(0);
    put(0, &room.to_le_bytes());
    put(8, &(arena_address() + 64).to_le_bytes());
    equal("answer", hypercall(MEMORY_OP, &[operation, arena_address()]), expected)?;
    Ok(u32::from_le_bytes(get(0)))
}

/// Gives back or takes one extent of one frame.
fn reservation(operation: u64, extent: u64) -> i64 {
    put(0, &(arena_address() + 64).to_le_bytes());
    put(8, &1_u64.to_le_bytes());
    put(16, &[0; 16]);
    put(24, &SELF);
    put(64, &extent.to_le_bytes());
    hypercall(MEMORY_OP, &[operation, arena_address()])
}
