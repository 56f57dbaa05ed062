//! Pages to experiment with: from the slack that the loader mapped behind everything of the guest.

use super::memory::{peek, poke};
use super::pages_calls::{
    FLUSH_LOCAL, NEW_USER_BASEPTR, SET_GDT, SET_LDT, mmuext, pin, unpin, update, update_va,
};
use crate::call::hypercall;
use crate::case::{Outcome, Test, Verdict, equal, equal_at};
use crate::tables::{FRAME, VIRT_BASE, address_of, entry, frame_of, index, page_of, top, walk};

/// Pages that a case gets.
pub(crate) const PAGES: usize = 16;
/// The slots of the top-level table that cases may fill.
pub(crate) const FREE_SLOTS: core::ops::Range<u64> = 5..9;

/// What the loader's entries have beside the frame: present, writable, user, accessed, dirty, and
/// the mark of the guest kernel's own pages.
pub(crate) const LOADED: u64 = 0x0010_0000_0000_0067;
const INVLPG: u64 = 2;

/// A page of the guest's memory that nobody uses.
#[derive(Clone, Copy)]
pub(crate) struct Page {
    pub(crate) pfn: u64,
    /// Where it is mapped.
    pub(crate) va: u64,
    pub(crate) mfn: u64,
    /// The machine address of the entry that maps it.
    pub(crate) slot: u64,
}

impl Page {
    /// An entry that names this page's frame.
    pub(crate) const fn entry(self, flags: u64) -> u64 {
        self.mfn << 12 | flags
    }

    /// The machine address of an entry in this page.
    pub(crate) const fn place(self, index: u64) -> u64 {
        (self.mfn << 12) + index * 8
    }

    /// The machine address of the page.
    pub(crate) const fn ma(self) -> u64 {
        self.mfn << 12
    }

    /// The entry that maps this page's address.
    pub(crate) fn mapping(self, t: &Test<'_>) -> u64 {
        walk(t.boot, 1, self.va).unwrap_or(0)
    }

    /// Writes a word of the page.
    pub(crate) fn set(self, index: u64, word: u64) {
        poke(self.va + index * 8, word);
    }

    /// Reads a word of the page.
    pub(crate) fn get(self, index: u64) -> u64 {
        peek(self.va + index * 8)
    }

    /// Maps the page at its own address with the given flags; the answer.
    pub(crate) fn map(self, flags: u64) -> i64 {
        update_va(self.va, self.entry(flags), INVLPG)
    }

    /// Makes the page's own mapping read-only.
    pub(crate) fn protect(self) -> Outcome {
        equal("read-only mapping", self.map(LOADED & !2), 0)
    }

    /// Removes the page's own mapping.
    pub(crate) fn unmap(self) -> Outcome {
        equal("removed mapping", update_va(self.va, 0, INVLPG), 0)
    }

    /// Makes the page read-only and pins it as a table of a level, 1 to 4.
    pub(crate) fn pin(self, level: u64) -> Outcome {
        self.protect()?;
        equal_at("pin at level", level, pin(level, self.mfn), 0)
    }

    /// Unpins the page.
    pub(crate) fn unpin(self) -> Outcome {
        equal("unpin", unpin(self.mfn), 0)
    }

    /// Checks that the page is no table any more: it can be mapped writable.
    pub(crate) fn is_free(self) -> Outcome {
        equal("writable mapping", self.map(LOADED), 0)
    }

    /// Checks that the page cannot be mapped writable.
    pub(crate) fn is_held(self, answer: i64) -> Outcome {
        equal("writable mapping", self.map(LOADED), answer)
    }
}

/// Runs `body` with zeroed pages, each mapped writable at its own address and nowhere else, and makes
/// them so again behind it.
pub(crate) fn with(t: &Test<'_>, body: impl FnOnce([Page; PAGES]) -> Outcome) -> Outcome {
    let pages = pages(t)?;
    clean(t, &pages)?;
    let outcome = body(pages);
    let cleaned = clean(t, &pages);
    outcome.and(cleaned)
}

/// A frame of the machine's memory that no domain has.
pub(crate) fn free_frame() -> u64 {
    (0x10000..0x20000).find(|&mfn| page_of(mfn) == u64::MAX).unwrap_or(0)
}

/// A frame of the hypervisor: the table behind the top-level table's first reserved slot.
pub(crate) fn hypervisor_frame(t: &Test<'_>) -> u64 {
    (entry(top(t.boot), 256) & FRAME) >> 12
}

/// Makes a page a copy of the guest's part of the top-level table, read-only. The first table's
/// frame.
pub(crate) fn duplicate(t: &Test<'_>, copy: Page) -> Result<u64, Verdict> {
    let table = top(t.boot);
    let slot = index(4, address_of(0));
    copy.set(slot, entry(table, slot) & (FRAME | 0xfff));
    copy.protect()?;
    Ok(frame_of(t.boot, table))
}

fn pages(t: &Test<'_>) -> Result<[Page; PAGES], Verdict> {
    let first = (t.entry.general[7] - VIRT_BASE) >> 12;
    let mut pages = [Page { pfn: 0, va: 0, mfn: 0, slot: 0 }; PAGES];
    for (pfn, page) in (first..).zip(&mut pages) {
        let va = address_of(pfn);
        let Some(above) = walk(t.boot, 2, va) else {
            return Err(Verdict::Skip("the loader mapped no spare pages"));
        };
        let slot = (above & FRAME) + index(1, va) * 8;
        *page = Page { pfn, va, mfn: frame_of(t.boot, pfn), slot };
    }
    Ok(pages)
}

/// Makes pages the guest's own again, blank and writable, and takes back what else cases set up with them.
///
/// # Errors
/// Something can't be taken back.
pub(crate) fn clean(t: &Test<'_>, pages: &[Page]) -> Outcome {
    equal("removing descriptors", hypercall(SET_GDT, &[0, 0]), 0)?;
    equal("removing local descriptors", mmuext(SET_LDT, 0, 0), 0)?;
    equal("removing the user's table", mmuext(NEW_USER_BASEPTR, 0, 0), 0)?;
    let table = frame_of(t.boot, top(t.boot)) << 12;
    for slot in FREE_SLOTS {
        equal_at("clearing slot", slot, update(table + slot * 8, 0), 0)?;
    }
    for page in pages {
        // Most are not pinned, which is refused.
        let _ = unpin(page.mfn);
    }
    for page in pages {
        equal_at("restoring page", page.pfn, page.map(LOADED), 0)?;
        equal_at("number of page", page.pfn, page_of(page.mfn), page.pfn)?;
        (0..512).for_each(|word| page.set(word, 0));
    }
    equal("flush", mmuext(FLUSH_LOCAL, 0, 0), 0)
}
