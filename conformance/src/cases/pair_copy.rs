//! Copies between pages of two domains.

use super::event_calls::NOBODY;
use crate::case::{Case, Outcome, Test, case, equal, equal_at};
use crate::puppet::{Peer, Spare};
use crate::raw::memory::{peek, poke};
use crate::raw::pages_grants::{
    BAD_COPY, BAD_DOMAIN, BAD_REF, End, GENERAL, HOST, NO_REF, OKAY, PERMIT, READ_ONLY, Wish, copy,
    mapped, unmapped,
};
use crate::raw::pages_scratch::{LOADED, Page};

/// Entries of the puppet's: for writing, and for reading.
const REF: u32 = 9;
const READ_REF: u32 = 10;
/// Flags of an entry that nobody uses any more.
const IDLE: u64 = 1;

pub(crate) const CASES: &[Case] = &[
    case("pair_copy/from", "A lent page is copied here.", |t| {
        lent(t, |p, own, page| {
            p.write(page.va + 8, 0x1122_3344)?;
            let status = copy(theirs(p, READ_REF).at(8), End::frame(own.mfn).at(16), 8)?;
            equal("status", status, OKAY)?;
            equal("copied", peek(own.va + 16), 0x1122_3344)?;
            equal("before it", peek(own.va + 8), 0)?;
            equal("entry", p.flags(READ_REF)?, 5)
        })
    }),
    case("pair_copy/to", "A page is copied to one lent for writing.", |t| {
        lent(t, |p, own, page| {
            poke(own.va, 0x5566);
            equal("status", copy(End::frame(own.mfn), theirs(p, REF).at(4088), 8)?, OKAY)?;
            equal("copied", p.read(page.va + 4088)?, 0x5566)?;
            equal("entry", p.flags(REF)?, IDLE)
        })
    }),
    case("pair_copy/to_read_only", "Not to one lent for reading: status -1.", |t| {
        lent(t, |p, own, page| {
            poke(own.va, 0x5566);
            equal("status", copy(End::frame(own.mfn), theirs(p, READ_REF), 8)?, GENERAL)?;
            equal("copied", p.read(page.va)?, 0)
        })
    }),
    case("pair_copy/between", "Both pages may be the other domain's.", |t| {
        lent(t, |p, _, page| {
            p.write(page.va, 0x77)?;
            equal("status", copy(theirs(p, READ_REF), theirs(p, REF).at(64), 8)?, OKAY)?;
            equal("copied", p.read(page.va + 64)?, 0x77)
        })
    }),
    case("pair_copy/mapped", "A page that is mapped may be copied all the same.", |t| {
        lent(t, |p, own, page| {
            let window = p.pages[1];
            let wish =
                Wish { address: window.va, flags: HOST, reference: REF, domain: p.domain.into() };
            let handle = mapped(wish)?;
            poke(window.va, 0x88);
            equal("status", copy(theirs(p, REF), End::frame(own.mfn), 8)?, OKAY)?;
            equal("copied", peek(own.va), 0x88)?;
            equal("entry", p.flags(REF)?, IDLE | 24)?;
            unmapped(window.va, handle)?;
            equal("window", window.map(LOADED), 0)?;
            equal("theirs", p.read(page.va)?, 0x88)
        })
    }),
    case("pair_copy/third", "What is lent to a third domain is not copied: status -1.", |t| {
        lent(t, |p, own, page| {
            for domain in [NOBODY, p.domain] {
                p.set_entry(REF, PERMIT, domain, page.mfn)?;
                let status = copy(theirs(p, REF), End::frame(own.mfn), 8)?;
                equal_at("status", domain.into(), status, GENERAL)?;
            }
            Ok(())
        })
    }),
    case("pair_copy/frames", "A frame of another domain is not copied without a grant.", |t| {
        lent(t, |p, own, page| {
            let frame = End::frame(page.mfn);
            let by_number = copy(frame.of(p.domain.into()), End::frame(own.mfn), 8)?;
            equal("of that domain", by_number, -8)?;
            equal("as its own", (copy(frame, End::frame(own.mfn), 8)? < 0).into(), 1_u64)
        })
    }),
    case("pair_copy/names", "No domain: status -2; no entry: -3; beyond the page: -10.", |t| {
        lent(t, |p, own, _| {
            let (from, to) = (theirs(p, REF), End::frame(own.mfn));
            equal("domain", copy(from.of(NOBODY.into()), to, 8)?, BAD_DOMAIN)?;
            equal("entry", copy(theirs(p, NO_REF), to, 8)?, BAD_REF)?;
            equal("place", copy(from.at(4090), to, 8)?, BAD_COPY)
        })
    }),
];

fn theirs(p: &Peer, reference: u32) -> End {
    End::entry(reference).of(p.domain.into())
}

/// Runs `body` while the puppet lends a page for writing and for reading; with an empty page of this
/// domain's.
fn lent(t: &Test<'_>, body: impl FnOnce(&Peer, Page, Spare) -> Outcome) -> Outcome {
    let p = t.peer()?;
    let (own, page) = (p.pages[0], p.spare(0));
    for word in 0..512 {
        own.set(word, 0);
    }
    for at in [0, 8, 64, 4088] {
        p.write(page.va + at, 0)?;
    }
    p.set_entry(REF, PERMIT, p.own, page.mfn)?;
    p.set_entry(READ_REF, PERMIT | READ_ONLY, p.own, page.mfn)?;
    let outcome = body(p, own, page);
    p.set_entry(REF, 0, 0, 0)?;
    p.set_entry(READ_REF, 0, 0, 0)?;
    outcome
}
