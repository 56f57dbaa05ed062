//! What comes before what in the calls on page tables, and what is special about special frames.

use super::control::{FREE, domctl, with_domain};
use crate::call::{EINVAL, EPERM, MMU_UPDATE, MMUEXT_OP, VM_ASSIST, hypercall};
use crate::case::{Case, Outcome, Test, case, equal, equal_at};
use crate::raw::memory::{arena_address, get, peek};
use crate::raw::pages_calls::{
    COPY_PAGE, DONE, ESRCH, NEW_BASEPTR, NEW_USER_BASEPTR, NOBODY, PIN_L1, SELF, UNTOUCHED,
    done_address, mmu_update_of, mmuext, put_words, update, update_va,
};
use crate::raw::pages_direct::store;
use crate::raw::pages_grants::setup_table;
use crate::raw::pages_scratch::{LOADED, Page, duplicate, with};
use crate::raw::pages_snippets;
use crate::tables::{PRESENT, entry, top};

/// In a count: the batch is being continued.
const CONTINUED: u64 = 1 << 31;
const EACCES: i64 = -13;
const MACHPHYS: u64 = 1;
const WRITABLE: u64 = 2;
const UNCACHED: u64 = 0x10;
/// The I/O APIC's registers.
const IO_APIC: u64 = 0xfec00;
/// The slot of the top-level table that shows the table of machine frames.
const M2P_SLOT: u64 = 256;
const M2P_STRICT: u64 = 32;

pub(crate) const CASES: &[Case] = &[
    case(
        "mmu_order/given_answer",
        "Continued with no requests left at address 0, the fourth argument is the answer.",
        |_| {
            for number in [MMU_UPDATE, MMUEXT_OP] {
                for answer in [0, 7, 0x1234, 0xffff_ffea] {
                    let seen = hypercall(number, &[0, CONTINUED, 0, answer]);
                    let wanted = i64::from(u32::try_from(answer).unwrap_or(0).cast_signed());
                    equal_at("answer", answer, seen, wanted)?;
                }
                equal("elsewhere", hypercall(number, &[4096, CONTINUED, 0, 0x1234]), -3)?;
            }
            Ok(())
        },
    ),
    case(
        "mmu_order/told",
        "With no such domain for frames, none are done; for tables, nothing is told.",
        |_| {
            for (continued, done) in [(0, 0), (CONTINUED, UNTOUCHED)] {
                put_words(DONE, &[UNTOUCHED.into()]);
                let count = 1 | continued;
                let call = |number: u64, domain: u64| {
                    hypercall(number, &[arena_address(), count, done_address(), domain])
                };
                equal_at("tables", count, call(MMU_UPDATE, SELF | (NOBODY + 1) << 16), ESRCH)?;
                equal_at("done", count, done_now(), UNTOUCHED)?;
                equal_at("extended", count, call(MMUEXT_OP, NOBODY), ESRCH)?;
                equal_at("done", count, done_now(), UNTOUCHED)?;
                equal_at("frames", count, call(MMU_UPDATE, NOBODY), ESRCH)?;
                equal_at("done", count, done_now(), done)?;
            }
            Ok(())
        },
    ),
    case("mmu_order/other_tables", "Tables of a domain without a vCPU: EINVAL.", |t| {
        with(t, |[a, ..]| {
            with_domain(|| {
                let domain = SELF | (FREE + 1) << 16;
                equal("without", mmu_update_of(domain, &[]).0, EINVAL)?;
                equal("done", mmu_update_of(domain, &[(a.ma() | MACHPHYS, 1)]).1, 0)?;
                equal("vCPU", domctl(15, FREE, &[1]), 0)?;
                equal("with one", mmu_update_of(domain, &[]).0, 0)?;
                let pages = mmu_update_of(domain, &[(a.ma() | MACHPHYS, a.pfn)]).0;
                equal("page of a frame", pages, EPERM)?;
                equal("not its table", mmu_update_of(domain, &[(a.ma(), 0)]).0, EINVAL)
            })
        })
    }),
    case(
        "mmu_order/shared_cached",
        "What the hypervisor shares is mapped cached alone: EACCES.",
        |t| {
            let frame = t.boot.start_info().shared_info >> 12;
            cached(t, frame)?;
            cached(t, setup_table(SELF, 1)?)
        },
    ),
    case("mmu_order/own_uncached", "A mapping can become uncached, and cached again.", |t| {
        with(t, |[a, w, ..]| {
            for flags in [LOADED | UNCACHED, LOADED] {
                equal_at("update", flags, update(w.slot, a.entry(flags)), 0)?;
                equal_at("entry", flags, w.mapping(t) & (UNCACHED | PRESENT), flags & 0x11)?;
            }
            Ok(())
        })
    }),
    case(
        "mmu_order/shared_frame",
        "The shared page's frame is one that is written: it can't be a table.",
        |t| {
            let frame = t.boot.start_info().shared_info >> 12;
            for level in 0..4 {
                equal_at("pin", level, mmuext(PIN_L1 + level, frame, 0), EINVAL)?;
            }
            with(t, |[a, ..]| equal("copy", mmuext(COPY_PAGE, a.mfn, frame), 0))
        },
    ),
    case(
        "mmu_order/device_store",
        "What is stored to a device's frame that is read-only is lost, without a fault.",
        |t| {
            with(t, |[page, ..]| {
                let flags = LOADED & !WRITABLE;
                equal("mapped", update_va(page.va, IO_APIC << 12 | flags, 2), 0)?;
                let before = peek(page.va) & 0xffff_ffff;
                equal("fault", store(pages_snippets::MOV_32, page.va, 1)?.is_some(), false)?;
                equal("fault of 8", store(pages_snippets::MOV_64, page.va, 1)?.is_some(), false)?;
                equal("word", peek(page.va) & 0xffff_ffff, before)
            })
        },
    ),
    case(
        "mmu_order/m2p_pinned",
        "A pinned top-level table does not show the table of frames.",
        |t| {
            with(t, |[copy, ..]| {
                duplicate(t, copy)?;
                copy.pin(4)?;
                equal("slot", copy.get(M2P_SLOT), 0)?;
                copy.unpin()
            })
        },
    ),
    case("mmu_order/m2p_loaded", "Loaded for the kernel it does, for good.", |t| {
        with(t, |[copy, ..]| {
            let first = duplicate(t, copy)?;
            copy.pin(4)?;
            equal("load", mmuext(NEW_BASEPTR, copy.mfn, 0), 0)?;
            equal("back", mmuext(NEW_BASEPTR, first, 0), 0)?;
            equal("slot", copy.get(M2P_SLOT), entry(top(t.boot), M2P_SLOT))?;
            equal("user's", mmuext(NEW_USER_BASEPTR, copy.mfn, 0), 0)?;
            equal("slot", copy.get(M2P_SLOT), entry(top(t.boot), M2P_SLOT))
        })
    }),
    case("mmu_order/m2p_user", "Loaded for user mode it does not.", |t| {
        with(t, |[copy, ..]| {
            duplicate(t, copy)?;
            equal("load", mmuext(NEW_USER_BASEPTR, copy.mfn, 0), 0)?;
            equal("slot", copy.get(M2P_SLOT), 0)
        })
    }),
    case(
        "mmu_order/m2p_strict",
        "With the assist for it a pinned table does, until loaded for user mode.",
        |t| {
            strictly(t, |copy| {
                copy.pin(4)?;
                let shown = copy.get(M2P_SLOT);
                equal("pinned", shown, entry(top(t.boot), M2P_SLOT))?;
                equal("load", mmuext(NEW_USER_BASEPTR, copy.mfn, 0), 0)?;
                equal("slot", copy.get(M2P_SLOT), 0)?;
                equal("unload", mmuext(NEW_USER_BASEPTR, 0, 0), 0)?;
                equal("slot", copy.get(M2P_SLOT), 0)?;
                copy.unpin()
            })
        },
    ),
];

