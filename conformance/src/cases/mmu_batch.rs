//! `mmu_update` as a batch: commands, counts, domains, and what an error in the middle leaves.

use crate::call::{EBUSY, EFAULT, EINVAL, ENOSYS, EPERM, MMU_UPDATE, hypercall};
use crate::case::{Case, Outcome, Test, case, equal};
use crate::raw::memory::arena_address;
use crate::raw::pages_calls::{
    ESRCH, IO, NOBODY, SELF, UNTOUCHED, XEN, done_address, mmu_update, mmu_update_of, put_words,
    update,
};
use crate::raw::pages_scratch::{LOADED, Page, with};
use crate::tables::{FRAME, PRESENT, page_of};

const NORMAL: u64 = 0;
const MACHPHYS: u64 = 1;
const PRESERVE: u64 = 2;
const NO_TRANSLATE: u64 = 3;
/// In a count: the batch is being continued.
const CONTINUED: u64 = 1 << 31;
const USED: u64 = 0x60;
const READ_ONLY: u64 = LOADED & !2;
/// An address of the hypervisor.
const HYPERVISOR: u64 = 0xffff_8300_0000_0000;

pub(crate) const CASES: &[Case] = &[
    case("mmu_batch/normal", "Command 0 writes the entry: accessed and dirty as given.", |t| {
        keeps(t, NORMAL, 0)
    }),
    case("mmu_batch/preserve", "Command 2 keeps the accessed and dirty bits of before.", |t| {
        keeps(t, PRESERVE, USED)
    }),
    case(
        "mmu_batch/preserve_sets",
        "Command 2 sets bits that are given and were not there.",
        |t| {
            with(t, |[a, w, ..]| {
                equal("first", update(w.slot, a.entry(READ_ONLY & !USED)), 0)?;
                equal("second", update(w.slot | PRESERVE, a.entry(READ_ONLY)), 0)?;
                equal("entry", w.mapping(t), a.entry(READ_ONLY))
            })
        },
    ),
    case("mmu_batch/preserve_absent", "Command 2 keeps the bits in an absent entry too.", |t| {
        with(t, |[_, w, ..]| {
            equal("update", update(w.slot | PRESERVE, 0), 0)?;
            equal("entry", w.mapping(t), USED)
        })
    }),
    case("mmu_batch/preserve_other", "Command 2 keeps the bits for another frame too.", |t| {
        with(t, |[a, w, ..]| {
            equal("update", update(w.slot | PRESERVE, a.entry(READ_ONLY & !USED)), 0)?;
            equal("entry", w.mapping(t), a.entry(READ_ONLY))
        })
    }),
    case("mmu_batch/no_translate", "Command 3 writes the entry as command 0 does.", |t| {
        keeps(t, NO_TRANSLATE, 0)
    }),
    case("mmu_batch/commands_4_to_7", "Commands 4 to 7 are unknown: ENOSYS.", |t| {
        with(t, |[a, w, ..]| {
            for command in 4..8 {
                equal("answer", update(w.slot | command, a.entry(LOADED)), ENOSYS)?;
            }
            equal("entry", w.mapping(t), w.entry(LOADED))
        })
    }),
    case("mmu_batch/machphys", "Command 1 writes the page of a frame.", |t| {
        with(t, |[a, ..]| {
            equal("update", update(a.ma() | MACHPHYS, 0x1234), 0)?;
            let seen = page_of(a.mfn);
            equal("back", update(a.ma() | MACHPHYS, a.pfn), 0)?;
            equal("page", seen, 0x1234)
        })
    }),
    case("mmu_batch/machphys_wide", "Command 1 takes all 64 bits of the value.", |t| {
        with(t, |[a, ..]| {
            equal("update", update(a.ma() | MACHPHYS, u64::MAX - 1), 0)?;
            let seen = page_of(a.mfn);
            equal("back", update(a.ma() | MACHPHYS, a.pfn), 0)?;
            equal("page", seen, u64::MAX - 1)
        })
    }),
    case("mmu_batch/machphys_offset", "Command 1 ignores the address within the frame.", |t| {
        with(t, |[a, ..]| {
            equal("update", update(a.place(7) | MACHPHYS, 0x77), 0)?;
            let seen = page_of(a.mfn);
            equal("back", update(a.ma() | MACHPHYS, a.pfn), 0)?;
            equal("page", seen, 0x77)
        })
    }),
    case("mmu_batch/machphys_table", "Command 1 is accepted for a frame that is a table.", |t| {
        with(t, |[a, ..]| {
            a.pin(1)?;
            equal("update", update(a.ma() | MACHPHYS, 0x99), 0)?;
            let seen = page_of(a.mfn);
            equal("back", update(a.ma() | MACHPHYS, a.pfn), 0)?;
            equal("page", seen, 0x99)
        })
    }),
    case("mmu_batch/machphys_beyond", "Command 1 for a frame beyond memory: EINVAL.", |_| {
        equal("answer", update(1 << 45 | MACHPHYS, 1), EINVAL)
    }),
    case("mmu_batch/machphys_io", "Command 1 for an own frame as a device's: EINVAL.", |t| {
        with(t, |[a, ..]| {
            equal("answer", mmu_update_of(IO, &[(a.ma() | MACHPHYS, 1)]).0, EINVAL)?;
            equal("page", page_of(a.mfn), a.pfn)
        })
    }),
    case("mmu_batch/count_zero", "No requests: 0, and 0 done.", |_| {
        let (answer, done) = mmu_update(&[]);
        equal("answer", answer, 0)?;
        equal("done", done, 0)
    }),
    case(
        "mmu_batch/count_zero_bad",
        "No requests at an address of the hypervisor: EFAULT.",
        |_| equal("answer", hypercall(MMU_UPDATE, &[HYPERVISOR, 0, 0, SELF]), EFAULT),
    ),
    case("mmu_batch/requests_unmapped", "Requests that are not mapped: EFAULT, 0 done.", |_| {
        let answer = hypercall(MMU_UPDATE, &[0x1000, 1, done_address(), SELF]);
        equal("answer", answer, EFAULT)?;
        equal("done", done(), 0)
    }),
    case(
        "mmu_batch/requests_in_hypervisor",
        "Requests in the hypervisor: EFAULT, none done.",
        |_| {
            put_words(DONE, &[UNTOUCHED.into()]);
            let answer = hypercall(MMU_UPDATE, &[HYPERVISOR, 1, done_address(), SELF]);
            equal("answer", answer, EFAULT)?;
            equal("done", done(), UNTOUCHED)
        },
    ),
    case("mmu_batch/done_null", "A null pointer for the number done is accepted.", |t| {
        with(t, |[a, w, ..]| {
            put_words(0, &[w.slot, a.entry(READ_ONLY)]);
            equal("answer", hypercall(MMU_UPDATE, &[arena_address(), 1, 0, SELF]), 0)?;
            equal("entry", w.mapping(t), a.entry(READ_ONLY))
        })
    }),
    case("mmu_batch/done_bad", "A bad pointer for the number done is ignored.", |t| {
        with(t, |[a, w, ..]| {
            put_words(0, &[w.slot, a.entry(READ_ONLY)]);
            let answer = hypercall(MMU_UPDATE, &[arena_address(), 1, 0x1000, SELF]);
            equal("answer", answer, 0)?;
            equal("entry", w.mapping(t), a.entry(READ_ONLY))
        })
    }),
    case(
        "mmu_batch/done_in_hypervisor",
        "A pointer into the hypervisor for the number done is ignored.",
        |t| {
            with(t, |[a, w, ..]| {
                put_words(0, &[w.slot, a.entry(READ_ONLY)]);
                let answer = hypercall(MMU_UPDATE, &[arena_address(), 1, HYPERVISOR, SELF]);
                equal("answer", answer, 0)
            })
        },
    ),
    case("mmu_batch/several", "Several requests: 0, all are done, in order.", |t| {
        with(t, |[a, b, w, x, ..]| {
            let requests = [
                (w.slot, a.entry(READ_ONLY)),
                (x.slot, a.entry(READ_ONLY)),
                (w.slot, b.entry(READ_ONLY)),
            ];
            let (answer, done) = mmu_update(&requests);
            equal("answer", answer, 0)?;
            equal("done", done, 3)?;
            equal("first entry", w.mapping(t), b.entry(READ_ONLY))?;
            equal("second entry", x.mapping(t), a.entry(READ_ONLY))
        })
    }),
    case("mmu_batch/error_first", "An error in the first request: it says 0 done.", |t| {
        stops(t, 0)
    }),
    case("mmu_batch/error_middle", "An error in the middle: those before it stay done.", |t| {
        stops(t, 1)
    }),
    case("mmu_batch/error_last", "An error in the last request: the others are counted.", |t| {
        stops(t, 3)
    }),
    case("mmu_batch/continued", "With bit 31 of the count, the number done is added to.", |t| {
        with(t, |[a, w, ..]| {
            put_words(0, &[w.slot, a.entry(READ_ONLY)]);
            put_words(DONE, &[5]);
            let args = [arena_address(), CONTINUED | 1, done_address(), SELF];
            equal("answer", hypercall(MMU_UPDATE, &args), 0)?;
            equal("done", done(), 6)
        })
    }),
    case("mmu_batch/continued_null", "With bit 31 and no pointer for the number done: 0.", |t| {
        with(t, |[a, w, ..]| {
            put_words(0, &[w.slot, a.entry(READ_ONLY)]);
            let args = [arena_address(), CONTINUED | 1, 0, SELF];
            equal("answer", hypercall(MMU_UPDATE, &args), 0)?;
            equal("entry", w.mapping(t), a.entry(READ_ONLY))
        })
    }),
    case(
        "mmu_batch/continued_bad",
        "With bit 31 a bad pointer for the number done is ignored.",
        |t| {
            with(t, |[a, w, ..]| {
                put_words(0, &[w.slot, a.entry(READ_ONLY)]);
                let args = [arena_address(), CONTINUED | 1, 0x1000, SELF];
                equal("answer", hypercall(MMU_UPDATE, &args), 0)
            })
        },
    ),
    case("mmu_batch/count_truncates", "The count's upper 32 bits are ignored.", |t| {
        with(t, |[a, w, ..]| {
            put_words(0, &[w.slot, a.entry(READ_ONLY)]);
            let args = [arena_address(), 1 << 32 | 1, 0, SELF];
            equal("answer", hypercall(MMU_UPDATE, &args), 0)?;
            equal("entry", w.mapping(t), a.entry(READ_ONLY))
        })
    }),
    case("mmu_batch/domain_own", "The caller's own number instead of SELF: ESRCH.", |t| {
        domain(t, 0, ESRCH)
    }),
    case("mmu_batch/domain_unknown", "A number no domain has: ESRCH.", |t| {
        domain(t, NOBODY, ESRCH)
    }),
    case("mmu_batch/domain_io", "DOMID_IO for an own frame: EBUSY.", |t| domain(t, IO, EBUSY)),
    case("mmu_batch/domain_xen", "DOMID_XEN for an own frame: EBUSY.", |t| domain(t, XEN, EBUSY)),
    case("mmu_batch/domain_truncates", "The domain's upper 32 bits are ignored.", |t| {
        domain(t, 1 << 32 | SELF, 0)
    }),
    case("mmu_batch/table_domain_own", "Own number as the table's owner is accepted.", |t| {
        domain(t, 1 << 16 | SELF, 0)
    }),
    case("mmu_batch/table_domain_unknown", "An unknown owner of the table: ESRCH.", |t| {
        domain(t, (NOBODY + 1) << 16 | SELF, ESRCH)
    }),
    case("mmu_batch/count_zero_domain", "The domain is looked at with no requests too.", |_| {
        equal("answer", mmu_update_of(NOBODY, &[]).0, ESRCH)
    }),
    case("mmu_batch/io_memory", "DOMID_IO and a device's frame: accepted, not marked.", |t| {
        with(t, |[_, w, ..]| {
            let entry = DEVICE | 0x73;
            let (answer, _) = mmu_update_of(IO, &[(w.slot, entry)]);
            equal("answer", answer, 0)?;
            equal("entry", w.mapping(t), entry | 0x0010_0000_0000_0004)
        })
    }),
    case("mmu_batch/device_as_self", "SELF and a device's frame: accepted.", |t| {
        with(t, |[_, w, ..]| {
            equal("answer", update(w.slot, DEVICE | 0x73), 0)?;
            equal("frame", w.mapping(t) & FRAME, DEVICE)
        })
    }),
    case("mmu_batch/requests_change_own_table", "A request may be about any own L1.", |t| {
        with(t, |[table, a, ..]| {
            table.pin(1)?;
            equal("answer", update(table.place(3), a.entry(READ_ONLY)), 0)?;
            equal("entry", table.get(3) & FRAME, a.ma())?;
            equal("present", table.get(3) & PRESENT, PRESENT)
        })
    }),
];

