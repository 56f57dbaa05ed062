//! Grants of the guest to itself: its table, mapped for a case, and the operations on it, laid out
//! in the arena.

use super::memory::{arena_address, get, peek, poke, put};
use super::pages_calls::{SELF, put_words, update_va, word_at};
use super::pages_scratch::{LOADED, PAGES, Page, with};
use crate::call::{GRANT_TABLE_OP, hypercall};
use crate::case::{Outcome, Test, Value, Verdict, equal, equal_at};

pub(crate) const MAP: u64 = 0;
pub(crate) const UNMAP: u64 = 1;
pub(crate) const SETUP_TABLE: u64 = 2;
pub(crate) const TRANSFER: u64 = 4;
pub(crate) const COPY: u64 = 5;
pub(crate) const QUERY_SIZE: u64 = 6;
pub(crate) const REPLACE: u64 = 7;
pub(crate) const SWAP: u64 = 11;
pub(crate) const CACHE_FLUSH: u64 = 12;

pub(crate) const OKAY: i64 = 0;
pub(crate) const GENERAL: i64 = -1;
pub(crate) const BAD_DOMAIN: i64 = -2;
pub(crate) const BAD_REF: i64 = -3;
pub(crate) const BAD_HANDLE: i64 = -4;
pub(crate) const BAD_ADDRESS: i64 = -5;
pub(crate) const BAD_BUS: i64 = -6;
pub(crate) const DENIED: i64 = -8;
pub(crate) const BAD_PAGE: i64 = -9;
pub(crate) const BAD_COPY: i64 = -10;
pub(crate) const AGAIN: i64 = -12;

/// Flags of an entry.
pub(crate) const PERMIT: u16 = 1;
pub(crate) const READ_ONLY: u16 = 4;
pub(crate) const READING: u16 = 8;
pub(crate) const WRITING: u16 = 16;
/// Flags of a mapping.
pub(crate) const DEVICE: u32 = 1;
pub(crate) const HOST: u32 = 2;
pub(crate) const ONLY_READ: u32 = 4;
pub(crate) const APPLICATION: u32 = 8;
pub(crate) const BY_ENTRY: u32 = 16;

/// The first entry that cases use: those before it are reserved.
pub(crate) const REF: u32 = 8;
/// The entry behind the last one that cases use.
const REFS_END: u32 = 128;
/// An entry that no table has.
pub(crate) const NO_REF: u32 = 64 * 512;
/// The number of the calling domain, which is the initial one.
pub(crate) const OWN: u64 = 0;
/// What fields for answers hold before.
pub(crate) const UNSET: u64 = 0x5a5a_5a5a_5a5a_5a5a;

/// The first frame of the guest's table, mapped.
#[derive(Clone, Copy)]
pub(crate) struct Table(u64);

impl Table {
    /// Where it is mapped.
    pub(crate) const fn address(self) -> u64 {
        self.0
    }

    /// Writes an entry, whole.
    pub(crate) fn set(self, reference: u32, flags: u16, domain: u64, frame: u64) {
        poke(self.at(reference), u64::from(flags) | domain << 16 | frame << 32);
    }

    /// Grants a page to the guest itself.
    pub(crate) fn permit(self, reference: u32, flags: u16, page: Page) {
        self.set(reference, PERMIT | flags, OWN, page.mfn);
    }

    /// The flags of an entry.
    pub(crate) fn flags(self, reference: u32) -> u64 {
        self.word(reference) & 0xffff
    }

    /// The entry as a word.
    pub(crate) fn word(self, reference: u32) -> u64 {
        peek(self.at(reference))
    }

    /// Checks the flags of an entry.
    pub(crate) fn has(self, what: &'static str, reference: u32, flags: u16) -> Outcome {
        equal(what, self.flags(reference), flags.into())
    }

    fn at(self, reference: u32) -> u64 {
        self.0 + u64::from(reference) * 8
    }
}

