//! Changing page tables: `update_va_mapping`, `mmu_update`, `mmuext_op`.

use crate::call::{
    EBUSY, EFAULT, EINVAL, ENOSYS, EPERM, MMU_UPDATE, MMUEXT_OP, UPDATE_VA_MAPPING, XEN_VERSION,
    hypercall,
};
use crate::case::{Case, Outcome, Test, case, equal, equal_at};
use crate::raw::memory::{arena_address, fill_arena, get, peek, poke, put};
use crate::raw::snippets;
use crate::tables::{
    FRAME, M2P, VIRT_BASE, address_of, entry, frame_of, mapped_end, mapping, page_of, top, walk,
};
use crate::traps::trapped;

const SELF: u64 = 0x7ff0;
const NON_CANONICAL: u64 = 0x0000_8000_0000_0000;

pub(crate) const CASES: &[Case] = &[
    case("mapping/alias", "A page may be mapped a second time.", |t| {
        fill_arena(0);
        mapped(t, frame(t, page(1)) | 0x63, |_| {
            poke(page(1), 0x1234);
            equal("at the other address", peek(page(2)), 0x1234)
        })
    }),
    case("mapping/unmap", "An entry of 0 unmaps a page: reads fault.", |t| {
        mapped(t, 0, |_| {
            let mut registers = crate::raw::Registers::new();
            registers.rsi = page(2);
            equal("rip", trapped(14, snippets::LOAD, &mut registers)?.rip, snippets::LOAD.address())
        })
    }),
    case(
        "mapping/unmapped_output",
        "A call that would write to an unmapped page is refused.",
        |t| mapped(t, 0, |_| equal("answer", hypercall(XEN_VERSION, &[5, page(2)]), EFAULT)),
    ),
    case(
        "mapping/unmapped_half",
        "What lies before an unmapped page is written all the same.",
        |t| {
            fill_arena(0xaa);
            mapped(t, 0, |_| {
                equal("answer", hypercall(XEN_VERSION, &[9, page(2) - 8]), EFAULT)?;
                equal("first word written", peek(page(2) - 8) != u64::MAX / 3 * 2, true)
            })
        },
    ),
    case("mapping/read_only", "A page can be mapped read-only: writes fault with code 3.", |t| {
        mapped(t, frame(t, page(2)) | 0x61, |_| {
            let mut registers = crate::raw::Registers::new();
            registers.rsi = page(2);
            equal("error", trapped(14, snippets::STORE, &mut registers)?.error, 3)
        })
    }),
    case(
        "mapping/read_only_output",
        "A call that would write to a read-only page is refused.",
        |t| {
            mapped(t, frame(t, page(2)) | 0x61, |_| {
                equal("answer", hypercall(XEN_VERSION, &[5, page(2)]), EFAULT)
            })
        },
    ),
    case("mapping/no_execute", "A page can be mapped without execution: jumps fault.", |t| {
        mapped(t, 1 << 63 | frame(t, page(2)) | 0x63, |_| {
            let mut registers = crate::raw::Registers::new();
            registers.rsi = page(2);
            equal("error", trapped(14, snippets::JUMP, &mut registers)?.error, 0x11)
        })
    }),
    case("mapping/not_present", "An entry that is not present may hold anything.", |t| {
        mapped(t, 0x000f_ffff_ffff_f0fe, |t| {
            equal("entry", walk(t.boot, 1, page(2)).unwrap_or(0), 0x000f_ffff_ffff_f0fe)
        })
    }),
    case("mapping/available_bits", "Bits 9 to 11 are the guest's.", |t| {
        mapped(t, frame(t, page(2)) | 0xe63, |t| {
            equal("bits", mapping(t.boot, page(2)).unwrap_or(0) & 0xe00, 0xe00)
        })
    }),
    case("mapping/accessed_clear", "A fresh entry may be not accessed; use sets it.", |t| {
        mapped(t, frame(t, page(2)) | 3, |t| {
            let before = mapping(t.boot, page(2)).unwrap_or(0) & 0x60;
            poke(page(2), 1);
            equal("before", before, 0)?;
            equal("behind", mapping(t.boot, page(2)).unwrap_or(0) & 0x60, 0x60)
        })
    }),
    case("mapping/table_read_only", "A page table may be mapped read-only.", |t| {
        let table = frame_of(t.boot, top(t.boot)) << 12;
        mapped(t, table | 0x61, |_| equal("its first entry", peek(page(2)), entry(top(t.boot), 0)))
    }),
    case("mapping/table_writable", "A page table may not be mapped writable: -EBUSY.", |t| {
        let table = frame_of(t.boot, top(t.boot)) << 12;
        refused(t, page(2), table | 0x63, EBUSY)
    }),
    case("mapping/hypervisor_frame", "A frame of the hypervisor may not be mapped: -EBUSY.", |t| {
        refused(t, page(2), (entry(top(t.boot), 256) & FRAME) | 0x61, EBUSY)
    }),
    case("mapping/no_frame", "A frame that does not exist may not be mapped: -EPERM.", |t| {
        refused(t, page(2), 0x0008_0000_0000_0000 | 0x63, EPERM)
    }),
    case("mapping/no_table", "An address that no table covers is refused with -EINVAL.", |t| {
        refused(t, 0x1000, frame(t, page(2)) | 0x63, EINVAL)
    }),
    case("mapping/hypervisor_address", "An address of the hypervisor is refused: -EINVAL.", |t| {
        refused(t, 0xffff_8300_0000_0000, frame(t, page(2)) | 0x63, EINVAL)
    }),
    case("mapping/m2p_address", "An address in the table of machine frames is refused.", |t| {
        refused(t, M2P, frame(t, page(2)) | 0x63, EINVAL)
    }),
    case("mapping/non_canonical", "No address at all is refused with -EINVAL.", |t| {
        refused(t, NON_CANONICAL, frame(t, page(2)) | 0x63, EINVAL)
    }),
    case(
        "mapping/page_size_bit",
        "The attribute bit (PAT) may be set by an initial domain.",
        |t| mapped(t, frame(t, page(2)) | 0xe3, |_| Ok(())),
    ),
    case("mapping/refused_unchanged", "A refused mapping leaves the entry as it was.", |t| {
        let before = mapping(t.boot, page(2));
        let table = frame_of(t.boot, top(t.boot)) << 12;
        hypercall(UPDATE_VA_MAPPING, &[page(2), table | 0x63, 2]);
        equal("entry", mapping(t.boot, page(2)).unwrap_or(0), before.unwrap_or(0))
    }),
    case("mapping/flush_kinds", "Every kind of flush for this CPU or all is taken.", |t| {
        for flush in [0, 1, 2, 4, 5, 6] {
            let own = frame(t, page(2)) | 0x63;
            let answer = hypercall(UPDATE_VA_MAPPING, &[page(2), own, flush]);
            equal_at("answer with flush", flush, answer, 0)?;
        }
        Ok(())
    }),
    case("mapping/within_page", "An address within a page stands for the page.", |t| {
        let own = frame(t, page(2)) | 0x63;
        equal("answer", hypercall(UPDATE_VA_MAPPING, &[page(2) + 0xabc, own, 2]), 0)
    }),
    case(
        "mapping/direct_write",
        "A store to a last-level entry is carried out, assist or not.",
        |t| {
            let own = mapping(t.boot, page(2)).unwrap_or(0);
            poke(direct(t, page(2)), frame(t, page(2)) | 0x61);
            let seen = mapping(t.boot, page(2)).unwrap_or(0);
            poke(direct(t, page(2)), own);
            equal("flags", seen & !FRAME, 0x0010_0000_0000_0065)
        },
    ),
    case(
        "mapping/direct_write_bytes",
        "A store to half of a last-level entry is carried out.",
        |t| {
            mapped(t, 0, |t| {
                crate::raw::memory::poke_byte(direct(t, page(2)) + 1, 0x12);
                equal("entry", walk(t.boot, 1, page(2)).unwrap_or(0), 0x1200)
            })
        },
    ),
    case(
        "mapping/direct_write_table",
        "A store that maps a table writable is a page fault.",
        |t| {
            let mut registers = crate::raw::Registers::new();
            registers.rsi = direct(t, page(2));
            registers.rax = frame_of(t.boot, top(t.boot)) << 12 | 0x63;
            equal("error", trapped(14, snippets::STORE, &mut registers)?.error, 3)
        },
    ),
    case("mapping/direct_write_above", "A store to a second-level entry is a page fault.", |t| {
        let mut registers = crate::raw::Registers::new();
        let table = page_of((walk(t.boot, 3, page(2)).unwrap_or(0) & FRAME) >> 12);
        registers.rsi = address_of(table) + 511 * 8;
        equal("error", trapped(14, snippets::STORE, &mut registers)?.error, 3)
    }),
    case("mmu_update/none", "No updates are done at once.", |_| {
        equal("answer", hypercall(MMU_UPDATE, &[0x1000, 0, 0, SELF]), 0)
    }),
    case("mmu_update/unmapped", "Updates at an unmapped address answer -EFAULT.", |_| {
        equal("answer", hypercall(MMU_UPDATE, &[0x1000, 1, 0, SELF]), EFAULT)
    }),
    case("mmu_update/normal", "An update writes an entry by its machine address.", |t| {
        let own = mapping(t.boot, page(2)).unwrap_or(0);
        updates(&[(entry_address(t, page(2)), frame(t, page(2)) | 0x61)], 0)?;
        let seen = mapping(t.boot, page(2)).unwrap_or(0) & 3;
        updates(&[(entry_address(t, page(2)), own)], 0)?;
        equal("flags", seen, 1)
    }),
    case("mmu_update/counted", "The number of updates done is stored.", |t| {
        let own = frame(t, page(2)) | 0x63;
        let update = (entry_address(t, page(2)), own);
        equal("done", counted(&[update, update, update], 0)?, 3)
    }),
    case("mmu_update/stops", "Updates stop at the first that is refused, and are counted.", |t| {
        let own = frame(t, page(2)) | 0x63;
        let update = (entry_address(t, page(2)), own);
        let table = frame_of(t.boot, top(t.boot)) << 12;
        let bad = (entry_address(t, page(2)), table | 0x63);
        equal("done", counted(&[update, bad, update], EBUSY)?, 1)
    }),
    case("mmu_update/preserve", "Command 2 keeps accessed and dirty bits.", |t| {
        poke(page(2), 1);
        let at = entry_address(t, page(2)) | 2;
        updates(&[(at, frame(t, page(2)) | 3)], 0)?;
        equal("bits", mapping(t.boot, page(2)).unwrap_or(0) & 0x60, 0x60)
    }),
    case("mmu_update/unknown", "Commands from 4 on answer -ENOSYS.", |t| {
        for command in [4, 5, 6, 7] {
            let at = entry_address(t, page(2)) | command;
            updates(&[(at, frame(t, page(2)) | 0x63)], ENOSYS)?;
        }
        Ok(())
    }),
    case("mmu_update/machphys", "Command 1 sets the page of a frame of one's own.", |t| {
        let mfn = frame(t, page(2)) >> 12;
        let pfn = peek(M2P + mfn * 8);
        updates(&[(mfn << 12 | 1, 0x1234_5678)], 0)?;
        let seen = peek(M2P + mfn * 8);
        updates(&[(mfn << 12 | 1, pfn)], 0)?;
        equal("page", seen, 0x1234_5678)
    }),
    case(
        "mmu_update/hypervisor_slot",
        "The hypervisor's slots may not be written: -EINVAL.",
        |t| {
            let table = frame_of(t.boot, top(t.boot)) << 12;
            for slot in [256, 260, 271] {
                updates(&[(table + slot * 8, 0)], EINVAL)?;
            }
            Ok(())
        },
    ),
    case("mmu_update/guest_slot", "A guest's empty top-level slot may be written with 0.", |t| {
        let table = frame_of(t.boot, top(t.boot)) << 12;
        for slot in [0, 255, 272, 510] {
            updates(&[(table + slot * 8, 0)], 0)?;
        }
        Ok(())
    }),
    case("mmu_update/large_page", "A second-level entry for a large page is refused.", |t| {
        let (at, _) = l2(t);
        updates(&[(at, frame(t, page(2)) | 0xe7)], EINVAL)
    }),
    case("mmu_update/wrong_level", "An entry that names no table of its level is refused.", |t| {
        let (at, _) = l2(t);
        updates(&[(at, frame(t, page(2)) | 0x67)], EINVAL)
    }),
    case("mmu_update/foreign_frame", "An update of the hypervisor's memory is refused.", |t| {
        updates(&[(entry(top(t.boot), 256) & FRAME, 0)], EINVAL)
    }),
    case("mmu_update/no_frame", "An update of memory that does not exist is refused.", |_| {
        updates(&[(0x0008_0000_0000_0000, 0)], EINVAL)
    }),
    case("mmu_update/plain_page", "An update of an ordinary page writes it.", |t| {
        fill_arena(0);
        updates(&[(frame(t, page(2)) + 8, 0x1234)], 0)?;
        equal("word", peek(page(2) + 8), 0x1234)
    }),
    case("mmu_update/no_domain", "A domain that is not there answers -ESRCH.", |_| {
        put(0, &[0; 16]);
        equal("answer", hypercall(MMU_UPDATE, &[arena_address(), 1, 0, 77]), -3)
    }),
    case("mmuext/none", "No operations are done at once.", |_| {
        equal("answer", hypercall(MMUEXT_OP, &[0x1000, 0, 0, SELF]), 0)
    }),
    case("mmuext/unmapped", "Operations at an unmapped address answer -EFAULT.", |_| {
        equal("answer", hypercall(MMUEXT_OP, &[0x1000, 1, 0, SELF]), EFAULT)
    }),
    case("mmuext/unknown", "Unknown operations answer -ENOSYS.", |_| {
        for command in [14, 21, 22, 63, 0xffff_ffff] {
            equal_at("answer of", command.into(), extended(command, 0, 0), ENOSYS)?;
        }
        Ok(())
    }),
    case("mmuext/pinned", "The initial top-level table is pinned: again is -EINVAL.", |t| {
        equal("answer", extended(3, frame_of(t.boot, top(t.boot)), 0), EINVAL)
    }),
    case("mmuext/unpin_pin", "The initial table can be unpinned once, and pinned again.", |t| {
        let mfn = frame_of(t.boot, top(t.boot));
        equal("unpin", extended(4, mfn, 0), 0)?;
        equal("unpin again", extended(4, mfn, 0), EINVAL)?;
        equal("pin", extended(3, mfn, 0), 0)
    }),
    case("mmuext/pin_other_level", "The top-level table cannot be pinned as another level.", |t| {
        let mfn = frame_of(t.boot, top(t.boot));
        for level in [0, 1, 2] {
            equal_at("answer for level", u64::from(level) + 1, extended(level, mfn, 0), EINVAL)?;
        }
        Ok(())
    }),
    case("mmuext/pin_writable", "A page mapped writable cannot be pinned.", |t| {
        equal("answer", extended(0, frame(t, page(2)) >> 12, 0), EINVAL)
    }),
    case(
        "mmuext/pin_l1",
        "A page mapped read-only can be pinned, and not be mapped writable.",
        |t| {
            fill_arena(0);
            let own = frame(t, page(2));
            mapped(t, own | 0x61, |_| {
                equal("pin", extended(0, own >> 12, 0), 0)?;
                let answer = hypercall(UPDATE_VA_MAPPING, &[page(2), own | 0x63, 2]);
                equal("unpin", extended(4, own >> 12, 0), 0)?;
                let _unused = t;
                equal("mapping it writable", answer, EBUSY)
            })
        },
    ),
    case(
        "mmuext/pin_garbage",
        "A page that is no table cannot be pinned, and stays a page.",
        |t| {
            fill_arena(0xff);
            let own = frame(t, page(2));
            mapped(t, own | 0x61, |_| equal("pin", extended(0, own >> 12, 0), EINVAL))
        },
    ),
    case("mmuext/unpin_unpinned", "A page that is not pinned cannot be unpinned.", |t| {
        equal("answer", extended(4, frame(t, page(2)) >> 12, 0), EINVAL)
    }),
    case("mmuext/new_base", "The same top-level table can be loaded again.", |t| {
        equal("answer", extended(5, frame_of(t.boot, top(t.boot)), 0), 0)
    }),
    case("mmuext/new_base_page", "A page that is no top-level table cannot be loaded.", |t| {
        equal("answer", extended(5, frame(t, page(2)) >> 12, 0), EINVAL)
    }),
    case(
        "mmuext/user_base_none",
        "No top-level table for user mode is one of the choices.",
        |_| equal("answer", extended(15, 0, 0), 0),
    ),
    case("mmuext/flushes", "All flushes are taken.", |_| {
        for command in [6, 7, 10, 11] {
            equal_at("answer of", command.into(), extended(command, page(2), 0), 0)?;
        }
        Ok(())
    }),
    case("mmuext/clear_page", "A page can be cleared.", |t| {
        fill_arena(0xaa);
        equal("answer", extended(16, frame(t, page(2)) >> 12, 0), 0)?;
        equal("first word", peek(page(2)), 0)?;
        equal("last word", peek(page(3) - 8), 0)
    }),
    case("mmuext/copy_page", "A page can be copied.", |t| {
        fill_arena(0);
        poke(page(1) + 16, 0x77);
        let (to, from) = (frame(t, page(2)) >> 12, frame(t, page(1)) >> 12);
        equal("answer", extended(17, to, from), 0)?;
        equal("word", peek(page(2) + 16), 0x77)
    }),
    case("mmuext/clear_table", "A page table cannot be cleared.", |t| {
        equal("answer", extended(16, frame_of(t.boot, top(t.boot)), 0), EINVAL)
    }),
    case("mmuext/counted", "The number of operations done is stored.", |_| {
        put(0, &[0; 24]);
        put(0, &6_u32.to_le_bytes());
        put(24, &[0; 24]);
        put(24, &6_u32.to_le_bytes());
        put(48, &[0; 24]);
        put(48, &63_u32.to_le_bytes());
        put(128, &[0xaa; 4]);
        let args = [arena_address(), 3, arena_address() + 128, SELF];
        equal("answer", hypercall(MMUEXT_OP, &args), ENOSYS)?;
        equal("done", u32::from_le_bytes(get(128)), 2)
    }),
    case(
        "mapping/end_untouched",
        "All of this leaves what lies behind the mapped end alone.",
        |t| equal("entry", walk(t.boot, 2, mapped_end(t.boot)).unwrap_or(0), 0),
    ),
];

