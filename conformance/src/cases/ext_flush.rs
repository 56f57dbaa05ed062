//! The flushes of `mmuext_op`: what they take, and that stale mappings are gone behind them.

use crate::call::{EINVAL, ENOSYS};
use crate::case::{Case, Outcome, Test, case, equal, equal_at};
use crate::raw::memory::{arena_address, peek, poke};
use crate::raw::pages_calls::{
    ESRCH, FLUSH_ALL, FLUSH_CACHE, FLUSH_LOCAL, FLUSH_MULTI, INVLPG_ALL, INVLPG_LOCAL,
    INVLPG_MULTI, IO, NEW_BASEPTR, NOBODY, mmuext, mmuext_batch, mmuext_of, put_words, update,
    update_va,
};
use crate::raw::pages_scratch::{FREE_SLOTS, LOADED, with};
use crate::raw::{Registers, snippets};
use crate::tables::{frame_of, top};
use crate::traps::trapped;

const ENTRY: u64 = 0x67;
const FREE: u64 = FREE_SLOTS.start << 39;
const HYPERVISOR: u64 = 0xffff_8300_0000_0000;
const FLUSH_CACHE_GLOBAL: u64 = 18;
const MARK_SUPER: u64 = 19;
const UNMARK_SUPER: u64 = 20;
/// A page of user mode, which is global.
const USER: u64 = 0x67;
/// Where in the arena a set of vCPUs lies, behind the operation.
const MASK: usize = 1024;

