//! `unmap_and_replace`: the mapping of another address takes a grant's place.

use crate::call::EINVAL;
use crate::case::{Case, Outcome, Test, case, equal, equal_at};
use crate::raw::pages_calls::{pin, update_va};
use crate::raw::pages_grants::{
    BAD_HANDLE, BY_ENTRY, DEVICE, GENERAL, HOST, OKAY, ONLY_READ, PERMIT, REF, Table, Wish, mapped,
    replace, unmap, unmapped, unmapped_device, with_table,
};
use crate::raw::pages_scratch::{LOADED, Page};
use crate::tables::M2P;

pub(crate) const CASES: &[Case] = &[
    case("grant_replace/moves", "The other address's mapping moves, and is none there.", |t| {
        held(t, HOST, |table, [a, w, n], handle| {
            n.set(0, 0x1234);
            equal("status", replace(w.va, n.va, handle)?, OKAY)?;
            equal("entry", w.mapping(t), n.entry(LOADED))?;
            equal("other entry", n.mapping(t), 0)?;
            equal("word", w.get(0), 0x1234)?;
            table.has("use", REF, PERMIT)?;
            equal("again", replace(w.va, n.va, handle)?, BAD_HANDLE)?;
            a.protect()?;
            equal("pin", pin(1, a.mfn), 0)?;
            a.unpin()
        })
    }),
    case("grant_replace/moves_counts", "The page that moved is mapped as often as before.", |t| {
        held(t, HOST, |_, [_, w, n], handle| {
            equal("status", replace(w.va, n.va, handle)?, OKAY)?;
            equal("pin", pin(1, n.mfn), EINVAL)?;
            w.unmap()?;
            equal("pin behind it", pin(1, n.mfn), 0)?;
            n.unpin()
        })
    }),
    case("grant_replace/moves_flags", "A mapping moves with all its flags.", |t| {
        held(t, HOST | ONLY_READ, |_, [_, w, n], handle| {
            let flags = 0x8010_0000_0000_0e25;
            equal("mapping", update_va(n.va, n.entry(flags), 2), 0)?;
            equal("status", replace(w.va + 5, n.va + 7, handle)?, OKAY)?;
            equal("entry", w.mapping(t), n.entry(flags))
        })
    }),
    case("grant_replace/by_none", "Replaced by address 0: it is unmapped.", |t| {
        held(t, HOST, |table, [_, w, _], handle| {
            equal("status", replace(w.va, 0, handle)?, OKAY)?;
            equal("entry", w.mapping(t), 0)?;
            table.has("use", REF, PERMIT)
        })
    }),
    case("grant_replace/by_absent", "Replaced by an address without mapping: unmapped.", |t| {
        held(t, HOST, |table, [_, w, n], handle| {
            n.unmap()?;
            equal("status", replace(w.va, n.va, handle)?, OKAY)?;
            equal("entry", w.mapping(t), 0)?;
            table.has("use", REF, PERMIT)
        })
    }),
    case("grant_replace/by_bad", "Replaced by an address without table: status -1.", |t| {
        held(t, HOST, |table, [a, w, _], handle| {
            for address in [0x1000, M2P, 0xffff_8300_0000_0000, 0x8000_0000_0000] {
                equal_at("status for", address, replace(w.va, address, handle)?, GENERAL)?;
            }
            equal("frame", w.mapping(t) >> 12 & 0xff_ffff, a.mfn)?;
            table.has("use", REF, 0x19)?;
            unmapped(w.va, handle)
        })
    }),
    case("grant_replace/bad_address", "At a wrong address: -1, and the other is lost.", |t| {
        held(t, HOST, |table, [_, w, n], handle| {
            for address in [0x1000, M2P, w.va + 4096 * 3] {
                equal("other mapped", n.map(LOADED), 0)?;
                equal_at("status for", address, replace(address, n.va, handle)?, GENERAL)?;
                equal_at("other entry for", address, n.mapping(t), 0)?;
            }
            table.has("use", REF, 0x19)?;
            equal("pin of the lost", pin(1, n.mfn), 0)?;
            n.unpin()?;
            unmapped(w.va, handle)
        })
    }),
    case("grant_replace/by_itself", "Replaced by itself: status -1, and it is lost.", |t| {
        held(t, HOST, |table, [_, w, _], handle| {
            let entry = w.mapping(t);
            equal("status", replace(w.va, w.va, handle)?, GENERAL)?;
            equal("entry", w.mapping(t), 0)?;
            table.has("use", REF, 0x19)?;
            equal("putting back", update_va(w.va, entry, 2), 0)?;
            unmapped(w.va, handle)
        })
    }),
    case("grant_replace/by_grant", "A mapping can be replaced by another of the page.", |t| {
        held(t, HOST, |table, [a, w, n], first| {
            let second = mapped(Wish::new(n.va, HOST))?;
            equal("status", replace(w.va, n.va, first)?, OKAY)?;
            equal("entry", w.mapping(t) >> 12 & 0xff_ffff, a.mfn)?;
            equal("other entry", n.mapping(t), 0)?;
            table.has("use", REF, 0x19)?;
            equal("where it was", unmap(n.va, 0, second)?, GENERAL)?;
            unmapped(w.va, second)?;
            table.has("use behind it", REF, PERMIT)
        })
    }),
    case("grant_replace/by_entry", "A mapping by entry can't be replaced: status -1.", |t| {
        with_table(t, |table, [a, w, n, ..]| {
            table.permit(REF, 0, a);
            let handle = mapped(Wish::new(w.slot, HOST | BY_ENTRY))?;
            equal("status", replace(w.slot, n.va, handle)?, GENERAL)?;
            equal("other entry", n.mapping(t), n.entry(LOADED))?;
            table.has("use", REF, 0x19)?;
            equal("by address 0", replace(w.slot, 0, handle)?, OKAY)?;
            equal("entry", w.mapping(t), 0)
        })
    }),
    case("grant_replace/device", "A device's mapping is left: status 0.", |t| {
        held(t, DEVICE, |table, [a, w, n], handle| {
            equal("status", replace(w.va, n.va, handle)?, OKAY)?;
            equal("entry", w.mapping(t), w.entry(LOADED))?;
            equal("other entry", n.mapping(t), n.entry(LOADED))?;
            table.has("use", REF, 0x19)?;
            unmapped_device(a, handle)
        })
    }),
    case("grant_replace/half", "Of both mappings, the processor's is replaced.", |t| {
        held(t, HOST | DEVICE, |table, [a, w, n], handle| {
            equal("status", replace(w.va, n.va, handle)?, OKAY)?;
            equal("entry", w.mapping(t), n.entry(LOADED))?;
            table.has("use", REF, 0x19)?;
            unmapped_device(a, handle)
        })
    }),
    case("grant_replace/nowhere", "At address 0: nothing happens, status 0.", |t| {
        held(t, HOST, |table, [_, w, n], handle| {
            equal("status", replace(0, n.va, handle)?, OKAY)?;
            equal("other entry", n.mapping(t), n.entry(LOADED))?;
            table.has("use", REF, 0x19)?;
            unmapped(w.va, handle)
        })
    }),
    case("grant_replace/handles", "No mapping: status -4, and the other stays.", |t| {
        held(t, HOST, |_, [_, w, n], handle| {
            equal("status", replace(w.va, n.va, handle + 1)?, BAD_HANDLE)?;
            equal("status of no number", replace(w.va, n.va, 0xffff_ffff)?, BAD_HANDLE)?;
            equal("other entry", n.mapping(t), n.entry(LOADED))?;
            unmapped(w.va, handle)
        })
    }),
];

/// Runs `body` with a page that is granted and mapped at a second one's address, a third one, and
/// the handle.
fn held(t: &Test<'_>, how: u32, body: impl FnOnce(Table, [Page; 3], u64) -> Outcome) -> Outcome {
    with_table(t, |table, [a, w, n, ..]| {
        table.permit(REF, 0, a);
        let handle = mapped(Wish::new(w.va, how))?;
        body(table, [a, w, n], handle)
    })
}
