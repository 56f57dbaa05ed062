//! `map_grant_ref`: what is mapped, what is refused, and what an entry in use stands for.

use crate::call::{EINVAL, hypercall};
use crate::case::{Case, Outcome, Test, case, equal, equal_at};
use crate::raw::memory::arena_address;
use crate::raw::pages_calls::{IO, NOBODY, SELF, SET_GDT, XEN, pin, put_words, unpin};
use crate::raw::pages_grants::{
    APPLICATION, BAD_DOMAIN, BAD_PAGE, BAD_REF, BY_ENTRY, DEVICE, End, GENERAL, HOST, NO_REF, OKAY,
    ONLY_READ, OWN, PERMIT, READ_ONLY, READING, REF, Table, WRITING, Wish, copy, map, map_refused,
    mapped, query_size, unmap, unmapped, unmapped_device, with_table,
};
use crate::raw::pages_reservation::{DECREASE, owned, reserve, with_spare};
use crate::raw::pages_scratch::{LOADED, PAGES, Page, free_frame, hypervisor_frame};
use crate::tables::{M2P, frame_of, page_of, walk};

/// Flags of an entry for a kernel's page: present, user, accessed, dirty, never executed.
const KERNEL: u64 = 0x8010_0000_0000_0065;
/// The same for a page of the user mode: global instead of the kernel's mark.
const USER: u64 = 0x8000_0000_0000_0165;