/// A page of the arena.
fn page(number: u64) -> u64 {
    arena_address() + number * 4096
}

/// The machine address of the frame behind a page of the image.
fn frame(t: &Test<'_>, address: u64) -> u64 {
    frame_of(t.boot, (address - VIRT_BASE) >> 12) << 12
}

/// The machine address of the last-level entry for an address.
fn entry_address(t: &Test<'_>, address: u64) -> u64 {
    let table = walk(t.boot, 2, address).unwrap_or(0) & FRAME;
    table + (address >> 12 & 511) * 8
}

/// The address of the last-level entry for an address, in the table's own read-only mapping.
fn direct(t: &Test<'_>, address: u64) -> u64 {
    let table = page_of((walk(t.boot, 2, address).unwrap_or(0) & FRAME) >> 12);
    address_of(table) + (address >> 12 & 511) * 8
}

/// The machine address of the second-level entry behind the mapped end, and what it holds.
fn l2(t: &Test<'_>) -> (u64, u64) {
    let end = mapped_end(t.boot);
    let table = walk(t.boot, 3, end).unwrap_or(0) & FRAME;
    (table + (end >> 21 & 511) * 8, walk(t.boot, 2, end).unwrap_or(0))
}

/// Maps something over the arena's page 2, looks, and maps the page back.
fn mapped(t: &Test<'_>, entry: u64, look: impl FnOnce(&Test<'_>) -> Outcome) -> Outcome {
    equal("mapping", hypercall(UPDATE_VA_MAPPING, &[page(2), entry, 2]), 0)?;
    let outcome = look(t);
    let own = frame(t, page(2)) | 0x63;
    let back = equal("mapping back", hypercall(UPDATE_VA_MAPPING, &[page(2), own, 2]), 0);
    outcome.and(back)
}

