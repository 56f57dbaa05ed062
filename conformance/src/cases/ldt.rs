//! The local descriptor table: what `SET_LDT` takes, and what loading selectors from it does.

use crate::call::{EBUSY, EINVAL};
use crate::case::{Case, Outcome, Test, Verdict, case, equal, equal_at};
use crate::raw::pages_calls::{
    FLUSH_ALL, IO, NEW_BASEPTR, SET_LDT, mmuext, mmuext_of, pin, update, update_va,
};
use crate::raw::pages_direct::fault_address;
use crate::raw::pages_scratch::{LOADED, Page, duplicate, with};
use crate::raw::pages_segments::limit;
use crate::raw::{Registers, pages_snippets, run, trap};
use crate::tables::{frame_of, top};
use crate::traps::{Frame, install, remove, trapped};

/// A data segment of ring 3 with a limit.
const DATA: u64 = 0x0040_f300_0000_0123;
const RINGS: u64 = 3 << 45;
/// The second entry of the local table, for ring 3.
const SECOND: u64 = 0x0f;
const HYPERVISOR: u64 = 0xffff_8300_0000_0000;
const UNMAPPED: u64 = 0x1000;

pub(crate) const CASES: &[Case] = &[
    case("ldt/none", "No entries at address 0 are taken.", |_| equal("answer", set(0, 0), 0)),
    case("ldt/none_again", "No entries can be set again and again.", |_| {
        equal("first", set(0, 0), 0)?;
        equal("second", set(0, 0), 0)
    }),
    case("ldt/none_misaligned", "With no entries the address need not be a page's.", |_| {
        equal("answer", set(1, 0), 0)
    }),
    case("ldt/none_ones", "With no entries any address is taken.", |_| {
        for address in [u64::MAX, HYPERVISOR, 1 << 47] {
            equal_at("answer for", address, set(address, 0), 0)?;
        }
        equal("none", set(0, 0), 0)
    }),
    case("ldt/misaligned", "Entries at an address that is no page's: EINVAL.", |t| {
        with(t, |[a, ..]| equal("answer", set(a.va + 8, 1), EINVAL))
    }),
    case("ldt/most", "8192 entries are taken.", |t| {
        with(t, |[a, ..]| {
            equal("answer", set(a.va, 8192), 0)?;
            equal("none", set(0, 0), 0)
        })
    }),
    case("ldt/too_many", "More entries: EINVAL.", |t| {
        with(t, |[a, ..]| {
            for entries in [8193, 0x1_0000, 0xffff_ffff] {
                equal_at("answer for", entries, set(a.va, entries), EINVAL)?;
            }
            Ok(())
        })
    }),
    case("ldt/entries_truncate", "The upper half of the number of entries is ignored.", |t| {
        with(t, |[a, ..]| {
            equal("answer", set(a.va, 1 << 32 | 1), 0)?;
            equal("none", set(0, 0), 0)
        })
    }),
    case("ldt/unmapped", "A table that is not mapped is taken.", |_| {
        equal("answer", set(UNMAPPED, 16), 0)?;
        equal("none", set(0, 0), 0)
    }),
    case("ldt/in_hypervisor", "A table in the hypervisor: EINVAL.", |_| {
        equal("answer", set(HYPERVISOR, 16), EINVAL)
    }),
    case("ldt/non_canonical", "A table at no address: EINVAL.", |_| {
        equal("answer", set(1 << 47, 16), EINVAL)
    }),
    case("ldt/domain_io", "In the name of DOMID_IO: EPERM.", |_| {
        equal("answer", mmuext_of(IO, &[(SET_LDT, 0, 0)]).0, -1)
    }),
    case("ldt/load", "A selector of the table can be loaded.", |t| {
        with_table(t, |_| {
            equal("selector", load(SECOND)?, SECOND)?;
            equal("limit", limit(SECOND), 0x123)
        })
    }),
    case("ldt/no_table", "Without a table a local selector faults with its number.", |_| {
        let mut registers = Registers::new();
        registers.rax = SECOND;
        let frame = trapped(13, pages_snippets::LOAD_SELECTOR, &mut registers)?;
        equal("error code", frame.error, SECOND & !3)
    }),
    case("ldt/behind_end", "A selector behind the last entry faults with its number.", |t| {
        with(t, |[a, ..]| {
            a.set(1, DATA);
            a.protect()?;
            equal("set", set(a.va, 1), 0)?;
            let frame = general(SECOND)?;
            equal("none", set(0, 0), 0)?;
            equal("error code", frame.error, SECOND & !3)
        })
    }),
    case("ldt/null_entry", "A null descriptor faults with its selector's number.", |t| {
        with_table(t, |_| equal("error code", general(0x17)?.error, 0x14))
    }),
    case("ldt/not_held_before", "The page can be mapped writable until the first use.", |t| {
        with(t, |[a, ..]| {
            a.set(1, DATA);
            a.protect()?;
            equal("set", set(a.va, 512), 0)?;
            let free = a.is_free();
            equal("none", set(0, 0), 0)?;
            free
        })
    }),
    case("ldt/held", "From the first use on the page can't be mapped writable.", |t| {
        with_table(t, |a| {
            equal("selector", load(SECOND)?, SECOND)?;
            a.is_held(EBUSY)?;
            equal("pin", pin(1, a.mfn), EINVAL)
        })
    }),
    case("ldt/released", "Another table frees the pages of the one before.", |t| {
        with_table(t, |a| {
            equal("selector", load(SECOND)?, SECOND)?;
            equal("none", set(0, 0), 0)?;
            a.is_free()
        })
    }),
    case("ldt/not_released_by_base", "NEW_BASEPTR of the same table does not free pages.", |t| {
        with_table(t, |a| {
            equal("selector", load(SECOND)?, SECOND)?;
            let table = frame_of(t.boot, top(t.boot));
            equal("base", mmuext(NEW_BASEPTR, table, 0), 0)?;
            a.is_held(EBUSY)
        })
    }),
    case("ldt/released_by_base", "NEW_BASEPTR of another table frees the pages.", |t| {
        with(t, |[copy, a, ..]| {
            let first = duplicate(t, copy)?;
            a.set(1, DATA);
            a.protect()?;
            equal("set", set(a.va, 512), 0)?;
            let loaded = load(SECOND);
            equal("base", mmuext(NEW_BASEPTR, copy.mfn, 0), 0)?;
            let free = a.is_free().and_then(|()| a.protect());
            let again = load(SECOND);
            equal("back", mmuext(NEW_BASEPTR, first, 0), 0)?;
            equal("selector", loaded?, SECOND)?;
            free?;
            equal("selector used anew", again?, SECOND)
        })
    }),
    case("ldt/not_released_by_flush", "A flush of everything does not free the pages.", |t| {
        with_table(t, |a| {
            equal("selector", load(SECOND)?, SECOND)?;
            equal("flush", mmuext(FLUSH_ALL, 0, 0), 0)?;
            a.is_held(EBUSY)
        })
    }),
    case("ldt/ring", "Using a table sets its descriptors to ring 3.", |t| {
        with(t, |[a, ..]| {
            a.set(1, DATA & !RINGS);
            a.protect()?;
            equal("set", set(a.va, 512), 0)?;
            let seen = load(SECOND);
            equal("none", set(0, 0), 0)?;
            equal("selector", seen?, SECOND)?;
            equal("descriptor", a.get(1), DATA)
        })
    }),
    case("ldt/second_page", "Each page of the table is used by itself.", |t| {
        with(t, |[a, b, ..]| {
            b.set(0, DATA);
            a.protect()?;
            b.protect()?;
            equal("set", set(a.va, 1024), 0)?;
            let seen = load(512 * 8 + 7);
            let first = a.is_free();
            let second = b.is_held(EBUSY);
            equal("none", set(0, 0), 0)?;
            equal("selector", seen?, 512 * 8 + 7)?;
            first.and(second)
        })
    }),
    case(
        "ldt/fault_unmapped",
        "An unmapped table: a page fault at the descriptor's address.",
        |t| faults(t, |_| equal("set", set(UNMAPPED, 512), 0), UNMAPPED + 8, 0),
    ),
    case("ldt/fault_removed", "A page of the table that was unmapped: a page fault there.", |t| {
        with(t, |[a, ..]| {
            a.unmap()?;
            faults(t, |_| equal("set", set(a.va, 512), 0), a.va + 8, 0)
        })
    }),
    case("ldt/fault_writable", "A table that is mapped writable elsewhere: a page fault.", |t| {
        with(t, |[a, w, ..]| {
            a.set(1, DATA);
            a.protect()?;
            equal("window", update(w.slot, a.entry(LOADED)), 0)?;
            faults(t, |_| equal("set", set(a.va, 512), 0), a.va + 8, 0)
        })
    }),
    case("ldt/writable", "A table that is mapped writable itself: a page fault.", |t| {
        with(t, |[a, ..]| {
            a.set(1, DATA);
            faults(t, |_| equal("set", set(a.va, 512), 0), a.va + 8, 0)
        })
    }),
    case("ldt/fault_bad", "A table with a refused descriptor anywhere: a page fault.", |t| {
        with(t, |[a, ..]| {
            a.set(1, DATA);
            a.set(511, 0x0000_8900_0000_0000);
            a.protect()?;
            faults(t, |_| equal("set", set(a.va, 512), 0), a.va + 8, 0)?;
            a.is_free()
        })
    }),
    case("ldt/fault_table", "A table that is a page table: a page fault.", |t| {
        with(t, |[a, ..]| {
            a.pin(1)?;
            faults(t, |_| equal("set", set(a.va, 512), 0), a.va + 8, 0)
        })
    }),
    case(
        "ldt/remapped",
        "Mapping another page there is not seen before the table is set anew.",
        |t| {
            with(t, |[a, b, ..]| {
                a.set(1, DATA);
                b.set(1, DATA + 1);
                a.protect()?;
                b.protect()?;
                equal("set", set(a.va, 512), 0)?;
                let before = load(SECOND).map(|_| limit(SECOND));
                equal("other page", update_va(a.va, b.entry(LOADED & !2), 2), 0)?;
                let still = limit(SECOND);
                equal("set again", set(a.va, 512), 0)?;
                let same = limit(SECOND);
                equal("none", set(0, 0), 0)?;
                equal("set anew", set(a.va, 512), 0)?;
                let seen = load(SECOND).map(|_| limit(SECOND));
                equal("none", set(0, 0), 0)?;
                equal("first limit", before?, 0x123)?;
                equal("limit behind the change", still, 0x123)?;
                equal("limit behind the same call", same, 0x123)?;
                equal("limit behind the table set anew", seen?, 0x124)
            })
        },
    ),
];

