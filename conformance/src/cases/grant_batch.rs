//! Several operations in one call: counts, pointers, and what is done when one is refused or can't
//! be read.

use crate::call::{EFAULT, EINVAL, GRANT_TABLE_OP, MULTICALL, hypercall};
use crate::case::{Case, Outcome, Test, case, equal, equal_at};
use crate::raw::memory::{arena_address, peek};
use crate::raw::pages_calls::put_words;
use crate::raw::pages_grants::{
    BAD_HANDLE, BAD_REF, CACHE_FLUSH, COPY, DEVICE, End, GENERAL, HOST, MAP, NO_REF, OKAY,
    ONLY_READ, PERMIT, REF, REPLACE, SWAP, TRANSFER, UNMAP, UNSET, Wish, answer, copy_words,
    grant_op, mapped, put_at, status_at, unmap, unmapped, unmapped_device, with_table,
};
use crate::raw::pages_scratch::{LOADED, Page};
use crate::tables::M2P;

/// The operations that take any count.
const MANY: [u64; 7] = [MAP, UNMAP, COPY, REPLACE, TRANSFER, SWAP, CACHE_FLUSH];
/// Where an operation's argument does not fit before the end of a page.
const LAST: u64 = 4096;

pub(crate) const CASES: &[Case] = &[
    case("grant_batch/none", "No operations are done at once, from any address.", |_| {
        for command in MANY {
            for at in [0, 0x1000, arena_address(), 0x7fff_ffff_ffff] {
                equal_at("answer of", command, call(command, at, 0), 0)?;
            }
        }
        Ok(())
    }),
    case("grant_batch/in_hypervisor", "Arguments in the hypervisor, even none: EFAULT.", |_| {
        for command in MANY {
            for at in [0x8000_0000_0000, M2P, 0xffff_8300_0000_0000] {
                for count in [0, 1, 5] {
                    equal_at("answer of", command, call(command, at, count), EFAULT)?;
                }
            }
        }
        Ok(())
    }),
    case("grant_batch/unmapped", "Arguments that are not mapped: EFAULT.", |_| {
        for command in MANY {
            equal_at("answer of", command, call(command, 0x1000, 1), EFAULT)?;
            equal_at("answer for many of", command, call(command, 0x1000, 0x7fff_ffff), EFAULT)?;
        }
        Ok(())
    }),
    case("grant_batch/count", "A count is a positive number of 32 bits, else EINVAL.", |_| {
        for command in 0..16 {
            for count in [0x8000_0000, 0xffff_ffff, 0x1234_8000_0000] {
                equal_at("answer of", command, call(command, M2P, count), EINVAL)?;
            }
        }
        for command in MANY {
            equal_at("answer of", command, call(command, 0x1000, 1 << 32), 0)?;
            equal_at("answer for one of", command, call(command, 0x1000, 1 | 1 << 32), EFAULT)?;
        }
        Ok(())
    }),
    case("grant_batch/command", "Commands have 12 bits of 32; others: EINVAL.", |_| {
        for command in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 0xfff] {
            for other in [1 << 12, 1 << 19, 1 << 31] {
                let answer = call(command | other, 0x1000, 1);
                equal_at("answer of", command | other, answer, EINVAL)?;
            }
            let answer = call(command, 0x1000, 1);
            equal_at("upper half", command, call(command | 1 << 32, 0x1000, 1), answer)?;
        }
        Ok(())
    }),
    case("grant_batch/map", "Mappings in one call, some refused: each has its status.", |t| {
        with_table(t, |table, [a, b, w, v, ..]| {
            table.permit(REF, 0, a);
            table.permit(REF + 2, 4, b);
            for (index, (address, flags, reference)) in (0..).zip([
                (w.va, HOST, REF),
                (v.va, HOST, REF + 1),
                (v.va, HOST, REF + 2),
                (v.va, 0, REF + 2),
                (v.va, HOST, NO_REF),
                (0x1000, HOST, REF),
                (v.va, HOST | ONLY_READ, REF + 2),
            ]) {
                let wish = Wish { reference, ..Wish::new(address, flags) };
                put_at(arena_address(), index, &wish.words());
            }
            equal("answer", grant_op(MAP, 7), 0)?;
            let (first, last) = (answer(0), answer(6));
            for (index, status) in
                [OKAY, GENERAL, GENERAL, BAD_REF, BAD_REF, GENERAL, OKAY].into_iter().enumerate()
            {
                equal_at("status", index as u64, answer(index).status, status)?;
            }
            table.has("last entry", REF + 2, 0xd)?;
            unmapped(w.va, first.handle)?;
            unmapped(v.va, last.handle)
        })
    }),
    case("grant_batch/map_over", "Two mappings at one address: the second has it.", |t| {
        with_table(t, |table, [a, b, w, ..]| {
            table.permit(REF, 0, a);
            table.permit(REF + 1, 0, b);
            for index in 0..2 {
                let wish = Wish { reference: REF + index, ..Wish::new(w.va, HOST) };
                put_at(arena_address(), index.into(), &wish.words());
            }
            equal("answer", grant_op(MAP, 2), 0)?;
            let [first, second] = [answer(0), answer(1)];
            equal("status of the first", first.status, OKAY)?;
            equal("status of the second", second.status, OKAY)?;
            let entry = w.mapping(t);
            equal("frame", entry >> 12 & 0xff_ffff, b.mfn)?;
            equal("first", unmap(w.va, 0, first.handle)?, GENERAL)?;
            unmapped(w.va, second.handle)?;
            table.has("use of the first", REF, 0x19)?;
            // The first page's mapping, made again by the guest, fits its handle.
            let again = a.entry(entry & !0x000f_ffff_ffff_f000);
            equal("again", crate::raw::pages_calls::update_va(w.va, again, 2), 0)?;
            unmapped(w.va, first.handle)
        })
    }),
    case("grant_batch/unmap", "Unmapping in one call: the same handle twice is refused.", |t| {
        with_table(t, |table, [a, w, v, ..]| {
            table.permit(REF, 0, a);
            let first = mapped(Wish::new(w.va, HOST))?;
            let second = mapped(Wish::new(v.va, HOST))?;
            for (index, (address, handle)) in
                (0..).zip([(w.va, first), (w.va, first), (w.va, second), (v.va, second)])
            {
                put_at(arena_address(), index, &[address, 0, handle | UNSET << 32]);
            }
            equal("answer", grant_op(UNMAP, 4), 0)?;
            for (index, status) in [OKAY, BAD_HANDLE, GENERAL, OKAY].into_iter().enumerate() {
                equal_at("status", index as u64, status_at(24 * index + 20), status)?;
            }
            table.has("entry", REF, PERMIT)
        })
    }),
    case("grant_batch/hundred", "A hundred mappings in one call, unmapped in another.", |t| {
        with_table(t, |table, [a, ..]| {
            for index in 0..100 {
                table.permit(REF + index, 0, a);
                let wish = Wish { reference: REF + index, ..Wish::new(0, DEVICE) };
                put_at(arena_address(), index.into(), &wish.words());
            }
            equal("answer", grant_op(MAP, 100), 0)?;
            let mut handles = [0; 100];
            for (index, handle) in handles.iter_mut().enumerate() {
                equal_at("status", index as u64, answer(index).status, OKAY)?;
                *handle = answer(index).handle;
            }
            for (index, handle) in (0..).zip(handles) {
                put_at(arena_address(), index, &[0, a.ma(), handle | UNSET << 32]);
            }
            equal("answer", grant_op(UNMAP, 100), 0)?;
            for index in 0..100 {
                equal_at("status", index as u64, status_at(24 * index + 20), OKAY)?;
            }
            (REF..REF + 100).try_for_each(|entry| table.has("entry", entry, PERMIT))
        })
    }),
    case("grant_batch/thousand", "Fifteen hundred mappings at a time have as many handles.", |t| {
        with_table(t, |table, pages| {
            // The arguments lie in twelve pages that follow each other: 128 in each.
            let (at, a) = (pages[0].va, pages[13]);
            (0..16).for_each(|index| table.permit(REF + index, 0, a));
            for index in 0..1500 {
                let flags = DEVICE | ONLY_READ;
                let wish = Wish { reference: REF + index % 16, ..Wish::new(0, flags) };
                put_at(at, index.into(), &wish.words());
            }
            equal("answer", call(MAP, at, 1500), 0)?;
            for index in 0..1500 {
                let place = at + 32 * index + 16;
                equal_at("status", index, peek(place) >> 16 & 0xffff, 0)?;
                // The arguments of unmapping are shorter: they overtake none of these.
                put_at(at, index, &[0, a.ma(), peek(place) >> 32 | UNSET << 32]);
            }
            equal("answer", call(UNMAP, at, 1500), 0)?;
            for index in 0..1500 {
                equal_at("handle", index, peek(at + 24 * index + 16) >> 32 & 0xffff, 0)?;
            }
            (REF..REF + 16).try_for_each(|entry| table.has("entry", entry, PERMIT))
        })
    }),
    case("grant_batch/map_cut", "Mappings up to an argument that can't be read are done.", |t| {
        cut(t, 32, |table, [a, b, w], at| {
            table.permit(REF, 0, a);
            table.permit(REF + 1, 0, b);
            put_at(at, 0, &Wish::new(w.va, HOST).words());
            put_at(at + 32, 0, &Wish { reference: REF + 1, ..Wish::new(0, DEVICE) }.words());
            equal("answer", call(MAP, at, 3), EFAULT)?;
            table.has("first", REF, 0x19)?;
            table.has("second", REF + 1, 0x19)?;
            let handle = |place: u64| peek(at + 32 * place + 16) >> 32;
            unmapped(w.va, handle(0))?;
            unmapped_device(b, handle(1))
        })
    }),
    case("grant_batch/unmap_cut", "Unmapping up to one that can't be read is done.", |t| {
        cut(t, 24, |table, [a, _, w], at| {
            table.permit(REF, 0, a);
            let first = mapped(Wish::new(w.va, HOST))?;
            let second = mapped(Wish::new(0, DEVICE))?;
            put_at(at, 0, &[w.va, 0, first | UNSET << 32]);
            put_at(at, 1, &[0, a.ma(), second | UNSET << 32]);
            equal("answer", call(UNMAP, at, 3), EFAULT)?;
            equal("status", peek(at + 24 + 16) >> 32 & 0xffff, 0)?;
            equal("entry of the page table", w.mapping(t), 0)?;
            table.has("entry", REF, PERMIT)
        })
    }),
    case("grant_batch/copy_cut", "Copies up to one that can't be read are done.", |t| {
        cut(t, 40, |_, [a, b, _], at| {
            a.set(1, 0x1234);
            let (from, to) = (End::frame(a.mfn), End::frame(b.mfn));
            put_at(at, 0, &copy_words(from, to, 16));
            put_at(at, 1, &copy_words(from, to.at(16), 16));
            equal("answer", call(COPY, at, 3), EFAULT)?;
            equal("status", peek(at + 40 + 32) >> 32 & 0xffff, 0)?;
            equal("first", b.get(1), 0x1234)?;
            equal("second", b.get(3), 0x1234)
        })
    }),
    case("grant_batch/swap_cut", "Exchanges up to one that can't be read are done.", |t| {
        cut(t, 12, |table, [a, ..], at| {
            table.permit(REF, 0, a);
            let swap = |first: u32| u64::from(REF + first) | u64::from(REF + first + 1) << 32;
            let (first, second) = (swap(0), swap(1));
            put_at(at, 0, &[first]);
            put_at(at + 8, 0, &[UNSET & 0xffff_ffff | (second & 0xffff_ffff) << 32]);
            crate::raw::memory::poke_byte(at + 16, u8::try_from(second >> 32).unwrap_or(0));
            (17..24).for_each(|byte| crate::raw::memory::poke_byte(at + byte, 0));
            equal("answer", call(SWAP, at, 3), EFAULT)?;
            table.has("entry", REF + 2, PERMIT)?;
            table.has("where it was", REF, 0)
        })
    }),
    case("grant_batch/copy_unanswered", "A copy whose status can't be written is done.", |t| {
        with_table(t, |_, [a, b, args, ..]| {
            a.set(0, 0x1234);
            put_at(args.va, 0, &copy_words(End::frame(a.mfn), End::frame(b.mfn), 8));
            put_at(args.va, 1, &copy_words(End::frame(a.mfn), End::frame(b.mfn).at(8), 8));
            args.protect()?;
            equal("answer", call(COPY, args.va, 2), EFAULT)?;
            equal("first", b.get(0), 0x1234)?;
            equal("second", b.get(1), 0)
        })
    }),
    case("grant_batch/unmap_unanswered", "A mapping whose status can't be written goes.", |t| {
        with_table(t, |table, [a, w, args, ..]| {
            table.permit(REF, 0, a);
            let first = mapped(Wish::new(w.va, HOST))?;
            let second = mapped(Wish::new(0, DEVICE))?;
            put_at(args.va, 0, &[w.va, 0, first]);
            put_at(args.va, 1, &[0, a.ma(), second]);
            args.protect()?;
            equal("answer", call(UNMAP, args.va, 2), EFAULT)?;
            equal("entry of the page table", w.mapping(t), 0)?;
            equal("handle", unmap(w.va, 0, first)?, BAD_HANDLE)?;
            table.has("use by the second", REF, 0x19)?;
            unmapped_device(a, second)?;
            table.has("entry", REF, PERMIT)
        })
    }),
    case("grant_batch/map_unanswered", "A mapping whose handle can't be written stays.", |t| {
        with_table(t, |table, [a, w, args, ..]| {
            table.permit(REF, 0, a);
            put_at(args.va, 0, &Wish::new(w.va, HOST).words());
            args.protect()?;
            equal("answer", call(MAP, args.va, 1), EFAULT)?;
            equal("frame", w.mapping(t) >> 12 & 0xff_ffff, a.mfn)?;
            table.has("entry", REF, 0x19)?;
            // Its handle is one of those that there have been.
            let found = (0..8192).find(|&handle| matches!(unmap(w.va, 0, handle), Ok(OKAY)));
            equal("a handle", found.is_some(), true)?;
            table.has("entry behind it", REF, PERMIT)
        })
    }),
    case("grant_batch/multicall", "The call may be one of many.", |t| {
        with_table(t, |table, [a, w, ..]| {
            table.permit(REF, 0, a);
            put_at(arena_address() + 1024, 0, &Wish::new(w.va, HOST).words());
            put_words(2048, &[GRANT_TABLE_OP, UNSET, MAP, arena_address() + 1024, 1, 0, 0, 0]);
            let answer = hypercall(MULTICALL, &[arena_address() + 2048, 1]);
            equal("answer", answer, 0)?;
            equal("its answer", peek(arena_address() + 2056), 0)?;
            unmapped(w.va, peek(arena_address() + 1024 + 16) >> 32)
        })
    }),
];

/// The call with its arguments at an address.
fn call(command: u64, address: u64, count: u64) -> i64 {
    hypercall(GRANT_TABLE_OP, &[command, address, count])
}

/// Runs `body` with three pages and an address where two arguments of a size fit before memory that
/// is not mapped.
fn cut(
    t: &Test<'_>,
    size: u64,
    body: impl FnOnce(crate::raw::pages_grants::Table, [Page; 3], u64) -> Outcome,
) -> Outcome {
    with_table(t, |table, [a, b, w, args, behind, ..]| {
        behind.unmap()?;
        body(table, [a, b, w], args.va + LAST - 2 * size)?;
        equal("mapped", behind.map(LOADED), 0)
    })
}