pub(crate) const CASES: &[Case] = &[
    case("ext_flush/local", "TLB_FLUSH_LOCAL: an exchanged page is seen.", |t| {
        stale(t, LOADED, FLUSH_LOCAL)
    }),
    case("ext_flush/local_page", "INVLPG_LOCAL: an exchanged page is seen.", |t| {
        stale(t, LOADED, INVLPG_LOCAL)
    }),
    case("ext_flush/multi", "TLB_FLUSH_MULTI with this vCPU: an exchanged page is seen.", |t| {
        stale(t, LOADED, FLUSH_MULTI)
    }),
    case("ext_flush/multi_page", "INVLPG_MULTI with this vCPU: an exchanged page is seen.", |t| {
        stale(t, LOADED, INVLPG_MULTI)
    }),
    case("ext_flush/all", "TLB_FLUSH_ALL: an exchanged page is seen.", |t| {
        stale(t, LOADED, FLUSH_ALL)
    }),
    case("ext_flush/all_page", "INVLPG_ALL: an exchanged page is seen.", |t| {
        stale(t, LOADED, INVLPG_ALL)
    }),
    case("ext_flush/local_user", "TLB_FLUSH_LOCAL flushes global (user) pages too.", |t| {
        stale(t, USER, FLUSH_LOCAL)
    }),
    case("ext_flush/local_page_user", "INVLPG_LOCAL flushes a global (user) page too.", |t| {
        stale(t, USER, INVLPG_LOCAL)
    }),
    case("ext_flush/multi_user", "TLB_FLUSH_MULTI flushes global (user) pages too.", |t| {
        stale(t, USER, FLUSH_MULTI)
    }),
    case("ext_flush/all_user", "TLB_FLUSH_ALL flushes global (user) pages too.", |t| {
        stale(t, USER, FLUSH_ALL)
    }),
    case("ext_flush/base", "NEW_BASEPTR of the same table: an exchanged page is seen.", |t| {
        stale(t, LOADED, NEW_BASEPTR)
    }),
    case("ext_flush/base_user", "NEW_BASEPTR flushes global (user) pages too.", |t| {
        stale(t, USER, NEW_BASEPTR)
    }),
    case("ext_flush/removed", "Behind a flush a removed page faults.", |t| {
        with(t, |[_, w, ..]| {
            poke(w.va, 1);
            equal("update", update(w.slot, 0), 0)?;
            equal("flush", mmuext(FLUSH_LOCAL, 0, 0), 0)?;
            faults(w.va, false, 0)
        })
    }),
    case(
        "ext_flush/read_only",
        "Behind a flush of the page a write to a read-only page faults.",
        |t| {
            with(t, |[_, w, ..]| {
                poke(w.va, 1);
                equal("update", update(w.slot, w.entry(LOADED & !2)), 0)?;
                equal("flush", mmuext(INVLPG_LOCAL, w.va, 0), 0)?;
                faults(w.va, true, 3)
            })
        },
    ),
    case("ext_flush/writable_again", "Behind a flush a page made writable takes a write.", |t| {
        with(t, |[_, w, ..]| {
            equal("update", update(w.slot, w.entry(LOADED & !2)), 0)?;
            equal("flush", mmuext(INVLPG_LOCAL, w.va, 0), 0)?;
            equal("word", peek(w.va), 0)?;
            equal("update", update(w.slot, w.entry(LOADED)), 0)?;
            equal("flush", mmuext(INVLPG_LOCAL, w.va, 0), 0)?;
            poke(w.va, 5);
            equal("word", w.get(0), 5)
        })
    }),
    case("ext_flush/no_execute", "Behind a flush a jump to a page made no-execute faults.", |t| {
        with(t, |[_, w, ..]| {
            equal("update", update(w.slot, w.entry(LOADED | 1 << 63)), 0)?;
            equal("flush", mmuext(FLUSH_LOCAL, 0, 0), 0)?;
            let mut registers = Registers::new();
            registers.rsi = w.va;
            equal("error code", trapped(14, snippets::JUMP, &mut registers)?.error, 0x11)
        })
    }),
    case("ext_flush/upper_removed", "Removing an upper entry takes effect without a flush.", |t| {
        with(t, |[l3, l2, l1, a, ..]| {
            l1.set(0, a.entry(LOADED));
            l2.set(0, l1.entry(ENTRY));
            l3.set(0, l2.entry(ENTRY));
            for table in [l1, l2, l3] {
                table.protect()?;
            }
            let slot = (frame_of(t.boot, top(t.boot)) << 12) + FREE_SLOTS.start * 8;
            for entry in [l2.place(0), l3.place(0), slot] {
                equal("top-level entry", update(slot, l3.entry(ENTRY)), 0)?;
                poke(FREE, 1);
                equal("removal", update(entry, 0), 0)?;
                faults(FREE, false, 0)?;
                let below = if entry == slot {
                    l3
                } else if entry == l3.place(0) {
                    l2
                } else {
                    l1
                };
                equal("back", update(entry, below.entry(ENTRY)), 0)?;
            }
            Ok(())
        })
    }),
    case("ext_flush/type_change", "A page that becomes a table is not written any more.", |t| {
        with(t, |[table, w, ..]| {
            w.unmap()?;
            equal("window", update_va(w.va, table.entry(LOADED), 0), 0)?;
            poke(w.va, 2);
            equal("window closed", update(w.slot, 0), 0)?;
            equal("own mapping", update(table.slot, table.entry(LOADED & !2)), 0)?;
            equal("pin", mmuext(0, table.mfn, 0), 0)?;
            faults(w.va, true, 2)?;
            equal("entry", peek(table.va), 2)
        })
    }),
    case("ext_flush/page_addresses", "INVLPG_LOCAL takes any address.", |_| {
        for address in ANY {
            equal_at("answer for", address, mmuext(INVLPG_LOCAL, address, 0), 0)?;
        }
        Ok(())
    }),
    case("ext_flush/page_addresses_all", "INVLPG_ALL takes any address.", |_| {
        for address in ANY {
            equal_at("answer for", address, mmuext(INVLPG_ALL, address, 0), 0)?;
        }
        Ok(())
    }),
    case("ext_flush/page_addresses_multi", "INVLPG_MULTI takes any address.", |_| {
        for address in ANY {
            equal_at("answer for", address, mmuext(INVLPG_MULTI, address, mask(1)), 0)?;
        }
        Ok(())
    }),
    case("ext_flush/mask_empty", "An empty set of vCPUs is taken.", |_| {
        equal("flush", mmuext(FLUSH_MULTI, 0, mask(0)), 0)?;
        equal("page", mmuext(INVLPG_MULTI, 0, mask(0)), 0)
    }),
    case("ext_flush/mask_more", "A set with vCPUs that are not there is taken.", |_| {
        equal("flush", mmuext(FLUSH_MULTI, 0, mask(u64::MAX)), 0)?;
        equal("page", mmuext(INVLPG_MULTI, 0, mask(u64::MAX)), 0)
    }),
    case("ext_flush/mask_unmapped", "An unmapped set of vCPUs: EINVAL.", |_| {
        equal("flush", mmuext(FLUSH_MULTI, 0, 0x1000), EINVAL)?;
        equal("page", mmuext(INVLPG_MULTI, 0, 0x1000), EINVAL)
    }),
    case("ext_flush/mask_null", "A null set of vCPUs: EINVAL.", |_| {
        equal("flush", mmuext(FLUSH_MULTI, 0, 0), EINVAL)?;
        equal("page", mmuext(INVLPG_MULTI, 0, 0), EINVAL)
    }),
    case("ext_flush/mask_in_hypervisor", "A set of vCPUs in the hypervisor: EINVAL.", |_| {
        equal("flush", mmuext(FLUSH_MULTI, 0, HYPERVISOR), EINVAL)
    }),
    case("ext_flush/cache", "FLUSH_CACHE is the initial domain's.", |_| {
        equal("answer", mmuext(FLUSH_CACHE, 0, 0), 0)
    }),
    case("ext_flush/cache_global", "FLUSH_CACHE_GLOBAL is the initial domain's.", |_| {
        equal("answer", mmuext(FLUSH_CACHE_GLOBAL, 0, 0), 0)
    }),
    case("ext_flush/superpages", "MARK_SUPER and UNMARK_SUPER: EOPNOTSUPP.", |_| {
        equal("mark", mmuext(MARK_SUPER, 0, 0), -95)?;
        equal("unmark", mmuext(UNMARK_SUPER, 0, 0), -95)
    }),
    case("ext_flush/unknown", "Commands 14 and 21 on are unknown: ENOSYS.", |_| {
        for command in [14, 21, 22, 0x7fff_ffff, 0xffff_ffff] {
            equal_at("command", command, mmuext(command, 0, 0), ENOSYS)?;
        }
        Ok(())
    }),
    case("ext_flush/command_width", "The word behind the command is ignored.", |_| {
        equal("answer", mmuext(1 << 32 | FLUSH_LOCAL, 0, 0), 0)
    }),
    case("ext_flush/domain_io", "A flush in the name of DOMID_IO: EPERM.", |_| {
        for command in [FLUSH_LOCAL, INVLPG_LOCAL, FLUSH_ALL, INVLPG_ALL] {
            equal_at("command", command, mmuext_of(IO, &[(command, 0, 0)]).0, -1)?;
        }
        Ok(())
    }),
    case("ext_flush/domain_unknown", "A flush in the name of an unknown domain: ESRCH.", |_| {
        let (answer, _) = mmuext_of(NOBODY, &[(FLUSH_LOCAL, 0, 0)]);
        equal("answer", answer, ESRCH)
    }),
    case(
        "ext_flush/batch_middle",
        "An error in the middle of a batch: those before count.",
        |_| {
            let (answer, done) = mmuext_batch(&[
                (FLUSH_LOCAL, 0, 0),
                (FLUSH_ALL, 0, 0),
                (4, 1 << 33, 0),
                (99, 0, 0),
            ]);
            equal("answer", answer, EINVAL)?;
            equal("done", done, 2)
        },
    ),
    case("ext_flush/batch_effects", "What a batch did before an error stays done.", |t| {
        with(t, |[a, b, ..]| {
            a.protect()?;
            b.protect()?;
            let (answer, done) = mmuext_batch(&[(0, a.mfn, 0), (99, 0, 0), (0, b.mfn, 0)]);
            equal("answer", answer, ENOSYS)?;
            equal("done", done, 1)?;
            a.is_held(-16)?;
            b.is_free()
        })
    }),
    case("ext_flush/batch_none", "No operations: 0, and 0 done.", |_| {
        let (answer, done) = mmuext_batch(&[]);
        equal("answer", answer, 0)?;
        equal("done", done, 0)
    }),
];

