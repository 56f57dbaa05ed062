//! Memory of a domain that has neither devices nor privilege.

use super::event_calls::NOBODY;
use crate::call::{
    EBUSY, EFAULT, EINVAL, ENOSYS, EPERM, MEMORY_OP, MMU_UPDATE, VM_ASSIST, hypercall,
};
use crate::case::{Case, case, equal, equal_at};
use crate::raw::memory::arena_address;
use crate::raw::pages_calls::{
    ESRCH, FLUSH_ALL, FLUSH_CACHE, IO, SELF, UPDATE_VA_MAPPING_OTHERDOMAIN, XEN, done_address,
    memory_op, mmu_update_of, mmuext, mmuext_of, put_words, update, update_va,
};
use crate::raw::pages_direct::{entry_at, store};
use crate::raw::pages_reservation::{
    DECREASE, EXCHANGE, INCREASE, extent, extents_address, reserve, reserve_of, with_spare,
};
use crate::raw::pages_scratch::LOADED;
use crate::raw::pages_snippets;
use crate::tables::frame_of;

const EACCES: i64 = -13;
const FLUSH_CACHE_GLOBAL: u64 = 18;
const READ_ONLY: u64 = LOADED & !2;
const WRITABLE_TABLES: u64 = 2;
const MACHPHYS: u64 = 1;
const UNKNOWN: u64 = 5;
/// The first page of a device that no domain but the initial one may map.
const DEVICE: u64 = 0xfd000;
const EXACT_NODE: u64 = 1 << (32 + 17);
const NODE_0: u64 = 1 << (32 + 8);
const NODE_200: u64 = 201 << (32 + 8);

