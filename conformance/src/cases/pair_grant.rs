//! Pages that one domain lends another: mapped, changed meanwhile, taken back.

use super::event_calls::NOBODY;
use crate::call::{EBUSY, EINVAL, EPERM, GRANT_TABLE_OP, MEMORY_OP, MMUEXT_OP, UPDATE_VA_MAPPING};
use crate::case::{Case, Outcome, Test, Verdict, case, equal, equal_at};
use crate::puppet::{Peer, Spare};
use crate::raw::memory::arena_address;
use crate::raw::memory::{peek, poke};
use crate::raw::pages_calls::{
    UPDATE_VA_MAPPING_OTHERDOMAIN, mmu_update, mmu_update_of, update_va,
};
use crate::raw::pages_grants::{
    BAD_DOMAIN, BAD_HANDLE, BAD_PAGE, BAD_REF, DENIED, DEVICE, GENERAL, HOST, MAP, NO_REF, OKAY,
    ONLY_READ, PERMIT, READ_ONLY, UNMAP, UNSET, Wish, map, map_refused, mapped, query_size,
    setup_at, unmap, unmapped,
};
use crate::raw::pages_scratch::{LOADED, Page};

/// The puppet's entry that cases use; the one before is the mailbox's.
const REF: u32 = 9;
/// Flags of entries: in use for reading, and for writing too.
const READ: u64 = 8;
const USED: u64 = 24;
const PIN_L1: u64 = 0;
const UNPIN: u64 = 4;
const DECREASE: u64 = 1;
const SELF: u64 = 0x7ff0;