/// Addresses of every sort: none, unmapped, the hypervisor's, none at all.
const ANY: [u64; 6] = [0, 0x1234, FREE, HYPERVISOR, 0x0000_8000_0000_0000, 0xffff_ffff_ffff_ffff];

/// The address of a set of vCPUs.
fn mask(vcpus: u64) -> u64 {
    put_words(MASK, &[vcpus]);
    arena_address() + MASK as u64
}

/// Lets an entry map one page, then another, then flushes: the other is seen.
fn stale(t: &Test<'_>, bits: u64, command: u64) -> Outcome {
    with(t, |[a, b, w, ..]| {
        a.set(0, 0xa);
        b.set(0, 0xb);
        equal("first", update_va(w.va, a.entry(bits), 2), 0)?;
        equal("word", peek(w.va), 0xa)?;
        equal("second", update(w.slot, b.entry(bits)), 0)?;
        let first = match command {
            NEW_BASEPTR => frame_of(t.boot, top(t.boot)),
            INVLPG_LOCAL | INVLPG_MULTI | INVLPG_ALL => w.va,
            _ => 0,
        };
        equal("flush", mmuext(command, first, mask(1)), 0)?;
        equal("word behind", peek(w.va), 0xb)
    })
}

/// A load or store faults with an error code.
fn faults(address: u64, store: bool, code: u64) -> Outcome {
    let mut registers = Registers::new();
    registers.rsi = address;
    let snippet = if store { snippets::STORE } else { snippets::LOAD };
    equal("error code", trapped(14, snippet, &mut registers)?.error, code)
}