/// Runs `body` with a copy of the top-level table and the assist for a strict table of frames.
fn strictly(t: &Test<'_>, body: impl FnOnce(Page) -> Outcome) -> Outcome {
    with(t, |[copy, ..]| {
        duplicate(t, copy)?;
        equal("on", hypercall(VM_ASSIST, &[0, M2P_STRICT]), 0)?;
        let outcome = body(copy);
        equal("off", hypercall(VM_ASSIST, &[1, M2P_STRICT]), 0)?;
        outcome
    })
}

/// A frame that can be mapped, but cached alone.
fn cached(t: &Test<'_>, frame: u64) -> Outcome {
    with(t, |[_, w, ..]| {
        for flags in [LOADED, LOADED & !WRITABLE] {
            let entry = frame << 12 | flags;
            for caching in [8, 0x10, 0x18, 0x80] {
                equal_at("update", caching, update(w.slot, entry | caching), EACCES)?;
                equal_at("by address", caching, update_va(w.va, entry | caching, 2), EACCES)?;
            }
            equal_at("entry", flags, w.mapping(t) & !0x60, w.entry(LOADED) & !0x60)?;
            equal_at("cached", flags, update(w.slot, entry), 0)?;
            equal_at("then not", flags, update(w.slot, entry | UNCACHED), EACCES)?;
            equal_at("gone", flags, update(w.slot, w.entry(LOADED)), 0)?;
        }
        Ok(())
    })
}

/// How many requests are told to be done.
fn done_now() -> u32 {
    u32::from_le_bytes(get(DONE))
}