pub(crate) const CASES: &[Case] = &[
    case(
        "pair_memory/stores",
        "Stores to tables are carried out with the assist for it alone; without, they fault.",
        |t| {
            t.peer()?.with_pages(t, |[a, w]| {
                let word = a.entry(READ_ONLY);
                let code = pages_snippets::MOV_64;
                let before = w.mapping(t);
                equal("off", hypercall(VM_ASSIST, &[1, WRITABLE_TABLES]), 0)?;
                let error = store(code, entry_at(w), word)?;
                equal("fault", error.is_some(), true)?;
                equal("error", error.unwrap_or(0), 3)?;
                equal("entry", w.mapping(t), before)?;
                equal("on", hypercall(VM_ASSIST, &[0, WRITABLE_TABLES]), 0)?;
                let error = store(code, entry_at(w), word)?;
                equal("off", hypercall(VM_ASSIST, &[1, WRITABLE_TABLES]), 0)?;
                equal("fault with the assist", error.is_some(), false)?;
                equal("entry", w.mapping(t), word)
            })
        },
    ),
    case(
        "pair_memory/flush_cache",
        "Caches are flushed for who has devices: EACCES, for all CPUs' EINVAL.",
        |t| {
            t.peer()?;
            equal("this CPU's", mmuext(FLUSH_CACHE, 0, 0), EACCES)?;
            equal("all", mmuext(FLUSH_CACHE_GLOBAL, 0, 0), EINVAL)
        },
    ),
    case("pair_memory/caching", "How pages are cached is not for it to say: EINVAL.", |t| {
        t.peer()?.with_pages(t, |[a, w]| {
            for bits in [8, 0x10, 0x18, 0x80, 0x98] {
                equal_at("update", bits, update(w.slot, a.entry(LOADED | bits)), EINVAL)?;
                equal_at("address", bits, update_va(w.va, a.entry(LOADED | bits), 2), EINVAL)?;
                let foreign = mmu_update_of(IO, &[(w.slot, DEVICE << 12 | LOADED | bits)]);
                equal_at("device", bits, foreign.0, EINVAL)?;
            }
            equal("entry", w.mapping(t) & !0x60, w.entry(LOADED) & !0x60)
        })
    }),
    case("pair_memory/devices", "A device's frame: EPERM, by DOMID_IO too.", |t| {
        t.peer()?.with_pages(t, |[_, w]| {
            let entry = DEVICE << 12 | LOADED;
            equal("update", update(w.slot, entry), EPERM)?;
            equal("address", update_va(w.va, entry, 2), EPERM)?;
            equal("DOMID_IO", mmu_update_of(IO, &[(w.slot, entry)]).0, EPERM)
        })
    }),
    case("pair_memory/domain_io", "Anybody may say DOMID_IO to mmu_update.", |t| {
        t.peer()?.with_pages(t, |[a, w]| {
            equal("none", mmu_update_of(IO, &[]).0, 0)?;
            equal("own frame", mmu_update_of(IO, &[(w.slot, a.entry(READ_ONLY))]).0, EBUSY)?;
            equal("page of a frame", mmu_update_of(IO, &[(a.ma() | MACHPHYS, 1)]).0, EINVAL)?;
            equal("nothing", mmu_update_of(IO, &[(w.slot, 0)]).0, 0)?;
            equal("entry", w.mapping(t), 0)
        })
    }),
    case("pair_memory/domain_io_others", "But not to the other calls: EPERM.", |t| {
        t.peer()?.with_pages(t, |[_, w]| {
            for domain in [IO, XEN] {
                equal_at("none", domain, mmuext_of(domain, &[]).0, EPERM)?;
                equal_at("flush", domain, mmuext_of(domain, &[(FLUSH_ALL, 0, 0)]).0, EPERM)?;
                let answer = hypercall(UPDATE_VA_MAPPING_OTHERDOMAIN, &[w.va, 0, 2, domain]);
                equal_at("by address", domain, answer, EPERM)?;
            }
            Ok(())
        })
    }),
    case(
        "pair_memory/update_others",
        "Naming another domain is refused request by request: EPERM.",
        |t| {
            let peer = t.peer()?;
            let other = u64::from(peer.domain);
            peer.with_pages(t, |[a, w]| {
                for domain in [other, XEN, SELF | (other + 1) << 16, 0] {
                    equal_at("none", domain, mmu_update_of(domain, &[]).0, 0)?;
                    let requests = [(w.slot, a.entry(LOADED))];
                    let (answer, done) = mmu_update_of(domain, &requests);
                    equal_at("update", domain, answer, EPERM)?;
                    equal_at("done", domain, done, 0)?;
                    equal_at("zero", domain, mmu_update_of(domain, &[(w.slot, 0)]).0, EPERM)?;
                    let (answer, _) = mmu_update_of(domain, &[(a.ma() | MACHPHYS, 1)]);
                    equal_at("page of a frame", domain, answer, EPERM)?;
                    let (answer, _) = mmu_update_of(domain, &[(w.slot | UNKNOWN, 1)]);
                    equal_at("unknown", domain, answer, ENOSYS)?;
                    let unmapped = [0x1000, 1, done_address(), domain];
                    equal_at("unmapped", domain, hypercall(MMU_UPDATE, &unmapped), EFAULT)?;
                }
                equal("entry", w.mapping(t) & !0x60, w.entry(LOADED) & !0x60)
            })
        },
    ),
    case("pair_memory/order", "That there is no such domain is said first: ESRCH.", |t| {
        t.peer()?;
        let nobody = u64::from(NOBODY);
        equal("frames'", mmu_update_of(nobody, &[]).0, ESRCH)?;
        equal("tables'", mmu_update_of(SELF | (nobody + 1) << 16, &[]).0, ESRCH)?;
        equal("extended", mmuext_of(nobody, &[]).0, ESRCH)?;
        equal("by address", hypercall(UPDATE_VA_MAPPING_OTHERDOMAIN, &[0, 0, 0, nobody]), ESRCH)
    }),
    case(
        "pair_memory/va_others",
        "Nor may it map another's frames by address, or nothing in its name: EPERM.",
        |t| {
            let other = u64::from(t.peer()?.domain);
            for address in [0, arena_address()] {
                let answer = hypercall(UPDATE_VA_MAPPING_OTHERDOMAIN, &[address, 0, 2, other]);
                equal_at("answer", address, answer, EPERM)?;
            }
            Ok(())
        },
    ),
    case("pair_memory/translated", "What PV domains have not got: EACCES, whoever it is.", |t| {
        let other = u64::from(t.peer()?.domain);
        for domain in [SELF, other, 0] {
            equal_at("add", domain, memory_op(7, &[domain, 0, 0]), EACCES)?;
            equal_at("remove", domain, memory_op(15, &[domain, 0]), EACCES)?;
            equal_at("set on demand", domain, memory_op(16, &[0, 0, 0, 0, domain]), EINVAL)?;
            equal_at("get on demand", domain, memory_op(17, &[0, 0, 0, 0, domain]), EINVAL)?;
        }
        equal("nobody", memory_op(7, &[NOBODY.into(), 0, 0]), ESRCH)
    }),
    case("pair_memory/others", "What it may not do to another, or be told: EPERM.", |t| {
        let other = u64::from(t.peer()?.domain);
        for domain in [other, 0] {
            equal_at("current", domain, memory_op(3, &[domain]), EPERM)?;
            equal_at("maximum", domain, memory_op(4, &[domain]), EPERM)?;
            equal_at("highest", domain, memory_op(14, &[domain]), EPERM)?;
            equal_at("topology", domain, memory_op(26, &[domain, 0, 0, 0, 0]), EPERM)?;
            equal_at("resource", domain, memory_op(28, &[domain | 1 << 32, 0, 0, 0]), EPERM)?;
            equal_at("exchange", domain, exchange(domain, 0), EPERM)?;
            equal_at("nothing", domain, exchange(domain, 1), 0)?;
        }
        equal("machine's", hypercall(MEMORY_OP, &[10, 0x1000]), EPERM)
    }),
    case(
        "pair_memory/nodes",
        "It can't tell nodes: memory of one alone is refused, else any is taken.",
        |t| {
            t.peer()?;
            with_spare(t, |[first, ..]| {
                let frame = frame_of(t.boot, first);
                equal("give back", reserve(DECREASE, &[frame]), 1)?;
                for (node, answer) in
                    [(NODE_0 | EXACT_NODE, 0), (EXACT_NODE, 1), (NODE_200, 1), (NODE_0, 1)]
                {
                    equal_at("asked", node, reserve_of(SELF, INCREASE, &[0], node), answer)?;
                    if answer == 1 {
                        equal_at("back", node, reserve(DECREASE, &[extent(0)]), 1)?;
                    }
                }
                Ok(())
            })
        },
    ),
];

/// Exchanges one frame in a domain's name, of which so many are done.
fn exchange(domain: u64, done: u64) -> i64 {
    let list = extents_address();
    put_words(0, &[list, 1, 0, domain, list, 1, 0, domain, done, 0]);
    hypercall(MEMORY_OP, &[EXCHANGE, arena_address()])
}
