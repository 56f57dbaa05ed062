//! What every hypercall answers to systematic arguments, a line for each sub-op and kind of argument.
//!
//! The lines name no frame, no address and no time, so that those of two hypervisors can be compared
//! (`docs/src/hostile.md`). A result is the answer and, if the hypervisor wrote to the memory that the
//! call was told of, which words changed, as a number of two hexadecimal digits. Sub-ops that our kernel does not have
//! at all are left out; so is what ends or stops the guest, or changes what later calls answer ([`harmless`]).
//! The word `calls=N` on the command line chooses one hypercall.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::fmt;

use hostile::land::map;
use hostile::raw::memory::{arena, arena_end, peek, poke};
use hostile::raw::{call, trap};
use hypercall_abi::call::{Hypercall, Status};
use pv_guest_sdk::{BootInfo, entry, print, println};

entry!(main);

/// How a hypercall takes its arguments.
#[derive(Clone, Copy)]
enum Shape {
    /// A sub-op, then a structure's address.
    Op,
    /// A sub-op, a vCPU, a structure's address.
    OpVcpu,
    /// A sub-op, an array's address, a count.
    OpArray,
    /// A sub-op, a count, an address.
    OpCountArray,
    /// The address of a structure that begins with the sub-op and a version, perhaps a domain.
    Envelope(u64, bool),
    /// An array whose entries begin with a sub-op; a count, where to tell how many, a domain.
    Array,
    /// Words alone.
    Words(usize),
}
use Shape::{Array, Envelope, Op, OpArray, OpCountArray, OpVcpu, Words};

/// The hypercalls that are swept, by number.
const SHAPES: [(u64, Shape); 29] = [
    (0, Words(1)),
    (1, Array),
    (2, Words(2)),
    (3, Words(2)),
    (4, Words(3)),
    (5, Words(1)),
    (6, Op),
    (8, Words(2)),
    (9, Words(1)),
    (10, Words(2)),
    (12, Op),
    (13, Words(2)),
    (14, Words(3)),
    (15, Words(1)),
    (17, Op),
    (18, OpCountArray),
    (20, OpArray),
    (21, Words(2)),
    (22, Words(4)),
    (24, OpVcpu),
    (25, Words(2)),
    (26, Array),
    (28, Op),
    (29, Op),
    (30, Op),
    (32, Op),
    (33, Op),
    (35, Envelope(0x15, false)),
    (36, Envelope(0x15, true)),
];

/// Numbers as a domain, a vCPU, a port or a count may be.
const LEADS: [u64; 10] =
    [0, 1, 2, 0x1234, 0x7ff0, 0x7ff1, 0x7ff2, 0x7ff4, 0x8000_0000, 0xffff_ffff];
/// Numbers of the halves of words behind it.
const SECONDS: [u64; 4] = [0, 1, 2, 0xffff_ffff];
const COUNTS: [u64; 8] = [0, 1, 2, 3, 0x8000_0000, 0x8000_0001, 0xffff_ffff, 1 << 32 | 1];
/// Where an array lies that a structure points to. Unit: bytes in the arena.
const LIST: u64 = 0x2000;

