//! The bits of a last-level entry, one by one: which are accepted, and what is read back.

use crate::call::EPERM;
use crate::case::{Case, Outcome, Test, case, equal, equal_at};
use crate::raw::pages_calls::update;
use crate::raw::pages_scratch::{Page, with};
use crate::tables::FRAME;

const P: u64 = 1;
const RW: u64 = 2;
const US: u64 = 4;
const PWT: u64 = 8;
const PCD: u64 = 0x10;
const A: u64 = 0x20;
const D: u64 = 0x40;
const PAT: u64 = 0x80;
const G: u64 = 0x100;
const NX: u64 = 1 << 63;
/// The mark of the guest kernel's own pages.
const K: u64 = 1 << 52;

pub(crate) const CASES: &[Case] = &[
    case(
        "mmu_bits/present",
        "An entry that is present alone is accepted; the user bit and the kernel's mark are added.",
        |t| reads(t, P, P | US | K),
    ),
    case(
        "mmu_bits/writable",
        "A writable entry is accepted; the user bit and the kernel's mark are added.",
        |t| reads(t, P | RW, P | RW | US | K),
    ),
    case("mmu_bits/user", "An entry with the user bit becomes global.", |t| {
        reads(t, P | US, P | US | G)
    }),
    case("mmu_bits/user_writable", "A writable entry with the user bit becomes global.", |t| {
        reads(t, P | RW | US, P | RW | US | G)
    }),
    case("mmu_bits/user_global", "A user entry that is global already stays so.", |t| {
        reads(t, P | US | G, P | US | G)
    }),
    case(
        "mmu_bits/global",
        "Without the user bit, the global bit stays: a global kernel page.",
        |t| reads(t, P | G, P | G | US | K),
    ),
    case("mmu_bits/marked", "The kernel's mark without the user bit stays; user is added.", |t| {
        reads(t, P | K, P | US | K)
    }),
    case("mmu_bits/marked_user", "A marked user entry is the kernel's: it is not global.", |t| {
        reads(t, P | US | K, P | US | K)
    }),
    case("mmu_bits/marked_user_global", "A marked user entry keeps the global bit.", |t| {
        reads(t, P | US | K | G, P | US | K | G)
    }),
    case("mmu_bits/write_through", "The initial domain may set write-through on memory.", |t| {
        reads(t, P | PWT, P | US | K | PWT)
    }),
    case("mmu_bits/cache_disable", "The initial domain may set cache-disable on memory.", |t| {
        reads(t, P | PCD, P | US | K | PCD)
    }),
    case("mmu_bits/pat", "The initial domain may set the PAT bit on memory.", |t| {
        reads(t, P | PAT, P | US | K | PAT)
    }),
    case("mmu_bits/uncached", "PWT and PCD together are accepted from the initial domain.", |t| {
        reads(t, P | PWT | PCD, P | US | K | PWT | PCD)
    }),
    case("mmu_bits/all_cache", "PWT, PCD and PAT together are accepted.", |t| {
        reads(t, P | PWT | PCD | PAT, P | US | K | PWT | PCD | PAT)
    }),
    case(
        "mmu_bits/cache_differs",
        "Two mappings of a frame with different caching are both accepted.",
        |t| {
            with(t, |[a, w, x, ..]| {
                equal("first", update(w.slot, a.entry(P | PCD)), 0)?;
                equal("second", update(x.slot, a.entry(P | PWT)), 0)?;
                equal("first's flags", flags(t, w), P | US | K | PCD)?;
                equal("second's flags", flags(t, x), P | US | K | PWT)
            })
        },
    ),
    case("mmu_bits/accessed", "The accessed bit stays as written.", |t| {
        reads(t, P | A, P | US | K | A)
    }),
    case("mmu_bits/dirty", "The dirty bit stays as written, on a read-only entry too.", |t| {
        reads(t, P | D, P | US | K | D)
    }),
    case("mmu_bits/no_execute", "The no-execute bit stays as written.", |t| {
        reads(t, P | NX, P | US | K | NX)
    }),
    case("mmu_bits/available", "Bits 9 to 11 stay as written, each of them.", |t| {
        each(t, 9..12, |bit| (P | bit, P | US | K | bit))
    }),
    case("mmu_bits/available_high", "Bits 53 to 58 stay as written, each of them.", |t| {
        each(t, 53..59, |bit| (P | bit, P | US | K | bit))
    }),
    case("mmu_bits/available_key", "Bits 59 to 62 stay as written, each of them.", |t| {
        each(t, 59..63, |bit| (P | bit, P | US | K | bit))
    }),
    case("mmu_bits/available_user", "A user entry keeps bits 9 to 11 and 53 to 62.", |t| {
        let high = 0x7fe << 52;
        reads(t, P | US | 0xe00 | high, P | US | G | 0xe00 | high)
    }),
    case("mmu_bits/all", "All allowed bits together stay as written.", |t| {
        let all = P | RW | A | D | 0xe00 | 0x7ff << 52 | NX;
        reads(t, all | US | G, all | US | G)
    }),
    case(
        "mmu_bits/frame_beyond_width",
        "An entry whose address has a bit above the processor's physical width: EPERM.",
        |t| with(t, |[a, w, ..]| refused(t, w, a.entry(P) | 1 << 51)),
    ),
    case(
        "mmu_bits/frame_just_beyond_width",
        "The lowest address bit above the processor's physical width: EPERM.",
        |t| with(t, |[_, w, ..]| refused(t, w, P | 1 << 40)),
    ),
    case("mmu_bits/not_present_zero", "Zero is accepted and read back.", |t| absent(t, 0)),
    case("mmu_bits/not_present_flags", "Not present, every other flag is kept as it is.", |t| {
        absent(t, 0xffe)
    }),
    case("mmu_bits/not_present_high", "Not present, every high bit is kept as it is.", |t| {
        absent(t, 0xfff0_0000_0000_0000)
    }),
    case("mmu_bits/not_present_ones", "Not present, 63 ones are kept as they are.", |t| {
        absent(t, !1)
    }),
    case("mmu_bits/not_present_own", "Not present, the address of an own frame is kept.", |t| {
        with(t, |[a, w, ..]| {
            equal("update", update(w.slot, a.entry(RW)), 0)?;
            equal("entry", w.mapping(t), a.entry(RW))?;
            a.unmap()?;
            a.pin(1)?;
            a.unpin()
        })
    }),
    case("mmu_bits/not_present_words", "Not present, each bit alone is kept as it is.", |t| {
        with(t, |[_, w, ..]| {
            for bit in 1..64 {
                equal_at("update of bit", bit, update(w.slot, 1 << bit), 0)?;
                equal_at("entry of bit", bit, w.mapping(t), 1 << bit)?;
            }
            Ok(())
        })
    }),
    case(
        "mmu_bits/same_frame_other_flags",
        "An entry can be replaced by one with other flags for the same frame.",
        |t| {
            with(t, |[a, w, ..]| {
                for (value, seen) in [
                    (P | RW | A, P | RW | US | K | A),
                    (P | RW | US | D, P | RW | US | G | D),
                    (P | RW | NX, P | RW | US | K | NX),
                    (P | RW | US | K, P | RW | US | K),
                ] {
                    equal_at("update to", value, update(w.slot, a.entry(value)), 0)?;
                    equal_at("entry of", value, flags(t, w), seen)?;
                }
                Ok(())
            })
        },
    ),
];

