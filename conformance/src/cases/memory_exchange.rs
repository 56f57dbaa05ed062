//! `exchange`: frames for frames, of other orders or other addresses; what is refused.

use crate::call::{EFAULT, EINVAL, EPERM, MEMORY_OP, hypercall};
use crate::case::{Case, Outcome, Test, case, equal, equal_at, holds};
use crate::raw::memory::arena_address;
use crate::raw::pages_calls::{
    ENOMEM, ESRCH, IO, NOBODY, SELF, memory_op, mmuext, pin, put_words, unpin, update_va, word_at,
};
use crate::raw::pages_reservation::{
    DECREASE, EXCHANGE, EXTENTS, POPULATE, extent, extents_address, note, owned, reserve,
    reserve_of, with_spare,
};
use crate::raw::pages_scratch::{LOADED, free_frame, hypervisor_frame, with};
use crate::tables::{frame_of, page_of};

/// Where in the arena the list of what is taken lies. Unit: bytes.
const TAKEN: usize = 2048;
/// Where the number that was exchanged lies.
const EXCHANGED: usize = 64;

pub(crate) const CASES: &[Case] = &[
    case("memory_exchange/one", "One frame for another: the page has the new one.", |t| {
        with_spare(t, |[pfn, ..]| {
            let (old, before) = (frame_of(t.boot, pfn), owned());
            equal("answer", exchange((&[old], 0), (&[pfn], 0)), 0)?;
            note(t, pfn, word_at(TAKEN));
            equal("exchanged", word_at(EXCHANGED), 1)?;
            equal("page of the new", page_of(word_at(TAKEN)), pfn)?;
            equal("page of the old", page_of(old), u64::MAX)?;
            equal("pages", owned(), before)
        })
    }),
    case("memory_exchange/several", "Several frames, each for another.", |t| {
        with_spare(t, |pages| {
            let old: [u64; 3] = core::array::from_fn(|index| frame_of(t.boot, pages[index]));
            equal("answer", exchange((&old, 0), (&pages[..3], 0)), 0)?;
            equal("exchanged", word_at(EXCHANGED), 3)?;
            taken(t, &pages[..3])
        })
    }),
    case("memory_exchange/to_larger", "Four frames for one of order 2, aligned.", |t| {
        with_spare(t, |pages| {
            let old: [u64; 4] = core::array::from_fn(|index| frame_of(t.boot, pages[index]));
            equal("answer", exchange((&old, 0), (&pages[..1], 2)), 0)?;
            let first = word_at(TAKEN);
            for (&pfn, mfn) in pages.iter().zip(first..).take(4) {
                note(t, pfn, mfn);
            }
            equal("exchanged", word_at(EXCHANGED), 4)?;
            equal("alignment", first & 3, 0)?;
            for (&pfn, mfn) in pages.iter().zip(first..).take(4) {
                equal_at("page of frame", mfn, page_of(mfn), pfn)?;
            }
            Ok(())
        })
    }),
    case("memory_exchange/to_smaller", "One of order 2 for four frames.", |t| {
        with_spare(t, |pages| {
            let first = contiguous(t, &pages)?;
            equal("answer", exchange((&[first], 2), (&pages[..4], 0)), 0)?;
            equal("exchanged", word_at(EXCHANGED), 1)?;
            taken(t, &pages[..4])
        })
    }),
    case("memory_exchange/address_bits", "Frames may be asked for below an address.", |t| {
        with_spare(t, |[pfn, ..]| {
            let old = frame_of(t.boot, pfn);
            equal("answer", exchange((&[old], 0), (&[pfn], 29 << 32)), 0)?;
            note(t, pfn, word_at(TAKEN));
            holds("frame", word_at(TAKEN), "below 512 MiB", word_at(TAKEN) < 1 << 17)
        })
    }),
    case(
        "memory_exchange/address_bits_few",
        "Where there is no such frame: ENOMEM, as before.",
        |t| {
            with_spare(t, |[pfn, ..]| {
                let (old, before) = (frame_of(t.boot, pfn), owned());
                equal("answer", exchange((&[old], 0), (&[pfn], 12 << 32)), ENOMEM)?;
                equal("exchanged", word_at(EXCHANGED), 0)?;
                equal("page", page_of(old), pfn)?;
                equal("pages", owned(), before)
            })
        },
    ),
    case("memory_exchange/none", "Nothing for nothing: 0.", |_| {
        equal("answer", exchange((&[], 0), (&[], 0)), 0)?;
        equal("exchanged", word_at(EXCHANGED), 0)
    }),
    case("memory_exchange/unequal", "Less or more than is given: EINVAL.", |t| {
        with_spare(t, |pages| {
            let old: [u64; 2] = core::array::from_fn(|index| frame_of(t.boot, pages[index]));
            equal("less", exchange((&old, 0), (&pages[..1], 0)), EINVAL)?;
            equal("more", exchange((&old[..1], 0), (&pages[..2], 0)), EINVAL)?;
            equal("more by order", exchange((&old, 0), (&pages[..1], 2)), EINVAL)?;
            equal("page", page_of(old[0]), pages[0])
        })
    }),
    case("memory_exchange/both_orders", "Orders above 0 on both sides are taken.", |t| {
        with_spare(t, |pages| {
            let first = contiguous(t, &pages)?;
            equal("answer", exchange((&[first, first + 2], 1), (&pages[..1], 2)), 0)?;
            for (&pfn, mfn) in pages.iter().zip(word_at(TAKEN)..).take(4) {
                note(t, pfn, mfn);
            }
            equal("exchanged", word_at(EXCHANGED), 2)
        })
    }),
    case("memory_exchange/mapped", "A frame that is mapped can't be exchanged: EINVAL.", |t| {
        with_spare(t, |[pfn, ..]| {
            with(t, |[w, ..]| {
                let old = frame_of(t.boot, pfn);
                equal("mapped", update_va(w.va, old << 12 | LOADED, 2), 0)?;
                let answer = exchange((&[old], 0), (&[pfn], 0));
                equal("unmapped", w.map(LOADED), 0)?;
                equal("answer", answer, EINVAL)?;
                equal("page", page_of(old), pfn)
            })
        })
    }),
    case("memory_exchange/table", "A pinned table can't be exchanged: EINVAL.", |t| {
        with_spare(t, |[pfn, ..]| {
            let old = frame_of(t.boot, pfn);
            equal("cleared", mmuext(16, old, 0), 0)?;
            equal("pin", pin(1, old), 0)?;
            let answer = exchange((&[old], 0), (&[pfn], 0));
            equal("unpin", unpin(old), 0)?;
            equal("answer", answer, EINVAL)?;
            equal("page", page_of(old), pfn)
        })
    }),
    case("memory_exchange/strangers", "Only the guest's own frames are taken: EINVAL.", |t| {
        with_spare(t, |[pfn, ..]| {
            for mfn in [free_frame(), hypervisor_frame(t), 1 << 33, u64::MAX, 0xb8] {
                let answer = exchange((&[mfn], 0), (&[pfn], 0));
                equal_at("answer for", mfn, answer, EINVAL)?;
            }
            Ok(())
        })
    }),
    case("memory_exchange/same_twice", "The same frame twice: EINVAL, and it stays.", |t| {
        with_spare(t, |[first, second, ..]| {
            let (old, before) = (frame_of(t.boot, first), owned());
            let answer = exchange((&[old, old], 0), (&[first], 1));
            equal("answer", answer, EINVAL)?;
            equal("pages", owned(), before)?;
            equal("page", page_of(old), first)?;
            equal("other page", page_of(frame_of(t.boot, second)), second)
        })
    }),
    case("memory_exchange/middle", "An error in the middle: those before it are exchanged.", |t| {
        with_spare(t, |pages| {
            let old = [frame_of(t.boot, pages[0]), 1 << 33, frame_of(t.boot, pages[2])];
            let answer = exchange((&old, 0), (&pages[..3], 0));
            let (count, fresh) = (word_at(EXCHANGED), word_at(TAKEN));
            note(t, pages[0], fresh);
            equal("answer", answer, EINVAL)?;
            equal("exchanged", count, 1)?;
            equal("page of the first", page_of(fresh), pages[0])?;
            equal("page of the last", page_of(old[2]), pages[2])
        })
    }),
    case("memory_exchange/begun", "A number exchanged before tells where to begin.", |t| {
        with_spare(t, |pages| {
            let old: [u64; 2] = core::array::from_fn(|index| frame_of(t.boot, pages[index]));
            let answer = exchange_from(1, SELF, (&old, 0), (&pages[..2], 0));
            let fresh = word_at(TAKEN + 8);
            note(t, pages[1], fresh);
            equal("answer", answer, 0)?;
            equal("exchanged", word_at(EXCHANGED), 2)?;
            equal("page of the first", page_of(old[0]), pages[0])?;
            equal("page of the second", page_of(fresh), pages[1])
        })
    }),
    case("memory_exchange/begun_behind", "A number exchanged beyond the end: EINVAL.", |t| {
        with_spare(t, |[pfn, ..]| {
            let old = frame_of(t.boot, pfn);
            let answer = exchange_from(2, SELF, (&[old], 0), (&[pfn], 0));
            equal("answer", answer, EINVAL)?;
            equal("page", page_of(old), pfn)
        })
    }),
    case("memory_exchange/order_limit", "Orders that nobody may ask for: EPERM.", |t| {
        with_spare(t, |[pfn, ..]| {
            let old = frame_of(t.boot, pfn);
            for order in [19, 63, 64] {
                let answer = exchange((&[old], order), (&[pfn], order));
                equal_at("answer for", order, answer, EPERM)?;
            }
            Ok(())
        })
    }),
    case("memory_exchange/unmapped", "An argument that is not mapped: EFAULT.", |_| {
        equal("answer", hypercall(MEMORY_OP, &[EXCHANGE, 0x1000]), EFAULT)
    }),
    case("memory_exchange/lists_unmapped", "A list of frames that is not mapped: EFAULT.", |t| {
        with_spare(t, |[pfn, ..]| {
            let (old, before) = (frame_of(t.boot, pfn), owned());
            put_words(EXTENTS, &[old]);
            put_words(TAKEN, &[pfn]);
            let list = arena_address() + TAKEN as u64;
            let words = [0x1000, 1, 0, SELF, list, 1, 0, SELF, 0];
            equal("answer", memory_op(EXCHANGE, &words), EFAULT)?;
            equal("page", page_of(old), pfn)?;
            equal("pages", owned(), before)
        })
    }),
    case("memory_exchange/domain_own", "The caller's own number is taken.", |t| {
        with_spare(t, |[pfn, ..]| {
            let old = frame_of(t.boot, pfn);
            equal("answer", exchange_from(0, 0, (&[old], 0), (&[pfn], 0)), 0)?;
            note(t, pfn, word_at(TAKEN));
            equal("page", page_of(word_at(TAKEN)), pfn)
        })
    }),
    case("memory_exchange/domain_unknown", "A domain that is not there: ESRCH.", |t| {
        with_spare(t, |[pfn, ..]| {
            let old = frame_of(t.boot, pfn);
            equal("answer", exchange_from(0, NOBODY, (&[old], 0), (&[pfn], 0)), ESRCH)?;
            equal("page", page_of(old), pfn)
        })
    }),
    case("memory_exchange/domain_io", "In the name of DOMID_IO: ESRCH.", |t| {
        with_spare(t, |[pfn, ..]| {
            let old = frame_of(t.boot, pfn);
            equal("answer", exchange_from(0, IO, (&[old], 0), (&[pfn], 0)), ESRCH)?;
            equal("page", page_of(old), pfn)
        })
    }),
];