fn set(address: u64, entries: u64) -> i64 {
    mmuext(SET_LDT, address, entries)
}

/// Sets a table of one page whose second entry is [`DATA`], calls `body`, and removes the table.
fn with_table(t: &Test<'_>, body: impl FnOnce(Page) -> Outcome) -> Outcome {
    with(t, |[a, ..]| {
        a.set(1, DATA);
        a.protect()?;
        equal("set", set(a.va, 512), 0)?;
        let outcome = body(a);
        equal("none", set(0, 0), 0)?;
        outcome
    })
}

/// Loads a selector and reads it back.
fn load(selector: u64) -> Result<u64, Verdict> {
    let mut registers = Registers::new();
    registers.rax = selector;
    install(14, 0)?;
    trap::forget();
    run(pages_snippets::LOAD_SELECTOR, &mut registers);
    remove()?;
    equal("page fault", trap::last().is_some(), false)?;
    Ok(registers.rax)
}

/// Loads a selector, which must be a general protection fault.
fn general(selector: u64) -> Result<Frame, Verdict> {
    let mut registers = Registers::new();
    registers.rax = selector;
    trapped(13, pages_snippets::LOAD_SELECTOR, &mut registers)
}

/// Loading the second selector is a page fault at an address with an error code.
fn faults(
    t: &Test<'_>,
    prepare: impl FnOnce(&Test<'_>) -> Outcome,
    address: u64,
    code: u64,
) -> Outcome {
    prepare(t)?;
    let mut registers = Registers::new();
    registers.rax = SECOND;
    let frame = trapped(14, pages_snippets::LOAD_SELECTOR, &mut registers);
    let cr2 = fault_address(t);
    equal("none", set(0, 0), 0)?;
    let frame = frame?;
    equal("fault address", cr2?, address)?;
    equal("error code", frame.error, code)?;
    equal("rip", frame.rip, pages_snippets::LOAD_SELECTOR.address())
}
