//! The grant table itself: its frames, size and version; and the small operations.

use crate::call::{EFAULT, EINVAL, ENOSYS, EPERM, GRANT_TABLE_OP, hypercall};
use crate::case::{Case, case, equal, equal_at, holds};
use crate::raw::memory::{arena_address, get};
use crate::raw::pages_calls::{
    CLEAR_PAGE, ESRCH, IO, NOBODY, SELF, SET_GDT, XEN, memory_op, mmuext, pin, put_words, update,
    update_va, word_at,
};
use crate::raw::pages_grants::{
    AGAIN, BAD_ADDRESS, BAD_DOMAIN, BAD_PAGE, BAD_REF, CACHE_FLUSH, DEVICE, GENERAL, NO_REF, OKAY,
    ONLY_READ, OWN, QUERY_SIZE, REF, SETUP_TABLE, TRANSFER, UNSET, Wish, both, both_at, grant_op,
    mapped, put_at, query_size, setup_at, setup_table, status_at, swap, unmapped_device,
    with_table,
};
use crate::raw::pages_scratch::{LOADED, free_frame, hypervisor_frame, with};
use crate::tables::{M2P, page_of};

const SET_VERSION: u64 = 8;
const STATUS_FRAMES: u64 = 9;
const GET_VERSION: u64 = 10;
const EILSEQ: i64 = -84;
const EOPNOTSUPP: i64 = -95;
/// The most frames a table has.
const MOST: u64 = 64;
/// What an unset status reads as.
const NO_STATUS: i64 = 0x5a5a;

