//! `unmap_grant_ref`: what must fit, what is left alone, what the guest did to the mapping before.

use crate::case::{Case, Outcome, Test, case, equal, equal_at};
use crate::raw::pages_calls::{pin, unpin, update, update_va};
use crate::raw::pages_direct::attempt;
use crate::raw::pages_grants::{
    BAD_BUS, BAD_HANDLE, BY_ENTRY, DEVICE, GENERAL, HOST, OKAY, ONLY_READ, PERMIT, READ_ONLY, REF,
    Table, Wish, mapped, unmap, unmapped, unmapped_device, with_table,
};
use crate::raw::pages_scratch::{LOADED, Page};
use crate::raw::{Registers, trap_snippets};
use crate::tables::M2P;

/// What the entry of a writable mapping has beside the frame.
const MAPPED: u64 = 0x8010_0000_0000_0067;

/// A row: the name, a mapping's flags, what the guest writes to its entry (given the entry and
/// another page), the status of unmapping then, the clause.
macro_rules! changed {
    ($($name:literal, $how:expr, $change:expr, $status:expr, $clause:literal;)+) => {
        &[$(case(concat!("grant_unmap/", $name), $clause, |t| {
            changed(t, $how, $change, $status)
        })),+]
    };
}

pub(crate) const CHANGED: &[Case] = changed! {
    "after_clear", HOST, |_, _| 0, GENERAL, "A mapping whose entry the guest cleared: status -1.";
    "after_absent", HOST, |entry, _| entry & !1, GENERAL,
        "A mapping whose entry is not present: status -1.";
    "after_other_frame", HOST, |_, other| other.entry(LOADED), GENERAL,
        "A mapping whose entry has another frame: status -1.";
    "after_protect", HOST, |entry, _| entry & !2, GENERAL,
        "A writable mapping made read-only: status -1.";
    "after_writable", HOST | ONLY_READ, |entry, _| entry | 2, GENERAL,
        "A read-only mapping made writable: status -1.";
    "after_clean", HOST, |entry, _| entry & !0x60, OKAY,
        "Accessed and dirty bits don't matter.";
    "after_execute", HOST, |entry, _| entry & !(1 << 63), OKAY, "Nor does execution.";
    "after_software", HOST, |entry, _| entry | 0xe00, OKAY, "Nor do the bits left to software.";
    "after_memory_type", HOST, |entry, _| entry | 0x10, OKAY, "Nor does the memory type.";
    "after_same", HOST, |entry, _| entry, OKAY, "Nor does writing the same entry.";
};

/// Maps, changes the entry, unmaps; if that was refused, puts the entry back and unmaps again.
fn changed(t: &Test<'_>, how: u32, change: impl Fn(u64, Page) -> u64, status: i64) -> Outcome {
    with_table(t, |table, [a, w, other, ..]| {
        table.permit(REF, 0, a);
        let handle = mapped(Wish::new(w.va, how))?;
        let (entry, used) = (w.mapping(t), table.flags(REF));
        equal("change", update_va(w.va, change(entry, other), 2), 0)?;
        let left = w.mapping(t);
        let seen = unmap(w.va, 0, handle)?;
        if seen != OKAY {
            equal("entry left", w.mapping(t), left)?;
            equal("use left", table.flags(REF), used)?;
            equal("putting back", update_va(w.va, entry, 2), 0)?;
            unmapped(w.va, handle)?;
        }
        equal("status", seen, status)?;
        equal("entry behind it", w.mapping(t), 0)?;
        table.has("use behind it", REF, PERMIT)?;
        becomes_table(a)
    })
}

/// Checks that a page is mapped writable nowhere but at its own address.
fn becomes_table(page: Page) -> Outcome {
    page.protect()?;
    equal("pin", pin(1, page.mfn), 0)?;
    page.unpin()
}