/// Checks that a mapping is refused.
fn refused(t: &Test<'_>, address: u64, entry: u64, errno: i64) -> Outcome {
    let answer = hypercall(UPDATE_VA_MAPPING, &[address, entry, 2]);
    if answer == 0 {
        hypercall(UPDATE_VA_MAPPING, &[page(2), frame(t, page(2)) | 0x63, 2]);
    }
    equal("answer", answer, errno)
}

/// Makes updates, which must answer `expected`.
fn updates(list: &[(u64, u64)], expected: i64) -> Outcome {
    write(list);
    let args = [arena_address(), list.len() as u64, 0, SELF];
    equal("answer", hypercall(MMU_UPDATE, &args), expected)
}

/// As [`updates`]; returns how many the hypervisor says it did.
fn counted(list: &[(u64, u64)], expected: i64) -> Result<u32, crate::case::Verdict> {
    write(list);
    put(1024, &[0xaa; 4]);
    let args = [arena_address(), list.len() as u64, arena_address() + 1024, SELF];
    equal("answer", hypercall(MMU_UPDATE, &args), expected)?;
    Ok(u32::from_le_bytes(get(1024)))
}

fn write(list: &[(u64, u64)]) {
    for (offset, (at, value)) in (0..).step_by(16).zip(list) {
        put(offset, &at.to_le_bytes());
        put(offset + 8, &value.to_le_bytes());
    }
}

/// One extended operation.
fn extended(command: u32, first: u64, second: u64) -> i64 {
    put(0, &u64::from(command).to_le_bytes());
    put(8, &first.to_le_bytes());
    put(16, &second.to_le_bytes());
    hypercall(MMUEXT_OP, &[arena_address(), 1, 0, SELF])
}