pub(crate) const CASES: &[Case] = &[
    case("pair_grant/write", "A lent page is mapped: each side sees what the other writes.", |t| {
        lent(t, PERMIT, |p, window, page| {
            p.write(page.va, 0x1111)?;
            let handle = mapped(wish(p, window, HOST))?;
            equal("theirs seen here", peek(window.va), 0x1111)?;
            poke(window.va + 8, 0x2222);
            equal("ours seen there", p.read(page.va + 8)?, 0x2222)?;
            p.write(page.va + 16, 0x3333)?;
            equal("later", peek(window.va + 16), 0x3333)?;
            unmapped(window.va, handle)
        })
    }),
    case("pair_grant/flags", "The owner sees by the entry whether and how it is used.", |t| {
        lent(t, PERMIT, |p, window, _| {
            for (how, bits) in [(HOST, USED), (HOST | ONLY_READ, READ), (DEVICE | HOST, USED)] {
                let seen = map(wish(p, window, how))?;
                equal("status", seen.status, OKAY)?;
                equal_at("while mapped", how.into(), p.flags(REF)?, 1 | bits)?;
                let bus = if how & DEVICE != 0 { seen.bus } else { 0 };
                equal("status of unmap", unmap(window.va, bus, seen.handle)?, OKAY)?;
                equal_at("behind it", how.into(), p.flags(REF)?, 1)?;
            }
            Ok(())
        })
    }),
    case("pair_grant/bus", "The answer has the frame's address; the entry maps that frame.", |t| {
        lent(t, PERMIT, |p, window, page| {
            let seen = map(wish(p, window, HOST))?;
            equal("status", seen.status, OKAY)?;
            equal("address", seen.bus, page.mfn << 12)?;
            equal("entry", window.mapping(t) >> 12 & 0xff_ffff, page.mfn)?;
            unmapped(window.va, seen.handle)
        })
    }),
    case("pair_grant/read_only", "A page lent for reading can't be mapped writable.", |t| {
        lent(t, PERMIT | READ_ONLY, |p, window, page| {
            map_refused(wish(p, window, HOST), GENERAL)?;
            p.write(page.va, 0x77)?;
            let handle = mapped(wish(p, window, HOST | ONLY_READ))?;
            equal("seen", peek(window.va), 0x77)?;
            equal("writable", window.mapping(t) & 2, 0)?;
            unmapped(window.va, handle)
        })
    }),
    case("pair_grant/write_own_entry", "A read-only mapping can't be made writable later.", |t| {
        lent(t, PERMIT | READ_ONLY, |p, window, page| {
            let handle = mapped(wish(p, window, HOST | ONLY_READ))?;
            let answer = update_va(window.va, page.mfn << 12 | LOADED, 2);
            equal("writable", (answer < 0).into(), 1_u64)?;
            equal("mapped still", window.mapping(t) & 3, 1)?;
            unmapped(window.va, handle)
        })
    }),
    case("pair_grant/third", "A page lent to a third domain can't be mapped: status -1.", |t| {
        lent(t, PERMIT, |p, window, page| {
            for domain in [NOBODY, p.domain, 0, 0x7fff] {
                p.set_entry(REF, PERMIT, domain, page.mfn)?;
                map_refused(wish(p, window, HOST | ONLY_READ), GENERAL)?;
                equal_at("entry", domain.into(), p.flags(REF)?, 1)?;
            }
            Ok(())
        })
    }),
    case("pair_grant/empty", "Nor can what is lent to nobody, or by a grant of a grant.", |t| {
        lent(t, PERMIT, |p, window, page| {
            for flags in [0, 2, 3, 0x101] {
                p.set_entry(REF, flags, p.own, page.mfn)?;
                map_refused(wish(p, window, HOST | ONLY_READ), GENERAL)?;
            }
            Ok(())
        })
    }),
    case("pair_grant/bad_ref", "An entry behind the table's end: status -3.", |t| {
        lent(t, PERMIT, |p, window, _| {
            for reference in [NO_REF, 1 << 20, u32::MAX] {
                map_refused(Wish { reference, ..wish(p, window, HOST) }, BAD_REF)?;
            }
            Ok(())
        })
    }),
    case("pair_grant/no_domain", "No such domain: status -2.", |t| {
        lent(t, PERMIT, |p, window, _| {
            for domain in [u64::from(NOBODY), 77, 0x7ff1, 0x7ff2] {
                map_refused(Wish { domain, ..wish(p, window, HOST) }, BAD_DOMAIN)?;
            }
            Ok(())
        })
    }),
    case(
        "pair_grant/foreign_frame",
        "A frame that is not the lender's can't be lent: status -9.",
        |t| {
            lent(t, PERMIT, |p, window, _| {
                p.set_entry(REF, PERMIT, p.own, window.mfn)?;
                map_refused(wish(p, window, HOST), BAD_PAGE)?;
                equal("entry", p.flags(REF)?, 1)
            })
        },
    ),
    case(
        "pair_grant/twice",
        "Each mapping counts: the entry is in use until the last goes.",
        |t| {
            lent(t, PERMIT, |p, window, page| {
                let second = p.pages[1];
                let first = mapped(wish(p, window, HOST))?;
                let other = mapped(wish(p, second, HOST | ONLY_READ))?;
                unmapped(window.va, first)?;
                equal("reading alone", p.flags(REF)?, 1 | READ)?;
                p.write(page.va, 0x99)?;
                equal("still mapped", peek(second.va), 0x99)?;
                unmapped(second.va, other)?;
                equal("behind it", p.flags(REF)?, 1)
            })
        },
    ),
    case("pair_grant/revoked", "An entry emptied while it is mapped leaves the mapping.", |t| {
        lent(t, PERMIT, |p, window, page| {
            let handle = mapped(wish(p, window, HOST))?;
            p.set_entry(REF, 0, 0, 0)?;
            p.write(page.va, 0x55)?;
            equal("seen", peek(window.va), 0x55)?;
            poke(window.va, 0x66);
            equal("written", p.read(page.va)?, 0x66)?;
            // As one that is in use it allows what it did.
            let again = map(wish(p, p.pages[1], HOST))?;
            equal("mapped again", again.status, OKAY)?;
            unmapped(p.pages[1].va, again.handle)?;
            unmapped(window.va, handle)?;
            equal("behind it", p.flags(REF)?, 0)?;
            map_refused(wish(p, window, HOST), GENERAL)
        })
    }),
    case(
        "pair_grant/moved",
        "An entry of another frame while it is mapped changes nothing.",
        |t| {
            lent(t, PERMIT, |p, window, page| {
                let other = p.spare(1);
                p.write(other.va, 0xbad)?;
                p.write(page.va, 0x600d)?;
                let handle = mapped(wish(p, window, HOST))?;
                p.set_entry(REF, PERMIT | 24, p.own, other.mfn)?;
                equal("seen", peek(window.va), 0x600d)?;
                unmapped(window.va, handle)?;
                equal("behind it", p.flags(REF)?, 1)
            })
        },
    ),
    case("pair_grant/given_back", "A page given back while mapped stays what it is here.", |t| {
        lent(t, PERMIT, |p, window, _| {
            // The loader's slack: whatever the puppet has there, it does not need it again.
            let page = p.spare(12);
            p.write(page.va, 0x1234_5678)?;
            p.set_entry(REF, PERMIT, p.own, page.mfn)?;
            let handle = mapped(wish(p, window, HOST))?;
            equal("unmapped there", p.call(UPDATE_VA_MAPPING, &[page.va, 0, 2])?, 0)?;
            let list = p.room() + 64;
            let words = [list, 1, 0, SELF, 0, 0, 0, 0, page.mfn];
            equal("decrease", p.call_with(MEMORY_OP, &[DECREASE, p.room()], &words)?, 1)?;
            equal("seen", peek(window.va), 0x1234_5678)?;
            poke(window.va + 8, 1);
            unmapped(window.va, handle)?;
            map_refused(wish(p, window, HOST), BAD_PAGE)
        })
    }),
    case("pair_grant/no_table", "What is mapped writable here can't be a table there.", |t| {
        lent(t, PERMIT, |p, window, _| {
            // An empty page is an empty table.
            let page = p.spare(2);
            p.set_entry(REF, PERMIT, p.own, page.mfn)?;
            let handle = mapped(wish(p, window, HOST))?;
            let read_only = page.mfn << 12 | LOADED & !2;
            equal("read-only", p.call(UPDATE_VA_MAPPING, &[page.va, read_only, 2])?, 0)?;
            equal("pin", p.pin(PIN_L1, page)?, EINVAL)?;
            unmapped(window.va, handle)?;
            equal("pin behind it", p.pin(PIN_L1, page)?, 0)?;
            map_refused(wish(p, window, HOST), GENERAL)?;
            let handle = mapped(wish(p, window, HOST | ONLY_READ))?;
            unmapped(window.va, handle)?;
            equal("unpin", p.pin(UNPIN, page)?, 0)?;
            let writable = page.mfn << 12 | LOADED;
            equal("writable", p.call(UPDATE_VA_MAPPING, &[page.va, writable, 2])?, 0)
        })
    }),
    case("pair_grant/handles", "Handles are the mapping domain's: others' are none.", |t| {
        lent(t, PERMIT, |p, window, page| {
            let handle = mapped(wish(p, window, HOST))?;
            let words = [page.va, 0, handle | UNSET << 32];
            let answer = p.call_with(GRANT_TABLE_OP, &[UNMAP, p.room(), 1], &words)?;
            equal("answer", answer, 0)?;
            let status = i64::from((p.word(2) >> 32 & 0xffff) as u16 as i16);
            equal("status of the handle", status, BAD_HANDLE)?;
            unmapped(window.va, handle)
        })
    }),
    case("pair_grant/lent_to_them", "The other domain maps a page of this one's.", |t| {
        lent(t, PERMIT, |p, window, page| {
            p.table.set(20, PERMIT, p.domain.into(), window.mfn);
            poke(window.va, 0xaaaa);
            let words = [page.va, u64::from(HOST) | 20 << 32, u64::from(p.own), 0];
            equal("answer", p.call_with(GRANT_TABLE_OP, &[MAP, p.room(), 1], &words)?, 0)?;
            equal("status and handle", p.word(2) >> 16 & 0xffff, 0)?;
            let handle = p.word(2) >> 32;
            equal("entry", p.table.flags(20), 1 | USED)?;
            equal("seen there", p.read(page.va)?, 0xaaaa)?;
            p.write(page.va, 0xbbbb)?;
            equal("written there", peek(window.va), 0xbbbb)?;
            let words = [page.va, 0, handle];
            equal("unmap", p.call_with(GRANT_TABLE_OP, &[UNMAP, p.room(), 1], &words)?, 0)?;
            equal("status", p.word(2) >> 32 & 0xffff, 0)?;
            equal("behind it", p.table.flags(20), 1)?;
            p.table.set(20, 0, 0, 0);
            let entry = page.mfn << 12 | LOADED;
            equal("mapped back", p.call(UPDATE_VA_MAPPING, &[page.va, entry, 2])?, 0)
        })
    }),
    case("pair_grant/without", "Without a grant another's frame can't be mapped.", |t| {
        lent(t, 0, |p, window, page| {
            for flags in [LOADED, LOADED & !2] {
                let entry = page.mfn << 12 | flags;
                equal("by address", update_va(window.va, entry, 2), EBUSY)?;
                equal("by entry", mmu_update(&[(window.slot, entry)]).0, EBUSY)?;
                let number = UPDATE_VA_MAPPING_OTHERDOMAIN;
                let arguments = [window.va, entry, 2, p.domain.into()];
                equal("of that domain", crate::call::hypercall(number, &arguments), EPERM)?;
                let answer = mmu_update_of(p.domain.into(), &[(window.slot, entry)]).0;
                equal("by entry, of that domain", answer, EPERM)?;
            }
            Ok(())
        })
    }),
    case("pair_grant/their_table", "Another's table is not for all: status -8.", |t| {
        lent(t, PERMIT, |p, _, _| {
            let (answer, status, ..) = query_size(p.domain.into());
            equal("answer of query_size", answer, 0)?;
            equal("status of query_size", status, DENIED)?;
            let (answer, status) = setup_at(p.domain.into(), 1, arena_address() + 64);
            equal("answer of setup_table", answer, 0)?;
            equal("status of setup_table", status, DENIED)
        })
    }),
];

/// A mapping of the puppet's entry.
fn wish(p: &Peer, window: Page, flags: u32) -> Wish {
    Wish { address: window.va, flags, reference: REF, domain: p.domain.into() }
}

/// Runs `body` while the puppet lends a page by an entry with these flags; with a page of this
/// domain's as a window, which is mapped back behind it.
fn lent(t: &Test<'_>, flags: u16, body: impl FnOnce(&Peer, Page, Spare) -> Outcome) -> Outcome {
    let p = t.peer()?;
    let page = p.spare(0);
    p.set_entry(REF, flags, p.own, page.mfn)?;
    let outcome = body(p, p.pages[0], page);
    p.set_entry(REF, 0, 0, 0)?;
    for window in [p.pages[0], p.pages[1]] {
        equal("mapped back", window.map(LOADED), 0)?;
    }
    outcome
}

impl Peer {
    /// The puppet pins or unpins a page; the answer.
    fn pin(&self, command: u64, page: Spare) -> Result<i64, Verdict> {
        let arguments = [self.room(), 1, 0, SELF];
        self.call_with(MMUEXT_OP, &arguments, &[command, page.mfn, 0])
    }
}
