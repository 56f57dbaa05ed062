//! Where records of what guests do are kept: a piece of memory that is written round and round, to be
//! read from outside the machine.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kernel_core::trace::{Record, WORDS};

use super::memory::Memory;
use super::phys;

const PAGE: u64 = 4096;
/// Records in a page.
const RECORDS: u64 = PAGE / (WORDS as u64 * 8);

/// What a poisoned stack is full of.
const POISON: u64 = 0x5ca1_ab1e_0ddb_a115;

/// Whether anything of this is wanted.
static ON: AtomicBool = AtomicBool::new(false);
/// Whether the stack is poisoned.
static POISONED: AtomicBool = AtomicBool::new(false);
/// Its physical address; 0: nothing is recorded.
static START: AtomicU64 = AtomicU64::new(0);
/// Records that fit.
static ROOM: AtomicU64 = AtomicU64::new(0);
/// Records that there were, which is the number of the next one.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Sets `size` bytes of memory aside and records from now on; `None` without so much memory.
pub(crate) fn start(memory: &mut Memory, size: u64) -> Option<u64> {
    let pages = size.div_ceil(PAGE).max(1);
    let start = memory.alloc_pages(pages, PAGE)?;
    ROOM.store(pages * RECORDS, Ordering::Relaxed);
    START.store(start, Ordering::Release);
    ON.store(true, Ordering::Release);
    Some(start)
}

#[inline]
pub(super) fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// From now on every hypercall begins with a marked stack.
pub(crate) fn poison() {
    POISONED.store(true, Ordering::Relaxed);
    ON.store(true, Ordering::Relaxed);
}

/// Marks what the next functions will have as their part of the stack, if that was asked for.
#[inline(never)]
pub(super) fn poison_stack() {
    if POISONED.load(Ordering::Relaxed) {
        core::hint::black_box([POISON; 1024]);
    }
}

/// Keeps a record, and returns its number, counted from 0. Word 3 is the number and one, and is written last:
/// it is 0 in one that is being written.
pub(super) fn keep(record: &Record) -> u64 {
    if START.load(Ordering::Relaxed) == 0 {
        return 0;
    }
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    if let Some(words) = place(number) {
        write(words, number, record);
    }
    number
}

/// Keeps a record in the place of the one of this number, unless a later one is there.
pub(super) fn keep_again(number: u64, record: &Record) {
    if let Some(words) = place(number)
        && words[3].load(Ordering::Relaxed) == number + 1
    {
        write(words, number, record);
    }
}

/// Where the record of a number is; `None` where none are kept.
fn place(number: u64) -> Option<&'static [AtomicU64]> {
    let at = number.checked_rem(ROOM.load(Ordering::Relaxed))?;
    let page = phys::table(START.load(Ordering::Acquire) + at / RECORDS * PAGE);
    let first = (at % RECORDS) as usize * WORDS;
    Some(&page[first..first + WORDS])
}

fn write(words: &[AtomicU64], number: u64, record: &Record) {
    words[3].store(0, Ordering::Release);
    for (at, (word, value)) in words.iter().zip(record).enumerate() {
        if at != 3 {
            word.store(*value, Ordering::Relaxed);
        }
    }
    words[3].store(number + 1, Ordering::Release);
}