/// Runs `body` with pages as [`with`] does, the last of which shows the table instead. Behind it no
/// entry is in use, and all are empty.
pub(crate) fn with_table(
    t: &Test<'_>,
    body: impl FnOnce(Table, [Page; PAGES]) -> Outcome,
) -> Outcome {
    with(t, |pages| {
        let window = pages[PAGES - 1];
        let frame = setup_table(SELF, 1)?;
        equal("mapped table", update_va(window.va, frame << 12 | LOADED, 2), 0)?;
        let table = Table(window.va);
        let outcome = body(table, pages);
        let mut left = 0;
        for reference in REF..REFS_END {
            left |= table.flags(reference) & u64::from(READING | WRITING);
            table.set(reference, 0, 0, 0);
        }
        outcome.and(equal("use of entries behind the case", left, 0))
    })
}

/// Asks for frames of a domain's table; the last of them, which must be given.
pub(crate) fn setup_table(domain: u64, frames: u64) -> Result<u64, Verdict> {
    let (answer, status) = setup_at(domain, frames, arena_address() + 64);
    equal("answer of setup_table", answer, 0)?;
    equal("status of setup_table", status, OKAY)?;
    Ok(word_at(56 + 8 * usize::try_from(frames).unwrap_or(0)))
}

/// The same with an address for the list; the answer and the status.
pub(crate) fn setup_at(domain: u64, frames: u64, list: u64) -> (i64, i64) {
    put_words(0, &[domain | frames << 32, UNSET, list]);
    (grant_op(SETUP_TABLE, 1), status_at(8))
}

/// The call with its arguments at the arena's start.
pub(crate) fn grant_op(command: u64, count: u64) -> i64 {
    hypercall(GRANT_TABLE_OP, &[command, arena_address(), count])
}

/// A status that lies in the arena. Unit of `offset`: bytes.
pub(crate) fn status_at(offset: usize) -> i64 {
    i16::from_le_bytes(get(offset)).into()
}

/// What a mapping is asked for by.
#[derive(Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) address: u64,
    pub(crate) flags: u32,
    pub(crate) reference: u32,
    pub(crate) domain: u64,
}

impl Wish {
    /// A mapping of the first entry of the guest's own.
    pub(crate) const fn new(address: u64, flags: u32) -> Self {
        Self { address, flags, reference: REF, domain: OWN }
    }

    /// The argument of the call.
    pub(crate) fn words(self) -> [u64; 4] {
        let how = u64::from(self.flags) | u64::from(self.reference) << 32;
        [self.address, how, self.domain | UNSET << 16, UNSET]
    }
}

/// What a mapping was answered.
#[derive(Clone, Copy)]
pub(crate) struct Mapped {
    pub(crate) status: i64,
    pub(crate) handle: u64,
    pub(crate) bus: u64,
}

/// Maps a grant; the call itself must succeed.
pub(crate) fn map(wish: Wish) -> Result<Mapped, Verdict> {
    put_words(0, &wish.words());
    equal("answer of map", grant_op(MAP, 1), 0)?;
    Ok(answer(0))
}

/// What the mapping at a place of a batch was answered.
pub(crate) fn answer(index: usize) -> Mapped {
    let at = 32 * index;
    let handle = u32::from_le_bytes(get(at + 20)).into();
    Mapped { status: status_at(at + 18), handle, bus: word_at(at + 24) }
}

/// Maps a grant, which must succeed; the handle.
pub(crate) fn mapped(wish: Wish) -> Result<u64, Verdict> {
    let mapped = map(wish)?;
    equal("status of map", mapped.status, OKAY)?;
    Ok(mapped.handle)
}

/// Checks that a mapping is refused.
pub(crate) fn map_refused(wish: Wish, status: i64) -> Outcome {
    equal("status of map", map(wish)?.status, status)
}

/// Unmaps, by the address and the bus address of a mapping or 0; the status.
pub(crate) fn unmap(address: u64, bus: u64, handle: u64) -> Result<i64, Verdict> {
    handle_op(UNMAP, address, bus, handle)
}

/// Unmaps and puts the mapping of another address in its place; the status.
pub(crate) fn replace(address: u64, other: u64, handle: u64) -> Result<i64, Verdict> {
    handle_op(REPLACE, address, other, handle)
}

