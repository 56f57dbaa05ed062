//! Giving frames back and taking others, with pages of the guest that nothing maps.

use super::memory::{arena_address, poke};
use super::pages_calls::{SELF, memory_op, put_words, word_at};
use crate::case::{Outcome, Test, equal, equal_at};
use crate::tables::{frame_of, page_of};

pub(crate) const INCREASE: u64 = 0;
pub(crate) const DECREASE: u64 = 1;
pub(crate) const CURRENT: u64 = 3;
pub(crate) const POPULATE: u64 = 6;
pub(crate) const EXCHANGE: u64 = 11;

/// Pages that a case gets; the first is at a multiple of that.
pub(crate) const SPARE: usize = 16;
/// Where in the arena the first list of extents lies. Unit: bytes.
pub(crate) const EXTENTS: usize = 1024;

/// The address of the first list of extents.
pub(crate) fn extents_address() -> u64 {
    arena_address() + EXTENTS as u64
}

/// The extent at a place of the first list, as it is now.
pub(crate) fn extent(index: usize) -> u64 {
    word_at(EXTENTS + index * 8)
}

/// Makes one of the calls on a list of extents; `options` are the order in the lower half and the
/// flags in the upper half.
pub(crate) fn reserve_of(domid: u64, command: u64, extents: &[u64], options: u64) -> i64 {
    put_words(EXTENTS, extents);
    memory_op(command, &[extents_address(), extents.len() as u64, options, domid])
}

/// The same for the caller, with extents of one frame.
pub(crate) fn reserve(command: u64, extents: &[u64]) -> i64 {
    reserve_of(SELF, command, extents, 0)
}

/// The pages that the guest has.
pub(crate) fn owned() -> i64 {
    memory_op(CURRENT, &[SELF])
}

/// Runs `body` with the numbers of pages that are mapped nowhere, and gives each a frame again that
/// has none behind it. The guest has as many pages as before then.
pub(crate) fn with_spare(t: &Test<'_>, body: impl FnOnce([u64; SPARE]) -> Outcome) -> Outcome {
    let before = owned();
    let first = (t.boot.pages() / SPARE as u64 - 1) * SPARE as u64;
    let mut pages = [0; SPARE];
    for (pfn, page) in (first..).zip(&mut pages) {
        *page = pfn;
    }
    let outcome = body(pages);
    for pfn in pages {
        refill(t, pfn)?;
    }
    let left = equal("pages behind the case", owned(), before);
    outcome.and(left)
}

/// Gives a page a frame if the one in its list is not the guest's as this page.
fn refill(t: &Test<'_>, pfn: u64) -> Outcome {
    if page_of(frame_of(t.boot, pfn)) == pfn {
        return Ok(());
    }
    equal_at("refilling page", pfn, reserve(POPULATE, &[pfn]), 1)?;
    note(t, pfn, extent(0));
    Ok(())
}

/// Notes the frame of a page in the guest's list.
pub(crate) fn note(t: &Test<'_>, pfn: u64, mfn: u64) {
    poke(t.boot.start_info().mfn_list + pfn * 8, mfn);
}
