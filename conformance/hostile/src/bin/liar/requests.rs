//! Requests that are wrong, and what is to be answered.

use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use hypercall_abi::blkif::{
    DISCARD, DISCARD_SECURE, DiscardRequest, FLUSH, INDIRECT, IndirectRequest, READ, Request,
    STATUS_ERROR, STATUS_NOT_SUPPORTED, STATUS_OKAY, Segment, WRITE, WRITE_BARRIER,
};
use hypercall_abi::types::{DomId, GrantRef};
use pv_guest_sdk::grant::Grant;
use pv_guest_sdk::paging::{Access, Frame};
use zerocopy::{FromBytes, IntoBytes};

use crate::front::{Front, Info};
use crate::link::{Link, request, whole};
use crate::{Outcome, same};

/// Sectors of a page.
const PAGE: u64 = 8;

/// A request, what it is, and the status that it is to get.
type Row = (&'static str, Request, i16);

/// Pages that wrong requests name.
struct Pages {
    good: Grant,
    /// Which the back end may only read.
    read_only: Grant,
    /// Another domain's to use.
    foreign: Grant,
    /// Granted no more.
    revoked: GrantRef,
    /// A list of segments that is right but for one of them.
    list: Grant,
}

/// Makes each wrong request, alone; after each the disk is to work. Nothing is to be written.
pub(crate) async fn wrong(front: &Front, link: &mut Link) -> Outcome {
    let info = front.info().await?;
    let ended = front.page(Access::WRITE)?;
    let pages = Pages {
        good: front.page(Access::WRITE)?,
        read_only: front.page(Access::empty())?,
        foreign: front.page_for(DomId(0x7fe0), Access::WRITE)?,
        revoked: ended.reference(),
        list: front.page(Access::WRITE)?,
    };
    // Now that nothing else takes its entry.
    let _frame: Frame = ended.end().map_err(|_| "a page that nobody saw is in use")?;
    for (word, value) in pages.list.words().iter().zip([pages.good.reference().0, 0x0507]) {
        word.store(value, Ordering::Relaxed);
    }
    work(link, &pages.good, &info).await?;
    let mut rows = places(&pages, &info);
    rows.extend(granted(&pages));
    rows.extend(indirect(&pages));
    rows.extend(other(&pages, &info));
    for (what, request, status) in rows {
        same(what, link.ask(request).await?, status)?;
        work(link, &pages.good, &info).await.map_err(|error| format!("after {what}: {error}"))?;
    }
    Ok(())
}

/// Writes a page to the first sectors of the disk, and reads it back. Of a disk that can't be written
/// it reads.
pub(crate) async fn work(link: &mut Link, page: &Grant, info: &Info) -> Outcome {
    let (all, words) = ([whole(page)], page.words());
    if info.read_only {
        return same("a right read", link.ask(request(READ, 0, &all, 1)).await?, STATUS_OKAY);
    }
    let seed = link.produced().wrapping_mul(0x9e37_79b9);
    let value = |place: usize| seed.wrapping_add(u32::try_from(place).unwrap_or(0));
    words.iter().enumerate().for_each(|(at, word)| word.store(value(at), Ordering::Relaxed));
    same("a right write", link.ask(request(WRITE, 0, &all, 1)).await?, STATUS_OKAY)?;
    words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    same("a right read", link.ask(request(READ, 0, &all, 1)).await?, STATUS_OKAY)?;
    let read =
        words.iter().enumerate().filter(|(at, word)| word.load(Ordering::Relaxed) == value(*at));
    same("words that were read as they were written", read.count(), words.len())
}

/// Places that are not on the disk, or not in the page, and wrong numbers of segments.
fn places(pages: &Pages, info: &Info) -> Vec<Row> {
    let all = whole(&pages.good);
    let part = |first_sect, last_sect| Segment { first_sect, last_sect, ..all };
    let mut rows = Vec::new();
    for operation in [READ, WRITE] {
        let mut row = |what, sector, segments: &[Segment], count| {
            rows.push((what, request(operation, sector, segments, count), STATUS_ERROR));
        };
        row("behind the end", info.sectors, &[all], 1);
        row("over the end", info.sectors - PAGE + 1, &[all], 1);
        row("the last sector there can be", u64::MAX, &[part(0, 0)], 1);
        row("a sum that overflows", u64::MAX - 3, &[all], 1);
        row("the sign bit", 1 << 63, &[all], 1);
        row("over the end by the second segment", info.sectors - PAGE, &[all, part(0, 0)], 2);
        row("no segments", 0, &[], 0);
        row("12 segments", 0, &[all; 11], 12);
        row("255 segments", 0, &[all; 11], 255);
        row("the first sector behind the last", 0, &[part(5, 4)], 1);
        row("a sector behind the page", 0, &[part(0, 8)], 1);
        row("sectors far behind the page", 0, &[part(200, 255)], 1);
        row("a wrong segment behind a right one", 0, &[all, part(7, 0)], 2);
    }
    rows
}

/// Pages that the back end may not use so.
fn granted(pages: &Pages) -> Vec<Row> {
    let of = |gref| Segment { gref, ..whole(&pages.good) };
    let mut rows = Vec::new();
    for operation in [READ, WRITE] {
        let mut row = |what, gref| {
            let list = [of(gref)];
            rows.push((what, request(operation, 0, &list, 1), STATUS_ERROR));
        };
        row("an entry that is reserved", GrantRef(5));
        row("an entry never used", GrantRef(2047));
        row("an entry behind the table", GrantRef(2048));
        row("the last entry there can be", GrantRef(u32::MAX));
        row("a page of another domain to use", pages.foreign.reference());
        row("a page that was revoked", pages.revoked);
    }
    let list = [whole(&pages.good), whole(&pages.read_only)];
    rows.push(("a read into a page to be read", request(READ, 0, &list, 2), STATUS_ERROR));
    rows
}

/// A request with its segments in another page.
fn list_of(operation: u8, count: u16, page: GrantRef, sector: u64) -> Request {
    let indirect = IndirectRequest {
        operation: INDIRECT,
        indirect_op: operation,
        nr_segments: count,
        sector_number: sector,
        indirect_grefs: [page; 8],
        ..IndirectRequest::default()
    };
    let mut bytes = [0; size_of::<Request>()];
    bytes.iter_mut().zip(indirect.as_bytes()).for_each(|(to, from)| *to = *from);
    Request::read_from_bytes(&bytes).unwrap_or_default()
}

fn indirect(pages: &Pages) -> Vec<Row> {
    let list = pages.list.reference();
    let mut rows = Vec::new();
    let mut row = |what, request| rows.push((what, request, STATUS_ERROR));
    for operation in [READ, WRITE] {
        row("a list without segments", list_of(operation, 0, list, 0));
        row("a list of 257 segments", list_of(operation, 257, list, 0));
        row("a list of 65535 segments", list_of(operation, u16::MAX, list, 0));
        row("a list that says 7 to 5", list_of(operation, 1, list, 0));
        row("a list that goes on with zeros", list_of(operation, 256, list, 0));
        row("a list in a page that was revoked", list_of(operation, 1, pages.revoked, 0));
        row("a list in no page", list_of(operation, 1, GrantRef(u32::MAX), 0));
        row("a list for a place behind the end", list_of(operation, 1, list, u64::MAX));
    }
    for operation in [INDIRECT, FLUSH, DISCARD, WRITE_BARRIER, 255] {
        row("a list for what takes none", list_of(operation, 1, list, 0));
    }
    rows
}

/// Operations that there are not, and those without data.
fn other(pages: &Pages, info: &Info) -> Vec<Row> {
    let all = [whole(&pages.good)];
    let mut rows = Vec::new();
    for operation in [4, 7, 77, 255] {
        rows.push(("no operation", request(operation, 0, &all, 1), STATUS_NOT_SUPPORTED));
    }
    let or = |can, status| if can { status } else { STATUS_NOT_SUPPORTED };
    rows.push(("a flush with data", request(FLUSH, 0, &all, 1), or(info.flush, STATUS_ERROR)));
    let barrier = request(WRITE_BARRIER, info.sectors, &all, 1);
    rows.push(("a barrier behind the end", barrier, or(info.flush, STATUS_ERROR)));
    let mut discard = |what, flag, sector, count, status| {
        let mut bytes = [0; size_of::<Request>()];
        let discard = DiscardRequest {
            operation: DISCARD,
            flag,
            sector_number: sector,
            nr_sectors: count,
            ..DiscardRequest::default()
        };
        bytes.iter_mut().zip(discard.as_bytes()).for_each(|(to, from)| *to = *from);
        let discard = Request::read_from_bytes(&bytes).unwrap_or_default();
        rows.push((what, discard, or(info.discard, status)));
    };
    discard("a discard of nothing", 0, 0, 0, STATUS_ERROR);
    discard("a discard over the end", 0, info.sectors - 1, 2, STATUS_ERROR);
    discard("a discard that overflows", 0, u64::MAX, u64::MAX, STATUS_ERROR);
    discard("a secure discard", DISCARD_SECURE, 0, 8, STATUS_NOT_SUPPORTED);
    rows
}