fn handle_op(command: u64, first: u64, second: u64, handle: u64) -> Result<i64, Verdict> {
    put_words(0, &[first, second, handle | UNSET << 32]);
    equal("answer", grant_op(command, 1), 0)?;
    Ok(status_at(20))
}

/// Unmaps what is mapped for the processor; it must succeed.
pub(crate) fn unmapped(address: u64, handle: u64) -> Outcome {
    equal("status of unmap", unmap(address, 0, handle)?, OKAY)
}

/// Unmaps what is mapped for devices; it must succeed.
pub(crate) fn unmapped_device(page: Page, handle: u64) -> Outcome {
    equal("status of unmap", unmap(0, page.ma(), handle)?, OKAY)
}

/// One end of a copy.
#[derive(Clone, Copy)]
pub(crate) struct End {
    /// An entry, or a frame.
    pub(crate) page: u64,
    pub(crate) is_entry: bool,
    pub(crate) domain: u64,
    pub(crate) offset: u16,
}

impl End {
    /// A frame of the guest.
    pub(crate) const fn frame(mfn: u64) -> Self {
        Self { page: mfn, is_entry: false, domain: SELF, offset: 0 }
    }

    /// An entry of the guest's table.
    pub(crate) fn entry(reference: u32) -> Self {
        Self { page: reference.into(), is_entry: true, domain: OWN, offset: 0 }
    }

    /// The same, of a domain.
    pub(crate) const fn of(self, domain: u64) -> Self {
        Self { domain, ..self }
    }

    /// The same, so many bytes into the page.
    pub(crate) const fn at(self, offset: u16) -> Self {
        Self { offset, ..self }
    }
}

/// The argument of a copy.
pub(crate) fn copy_words(from: End, to: End, length: u16) -> [u64; 5] {
    let half = |end: End| end.domain | u64::from(end.offset) << 16 | UNSET << 32;
    let flags = u64::from(from.is_entry) | u64::from(to.is_entry) << 1;
    let rest = u64::from(length) | flags << 16 | UNSET << 32;
    [from.page, half(from), to.page, half(to), rest]
}

/// Copies; the status.
pub(crate) fn copy(from: End, to: End, length: u16) -> Result<i64, Verdict> {
    put_words(0, &copy_words(from, to, length));
    equal("answer of copy", grant_op(COPY, 1), 0)?;
    Ok(status_at(36))
}

/// Asks how long a domain's table is: the answer, the status, the frames it has and may have.
pub(crate) fn query_size(domain: u64) -> (i64, i64, u64, u64) {
    put_words(0, &[domain | UNSET << 32, UNSET]);
    let answer = grant_op(QUERY_SIZE, 1);
    let number = |offset| u64::from(u32::from_le_bytes(get(offset)));
    (answer, status_at(12), number(4), number(8))
}

/// Exchanges two entries; the status.
pub(crate) fn swap(first: u32, second: u32) -> Result<i64, Verdict> {
    put_words(0, &[u64::from(first) | u64::from(second) << 32]);
    put(8, &UNSET.to_le_bytes());
    equal("answer of swap", grant_op(SWAP, 1), 0)?;
    Ok(status_at(8))
}

/// Writes an argument of words at a place of a batch that begins at `address`.
pub(crate) fn put_at(address: u64, index: u64, words: &[u64]) {
    let at = address + index * 8 * words.len() as u64;
    for (word, &value) in (0..).step_by(8).zip(words) {
        poke(at + word, value);
    }
}

/// Checks that two numbers at once are as expected, such as an answer and a status.
pub(crate) fn both<T: Into<Value>>(what: &'static str, seen: (T, T), wanted: (T, T)) -> Outcome {
    equal(what, seen.0, wanted.0)?;
    equal(what, seen.1, wanted.1)
}

/// The same at a place.
pub(crate) fn both_at<T: Into<Value>>(
    what: &'static str,
    place: u64,
    seen: (T, T),
    wanted: (T, T),
) -> Outcome {
    equal_at(what, place, seen.0, wanted.0)?;
    equal_at(what, place, seen.1, wanted.1)
}
