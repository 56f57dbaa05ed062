//! The last hypercall that a case made, for whoever reads of its failure.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::raw::memory::{arena_address, peek, peek_byte};
use crate::raw::{Code, Registers};

/// Words shown of an argument that lies in the arena.
const WORDS: usize = 4;
/// `syscall`, as the first bytes of a snippet.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// Number and six arguments; the address of a structure, and its first words before the call.
static LAST: [AtomicU64; 8 + WORDS] = [const { AtomicU64::new(0) }; 8 + WORDS];
static ANY: AtomicBool = AtomicBool::new(false);
static TRACE: AtomicBool = AtomicBool::new(false);

/// Has every call told before it is made.
pub(crate) fn trace() {
    TRACE.store(true, Relaxed);
}

/// Forgets the calls of the case before.
pub(crate) fn forget() {
    ANY.store(false, Relaxed);
}

/// Keeps what `code` is about to ask the hypervisor for, if it is a hypercall and nothing else.
pub(crate) fn keep(code: Code, registers: &Registers) {
    // Byte by byte: there may be nothing behind them.
    if [0, 1].map(|at| peek_byte(code.address() + at)) != SYSCALL {
        return;
    }
    let Registers { rax, rdi, rsi, rdx, high: [r8, r9, r10, ..], .. } = *registers;
    let arguments = [rdi, rsi, rdx, r10, r8, r9];
    // The first page of the arena: cases unmap others.
    let arena = arena_address()..arena_address() + 4096 - 8 * WORDS as u64;
    let place = arguments.into_iter().find(|argument| arena.contains(argument)).unwrap_or(0);
    let word = |index| if place == 0 { 0 } else { peek(place + 8 * index) };
    let words = (0..WORDS as u64).map(word);
    let all = [rax].into_iter().chain(arguments).chain([place]).chain(words);
    LAST.iter().zip(all).for_each(|(cell, value)| cell.store(value, Relaxed));
    ANY.store(true, Relaxed);
    if TRACE.load(Relaxed) {
        pv_guest_sdk::println!("{Last}");
    }
}

/// The line of the protocol; nothing if the case made no call.
pub(crate) struct Last;

impl Last {
    /// Whether there is one.
    pub(crate) fn is_any() -> bool {
        ANY.load(Relaxed)
    }
}

impl fmt::Display for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = LAST.each_ref().map(|cell| cell.load(Relaxed));
        let [number, arguments @ .., _, _, _, _, _] = all;
        write!(f, "call {number:x}")?;
        arguments.iter().try_for_each(|argument| write!(f, " {argument:x}"))?;
        let [.., place, first, second, third, fourth] = all;
        if place != 0 {
            write!(f, " at {place:x} {first:x} {second:x} {third:x} {fourth:x}")?;
        }
        Ok(())
    }
}