fn main(boot: &BootInfo<'static>) -> Result<(), &'static str> {
    trap::register(arena());
    if map(arena_end(), 0) != 0 {
        return Err("a page cannot be unmapped");
    }
    let only: Option<u64> = boot.argument("calls").and_then(|it| it.parse().ok());
    for (number, shape) in SHAPES.into_iter().filter(|(it, _)| only.is_none_or(|only| only == *it))
    {
        one(number, shape);
    }
    if only.is_none() {
        unknown();
    }
    println!("swept");
    Ok(())
}

/// The numbers that are none.
fn unknown() {
    let mut line = Line::new(format_args!("unknown"));
    for number in (0..64).chain([64, 255, 1 << 32, u64::MAX]) {
        if Hypercall::from_number(number).is_none() {
            line.add(call(number, [0; 6]), 0);
        }
    }
}

fn one(number: u64, shape: Shape) {
    match shape {
        Words(count) => words(number, count),
        _ => ops(number).for_each(|op| {
            pointers(number, shape, op);
            structures(number, shape, op);
        }),
    }
}

/// The sub-ops to try: those that there are here, and some that are none.
fn ops(number: u64) -> impl Iterator<Item = u64> {
    let known = Hypercall::from_number(number).map_or(&[][..], Hypercall::sub_ops);
    let last =
        known.iter().map(|op| u64::from(op.number)).filter(|&op| op < 1000).max().unwrap_or(0);
    let absent = move |op: &u64| {
        let status = known.iter().find(|it| u64::from(it.number) == *op).map(|it| it.status);
        matches!(status, Some(Status::Absent))
    };
    (0..last + 4).chain([0x7f, 0xff, 0xffff_ffff, 1 << 32]).filter(move |op| !absent(op))
}

/// Makes a call of a shape, with its structure at an address.
fn ask(number: u64, shape: Shape, op: u64, address: u64, [count, other]: [u64; 2]) -> i64 {
    let arguments = match shape {
        Op => [op, address, 0, 0, 0, 0],
        OpVcpu => [op, other, address, 0, 0, 0],
        OpArray => [op, address, count, 0, 0, 0],
        OpCountArray => [op, count, address, 0, 0, 0],
        Envelope(..) => [address, 0, 0, 0, 0, 0],
        Array => [address, count, 0, other, 0, 0],
        Words(_) => [address, count, other, 0, 0, 0],
    };
    let answer = call(number, arguments);
    undo(number);
    answer
}

/// Puts back what calls may have changed, so that the next line does not depend on it.
fn undo(number: u64) {
    let at = arena_end() - 64;
    match number {
        0 | 13 | 30 => trap::register(at - 4096),
        5 | 6 => drop(call(5, [0; 6])),
        32 => {
            poke(at, 0x7ff0);
            call(32, [10, at, 0, 0, 0, 0]);
        }
        36 => [1, 2, 3, 0x1234].into_iter().for_each(|domain| {
            poke(at - 192, 2 | 0x15 << 32);
            poke(at - 184, domain);
            call(36, [at - 192, 0, 0, 0, 0, 0]);
        }),
        _ => {}
    }
}

/// Addresses at which no structure can be, or not all of it.
fn pointers(number: u64, shape: Shape, op: u64) {
    let mut line = Line::new(format_args!("{number} {op:#x} pointers"));
    let bad = [0, 1, 0x1000, arena_end(), arena_end() - 1, arena_end() - 4, 1 << 47, u64::MAX - 3];
    for address in bad.into_iter().chain([0xffff_8000_0000_0000, 0xffff_8300_0000_0000]) {
        let end = address.wrapping_sub(arena_end() - 4) < 4;
        if end {
            poke(arena_end() - 8, if matches!(shape, Envelope(..) | Array) { op } else { 0 } << 32);
        }
        if harmless(number, op, None) {
            for count in [1, 0] {
                line.add(ask(number, shape, op, address, [count, 0]), 0);
            }
        }
    }
}

/// Fills the memory that a call is told of, and tells its results.
fn structures(number: u64, shape: Shape, op: u64) {
    for kind in 0..4 {
        for second in SECONDS {
            let mut line = Line::new(format_args!("{number} {op:#x} {kind} {second:x}"));
            for lead in LEADS {
                let others: &[u64] = match shape {
                    OpVcpu => &[0, 1, 4, 0xffff_ffff],
                    Array => &[0x7ff0, 0, 0x7ff1, 0x1234],
                    _ => &[0],
                };
                let counts: &[u64] = match shape {
                    OpArray | OpCountArray | Array => &COUNTS,
                    _ => &[1],
                };
                for &other in others {
                    for &count in counts {
                        if !harmless(number, op, Some([kind, lead, second, other])) {
                            continue;
                        }
                        fill(shape, op, kind, lead, second);
                        let before = hash();
                        let answer = ask(number, shape, op, arena(), [count, other]);
                        let same = before == hash() || tells_of_itself(number, op);
                        let changed =
                            if same { 0 } else { changed(shape, op, [kind, lead, second]) };
                        line.add(answer, changed);
                    }
                }
            }
        }
    }
}

/// The words of a structure: what comes first and behind it, and what the rest is.
fn word(shape: Shape, op: u64, [kind, lead, second]: [u64; 3], at: u64) -> u64 {
    let list = arena() + LIST;
    let body = |at: u64| match (kind, at) {
        // Numbers, then nothing, an address again and again, or ones.
        (0..3, 0) => lead | second << 32,
        (0, _) => 0,
        (1, _) => list,
        (2, _) => u64::MAX,
        // An address, a number, halves.
        (_, 0) => list,
        (_, 1) => second,
        (_, 2) => lead << 32,
        (_, _) => lead,
    };
    match (shape, at) {
        (Envelope(version, _), 0) => op & 0xffff_ffff | version << 32,
        (Envelope(_, true), 1) => lead,
        (Envelope(_, true), at) if kind < 3 && at == 2 => second | second << 32,
        (Envelope(_, true), at) => body(at - 2),
        (Envelope(..), at) => body(at - 1),
        // Entries of three words.
        (Array, at) if at % 3 == 0 => op & 0xffff_ffff,
        // Frames that are none, beside the first.
        (Array, at) if at % 3 == 1 && lead > 0xff => lead << 20 | (second & 1) << 40,
        (Array, at) if at % 3 == 1 => lead | (second & 1) << 40,
        (Array, _) => second,
        (_, at) => body(at),
    }
}

/// How many words of the arena are written and looked at.
const LOOKED_AT: u64 = 64;

fn fill(shape: Shape, op: u64, kind: u64, lead: u64, second: u64) {
    for at in 0..LOOKED_AT {
        poke(arena() + 8 * at, word(shape, op, [kind, lead, second], at));
        poke(arena() + LIST + 8 * at, if second == 2 { u64::MAX } else { 0 });
    }
}

fn hash() -> u64 {
    let words = (0..LOOKED_AT).flat_map(|at| [arena() + 8 * at, arena() + LIST + 8 * at]);
    words.fold(1, |sum, at| mixed(sum, peek(at)))
}

const fn mixed(sum: u64, value: u64) -> u64 {
    (sum ^ value).wrapping_mul(0x100_0000_01b3).rotate_left(29)
}

/// Which words a call changed, as a number that is not 0.
fn changed(shape: Shape, op: u64, filled: [u64; 3]) -> u64 {
    let list = if filled[2] == 2 { u64::MAX } else { 0 };
    let mut sum = 1;
    for at in 0..LOOKED_AT {
        if peek(arena() + 8 * at) != word(shape, op, filled, at) {
            sum = mixed(sum, at + 1);
        }
        if peek(arena() + LIST + 8 * at) != list {
            sum = mixed(sum, at + 1001);
        }
    }
    1 + (sum >> 20) % 255
}

/// All combinations of some words.
fn words(number: u64, count: usize) {
    let values: [u64; 12] =
        [0, 1, 2, 3, 4, 7, 0x1234, 0xffff_ffff, arena(), 1 << 47, 0xffff_8300_0000_0000, u64::MAX];
    let rest = if count > 2 { 12_usize.pow(u32::try_from(count - 2).unwrap_or(0)) } else { 1 };
    for more in 0..rest {
        let [third, fourth] = [values[more % 12], values[more / 12 % 12]];
        for (row, second) in values.into_iter().enumerate().take(if count > 1 { 12 } else { 1 }) {
            let mut line = Line::new(format_args!("{number} {row} {more}"));
            for first in values {
                if harmless(number, first, Some([second, third, fourth, 0])) {
                    (0..LOOKED_AT).for_each(|at| poke(arena() + 8 * at, 0));
                    let answer = call(number, [first, second, third, fourth, 0, 0]);
                    undo(number);
                    let told = peek(arena()) != 0;
                    line.add(answer, told.into());
                }
            }
        }
    }
}

/// Whether a call leaves the guest running, and what others answer as it is.
///
/// What is about a whole family that our kernel does not have is left out too.
fn harmless(number: u64, op: u64, filled: Option<[u64; 4]>) -> bool {
    match (number, op & 0xffff_ffff, filled) {
        // The second version of grants, which only Xen has, would stay.
        (20, 8, Some([_, 2, ..])) => false,
        // Queues of events, and what continues calls that are absent.
        (32, 11 | 12 | 14, _) | (36, 23, _) => false,
        // Devices that are not there: Xen tells of each on the console, amid the lines.
        (33, 15 | 20 | 25, Some(_)) => false,
        // How much memory the domain has; what is in the hypervisor's log.
        (12, 3 | 4, _) | (35, 1, Some(_)) => false,
        // A frame by its number, which may be the guest's own.
        (33, 17 | 28, Some([_, 0x1234, ..])) => false,
        // Pools of CPUs, and a rate limit, as only Xen has them; an NMI; as many devices as Xen looks at
        // until something else is due.
        (35, 18 | 19 | 22, Some(_)) | (36, 28, _) => false,
        // Blocking, ending, a poll without end, a watchdog.
        (6, 1 | 2, _) | (29, 1 | 2 | 5, _) | (29, 3..=6, Some(_)) => false,
        // Taking the caller down, a context, memory that is written later; an NMI.
        (24, 0 | 2 | 5 | 10 | 11 | 13, _) => false,
        // The memory of calls is mapped as it is.
        (14 | 22, low, _) if low == arena() & 0xffff_ffff => false,
        // What is written to the console.
        (18, 0, Some(_)) => false,
        _ => true,
    }
}

/// Whether what a call writes is long or short as the hypervisor and its machine are: texts, the map of
/// memory, how long CPUs were idle, what CPUID shows.
const fn tells_of_itself(number: u64, op: u64) -> bool {
    matches!(
        (number, op & 0xffff_ffff),
        (12, 10) | (17, 1 | 2 | 4 | 9) | (35, 8 | 25 | 26 | 29) | (36, 82)
    )
}

/// Results in a line, equal ones behind each other told once, with how often.
struct Line {
    last: (i64, u64),
    times: u32,
}

impl Line {
    fn new(begin: fmt::Arguments<'_>) -> Self {
        print!("{begin}:");
        Self { last: (0, 0), times: 0 }
    }

    fn add(&mut self, answer: i64, changed: u64) {
        if self.last != (answer, changed) {
            self.tell();
            (self.last, self.times) = ((answer, changed), 0);
        }
        self.times += 1;
    }

    fn tell(&self) {
        let (answer, changed) = self.last;
        match (self.times, changed) {
            (0, _) => {}
            (times, 0) => print!(" {answer}*{times}"),
            (times, changed) => print!(" {answer}/{changed:x}*{times}"),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.tell();
        println!();
    }
}
