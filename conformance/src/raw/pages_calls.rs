//! The hypercalls on memory, with their arguments laid out in the arena.

use super::memory::{arena_address, get, put};
use crate::call::{MEMORY_OP, MMU_UPDATE, MMUEXT_OP, UPDATE_VA_MAPPING, hypercall};

pub(crate) const SET_GDT: u64 = 2;
pub(crate) const UPDATE_DESCRIPTOR: u64 = 10;
pub(crate) const UPDATE_VA_MAPPING_OTHERDOMAIN: u64 = 22;

pub(crate) const ESRCH: i64 = -3;
pub(crate) const ENOMEM: i64 = -12;

/// The calling domain, named as such.
pub(crate) const SELF: u64 = 0x7ff0;
/// The domain that owns devices' frames.
pub(crate) const IO: u64 = 0x7ff1;
/// The domain that owns the hypervisor's frames.
pub(crate) const XEN: u64 = 0x7ff2;
/// A number no domain has.
pub(crate) const NOBODY: u64 = 0x1234;

pub(crate) const PIN_L1: u64 = 0;
pub(crate) const UNPIN: u64 = 4;
pub(crate) const NEW_BASEPTR: u64 = 5;
pub(crate) const FLUSH_LOCAL: u64 = 6;
pub(crate) const INVLPG_LOCAL: u64 = 7;
pub(crate) const FLUSH_MULTI: u64 = 8;
pub(crate) const INVLPG_MULTI: u64 = 9;
pub(crate) const FLUSH_ALL: u64 = 10;
pub(crate) const INVLPG_ALL: u64 = 11;
pub(crate) const FLUSH_CACHE: u64 = 12;
pub(crate) const SET_LDT: u64 = 13;
pub(crate) const NEW_USER_BASEPTR: u64 = 15;
pub(crate) const CLEAR_PAGE: u64 = 16;
pub(crate) const COPY_PAGE: u64 = 17;

/// Where in the arena batches tell how many requests were done.
pub(crate) const DONE: usize = 3 * 4096;
/// What that word holds before: no count of a batch.
pub(crate) const UNTOUCHED: u32 = 0x5a5a_5a5a;

/// The address of the word that tells how many requests were done.
pub(crate) fn done_address() -> u64 {
    arena_address() + DONE as u64
}

/// Writes words to the arena from `offset` on. Unit of `offset`: bytes.
pub(crate) fn put_words(offset: usize, words: &[u64]) {
    for (index, word) in words.iter().enumerate() {
        put(offset + index * 8, &word.to_le_bytes());
    }
}

fn batch(number: u64, count: u64, done: u64, domid: u64) -> (i64, u32) {
    put(DONE, &UNTOUCHED.to_le_bytes());
    let answer = hypercall(number, &[arena_address(), count, done, domid]);
    (answer, u32::from_le_bytes(get(DONE)))
}

/// Makes `mmu_update` of requests (address and command, value) with frames of a domain. The answer,
/// and how many it says were done.
pub(crate) fn mmu_update_of(domid: u64, requests: &[(u64, u64)]) -> (i64, u32) {
    for (index, &(ptr, value)) in requests.iter().enumerate() {
        put_words(index * 16, &[ptr, value]);
    }
    batch(MMU_UPDATE, requests.len() as u64, done_address(), domid)
}

/// Makes `mmu_update` of requests (address and command, value).
pub(crate) fn mmu_update(requests: &[(u64, u64)]) -> (i64, u32) {
    mmu_update_of(SELF, requests)
}

/// Makes `mmu_update` of one request; the answer.
pub(crate) fn update(ptr: u64, value: u64) -> i64 {
    mmu_update(&[(ptr, value)]).0
}

/// Makes `mmuext_op` of operations (command, first and second argument) on a domain. The answer,
/// and how many it says were done.
pub(crate) fn mmuext_of(domid: u64, operations: &[(u64, u64, u64)]) -> (i64, u32) {
    for (index, &(command, first, second)) in operations.iter().enumerate() {
        put_words(index * 24, &[command, first, second]);
    }
    batch(MMUEXT_OP, operations.len() as u64, done_address(), domid)
}

/// Makes `mmuext_op` of operations (command, first and second argument).
pub(crate) fn mmuext_batch(operations: &[(u64, u64, u64)]) -> (i64, u32) {
    mmuext_of(SELF, operations)
}

/// Makes `mmuext_op` of one operation; the answer.
pub(crate) fn mmuext(command: u64, first: u64, second: u64) -> i64 {
    mmuext_batch(&[(command, first, second)]).0
}

/// Pins a frame as a table of a level, 1 to 4.
pub(crate) fn pin(level: u64, mfn: u64) -> i64 {
    mmuext(PIN_L1 + level - 1, mfn, 0)
}

/// Unpins a frame.
pub(crate) fn unpin(mfn: u64) -> i64 {
    mmuext(UNPIN, mfn, 0)
}

/// Makes `update_va_mapping`.
pub(crate) fn update_va(address: u64, value: u64, flags: u64) -> i64 {
    hypercall(UPDATE_VA_MAPPING, &[address, value, flags])
}

/// The word of the arena at `offset`. Unit: bytes.
pub(crate) fn word_at(offset: usize) -> u64 {
    u64::from_le_bytes(get(offset))
}

/// Makes `memory_op` with its argument, given as words, at the arena's start.
pub(crate) fn memory_op(command: u64, words: &[u64]) -> i64 {
    put_words(0, words);
    hypercall(MEMORY_OP, &[command, arena_address()])
}
