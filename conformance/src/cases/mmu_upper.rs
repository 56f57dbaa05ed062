//! Entries above the last level: their bits, and what they may refer to.

use crate::call::{EBUSY, EINVAL};
use crate::case::{Case, Outcome, Test, case, equal, equal_at};
use crate::raw::pages_calls::{IO, mmu_update_of, pin, update};
use crate::raw::pages_scratch::{LOADED, Page, free_frame, hypervisor_frame, with};
use crate::tables::FRAME;

const P: u64 = 1;
const RW: u64 = 2;
const US: u64 = 4;
const PWT: u64 = 8;
const PCD: u64 = 0x10;
const A: u64 = 0x20;
const D: u64 = 0x40;
const PSE: u64 = 0x80;
const G: u64 = 0x100;
const NX: u64 = 1 << 63;
const AVAILABLE: u64 = 0xe00;
const HIGH: u64 = 0x7ff << 52;
const PLAIN: u64 = P | RW | US | A | D;

/// Cases for levels 2, 3 and 4 each: the name without the level, what is written, and what is read
/// back or refused.
macro_rules! bits {
    ($($name:literal, $level:literal, $written:expr, $expected:expr, $clause:literal;)+) => {
        &[$(case(concat!("mmu_upper/", $name), $clause, |t| bits(t, $level, $written, $expected))),+]
    };
}

const REFUSED: Result<u64, i64> = Err(EINVAL);

pub(crate) const BITS: &[Case] = bits! {
    "l2_plain", 2, PLAIN, Ok(PLAIN), "An L2 entry with the usual flags is taken as it is.";
    "l3_plain", 3, PLAIN, Ok(PLAIN), "An L3 entry with the usual flags is taken as it is.";
    "l4_plain", 4, PLAIN, Ok(PLAIN), "An L4 entry with the usual flags is taken as it is.";
    "l2_user_forced", 2, P, Ok(P | US), "An L2 entry without the user bit gets it, no mark.";
    "l3_user_forced", 3, P, Ok(P | US), "An L3 entry without the user bit gets it, no mark.";
    "l4_user_forced", 4, P, Ok(P | US | A),
        "An L4 entry without user and accessed bit gets both, no mark.";
    "l2_no_execute", 2, PLAIN | NX, Ok(PLAIN | NX), "An L2 entry may forbid execution.";
    "l3_no_execute", 3, PLAIN | NX, Ok(PLAIN | NX), "An L3 entry may forbid execution.";
    "l4_no_execute", 4, PLAIN | NX, Ok(PLAIN | NX), "An L4 entry may forbid execution.";
    "l2_available", 2, PLAIN | AVAILABLE | HIGH, Ok(PLAIN | AVAILABLE | HIGH),
        "An L2 entry keeps bits 9 to 11 and 52 to 62.";
    "l3_available", 3, PLAIN | AVAILABLE | HIGH, Ok(PLAIN | AVAILABLE | HIGH),
        "An L3 entry keeps bits 9 to 11 and 52 to 62.";
    "l4_available", 4, PLAIN | AVAILABLE | HIGH, Ok(PLAIN | AVAILABLE | HIGH),
        "An L4 entry keeps bits 9 to 11 and 52 to 62.";
    "l2_write_through", 2, PLAIN | PWT, REFUSED, "An L2 entry with write-through is refused.";
    "l3_write_through", 3, PLAIN | PWT, REFUSED, "An L3 entry with write-through is refused.";
    "l4_write_through", 4, PLAIN | PWT, REFUSED, "An L4 entry with write-through is refused.";
    "l2_cache_disable", 2, PLAIN | PCD, REFUSED, "An L2 entry with cache-disable is refused.";
    "l3_cache_disable", 3, PLAIN | PCD, REFUSED, "An L3 entry with cache-disable is refused.";
    "l4_cache_disable", 4, PLAIN | PCD, REFUSED, "An L4 entry with cache-disable is refused.";
    "l2_page_size", 2, PLAIN | PSE, REFUSED, "An L2 entry with the page-size bit is refused.";
    "l3_page_size", 3, PLAIN | PSE, REFUSED, "An L3 entry with the page-size bit is refused.";
    "l4_page_size", 4, PLAIN | PSE, REFUSED, "An L4 entry with the page-size bit is refused.";
    "l2_global", 2, PLAIN | G, REFUSED, "A global L2 entry is refused.";
    "l3_global", 3, PLAIN | G, REFUSED, "A global L3 entry is refused.";
    "l4_global", 4, PLAIN | G, REFUSED, "A global L4 entry is refused.";
    "l2_beyond_width", 2, PLAIN | 1 << 51, REFUSED,
        "An L2 entry with an address bit above the physical width is refused.";
    "l3_beyond_width", 3, PLAIN | 1 << 51, REFUSED,
        "An L3 entry with an address bit above the physical width is refused.";
    "l4_beyond_width", 4, PLAIN | 1 << 51, REFUSED,
        "An L4 entry with an address bit above the physical width is refused.";
};