fn flags(t: &Test<'_>, window: Page) -> u64 {
    window.mapping(t) & !FRAME
}

/// An entry for an own frame with `written` reads as `read`.
fn reads(t: &Test<'_>, written: u64, read: u64) -> Outcome {
    with(t, |[a, w, ..]| {
        equal("update", update(w.slot, a.entry(written)), 0)?;
        equal("flags", flags(t, w), read)?;
        equal("frame", (w.mapping(t) & FRAME) >> 12, a.mfn)
    })
}

/// The same for each bit of a range; `entry` gives what is written and what is read.
fn each(t: &Test<'_>, bits: core::ops::Range<u32>, entry: impl Fn(u64) -> (u64, u64)) -> Outcome {
    with(t, |[a, w, ..]| {
        for bit in bits {
            let (written, read) = entry(1 << bit);
            equal_at("update of bit", bit.into(), update(w.slot, a.entry(written)), 0)?;
            equal_at("flags of bit", bit.into(), flags(t, w), read)?;
        }
        Ok(())
    })
}

/// An entry that is not present is taken as it is.
fn absent(t: &Test<'_>, value: u64) -> Outcome {
    with(t, |[_, w, ..]| {
        equal("update", update(w.slot, value), 0)?;
        equal("entry", w.mapping(t), value)
    })
}

/// An entry is refused, and the one before stays.
fn refused(t: &Test<'_>, window: Page, value: u64) -> Outcome {
    let before = window.mapping(t);
    equal("update", update(window.slot, value), EPERM)?;
    equal("entry", window.mapping(t), before)
}
