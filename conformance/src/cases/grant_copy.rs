//! `copy`: from and to frames of one's own and granted pages, and what is refused.

use crate::call::hypercall;
use crate::case::{Case, Outcome, Test, case, equal, equal_at};
use crate::raw::memory::{arena_address, peek_byte};
use crate::raw::pages_calls::{IO, NOBODY, SELF, SET_GDT, XEN, pin, put_words};
use crate::raw::pages_grants::{
    BAD_COPY, BAD_DOMAIN, BAD_PAGE, BAD_REF, COPY, DENIED, End, GENERAL, HOST, NO_REF, OKAY,
    ONLY_READ, OWN, PERMIT, READ_ONLY, READING, REF, WRITING, Wish, copy, copy_words, grant_op,
    mapped, put_at, setup_table, status_at, unmapped, with_table,
};
use crate::raw::pages_scratch::{Page, free_frame, hypervisor_frame};
use crate::tables::frame_of;

/// A row: the name, the flags of the source's entry and of the destination's, the status, the
/// clause. Both entries are as before in the end.
macro_rules! entries {
    ($($name:literal, $source:expr, $dest:expr, $status:expr, $clause:literal;)+) => {
        &[$(case(concat!("grant_copy/", $name), $clause, |t| {
            between(t, $source, $dest, $status)
        })),+]
    };
}

pub(crate) const ENTRIES: &[Case] = entries! {
    "entries", PERMIT, PERMIT, OKAY, "From an entry to another; no bit of use is left.";
    "from_read_only", PERMIT | READ_ONLY, PERMIT, OKAY, "From an entry for reading alone.";
    "to_read_only", PERMIT, PERMIT | READ_ONLY, GENERAL,
        "To an entry for reading alone: status -1.";
    "from_empty", 0, PERMIT, GENERAL, "From an empty entry: status -1.";
    "to_empty", PERMIT, 0, GENERAL, "To an empty entry: status -1.";
    "from_for_transfer", 2, PERMIT, GENERAL, "From an entry that accepts a page: status -1.";
    "to_for_transfer", PERMIT, 2, GENERAL, "To an entry that accepts a page: status -1.";
    "from_transitive", 3, PERMIT, GENERAL, "From a grant of a grant: status -1.";
    "to_transitive", PERMIT, 3, GENERAL, "To a grant of a grant: status -1.";
    "part", 0x101, 0x101, OKAY, "The bit for part of a page does not matter to a copy.";
    "other_bits", 0xfee1, 0xfee1, OKAY, "Bits without a meaning don't matter, and stay.";
};

fn between(t: &Test<'_>, source: u16, dest: u16, status: i64) -> Outcome {
    with_table(t, |table, [a, b, ..]| {
        fill(a);
        table.set(REF, source, OWN, a.mfn);
        table.set(REF + 1, dest, OWN, b.mfn);
        let seen = copy(End::entry(REF).at(16), End::entry(REF + 1).at(32), 64)?;
        equal("status", seen, status)?;
        table.has("source's entry", REF, source)?;
        table.has("destination's entry", REF + 1, dest)?;
        if status == OKAY { copied(a, 16, b, 32, 64) } else { copied(a, 0, b, 32, 0) }
    })
}