pub(crate) const CASES: &[Case] = &[
    case("grant_unmap/faults", "What was unmapped can't be reached any more.", |t| {
        held(t, HOST, |_, _, w, handle| {
            w.set(0, 1);
            unmapped(w.va, handle)?;
            equal("entry", w.mapping(t), 0)?;
            let mut registers = Registers::new();
            registers.rsi = w.va;
            let fault = attempt(trap_snippets::LOAD, &mut registers)?;
            equal("error of the fault", fault.unwrap_or(99), 0)
        })
    }),
    case("grant_unmap/twice", "A mapping that is gone: status -4.", |t| {
        held(t, HOST, |_, _, w, handle| {
            unmapped(w.va, handle)?;
            equal("status", unmap(w.va, 0, handle)?, BAD_HANDLE)?;
            equal("status for nothing", unmap(0, 0, handle)?, BAD_HANDLE)
        })
    }),
    case("grant_unmap/handles", "Numbers that are no mapping: status -4.", |t| {
        held(t, HOST, |table, _, w, handle| {
            for other in [handle + 1, 0xffff, 0x7fff_ffff, 0xffff_fffe, 0xffff_ffff] {
                equal_at("status for", other, unmap(w.va, 0, other)?, BAD_HANDLE)?;
                equal_at("status for nothing of", other, unmap(0, 0, other)?, BAD_HANDLE)?;
            }
            table.has("use", REF, 0x19)?;
            unmapped(w.va, handle)
        })
    }),
    case("grant_unmap/refused_gives_none", "A refused mapping leaves no handle behind.", |t| {
        held(t, HOST, |_, _, w, handle| {
            unmapped(w.va, handle)?;
            crate::raw::pages_grants::map_refused(Wish::new(0x1000, HOST), GENERAL)?;
            equal("status", unmap(w.va, 0, handle)?, BAD_HANDLE)
        })
    }),
    case("grant_unmap/other_address", "Another address: status -1, and it stays.", |t| {
        held(t, HOST, |table, a, w, handle| {
            for address in
                [a.va + 4096 * 3, 0x1000, M2P, 0xffff_8300_0000_0000, 0x8000_0000_0000, w.slot]
            {
                equal_at("status for", address, unmap(address, 0, handle)?, GENERAL)?;
            }
            equal("entry", w.mapping(t), a.entry(MAPPED))?;
            table.has("use", REF, 0x19)?;
            unmapped(w.va, handle)
        })
    }),
    case("grant_unmap/nothing", "Neither address: nothing goes, status 0.", |t| {
        for how in [HOST, DEVICE, HOST | DEVICE] {
            held(t, how, |table, a, w, handle| {
                equal_at("status for", how.into(), unmap(0, 0, handle)?, OKAY)?;
                table.has("use", REF, 0x19)?;
                equal("all of it", unmap(w.va, a.ma(), handle)?, OKAY)?;
                table.has("use behind it", REF, 1)
            })?;
        }
        Ok(())
    }),
    case("grant_unmap/other_bus", "A wrong bus address: status -6, nothing goes.", |t| {
        for how in [DEVICE, HOST | DEVICE] {
            held(t, how, |table, a, w, handle| {
                for bus in [a.ma() + 1, a.ma() + 4096, w.ma(), 1, u64::MAX] {
                    equal_at("status for", bus, unmap(w.va, bus, handle)?, BAD_BUS)?;
                }
                table.has("use", REF, 0x19)?;
                equal("all of it", unmap(w.va, a.ma(), handle)?, OKAY)
            })?;
        }
        Ok(())
    }),
    case("grant_unmap/bus_of_host", "The bus address alone leaves the processor's.", |t| {
        held(t, HOST, |table, a, w, handle| {
            equal("status", unmap(0, a.ma(), handle)?, OKAY)?;
            equal("entry", w.mapping(t), a.entry(MAPPED))?;
            table.has("use", REF, 0x19)?;
            unmapped(w.va, handle)
        })
    }),
    case("grant_unmap/other_bus_of_host", "Without a device's mapping, no matter.", |t| {
        held(t, HOST, |table, _, w, handle| {
            equal("status with no address", unmap(0, 1, handle)?, OKAY)?;
            table.has("use", REF, 0x19)?;
            equal("status", unmap(w.va, 1, handle)?, OKAY)?;
            table.has("use behind it", REF, 1)
        })
    }),
    case("grant_unmap/address_of_device", "The address of a device's mapping is ignored.", |t| {
        held(t, DEVICE, |table, a, w, handle| {
            for address in [w.va, 0x1000, M2P] {
                equal_at("status for", address, unmap(address, 0, handle)?, OKAY)?;
            }
            table.has("use", REF, 0x19)?;
            equal("entry", w.mapping(t), w.entry(LOADED))?;
            equal("with both", unmap(0x1000, a.ma(), handle)?, OKAY)?;
            table.has("use behind it", REF, 1)
        })
    }),
    case("grant_unmap/halves", "Processor's and devices' mapping can go one by one.", |t| {
        held(t, HOST | DEVICE, |table, a, w, handle| {
            unmapped(w.va, handle)?;
            equal("entry", w.mapping(t), 0)?;
            table.has("use by devices", REF, 0x19)?;
            equal("the same again", unmap(w.va, 0, handle)?, OKAY)?;
            a.protect()?;
            let answer = pin(1, a.mfn);
            unmapped_device(a, handle)?;
            equal("pin in between", answer, crate::call::EINVAL)?;
            table.has("use behind it", REF, 1)?;
            equal("again", unmap(0, a.ma(), handle)?, BAD_HANDLE)
        })?;
        held(t, HOST | DEVICE | ONLY_READ, |table, a, w, handle| {
            unmapped_device(a, handle)?;
            table.has("use by the processor", REF, 9)?;
            unmapped(w.va, handle)?;
            table.has("use behind it", REF, 1)
        })
    }),
    case("grant_unmap/half_refused", "A wrong address keeps both halves: status -1.", |t| {
        held(t, HOST | DEVICE, |table, a, w, handle| {
            equal("status", unmap(0x1000, a.ma(), handle)?, GENERAL)?;
            table.has("use", REF, 0x19)?;
            equal("both", unmap(w.va, a.ma(), handle)?, OKAY)?;
            table.has("use behind it", REF, 1)
        })
    }),
    case("grant_unmap/by_entry", "A mapping by entry goes by entry, not by address.", |t| {
        with_table(t, |table, [a, w, ..]| {
            table.permit(REF, 0, a);
            let handle = mapped(Wish::new(w.slot, HOST | BY_ENTRY))?;
            for address in [w.va, w.slot + 8, w.ma()] {
                equal_at("status for", address, unmap(address, 0, handle)?, GENERAL)?;
            }
            table.has("use", REF, 0x19)?;
            unmapped(w.slot, handle)?;
            equal("entry", w.mapping(t), 0)
        })
    }),
    case(
        "grant_unmap/elsewhere",
        "Any mapping that fits goes: the guest may have moved it.",
        |t| {
            with_table(t, |table, [a, w, v, ..]| {
                table.permit(REF, 0, a);
                let handle = mapped(Wish::new(w.va, HOST))?;
                equal("second", update_va(v.va, w.mapping(t), 2), 0)?;
                unmapped(v.va, handle)?;
                equal("second entry", v.mapping(t), 0)?;
                equal("first entry", w.mapping(t), a.entry(MAPPED))?;
                table.has("use", REF, 1)?;
                a.protect()?;
                equal("pin", pin(1, a.mfn), crate::call::EINVAL)?;
                w.unmap()?;
                becomes_table(a)
            })
        },
    ),
    case("grant_unmap/own_mapping", "A mapping that the guest made itself fits as well.", |t| {
        held(t, HOST, |table, a, w, handle| {
            unmapped(a.va, handle)?;
            equal("own entry", a.mapping(t), 0)?;
            table.has("use", REF, 1)?;
            equal("the other", w.mapping(t), a.entry(MAPPED))
        })
    }),
    case("grant_unmap/swapped", "Two mappings of one entry can go by each other's handle.", |t| {
        with_table(t, |table, [a, w, v, ..]| {
            table.permit(REF, 0, a);
            let first = mapped(Wish::new(w.va, HOST))?;
            let second = mapped(Wish::new(v.va, HOST))?;
            unmapped(v.va, first)?;
            equal("by a handle that is gone", unmap(w.va, 0, first)?, BAD_HANDLE)?;
            unmapped(w.va, second)?;
            table.has("use", REF, 1)
        })
    }),
    case("grant_unmap/other_entry", "Another entry's mapping goes by neither's handle.", |t| {
        with_table(t, |table, [a, b, w, v, ..]| {
            table.permit(REF, 0, a);
            table.permit(REF + 1, READ_ONLY, b);
            let first = mapped(Wish::new(w.va, HOST))?;
            let wish = Wish { reference: REF + 1, ..Wish::new(v.va, HOST | ONLY_READ) };
            let second = mapped(wish)?;
            equal("first by second", unmap(w.va, 0, second)?, GENERAL)?;
            equal("second by first", unmap(v.va, 0, first)?, GENERAL)?;
            unmapped(w.va, first)?;
            table.has("use of the second", REF + 1, 0xd)?;
            unmapped(v.va, second)?;
            table.has("second behind it", REF + 1, 5)
        })
    }),
    case("grant_unmap/revoked", "An entry changed meanwhile is not restored.", |t| {
        held(t, HOST | DEVICE, |table, a, w, handle| {
            table.set(REF, 0xff5c, 7, 0x1234);
            equal("status", unmap(w.va, a.ma(), handle)?, OKAY)?;
            equal("entry", table.word(REF), 0x0000_1234_0007_ff44)
        })
    }),
    case("grant_unmap/table_gone", "Where the table is none any more: status -1.", |t| {
        with_table(t, |table, [a, l1, ..]| {
            table.permit(REF, 0, a);
            l1.pin(1)?;
            let handle = mapped(Wish::new(l1.place(7), HOST | BY_ENTRY))?;
            l1.unpin()?;
            let seen = unmap(l1.place(7), 0, handle)?;
            table.has("use", REF, 0x19)?;
            // The page still holds the entry: as a table again, it maps the page again.
            equal("pin", pin(1, l1.mfn), 0)?;
            unmapped(l1.place(7), handle)?;
            equal("unpin", unpin(l1.mfn), 0)?;
            equal("status", seen, GENERAL)?;
            table.has("use behind it", REF, 1)?;
            becomes_table(a)
        })
    }),
    case("grant_unmap/written_over", "Writing over a mapping lets its page go.", |t| {
        held(t, HOST, |table, a, w, handle| {
            let entry = w.mapping(t);
            equal("other", update(w.slot, w.entry(LOADED)), 0)?;
            a.protect()?;
            let answer = pin(1, a.mfn);
            a.unpin()?;
            table.has("use", REF, 0x19)?;
            equal("putting back", update(w.slot, entry), 0)?;
            unmapped(w.va, handle)?;
            equal("pin", answer, 0)
        })
    }),
];

/// Runs `body` with a page that is granted and mapped at another's address: both, and the handle.
fn held(t: &Test<'_>, how: u32, body: impl FnOnce(Table, Page, Page, u64) -> Outcome) -> Outcome {
    with_table(t, |table, [a, w, ..]| {
        table.permit(REF, 0, a);
        let handle = mapped(Wish::new(w.va, how))?;
        body(table, a, w, handle)
    })
}