pub(crate) const CASES: &[Case] = &[
    case("grant_map/entry_flags", "The page-table entry has the flags asked for.", |t| {
        for (how, flags) in [
            (0, KERNEL | 2),
            (ONLY_READ, KERNEL),
            (APPLICATION, USER | 2),
            (APPLICATION | ONLY_READ, USER),
            (DEVICE, KERNEL | 2),
            (1 << 16, KERNEL | 0x202),
            (2 << 16, KERNEL | 0x402),
            (4 << 16, KERNEL | 0x802),
            (0xfff8 << 16, KERNEL | 2),
            (0xffff << 16 | ONLY_READ, KERNEL | 0xe00),
            (0xffe0, KERNEL | 2),
        ] {
            let device = how & DEVICE != 0;
            with_table(t, |table, [a, w, ..]| {
                table.permit(REF, 0, a);
                for (address, way) in [(w.va, 0), (w.slot, BY_ENTRY)] {
                    let handle = mapped(Wish::new(address, HOST | how | way))?;
                    let seen = w.mapping(t);
                    equal("unmap", unmap(address, if device { a.ma() } else { 0 }, handle)?, 0)?;
                    equal_at("entry for flags", (how | way).into(), seen, a.entry(flags))?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }),
    case("grant_map/same_page", "What is mapped is the page: each sees the other's words.", |t| {
        with_table(t, |table, [a, w, ..]| {
            a.set(3, 0x1111);
            table.permit(REF, 0, a);
            let handle = mapped(Wish::new(w.va, HOST))?;
            let seen = w.get(3);
            w.set(4, 0x2222);
            unmapped(w.va, handle)?;
            equal("word of the page", seen, 0x1111)?;
            equal("word of the mapping", a.get(4), 0x2222)
        })
    }),
    case("grant_map/old_mapping", "What was mapped at the address before is let go.", |t| {
        with_table(t, |table, [a, w, ..]| {
            table.permit(REF, 0, a);
            let handle = mapped(Wish::new(w.va, HOST))?;
            let free = pin(1, w.mfn);
            equal("unpin", unpin(w.mfn), 0)?;
            unmapped(w.va, handle)?;
            equal("pin of the old page", free, 0)
        })
    }),
    case("grant_map/own_address", "A page can be mapped over its own mapping.", |t| {
        with_table(t, |table, [a, ..]| {
            table.permit(REF, 0, a);
            let handle = mapped(Wish::new(a.va, HOST | ONLY_READ))?;
            equal("entry", a.mapping(t), a.entry(KERNEL))?;
            unmapped(a.va, handle)
        })
    }),
    case("grant_map/absent", "An address where nothing is mapped can be used.", |t| {
        with_table(t, |table, [a, w, ..]| {
            w.unmap()?;
            table.permit(REF, 0, a);
            let handle = mapped(Wish::new(w.va, HOST))?;
            unmapped(w.va, handle)
        })
    }),
    case("grant_map/within_page", "An address within a page stands for the page.", |t| {
        with_table(t, |table, [a, w, ..]| {
            table.permit(REF, 0, a);
            let handle = mapped(Wish::new(w.va + 0xabc, HOST))?;
            equal("entry", w.mapping(t), a.entry(KERNEL | 2))?;
            unmapped(w.va + 0xfff, handle)
        })
    }),
    case("grant_map/bad_address", "An address that no table covers: status -1.", |t| {
        for address in [0, 0x1000, M2P, 0xffff_8300_0000_0000, 0x0000_8000_0000_0000, u64::MAX] {
            refused_at(t, address, HOST)?;
        }
        Ok(())
    }),
    case("grant_map/bad_entry_address", "Entries that are no last-level ones: status -1.", |t| {
        with_table(t, |_, [_, w, ..]| {
            let above = walk(t.boot, 3, w.va).unwrap_or(0) & 0x000f_ffff_ffff_f000;
            for address in [
                w.slot + 1,
                w.slot + 4,
                w.ma(),
                w.va,
                above,
                hypervisor_frame(t) << 12,
                free_frame() << 12,
                1 << 50,
                u64::MAX - 7,
            ] {
                refused_at(t, address, HOST | BY_ENTRY)?;
            }
            Ok(())
        })
    }),
    case("grant_map/other_table", "An entry of a table that is loaded nowhere can be used.", |t| {
        with_table(t, |table, [a, l1, ..]| {
            table.permit(REF, 0, a);
            l1.pin(1)?;
            let handle = mapped(Wish::new(l1.place(5), HOST | BY_ENTRY))?;
            let seen = l1.get(5);
            unmapped(l1.place(5), handle)?;
            equal("entry", seen, a.entry(KERNEL | 2))?;
            equal("entry behind it", l1.get(5), 0)?;
            l1.unpin()
        })
    }),
    case("grant_map/domains", "A domain that is not there: status -2, even DOMID_SELF.", |t| {
        with_table(t, |table, [a, w, ..]| {
            table.permit(REF, 0, a);
            for domain in [NOBODY, 1, SELF, IO, XEN, 0xffff] {
                let wish = Wish { domain, ..Wish::new(w.va, HOST) };
                map_refused(wish, BAD_DOMAIN)?;
                map_refused(Wish { reference: NO_REF, ..wish }, BAD_DOMAIN)?;
                map_refused(Wish { flags: 4, ..wish }, BAD_REF)?;
            }
            table.has("entry", REF, 1)
        })
    }),
    case("grant_map/beyond", "An entry beyond the table: status -3.", |t| {
        with_table(t, |_, [_, w, ..]| {
            let (.., frames, _) = query_size(SELF);
            let end = u32::try_from(frames * 512).unwrap_or(NO_REF);
            for reference in [end, NO_REF, 1 << 31, u32::MAX] {
                map_refused(Wish { reference, ..Wish::new(w.va, HOST) }, BAD_REF)?;
                map_refused(Wish { reference, ..Wish::new(0x1000, DEVICE) }, BAD_REF)?;
            }
            map_refused(Wish { reference: end - 1, ..Wish::new(w.va, HOST) }, GENERAL)
        })
    }),
    case("grant_map/to_others", "An entry for somebody else: status -1, even DOMID_SELF.", |t| {
        with_table(t, |table, [a, w, ..]| {
            for domain in [1, SELF, NOBODY, 0xffff] {
                table.set(REF, PERMIT, domain, a.mfn);
                map_refused(Wish::new(w.va, HOST), GENERAL)?;
                map_refused(Wish::new(0, DEVICE | ONLY_READ), GENERAL)?;
                table.has("entry", REF, 1)?;
            }
            Ok(())
        })
    }),
    case("grant_map/strangers", "A frame that is not the granter's: status -9.", |t| {
        with_table(t, |table, [_, w, ..]| {
            for mfn in [free_frame(), hypervisor_frame(t), 0xb8, 0xfee00, 0xffff_ffff] {
                table.set(REF, PERMIT, OWN, mfn);
                map_refused(Wish::new(w.va, HOST), BAD_PAGE)?;
                map_refused(Wish::new(w.va, HOST | ONLY_READ), BAD_PAGE)?;
                map_refused(Wish::new(0, DEVICE), BAD_PAGE)?;
                map_refused(Wish::new(0x1000, HOST), BAD_PAGE)?;
                equal_at("entry for frame", mfn, table.flags(REF), 1)?;
            }
            Ok(())
        })
    }),
    case("grant_map/of_table", "A page table can be mapped read-only alone, else -1.", |t| {
        with_table(t, |table, [l1, w, ..]| {
            l1.pin(1)?;
            let outcome = read_only_alone(table, l1, w);
            l1.unpin()?;
            outcome
        })
    }),
    case("grant_map/of_descriptors", "A page of descriptors can be read-only alone.", |t| {
        with_table(t, |table, [gdt, w, ..]| {
            gdt.protect()?;
            put_words(0, &[gdt.mfn]);
            equal("set_gdt", hypercall(SET_GDT, &[arena_address(), 1]), 0)?;
            let outcome = read_only_alone(table, gdt, w);
            equal("set_gdt", hypercall(SET_GDT, &[0, 0]), 0)?;
            outcome
        })
    }),
    case("grant_map/no_table_after", "What is mapped writable becomes no page table.", |t| {
        with_table(t, |table, [a, w, ..]| {
            table.permit(REF, 0, a);
            a.protect()?;
            for (how, answer) in [(HOST, EINVAL), (DEVICE, EINVAL), (HOST | 4, 0), (DEVICE | 4, 0)]
            {
                let handle = mapped(Wish::new(w.va, how))?;
                let seen = pin(1, a.mfn);
                if seen == 0 {
                    a.unpin()?;
                }
                release(a, w, how, handle)?;
                equal_at("pin while mapped", how.into(), seen, answer)?;
                equal("pin behind it", pin(1, a.mfn), 0)?;
                a.unpin()?;
            }
            Ok(())
        })
    }),
    case("grant_map/twice", "The bits of an entry stay for the last mapping of each kind.", |t| {
        // Maps in one order, unmaps in each.
        for (first, second) in [(HOST | ONLY_READ, HOST), (HOST, HOST | ONLY_READ)] {
            twice(t, first, second, false)?;
            twice(t, first, second, true)?;
        }
        twice(t, HOST, HOST, false)?;
        twice(t, DEVICE, HOST, true)?;
        twice(t, DEVICE | ONLY_READ, DEVICE, false)
    }),
    case("grant_map/handles", "A hundred mappings have a hundred handles.", |t| {
        with_table(t, |table, [a, ..]| {
            table.permit(REF, 0, a);
            let mut handles = [0; 100];
            for index in 0..handles.len() {
                let handle = mapped(Wish::new(0, DEVICE | ONLY_READ))?;
                let again = handles[..index].contains(&handle);
                equal_at("handle given again", handle, again, false)?;
                handles[index] = handle;
            }
            handles.into_iter().try_for_each(|handle| unmapped_device(a, handle))
        })
    }),
    case("grant_map/many", "An entry has 128 mappings of each kind; one more: status -1.", |t| {
        with_table(t, |table, [a, ..]| {
            table.permit(REF, 0, a);
            table.permit(REF + 1, 0, a);
            let mut handles = [0; 128];
            for how in [DEVICE | ONLY_READ, DEVICE] {
                for handle in &mut handles {
                    *handle = mapped(Wish::new(0, how))?;
                }
                let more = map(Wish::new(0, how))?;
                let other = mapped(Wish::new(0, how ^ ONLY_READ))?;
                unmapped_device(a, other)?;
                let another = mapped(Wish { reference: REF + 1, ..Wish::new(0, how) })?;
                unmapped_device(a, another)?;
                handles.into_iter().try_for_each(|handle| unmapped_device(a, handle))?;
                equal("one more", more.status, GENERAL)?;
            }
            Ok(())
        })
    }),
    case("grant_map/revoked", "While it is mapped, an emptied entry can be mapped more.", |t| {
        with_table(t, |table, [a, w, v, ..]| {
            table.permit(REF, 0, a);
            let first = mapped(Wish::new(w.va, HOST | ONLY_READ))?;
            table.set(REF, 0, 7, 0xffff_ffff);
            let second = mapped(Wish::new(v.va, HOST | ONLY_READ))?;
            let read = (table.flags(REF), v.mapping(t));
            unmapped(v.va, second)?;
            let third = mapped(Wish::new(v.va, HOST))?;
            let written = (table.flags(REF), v.mapping(t));
            unmapped(v.va, third)?;
            unmapped(w.va, first)?;
            let after = table.flags(REF);
            equal("entry, mapped read-only", read.0, 0)?;
            equal("page, mapped read-only", read.1, a.entry(KERNEL))?;
            equal("entry, mapped writable", written.0, 0x18)?;
            equal("page, mapped writable", written.1, a.entry(KERNEL | 2))?;
            equal("entry behind it", after, 0)
        })
    }),
    case("grant_map/made_read_only", "An entry made read-only keeps its writers.", |t| {
        with_table(t, |table, [a, w, v, ..]| {
            table.permit(REF, 0, a);
            let first = mapped(Wish::new(w.va, HOST | ONLY_READ))?;
            table.permit(REF, READ_ONLY | READING, a);
            let refused = map(Wish::new(v.va, HOST))?.status;
            let before = table.flags(REF);
            table.permit(REF, READING, a);
            let second = mapped(Wish::new(v.va, HOST))?;
            table.permit(REF, READ_ONLY | READING | WRITING, a);
            let third = map(Wish::new(0, DEVICE))?;
            unmapped_device(a, third.handle)?;
            unmapped(v.va, second)?;
            unmapped(w.va, first)?;
            equal("writer without another", refused, GENERAL)?;
            equal("entry", before, 0xd)?;
            equal("writer beside another", third.status, OKAY)
        })
    }),
    case("grant_map/other_frame", "A mapped entry stands for the frame it had.", |t| {
        with_table(t, |table, [a, b, w, v, ..]| {
            table.permit(REF, 0, a);
            let first = mapped(Wish::new(w.va, HOST))?;
            table.permit(REF, READING | WRITING, b);
            let second = map(Wish::new(v.va, HOST))?;
            let seen = v.mapping(t);
            unmapped(v.va, second.handle)?;
            unmapped(w.va, first)?;
            equal("mapped", seen, a.entry(KERNEL | 2))?;
            equal("bus address", second.bus, a.ma())?;
            let third = map(Wish::new(w.va, HOST))?;
            unmapped(w.va, third.handle)?;
            equal("bus address behind it", third.bus, b.ma())
        })
    }),
    case("grant_map/refused_clean", "A refused mapping leaves the page free for any use.", |t| {
        with_table(t, |table, [a, ..]| {
            table.permit(REF, 0, a);
            a.protect()?;
            map_refused(Wish::new(0x1000, HOST), GENERAL)?;
            map_refused(Wish::new(0x1000, HOST | DEVICE), GENERAL)?;
            map_refused(Wish::new(a.ma(), HOST | BY_ENTRY), GENERAL)?;
            table.has("entry", REF, 1)?;
            equal("pin", pin(1, a.mfn), 0)?;
            a.unpin()
        })
    }),
    case(
        "grant_map/given_back",
        "A mapped page can be given back; it goes with its mapping.",
        |t| {
            with_table(t, |table, [a, ..]| {
                with_spare(t, |[pfn, ..]| {
                    let (mfn, before) = (frame_of(t.boot, pfn), owned());
                    table.set(REF, PERMIT, OWN, mfn);
                    let handle = mapped(Wish::new(0, DEVICE))?;
                    equal("given back", reserve(DECREASE, &[mfn]), 1)?;
                    let (page, between) = (page_of(mfn), owned());
                    let more = map(Wish::new(0, DEVICE | ONLY_READ))?;
                    if more.status == OKAY {
                        equal("unmap", unmap(0, mfn << 12, more.handle)?, OKAY)?;
                    }
                    let copied = copy(End::entry(REF), End::frame(a.mfn), 8)?;
                    equal("unmap", unmap(0, mfn << 12, handle)?, OKAY)?;
                    let refused = map(Wish::new(0, DEVICE))?.status;
                    equal("number meanwhile", page, pfn)?;
                    equal("number behind it", page_of(mfn), u64::MAX)?;
                    equal("more mappings", more.status, OKAY)?;
                    equal("copies", copied, OKAY)?;
                    equal("pages meanwhile", between, before)?;
                    equal("pages behind it", owned(), before - 1)?;
                    equal("mapping behind it", refused, BAD_PAGE)
                })
            })
        },
    ),
];

/// Checks that a mapping of a page of the guest's is refused for its address, and is as before.
fn refused_at(t: &Test<'_>, address: u64, how: u32) -> Outcome {
    with_table(t, |table, pages: [Page; PAGES]| {
        table.permit(REF, 0, pages[0]);
        for flags in [how, how | ONLY_READ, how | DEVICE] {
            let seen = map(Wish::new(address, flags))?.status;
            equal_at("status for", address, seen, GENERAL)?;
            equal_at("entry for", address, table.flags(REF), 1)?;
        }
        Ok(())
    })
}

/// Checks that a page can be mapped for reading, and not for writing.
fn read_only_alone(table: Table, page: Page, w: Page) -> Outcome {
    table.permit(REF, 0, page);
    for how in [HOST, DEVICE, HOST | DEVICE] {
        map_refused(Wish::new(w.va, how), GENERAL)?;
        table.has("entry", REF, 1)?;
    }
    for how in [HOST | ONLY_READ, DEVICE | ONLY_READ] {
        let handle = mapped(Wish::new(w.va, how))?;
        table.has("mapped entry", REF, 9)?;
        release(page, w, how, handle)?;
        equal("mapping back", w.map(LOADED), 0)?;
    }
    Ok(())
}

/// Unmaps a mapping of a page at another's address, or for devices.
fn release(page: Page, w: Page, how: u32, handle: u64) -> Outcome {
    if how & HOST != 0 { unmapped(w.va, handle) } else { unmapped_device(page, handle) }
}

/// Maps an entry in two ways and unmaps the second first, or the first; looks at the entry.
fn twice(t: &Test<'_>, first: u32, second: u32, first_goes: bool) -> Outcome {
    with_table(t, |table, [a, w, v, ..]| {
        let bits = |how: u32| if how & ONLY_READ == 0 { 0x19 } else { 9 };
        table.permit(REF, 0, a);
        let (w, v) = (("first", w, first), ("second", v, second));
        let handles = [mapped(Wish::new(w.1.va, first))?, mapped(Wish::new(v.1.va, second))?];
        table.has("both", REF, bits(first) | bits(second))?;
        let (gone, left) = if first_goes { (w, v) } else { (v, w) };
        let [one, other] = if first_goes { handles } else { [handles[1], handles[0]] };
        release(a, gone.1, gone.2, one)?;
        table.has(left.0, REF, bits(left.2))?;
        release(a, left.1, left.2, other)?;
        table.has("none", REF, 1)
    })
}