pub(crate) const CASES: &[Case] = &[
    case("grant_copy/kinds", "From frames and entries, to frames and entries.", |t| {
        with_table(t, |table, [a, b, ..]| {
            fill(a);
            table.permit(REF, 0, a);
            table.permit(REF + 1, 0, b);
            let (from, to) = (End::frame(a.mfn), End::frame(b.mfn));
            let both = [(from, to), (End::entry(REF), to), (from, End::entry(REF + 1))];
            for (number, (from, to)) in (0..).zip(both) {
                (0..512).for_each(|word| b.set(word, 0));
                let at = 8 + 16 * number;
                equal_at("status", at.into(), copy(from.at(at), to.at(at + 3), 99)?, OKAY)?;
                copied(a, at, b, at + 3, 99)?;
            }
            Ok(())
        })
    }),
    case(
        "grant_copy/lengths",
        "Any length from 0 to a page, as long as it ends in the page.",
        |t| {
            with_table(t, |_, [a, b, ..]| {
                fill(a);
                for (from, to, length, status) in [
                    (0, 0, 0, OKAY),
                    (0, 0, 1, OKAY),
                    (0, 0, 4096, OKAY),
                    (4095, 0, 1, OKAY),
                    (0, 4095, 1, OKAY),
                    (4096, 4096, 0, OKAY),
                    (1, 0, 4096, BAD_COPY),
                    (0, 1, 4096, BAD_COPY),
                    (0, 0, 4097, BAD_COPY),
                    (4096, 0, 1, BAD_COPY),
                    (0, 4096, 1, BAD_COPY),
                    (4097, 0, 0, BAD_COPY),
                    (0, 0xffff, 0, BAD_COPY),
                    (0xffff, 0xffff, 0xffff, BAD_COPY),
                ] {
                    (0..512).for_each(|word| b.set(word, 0));
                    let seen = copy(End::frame(a.mfn).at(from), End::frame(b.mfn).at(to), length)?;
                    let place = u64::from(from) << 32 | u64::from(to) << 16 | u64::from(length);
                    equal_at("status for", place, seen, status)?;
                    copied(a, from, b, to, if status == OKAY { length } else { 0 })?;
                }
                Ok(())
            })
        },
    ),
    case("grant_copy/frame_domains", "Frames are DOMID_SELF's: else status -8, or -2.", |t| {
        with_table(t, |_, [a, b, ..]| {
            let (from, to) = (End::frame(a.mfn), End::frame(b.mfn));
            for (domain, status) in [
                (OWN, DENIED),
                (NOBODY, BAD_DOMAIN),
                (IO, BAD_DOMAIN),
                (XEN, BAD_DOMAIN),
                (1, BAD_DOMAIN),
            ] {
                equal_at("status from", domain, copy(from.of(domain), to, 1)?, status)?;
                equal_at("status to", domain, copy(from, to.of(domain), 1)?, status)?;
            }
            let (nothing, entry) = (End::frame(1 << 40), End::entry(NO_REF));
            equal("source first", copy(nothing.of(OWN), nothing, 4097)?, DENIED)?;
            equal("source's frame next", copy(nothing, nothing.of(OWN), 4097)?, BAD_PAGE)?;
            equal("source's entry next", copy(entry, nothing.of(OWN), 4097)?, BAD_REF)?;
            equal("then the destination", copy(from, nothing.of(OWN), 4097)?, DENIED)
        })
    }),
    case("grant_copy/entry_domains", "Entries are of any domain there is, else status -2.", |t| {
        with_table(t, |table, [a, b, ..]| {
            table.permit(REF, 0, a);
            table.permit(REF + 1, 0, b);
            let (from, to) = (End::entry(REF), End::entry(REF + 1));
            equal("status for SELF", copy(from.of(SELF), to.of(SELF), 1)?, OKAY)?;
            for domain in [NOBODY, IO, XEN, 1] {
                equal_at("status from", domain, copy(from.of(domain), to, 1)?, BAD_DOMAIN)?;
                equal_at("status to", domain, copy(from, to.of(domain), 1)?, BAD_DOMAIN)?;
            }
            let (none, frame) = (End::entry(NO_REF), End::frame(0).of(OWN));
            equal("status before entries", copy(none, to.of(NOBODY), 4097)?, BAD_DOMAIN)?;
            equal("status of the first", copy(none.of(NOBODY), frame, 1)?, BAD_DOMAIN)?;
            equal("status of the frame", copy(frame, none.of(NOBODY), 1)?, BAD_DOMAIN)
        })
    }),
    case("grant_copy/to_others", "An entry for somebody else: status -1, even DOMID_SELF.", |t| {
        with_table(t, |table, [a, b, ..]| {
            for domain in [1, SELF, NOBODY] {
                table.set(REF, PERMIT, domain, a.mfn);
                let frame = End::frame(b.mfn);
                equal_at("status from", domain, copy(End::entry(REF), frame, 1)?, GENERAL)?;
                equal_at("status to", domain, copy(frame, End::entry(REF), 1)?, GENERAL)?;
                table.has("entry", REF, PERMIT)?;
            }
            Ok(())
        })
    }),
    case("grant_copy/beyond", "An entry beyond the table: status -3.", |t| {
        with_table(t, |_, [a, ..]| {
            let frame = End::frame(a.mfn);
            for reference in [NO_REF, u32::MAX] {
                let entry = End::entry(reference);
                equal_at("status from", reference.into(), copy(entry, frame, 1)?, BAD_REF)?;
                equal_at("status to", reference.into(), copy(frame, entry, 1)?, BAD_REF)?;
                equal_at("status of both", reference.into(), copy(entry, entry, 4097)?, BAD_REF)?;
            }
            Ok(())
        })
    }),
    case("grant_copy/upper_half", "The upper half of an entry's number is ignored.", |t| {
        with_table(t, |table, [a, b, ..]| {
            fill(a);
            table.permit(REF, 0, a);
            let from = End { page: u64::from(REF) | 0x1234 << 32, ..End::entry(REF) };
            equal("status", copy(from, End::frame(b.mfn), 8)?, OKAY)?;
            copied(a, 0, b, 0, 8)
        })
    }),
    case("grant_copy/strangers", "A frame that is not the guest's: status -9.", |t| {
        with_table(t, |table, [a, ..]| {
            let own = End::frame(a.mfn);
            for mfn in [free_frame(), hypervisor_frame(t), 0xb8, 0xfee00, 0xffff_ffff] {
                let other = End::frame(mfn);
                table.set(REF, PERMIT, OWN, mfn);
                equal_at("status from", mfn, copy(other, own, 1)?, BAD_PAGE)?;
                equal_at("status to", mfn, copy(own, other, 1)?, BAD_PAGE)?;
                equal_at("status from entry", mfn, copy(End::entry(REF), own, 1)?, BAD_PAGE)?;
                equal_at("status to entry", mfn, copy(own, End::entry(REF), 1)?, BAD_PAGE)?;
                table.has("entry", REF, PERMIT)?;
            }
            equal("no frame number", copy(End::frame(u64::MAX), own, 1)?, BAD_PAGE)?;
            equal("before the length", copy(End::frame(1 << 40), own, 4097)?, BAD_PAGE)
        })
    }),
    case("grant_copy/tables", "From a page table, but not to one: status -1.", |t| {
        with_table(t, |table, [l1, b, ..]| {
            l1.set(9, 0xabc << 1);
            table.permit(REF, 0, l1);
            l1.pin(1)?;
            for end in [End::frame(l1.mfn), End::entry(REF)] {
                equal("status to", copy(End::frame(b.mfn), end, 0)?, GENERAL)?;
                equal("status from", copy(end, End::frame(b.mfn), 4096)?, OKAY)?;
                equal("word", b.get(9), 0xabc << 1)?;
                table.has("entry", REF, PERMIT)?;
            }
            l1.unpin()
        })
    }),
    case("grant_copy/descriptors", "From a page of descriptors, but not to one.", |t| {
        with_table(t, |_, [gdt, b, ..]| {
            gdt.protect()?;
            put_words(0, &[gdt.mfn]);
            equal("set_gdt", hypercall(SET_GDT, &[arena_address(), 1]), 0)?;
            equal("status to", copy(End::frame(b.mfn), End::frame(gdt.mfn), 8)?, GENERAL)?;
            equal("status from", copy(End::frame(gdt.mfn), End::frame(b.mfn), 8)?, OKAY)?;
            equal("set_gdt", hypercall(SET_GDT, &[0, 0]), 0)
        })
    }),
    case("grant_copy/mapped_read_only", "To a page of one's own that is mapped read-only.", |t| {
        with_table(t, |_, [a, b, ..]| {
            fill(a);
            b.protect()?;
            equal("status", copy(End::frame(a.mfn), End::frame(b.mfn), 8)?, OKAY)?;
            copied(a, 0, b, 0, 8)?;
            (0..512).for_each(|word| a.set(word, 0));
            equal("status", copy(End::frame(a.mfn), End::frame(b.mfn), 4096)?, OKAY)?;
            equal("pin of zeros", pin(1, b.mfn), 0)?;
            b.unpin()
        })
    }),
    case("grant_copy/mapped_nowhere", "Between pages that are mapped nowhere.", |t| {
        with_table(t, |_, [a, b, ..]| {
            fill(a);
            a.unmap()?;
            b.unmap()?;
            equal("status", copy(End::frame(a.mfn), End::frame(b.mfn), 512)?, OKAY)?;
            equal("mapped", a.map(crate::raw::pages_scratch::LOADED), 0)?;
            equal("mapped", b.map(crate::raw::pages_scratch::LOADED), 0)?;
            copied(a, 0, b, 0, 512)
        })
    }),
    case("grant_copy/same_page", "Within one page, where the ends do not overlap.", |t| {
        with_table(t, |table, [a, ..]| {
            fill(a);
            table.permit(REF, 0, a);
            equal("status", copy(End::frame(a.mfn), End::frame(a.mfn).at(2048), 2048)?, OKAY)?;
            (0..256).try_for_each(|word| equal_at("word", word, a.get(256 + word), a.get(word)))?;
            equal("to itself", copy(End::entry(REF), End::entry(REF), 4096)?, OKAY)?;
            table.has("entry", REF, PERMIT)?;
            (0..256).try_for_each(|word| equal_at("word", word, a.get(256 + word), a.get(word)))
        })
    }),
    case("grant_copy/grant_table", "From the table itself and to it.", |t| {
        with_table(t, |table, [a, ..]| {
            let frame = setup_table(SELF, 1)?;
            a.set(0, 0x1234_0000_0000_0002);
            let at = 8 * 9;
            equal("status to", copy(End::frame(a.mfn), End::frame(frame).at(at), 8)?, OKAY)?;
            equal("entry", table.word(9), a.get(0))?;
            equal(
                "status from",
                copy(End::frame(frame).at(at), End::frame(a.mfn).at(8), 8)?,
                OKAY,
            )?;
            equal("word", a.get(1), a.get(0))
        })
    }),
    case("grant_copy/unknown_flags", "Flags without a meaning are taken.", |t| {
        with_table(t, |_, [a, b, ..]| {
            fill(a);
            let mut words = copy_words(End::frame(a.mfn), End::frame(b.mfn), 8);
            words[4] |= 0xfffc << 16;
            put_words(0, &words);
            equal("answer", grant_op(COPY, 1), 0)?;
            equal("status", status_at(36), OKAY)?;
            copied(a, 0, b, 0, 8)
        })
    }),
    case("grant_copy/while_mapped", "A mapped entry keeps its bits, and clears the copy's.", |t| {
        with_table(t, |table, [a, b, w, ..]| {
            table.permit(REF, 0, a);
            let frame = End::frame(b.mfn);
            for (how, bits) in [(HOST, 0x19), (HOST | ONLY_READ, 9)] {
                let handle = mapped(Wish::new(w.va, how))?;
                let seen = [copy(End::entry(REF), frame, 8)?, copy(frame, End::entry(REF), 8)?];
                let flags = table.flags(REF);
                unmapped(w.va, handle)?;
                equal("status from", seen[0], OKAY)?;
                equal("status to", seen[1], OKAY)?;
                equal("entry", flags, bits)?;
                table.has("entry behind it", REF, PERMIT)?;
            }
            Ok(())
        })
    }),
    case(
        "grant_copy/while_revoked",
        "A mapped entry, emptied, is still copied from and to.",
        |t| {
            with_table(t, |table, [a, b, w, ..]| {
                fill(a);
                table.permit(REF, 0, a);
                let handle = mapped(Wish::new(w.va, HOST))?;
                table.set(REF, 0, 7, 0xffff_ffff);
                let seen = copy(End::entry(REF), End::frame(b.mfn), 64)?;
                let other = copy(End::frame(b.mfn), End::entry(REF).at(64), 64)?;
                unmapped(w.va, handle)?;
                equal("status from", seen, OKAY)?;
                equal("status to", other, OKAY)?;
                copied(a, 0, b, 0, 64)?;
                equal("word", a.get(8), a.get(0))
            })
        },
    ),
    case("grant_copy/bits_before", "The bits of use that the guest set are cleared.", |t| {
        with_table(t, |table, [a, b, ..]| {
            let frame = End::frame(b.mfn);
            table.permit(REF, READING | WRITING, a);
            equal("status from", copy(End::entry(REF), frame, 8)?, OKAY)?;
            table.has("entry, copied from", REF, PERMIT | WRITING)?;
            table.permit(REF, READING | WRITING, a);
            equal("status to", copy(frame, End::entry(REF), 8)?, OKAY)?;
            table.has("entry, copied to", REF, PERMIT)
        })
    }),
    case("grant_copy/refused_in_batch", "A refused copy does not stop the others.", |t| {
        with_table(t, |_, [a, b, ..]| {
            fill(a);
            let (from, to) = (End::frame(a.mfn), End::frame(b.mfn));
            for (index, (from, to)) in (0..).zip([
                (from, to),
                (from.at(4090), to),
                (End::entry(NO_REF), to),
                (from, to.of(NOBODY)),
                (from.at(32), to.at(32)),
            ]) {
                put_at(arena_address(), index, &copy_words(from, to, 8));
            }
            equal("answer", grant_op(COPY, 5), 0)?;
            for (index, status) in
                [OKAY, BAD_COPY, BAD_REF, BAD_DOMAIN, OKAY].into_iter().enumerate()
            {
                equal_at("status", index as u64, status_at(40 * index + 36), status)?;
            }
            equal("first", b.get(0), a.get(0))?;
            equal("last", b.get(4), a.get(4))
        })
    }),
    case(
        "grant_copy/entry_changed",
        "In a batch, a copy may change an entry for a later one.",
        |t| {
            with_table(t, |table, [a, b, c, ..]| {
                fill(a);
                c.set(4, 0x7777);
                table.permit(REF, 0, a);
                let frame = setup_table(SELF, 1)?;
                // The second copy writes over the entry that the first one used.
                let (at, entry) = (8 * 8, u64::from(PERMIT) | c.mfn << 32);
                b.set(0, entry);
                let copies = [
                    (End::entry(REF), End::frame(b.mfn).at(8)),
                    (End::frame(b.mfn), End::frame(frame).at(at)),
                    (End::entry(REF).at(32), End::frame(b.mfn).at(16)),
                ];
                for (index, (from, to)) in (0..).zip(copies) {
                    put_at(arena_address(), index, &copy_words(from, to, 8));
                }
                equal("answer", grant_op(COPY, 3), 0)?;
                equal("first", b.get(1), a.get(0))?;
                equal("entry", table.word(REF), entry)?;
                equal("last", b.get(2), 0x7777)
            })
        },
    ),
    case("grant_copy/thousand", "A thousand copies in one call are all done.", |t| {
        with_table(t, |_, pages| {
            // The arguments lie in eleven pages that follow each other.
            let [a, b] = [pages[12], pages[13]];
            let first = frame_of(t.boot, a.pfn);
            fill(a);
            for index in 0..1100_u16 {
                let at = 2 * (index % 2048);
                let words = copy_words(End::frame(first).at(at), End::frame(b.mfn).at(at), 2);
                put_at(pages[0].va, index.into(), &words);
            }
            let answer = hypercall(crate::call::GRANT_TABLE_OP, &[COPY, pages[0].va, 1100]);
            equal("answer", answer, 0)?;
            for index in 0..1100 {
                let status = crate::raw::memory::peek(pages[0].va + index * 40 + 32) >> 32 & 0xffff;
                equal_at("status", index, status, 0)?;
            }
            copied(a, 0, b, 0, 2200)
        })
    }),
];

/// Fills a page with words that are all different.
fn fill(page: Page) {
    (0..512).for_each(|word| page.set(word, word * 0x0101_0101_0101_0101 + 0x1357_9bdf));
}

/// Checks that so many bytes of a page came to another, which was zero, and no others.
fn copied(from: Page, source: u16, to: Page, dest: u16, length: u16) -> Outcome {
    let (source, dest, length) = (u64::from(source), u64::from(dest), u64::from(length));
    for at in 0..4096 {
        let inside = (dest..dest + length).contains(&at);
        let wanted = if inside { peek_byte(from.va + source + at - dest) } else { 0 };
        equal_at("byte", at, peek_byte(to.va + at), wanted)?;
    }
    Ok(())
}
