//! The neighbour that must not notice anything: a beat every 20 ms by its timer, and some MiB of
//! memory, full of a secret, that it looks through all the time.
//!
//! It keeps its report on the slate ([`hostile::slate`]). A beat is missed if it comes more than a
//! period late by this guest's own clock. While the word `HOLD` is set no beat counts, and the word
//! `HELD` says that this has been seen.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{boxed::Box, vec::Vec};
use core::error::Error;
use core::hint::black_box;

use hostile::SECRET;
use hostile::slate::{self, Slate};
use pv_guest_sdk::paging::Memory;
use pv_guest_sdk::task::block_on;
use pv_guest_sdk::time::{Duration, Instant, sleep_until};
use pv_guest_sdk::vcpu::Vcpu;
use pv_guest_sdk::{BootInfo, entry, println};

entry!(main);
pv_guest_sdk::heap!();

const PERIOD: Duration = Duration::from_millis(20);
/// Words of the memory that is looked through: 2 MiB.
const WORDS: usize = 1 << 18;
/// Words that are looked at after each beat.
const PIECE: usize = 1 << 13;

/// What the memory has at a place.
fn wanted(index: usize) -> u64 {
    if index.is_multiple_of(4) {
        SECRET
    } else {
        SECRET.rotate_left(u32::try_from(index % 64).unwrap_or(0)) ^ index as u64
    }
}

fn main(boot: &BootInfo<'static>) -> Result<(), Box<dyn Error>> {
    let vcpu = Vcpu::start(boot)?;
    Memory::start(boot)?;
    vcpu.start_events()?;
    let memory: Vec<u64> = (0..WORDS).map(wanted).collect();
    let slate = Slate::new(boot);
    let (mut next, mut at) = (Instant::now() + PERIOD, 0);
    while slate.get(slate::END) == 0 {
        block_on(sleep_until(next));
        beat(slate, next.elapsed());
        next = if slate.get(slate::HELD) == 0 && next.elapsed() < PERIOD {
            next
        } else {
            Instant::now()
        };
        next = next + PERIOD;
        let piece = black_box(memory.get(at..at + PIECE).unwrap_or_default());
        let bad = (at..).zip(piece).filter(|&(index, &word)| word != wanted(index)).count();
        slate.add(slate::DAMAGED, bad as u64);
        at = (at + PIECE) % WORDS;
        slate.add(slate::PASSES, u64::from(at == 0));
    }
    let [beats, missed, damaged] =
        [slate::BEATS, slate::MISSED, slate::DAMAGED].map(|it| slate.get(it));
    println!("{beats} beats, {missed} missed, {damaged} words damaged");
    Ok(())
}

/// Notes a beat that came so late.
fn beat(slate: Slate, late: Duration) {
    let hold = slate.get(slate::HOLD);
    // The first beat behind a hold does not count either.
    if hold == 0 && slate.get(slate::HELD) == 0 {
        slate.add(slate::BEATS, 1);
        let whole = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
        slate.add(slate::MISSED, whole(late.as_nanos() / PERIOD.as_nanos()));
        slate.set(slate::LATEST, slate.get(slate::LATEST).max(whole(late.as_micros())));
    }
    slate.set(slate::HELD, hold);
}