pub(crate) const CASES: &[Case] = &[
    case("grant_table/setup", "Setting the table up gives its frame, each time the same.", |_| {
        let frame = setup_table(SELF, 1)?;
        equal("frame again", setup_table(SELF, 1)?, frame)?;
        equal("frame by the own number", setup_table(OWN, 1)?, frame)?;
        equal("page of the frame", page_of(frame), u64::MAX)
    }),
    case("grant_table/setup_none", "No frames may be asked for: none are given.", |_| {
        put_words(64, &[UNSET]);
        let list = arena_address() + 64;
        both("answer", setup_at(SELF, 0, list), (0, OKAY))?;
        equal("list", word_at(64), UNSET)?;
        both("answer with no list", setup_at(SELF, 0, 0x1000), (0, OKAY))
    }),
    case("grant_table/setup_domains", "Of a domain that is not there: status -2.", |_| {
        for domain in [NOBODY, 1, IO, XEN] {
            let seen = setup_at(domain, 1, arena_address() + 64);
            both_at("answer for domain", domain, seen, (0, BAD_DOMAIN))?;
        }
        Ok(())
    }),
    case("grant_table/setup_count", "Only one table can be set up: else EINVAL.", |_| {
        put_words(0, &[SELF | 1 << 32, UNSET, arena_address() + 64]);
        for count in [0, 2, 0x7fff_ffff] {
            equal_at("answer for count", count, grant_op(SETUP_TABLE, count), EINVAL)?;
        }
        equal("status", status_at(8), NO_STATUS)
    }),
    case("grant_table/setup_unmapped", "An argument that is not mapped: EFAULT.", |_| {
        for count in [1, 2] {
            let answer = hypercall(GRANT_TABLE_OP, &[SETUP_TABLE, 0x1000, count]);
            equal_at("answer for count", count, answer, if count == 1 { EFAULT } else { EINVAL })?;
        }
        Ok(())
    }),
    case("grant_table/setup_list_unmapped", "A list that is not mapped: status -5.", |_| {
        both("answer", setup_at(SELF, 1, 0x1000), (0, BAD_ADDRESS))
    }),
    case("grant_table/setup_list_hypervisor", "A list in the hypervisor: EFAULT.", |_| {
        for list in [0xffff_8300_0000_0000, M2P, 0x0000_8000_0000_0000] {
            both_at("answer for", list, setup_at(SELF, 1, list), (EFAULT, NO_STATUS))?;
            both_at("no domain", list, setup_at(NOBODY, 1, list), (EFAULT, NO_STATUS))?;
        }
        Ok(())
    }),
    case("grant_table/setup_list_read_only", "A list that can't be written: status -5.", |t| {
        with(t, |[a, ..]| {
            a.protect()?;
            both("answer", setup_at(SELF, 1, a.va), (0, BAD_ADDRESS))
        })
    }),
    case("grant_table/setup_list_end", "A list that ends early is written as far.", |t| {
        with(t, |[a, b, ..]| {
            b.unmap()?;
            a.set(511, UNSET);
            both("answer", setup_at(SELF, 2, a.va + 4088), (0, BAD_ADDRESS))?;
            equal("first", a.get(511), setup_table(SELF, 1)?)
        })
    }),
    case("grant_table/setup_read_only", "A status that can't be written: EFAULT.", |t| {
        with(t, |[a, ..]| {
            put_at(a.va, 0, &[SELF | 1 << 32, UNSET, arena_address() + 64]);
            a.protect()?;
            put_words(64, &[UNSET]);
            let answer = hypercall(GRANT_TABLE_OP, &[SETUP_TABLE, a.va, 1]);
            equal("answer", answer, EFAULT)?;
            let seen = word_at(64);
            equal("list", seen, setup_table(SELF, 1)?)
        })
    }),
    case("grant_table/setup_too_many", "More frames than a table may have: status -1.", |_| {
        for frames in [MOST + 1, 0x1000, 0x1fff_ffff, 0xffff_ffff] {
            let seen = setup_at(SELF, frames, arena_address() + 64);
            both_at("answer for", frames, seen, (0, GENERAL))?;
        }
        Ok(())
    }),
    case("grant_table/grows", "A table grows; its frames stay and are all different.", |_| {
        let first = setup_table(SELF, 1)?;
        setup_table(SELF, 4)?;
        let frames: [u64; 4] = core::array::from_fn(|index| word_at(64 + 8 * index));
        equal("first", frames[0], first)?;
        for (index, frame) in frames.iter().enumerate() {
            let again = frames[..index].contains(frame);
            equal_at("frame given twice", *frame, again, false)?;
        }
        let (.., has, _) = query_size(SELF);
        holds("frames", has, "4 or more", has >= 4)
    }),
    case("grant_table/most", "A table may have 64 frames.", |_| {
        setup_table(SELF, MOST)?;
        let (.., has, may_have) = query_size(SELF);
        equal("frames it has", has, MOST)?;
        equal("frames it may have", may_have, MOST)
    }),
    case("grant_table/shrinks_not", "A table does not get shorter.", |_| {
        setup_table(SELF, 8)?;
        let (.., before, _) = query_size(SELF);
        setup_table(SELF, 1)?;
        let (.., has, _) = query_size(SELF);
        equal("frames", has, before)
    }),
    case("grant_table/frames_empty", "Frames of the table begin empty.", |t| {
        let frame = setup_table(SELF, 3)?;
        with(t, |[a, ..]| {
            equal("mapped", update_va(a.va, frame << 12 | LOADED, 2), 0)?;
            (0..512).try_for_each(|word| equal_at("entry", word, a.get(word), 0))
        })
    }),
    case("grant_table/frame_mapped", "A frame can be mapped twice, writable or not.", |t| {
        with_table(t, |table, [a, b, ..]| {
            let frame = setup_table(SELF, 1)?;
            equal("writable", update_va(a.va, frame << 12 | LOADED, 2), 0)?;
            equal("read-only", update_va(b.va, frame << 12 | (LOADED & !2), 2), 0)?;
            a.set(u64::from(REF), 2);
            equal("seen by one", b.get(u64::from(REF)), 2)?;
            table.has("seen by the other", REF, 2)
        })
    }),
    case("grant_table/frame_no_table", "A frame of it becomes no page table: EINVAL.", |_| {
        let frame = setup_table(SELF, 2)?;
        for level in 1..5 {
            equal_at("pin at level", level, pin(level, frame), EINVAL)?;
        }
        Ok(())
    }),
    case("grant_table/frame_no_descriptors", "A frame of it holds no descriptors: EINVAL.", |_| {
        let frame = setup_table(SELF, 2)?;
        put_words(0, &[frame]);
        equal("answer", hypercall(SET_GDT, &[arena_address(), 1]), EINVAL)
    }),
    case("grant_table/frame_granted", "A frame of it can be granted itself.", |t| {
        with_table(t, |table, [a, ..]| {
            let frame = setup_table(SELF, 1)?;
            table.set(REF, 1, OWN, frame);
            let handle = mapped(Wish::new(a.va, 2))?;
            equal("entry, by the mapping", a.get(u64::from(REF)), table.word(REF))?;
            crate::raw::pages_grants::unmapped(a.va, handle)
        })
    }),
    case("grant_table/frame_written", "A frame of it is written and cleared as any page.", |t| {
        with_table(t, |_, [a, ..]| {
            let frame = setup_table(SELF, 2)?;
            equal("mapped", update_va(a.va, frame << 12 | LOADED, 2), 0)?;
            equal("update", update(frame << 12 | 0x40, 0x1230), 0)?;
            equal("entry", a.get(8), 0x1230)?;
            equal("clearing", mmuext(CLEAR_PAGE, frame, 0), 0)?;
            equal("entry", a.get(8), 0)
        })
    }),
    case("grant_table/frame_number", "A frame of it can be given a page's number.", |_| {
        let frame = setup_table(SELF, 2)?;
        equal("update", update(frame << 12 | 1, 0x3ff0), 0)?;
        let seen = page_of(frame);
        equal("update", update(frame << 12 | 1, u64::MAX), 0)?;
        equal("number", seen, 0x3ff0)
    }),
    case("grant_table/frame_exchanged", "A frame of it can't be exchanged.", |_| {
        let frame = setup_table(SELF, 2)?;
        put_words(1024, &[frame, 0x3ff0]);
        let (list, other) = (arena_address() + 1024, arena_address() + 1032);
        let words = [list, 1, 0, SELF, other, 1, 0, SELF, 0];
        equal("answer", memory_op(11, &words), EINVAL)?;
        equal("frame", setup_table(SELF, 2)?, frame)
    }),
    case("grant_table/query", "The size: of oneself by either name.", |_| {
        for domain in [SELF, OWN] {
            let (answer, status, has, may_have) = query_size(domain);
            both_at("answer for", domain, (answer, status), (0, OKAY))?;
            holds("frames it has", has, "1 to 64", (1..=MOST).contains(&has))?;
            equal_at("frames it may have", domain, may_have, MOST)?;
        }
        Ok(())
    }),
    case("grant_table/query_domains", "Of a domain that is not there: status -2.", |_| {
        for domain in [NOBODY, 1, IO, XEN] {
            let (answer, status, has, may_have) = query_size(domain);
            both_at("answer for", domain, (answer, status), (0, BAD_DOMAIN))?;
            both_at("numbers for", domain, (has, may_have), (0x5a5a_5a5a, 0x5a5a_5a5a))?;
        }
        Ok(())
    }),
    case("grant_table/query_count", "Only one size is told: else EINVAL, EFAULT.", |_| {
        for (count, wanted) in [(0, EINVAL), (2, EINVAL), (1, EFAULT)] {
            let answer = hypercall(GRANT_TABLE_OP, &[QUERY_SIZE, 0x1000, count]);
            equal_at("answer for count", count, answer, wanted)?;
        }
        Ok(())
    }),
    case("grant_table/version", "The table is of version 1.", |_| {
        for domain in [SELF, OWN] {
            put_words(0, &[domain | UNSET << 16]);
            equal_at("answer for", domain, grant_op(GET_VERSION, 1), 0)?;
            equal_at("version for", domain, word_at(0) >> 32, 1)?;
        }
        Ok(())
    }),
    case("grant_table/version_domains", "Of a domain that is not there: ESRCH.", |_| {
        for domain in [NOBODY, 1, IO, XEN] {
            put_words(0, &[domain | UNSET << 16]);
            equal_at("answer for", domain, grant_op(GET_VERSION, 1), ESRCH)?;
            equal_at("version for", domain, word_at(0) >> 32, 0x5a5a_5a5a)?;
        }
        Ok(())
    }),
    case("grant_table/set_version", "Version 1 can be set, and does not empty the table.", |t| {
        with_table(t, |table, [a, ..]| {
            table.permit(REF, 0, a);
            table.set(0, 0x10, 7, 0x1234);
            put_words(0, &[1]);
            let answer = grant_op(SET_VERSION, 1);
            let seen = table.word(0);
            table.set(0, 0, 0, 0);
            equal("answer", answer, 0)?;
            equal("version", word_at(0), 1)?;
            equal("reserved entry", seen, 0x0000_1234_0007_0010)?;
            table.has("entry", REF, 1)
        })
    }),
    case("grant_table/set_version_unknown", "Versions 0 and 3: EINVAL, and 1 is told.", |_| {
        for version in [0, 3, 0xffff_ffff] {
            put_words(0, &[version]);
            equal_at("answer for", version, grant_op(SET_VERSION, 1), EINVAL)?;
            equal_at("told for", version, word_at(0), 1)?;
        }
        Ok(())
    }),
    case("grant_table/version_count", "Versions ask for no count; unmapped is EFAULT.", |_| {
        for count in [0, 1, 2, 100] {
            put_words(0, &[1]);
            equal_at("set with count", count, grant_op(SET_VERSION, count), 0)?;
            put_words(0, &[SELF]);
            equal_at("get with count", count, grant_op(GET_VERSION, count), 0)?;
            for command in [SET_VERSION, GET_VERSION] {
                let answer = hypercall(GRANT_TABLE_OP, &[command, 0x1000, count]);
                equal_at("unmapped", command, answer, EFAULT)?;
            }
        }
        Ok(())
    }),
    case("grant_table/status_frames", "A table of version 1 has no status frames.", |_| {
        for (frames, status) in [(0, OKAY), (1, GENERAL), (0xffff_ffff, GENERAL)] {
            let seen = status_frames(SELF, frames, 1);
            both_at("answer for", frames, seen, (0, status))?;
        }
        both("nobody's", status_frames(NOBODY, 0, 1), (0, BAD_DOMAIN))?;
        both("count 0", status_frames(SELF, 0, 0), (EINVAL, NO_STATUS))?;
        both("count 2", status_frames(SELF, 0, 2), (EINVAL, NO_STATUS))
    }),
    case("grant_table/swap", "Two entries can be exchanged.", |t| {
        with_table(t, |table, [a, ..]| {
            table.permit(REF, 0, a);
            table.set(REF + 1, 2, 7, 0x1234);
            let (first, second) = (table.word(REF), table.word(REF + 1));
            equal("status", swap(REF, REF + 1)?, OKAY)?;
            equal("first", table.word(REF), second)?;
            equal("second", table.word(REF + 1), first)?;
            equal("status with itself", swap(REF, REF)?, OKAY)?;
            equal("first again", table.word(REF), second)
        })
    }),
    case("grant_table/swap_beyond", "Entries beyond the table can't be: status -3.", |_| {
        for (first, second) in [(REF, NO_REF), (NO_REF, REF), (NO_REF, NO_REF), (u32::MAX, 0)] {
            equal_at("status for", first.into(), swap(first, second)?, BAD_REF)?;
        }
        Ok(())
    }),
    case("grant_table/swap_used", "Entries in use can't be: status -12, and they stay.", |t| {
        with_table(t, |table, [a, ..]| {
            table.permit(REF, 0, a);
            let handle = mapped(Wish::new(0, DEVICE | ONLY_READ))?;
            let before = table.word(REF);
            let seen = (swap(REF, REF + 1)?, swap(REF + 1, REF)?);
            let after = (table.word(REF), table.word(REF + 1));
            let same = swap(REF, REF)?;
            unmapped_device(a, handle)?;
            both("status", seen, (AGAIN, AGAIN))?;
            both("entries", after, (before, 0))?;
            equal("status with itself", same, OKAY)
        })
    }),
    case("grant_table/cache_flush", "The cache of a page of one's own is written back.", |t| {
        with(t, |[a, ..]| {
            for (offset, length, op, wanted) in [
                (0, 4096, 1, 0),
                (4095, 1, 3, 0),
                (0, 4096, 2, EOPNOTSUPP),
                (0, 0, 1, 0),
                (0, 64, 0, 0),
                (4096, 0, 1, EINVAL),
                (1, 4096, 1, EINVAL),
                (0, 4097, 1, EINVAL),
                (0, 64, 4, EINVAL),
                (0, 0, 4, EINVAL),
                (4095, 0, 1, 0),
                (0, 64, 1 << 31, EINVAL),
            ] {
                let seen = cache_flush(a.ma(), offset, length, op);
                equal_at("answer for offset", offset | length << 16 | op << 32, seen, wanted)?;
            }
            Ok(())
        })
    }),
    case("grant_table/cache_flush_begun", "Gone on with where nothing was left: EILSEQ.", |t| {
        with(t, |[a, ..]| {
            let flush = |length: u64| {
                put_words(0, &[a.ma(), length << 16 | 1 << 32]);
                grant_op(CACHE_FLUSH | 1 << 12, 1)
            };
            equal("nothing", flush(0), EILSEQ)?;
            equal("own page", flush(64), 0)
        })
    }),
    case("grant_table/cache_flush_strangers", "Of other frames: EPERM; of none: EINVAL.", |t| {
        equal("hypervisor's", cache_flush(hypervisor_frame(t) << 12, 0, 64, 1), EPERM)?;
        equal("free", cache_flush(free_frame() << 12, 0, 64, 1), EPERM)?;
        equal("no frame", cache_flush(1 << 50, 0, 64, 1), EINVAL)?;
        equal("no frame, no length", cache_flush(1 << 50, 0, 0, 1), 0)
    }),
    case("grant_table/transfer", "A frame in use, or none, can't be given away: status -9.", |t| {
        with(t, |[a, ..]| {
            for mfn in [a.mfn, hypervisor_frame(t), free_frame(), 1 << 40] {
                put_words(0, &[mfn, SELF | u64::from(REF) << 32, UNSET]);
                equal_at("answer for", mfn, grant_op(TRANSFER, 1), 0)?;
                equal_at("status for", mfn, status_at(16), BAD_PAGE)?;
            }
            equal("page", page_of(a.mfn), a.pfn)
        })
    }),
    case("grant_table/unknown", "Operations that are not there: ENOSYS.", |_| {
        for command in [3, 13, 14, 63, 0x800, 0xfff] {
            for count in [0, 1, 7] {
                equal_at("answer of", command, grant_op(command, count), ENOSYS)?;
                let answer = hypercall(GRANT_TABLE_OP, &[command, M2P, count]);
                equal_at("answer, hypervisor's, of", command, answer, ENOSYS)?;
            }
        }
        Ok(())
    }),
];

fn status_frames(domain: u64, frames: u64, count: u64) -> (i64, i64) {
    put_words(0, &[frames | domain << 32 | UNSET << 48, arena_address() + 64]);
    let answer = grant_op(STATUS_FRAMES, count);
    (answer, i16::from_le_bytes(get(6)).into())
}

fn cache_flush(address: u64, offset: u64, length: u64, op: u64) -> i64 {
    put_words(0, &[address, offset | length << 16 | op << 32]);
    grant_op(CACHE_FLUSH, 1)
}