pub(crate) const CASES: &[Case] = &[
    case("mmu_upper/absent", "An absent entry of any level takes any content.", |t| {
        for level in 2..=4 {
            with(t, |[table, ..]| {
                table.pin(level)?;
                for value in [!1, 0xffe, NX | HIGH, PSE, 2] {
                    equal_at("update at level", level, update(table.place(5), value), 0)?;
                    equal_at("entry at level", level, table.get(5), value)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }),
    case("mmu_upper/makes_table", "An entry makes the frame it names a table of its level.", |t| {
        for level in 2..=4 {
            with(t, |[table, child, ..]| {
                refer(table, child, level)?;
                child.is_held(EBUSY)?;
                equal_at("removal at level", level, update(table.place(0), 0), 0)?;
                child.is_free()
            })?;
        }
        Ok(())
    }),
    case("mmu_upper/twice", "A table stays one while any of two entries names it.", |t| {
        for level in 2..=4 {
            with(t, |[table, child, ..]| {
                refer(table, child, level)?;
                equal("second", update(table.place(511), child.entry(PLAIN)), 0)?;
                equal("first removed", update(table.place(0), 0), 0)?;
                child.is_held(EBUSY)?;
                equal("second removed", update(table.place(511), 0), 0)?;
                child.is_free()
            })?;
        }
        Ok(())
    }),
    case("mmu_upper/replaced", "Replacing an entry frees the table that it named.", |t| {
        for level in 2..=4 {
            with(t, |[table, child, other, ..]| {
                refer(table, child, level)?;
                other.protect()?;
                equal("other", update(table.place(0), other.entry(PLAIN)), 0)?;
                child.is_free()?;
                other.is_held(EBUSY)
            })?;
        }
        Ok(())
    }),
    case("mmu_upper/child_writable", "An entry for a frame mapped writable: EINVAL.", |t| {
        for level in 2..=4 {
            with(t, |[table, child, ..]| {
                table.pin(level)?;
                let answer = update(table.place(0), child.entry(PLAIN));
                equal_at("answer at level", level, answer, EINVAL)?;
                equal_at("entry at level", level, table.get(0), 0)
            })?;
        }
        Ok(())
    }),
    case("mmu_upper/child_of_other_level", "An entry for a table of a wrong level: EINVAL.", |t| {
        for level in 2..=4 {
            for other in (1..=4).filter(|&other| other != level && other + 1 != level) {
                with(t, |[table, child, ..]| {
                    table.pin(level)?;
                    child.pin(other)?;
                    let answer = update(table.place(0), child.entry(PLAIN & !RW));
                    equal_at("answer at level", level * 16 + other, answer, EINVAL)
                })?;
            }
        }
        Ok(())
    }),
    case("mmu_upper/child_garbage", "An entry for a frame that is no valid table: EINVAL.", |t| {
        for level in 3..=4 {
            with(t, |[table, child, ..]| {
                table.pin(level)?;
                child.set(9, PLAIN | PSE);
                child.protect()?;
                let answer = update(table.place(0), child.entry(PLAIN));
                equal_at("answer at level", level, answer, EINVAL)?;
                child.is_free()
            })?;
        }
        Ok(())
    }),
    case("mmu_upper/child_free_frame", "An entry for a frame no domain has: EINVAL.", |t| {
        foreign(t, free_frame())
    }),
    case("mmu_upper/child_of_hypervisor", "An entry for a frame of the hypervisor: EINVAL.", |t| {
        foreign(t, hypervisor_frame(t))
    }),
    case("mmu_upper/child_device", "An entry for a device's frame: EINVAL.", |t| foreign(t, 0xb8)),
    case("mmu_upper/domain_io", "Above level 1 another domain's frames can't be named.", |t| {
        for level in 2..=4 {
            with(t, |[table, child, ..]| {
                table.pin(level)?;
                child.protect()?;
                let request = (table.place(0), child.entry(PLAIN));
                equal_at("answer", level, mmu_update_of(IO, &[request]).0, EINVAL)
            })?;
        }
        Ok(())
    }),
    case("mmu_upper/hypervisor_slots", "Slots 256 to 271 of an L4 can't be written.", |t| {
        with(t, |[table, child, ..]| {
            table.pin(4)?;
            child.protect()?;
            for slot in 256..272 {
                let answer = update(table.place(slot), child.entry(PLAIN));
                equal_at("answer for slot", slot, answer, EINVAL)?;
            }
            Ok(())
        })
    }),
    case("mmu_upper/hypervisor_slots_zero", "Nor can slots 256 to 271 of an L4 be cleared.", |t| {
        with(t, |[table, ..]| {
            table.pin(4)?;
            for slot in 256..272 {
                let before = table.get(slot);
                equal_at("answer for slot", slot, update(table.place(slot), 0), EINVAL)?;
                equal_at("slot", slot, table.get(slot), before)?;
            }
            Ok(())
        })
    }),
    case("mmu_upper/slots_around", "Slots 255 and 272 of an L4 are the guest's.", |t| {
        with(t, |[table, child, ..]| {
            table.pin(4)?;
            child.protect()?;
            for slot in [0, 1, 255, 272, 511] {
                let answer = update(table.place(slot), child.entry(PLAIN));
                equal_at("answer for slot", slot, answer, 0)?;
                equal_at("slot", slot, table.get(slot), child.entry(PLAIN))?;
            }
            Ok(())
        })
    }),
    case("mmu_upper/slots_256_below", "In an L3 slots 256 to 271 are the guest's.", |t| {
        with(t, |[table, child, ..]| {
            table.pin(3)?;
            child.protect()?;
            for slot in 256..272 {
                let answer = update(table.place(slot), child.entry(PLAIN));
                equal_at("answer for slot", slot, answer, 0)?;
                equal_at("slot", slot, table.get(slot), child.entry(PLAIN))?;
            }
            Ok(())
        })
    }),
    case("mmu_upper/preserve", "Command 2 keeps accessed and dirty of upper entries too.", |t| {
        for level in 2..=4 {
            with(t, |[table, child, ..]| {
                refer(table, child, level)?;
                equal("update", update(table.place(0) | 2, child.entry(P | RW)), 0)?;
                equal_at("flags at level", level, table.get(0) & !FRAME, P | RW | US | A | D)
            })?;
        }
        Ok(())
    }),
    case(
        "mmu_upper/read_only",
        "An upper entry may be made read-only and back; an L4 one stays accessed.",
        |t| {
            for level in 2..=4 {
                with(t, |[table, child, ..]| {
                    refer(table, child, level)?;
                    equal("update", update(table.place(0), child.entry(P)), 0)?;
                    let forced = if level == 4 { US | A } else { US };
                    equal_at("flags at level", level, table.get(0) & !FRAME, P | forced)?;
                    equal("back", update(table.place(0), child.entry(PLAIN)), 0)
                })?;
            }
            Ok(())
        },
    ),
    case("mmu_upper/refused_unchanged", "A refused entry leaves the one before it.", |t| {
        for level in 2..=4 {
            with(t, |[table, child, other, ..]| {
                refer(table, child, level)?;
                other.protect()?;
                equal("update", update(table.place(0), other.entry(PLAIN | PCD)), EINVAL)?;
                equal_at("entry at level", level, table.get(0), child.entry(PLAIN))?;
                other.is_free()?;
                child.is_held(EBUSY)
            })?;
        }
        Ok(())
    }),
    case("mmu_upper/pinned_child_stays", "A pinned table stays one when its entry goes.", |t| {
        with(t, |[table, child, ..]| {
            child.pin(1)?;
            table.pin(2)?;
            equal("entry", update(table.place(0), child.entry(PLAIN)), 0)?;
            equal("removal", update(table.place(0), 0), 0)?;
            child.is_held(EBUSY)?;
            equal("pin again", pin(1, child.mfn), EINVAL)?;
            child.unpin()?;
            equal("writable", child.map(LOADED), 0)
        })
    }),
];

/// Pins `table` at a level and lets its first entry refer to `child`.
fn refer(table: Page, child: Page, level: u64) -> Outcome {
    table.pin(level)?;
    child.protect()?;
    equal_at("entry at level", level, update(table.place(0), child.entry(PLAIN)), 0)
}

/// Writes an entry of a level for a proper table below.
fn bits(t: &Test<'_>, level: u64, written: u64, expected: Result<u64, i64>) -> Outcome {
    with(t, |[table, child, ..]| {
        table.pin(level)?;
        child.protect()?;
        let answer = update(table.place(1), child.entry(written));
        equal("answer", answer, expected.err().unwrap_or(0))?;
        let entry = expected.map_or(0, |flags| child.entry(flags));
        equal("entry", table.get(1), entry)
    })
}

/// An entry of each level for a frame that is not the guest's is refused.
fn foreign(t: &Test<'_>, mfn: u64) -> Outcome {
    for level in 2..=4 {
        with(t, |[table, ..]| {
            table.pin(level)?;
            let answer = update(table.place(0), mfn << 12 | PLAIN);
            equal_at("answer at level", level, answer, EINVAL)
        })?;
    }
    Ok(())
}