/// The text screen's memory, a device on every PC.
const DEVICE: u64 = 0xb8000;
const DONE: usize = 3 * 4096;

fn done() -> u32 {
    u32::from_le_bytes(crate::raw::memory::get(DONE))
}

/// What remains of the accessed and dirty bits when an entry without them is written.
fn keeps(t: &Test<'_>, command: u64, kept: u64) -> Outcome {
    with(t, |[a, w, ..]| {
        equal("first", update(w.slot, a.entry(READ_ONLY)), 0)?;
        equal("second", update(w.slot | command, a.entry(READ_ONLY & !USED)), 0)?;
        equal("entry", w.mapping(t), a.entry(READ_ONLY & !USED | kept))
    })
}

/// Four requests, of which number `wrong` is refused.
fn stops(t: &Test<'_>, wrong: usize) -> Outcome {
    with(t, |[a, w, x, y, z, ..]| {
        let windows: [Page; 4] = [w, x, y, z];
        let mut requests = windows.map(|window| (window.slot, a.entry(READ_ONLY)));
        requests[wrong].1 = 1 << 51 | 1;
        let (answer, done) = mmu_update(&requests);
        equal("answer", answer, EPERM)?;
        equal("done", u64::from(done), wrong as u64)?;
        for (index, window) in windows.iter().enumerate() {
            let expected = if index < wrong { a.entry(READ_ONLY) } else { window.entry(LOADED) };
            equal("entry", window.mapping(t), expected)?;
        }
        Ok(())
    })
}

/// A request for an own frame in the name of a domain.
fn domain(t: &Test<'_>, domid: u64, answer: i64) -> Outcome {
    with(t, |[a, w, ..]| {
        let (seen, _) = mmu_update_of(domid, &[(w.slot, a.entry(READ_ONLY))]);
        equal("answer", seen, answer)?;
        let entry = if answer == 0 { a.entry(READ_ONLY) } else { w.entry(LOADED) };
        equal("entry", w.mapping(t), entry)
    })
}