/// Exchanges extents, each side with its order (lower half) and flags (upper half).
fn exchange(given: (&[u64], u64), taken: (&[u64], u64)) -> i64 {
    exchange_from(0, SELF, given, taken)
}

/// The same in the name of a domain, with a number that was exchanged before.
fn exchange_from(
    done: u64,
    domid: u64,
    (given, given_options): (&[u64], u64),
    (taken, taken_options): (&[u64], u64),
) -> i64 {
    put_words(EXTENTS, given);
    put_words(TAKEN, taken);
    let list = arena_address() + TAKEN as u64;
    let (given, taken) = (given.len() as u64, taken.len() as u64);
    let words =
        [extents_address(), given, given_options, domid, list, taken, taken_options, domid, done];
    memory_op(EXCHANGE, &words)
}

/// Notes frames that were taken for pages, and checks their numbers.
fn taken(t: &Test<'_>, pages: &[u64]) -> Outcome {
    for (index, &pfn) in pages.iter().enumerate() {
        note(t, pfn, word_at(TAKEN + index * 8));
    }
    for &pfn in pages {
        equal_at("frame's page", pfn, page_of(frame_of(t.boot, pfn)), pfn)?;
    }
    Ok(())
}

/// Gives the first four pages frames that follow each other; the first frame.
fn contiguous(t: &Test<'_>, pages: &[u64]) -> Result<u64, crate::case::Verdict> {
    let old: [u64; 4] = core::array::from_fn(|index| frame_of(t.boot, pages[index]));
    equal("given back", reserve(DECREASE, &old), 4)?;
    equal("taken", reserve_of(SELF, POPULATE, &pages[..1], 2), 1)?;
    let first = extent(0);
    for (&pfn, mfn) in pages.iter().zip(first..).take(4) {
        note(t, pfn, mfn);
    }
    Ok(first)
}
