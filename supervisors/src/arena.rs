//! Lets hostile guests loose beside a neighbour that must not notice, one attack after the other,
//! and tells of each how it ended and what it harmed (`docs/src/hostile.md`). It ends well if nothing
//! was harmed.
//!
//! Words on its command line: `seed=N` and `calls=N` for the fuzzer, `only=NAME` for one attack alone,
//! `times=N` for all of it again, `strict` if a beat that is missed is a failure, as it may be where time counts instructions.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

#[path = "arena/attacks.rs"]
mod attacks;
#[path = "arena/guest.rs"]
mod guest;
#[path = "arena/neighbour.rs"]
mod neighbour;

use alloc::{boxed::Box, string::String, vec::Vec};
use core::error::Error;

use pv_guest_sdk::abi::virq;
use pv_guest_sdk::control::{Plain, survey};
use pv_guest_sdk::event::Channel;
use pv_guest_sdk::paging::Memory;
use pv_guest_sdk::time::{Duration, Instant};
use pv_guest_sdk::vcpu::Vcpu;
use pv_guest_sdk::{BootInfo, Machine, entry, extension, println, wait};
use toolstack::archive::{File, files};

use attacks::{ATTACKS, Attack, Expected};
use guest::Guest;
use neighbour::{Neighbour, Report};

entry!(main);
pv_guest_sdk::heap!();

/// How long a guest that never ends by itself may go on.
const ENDLESS: Duration = Duration::from_millis(500);

/// How long a guest may make no call before it counts as stuck.
const STUCK: Duration = Duration::from_secs(20);

/// Lines of a guest that are shown; one may say very much.
const LINES: u32 = 60;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What all attacks share.
struct Arena<'a> {
    boot: &'a BootInfo<'static>,
    files: Vec<File<'a>>,
    ended: Channel,
    neighbour: Neighbour,
    /// Pages that were free before an attack was first over, and after the last.
    free: [u64; 2],
    harmed: u32,
    /// The number of the domain that was made last.
    last: u16,
}

fn main(boot: &BootInfo<'static>) -> Outcome<()> {
    let vcpu = Vcpu::start(boot)?;
    Memory::start(boot)?;
    let ended = Channel::virq(virq::DOM_EXC, vcpu.id())?;
    ended.mask();
    let files: Vec<File<'_>> = files(boot.ramdisk()).collect::<Result<_, _>>()?;
    let neighbour = Neighbour::start(file(&files, "heartbeat")?, &ended)?;
    let last = neighbour.id();
    let mut arena = Arena { boot, files, ended, neighbour, free: [0; 2], harmed: 0, last };
    let only = boot.argument("only");
    let chosen = ATTACKS.iter().filter(|it| only.is_none_or(|only| only == it.name));
    let mut made = 0;
    let times = boot.argument("times").and_then(|it| it.parse().ok()).unwrap_or(1);
    for attack in (0..times).flat_map(|_| chosen.clone()) {
        arena.attack(attack)?;
        made += 1;
    }
    let report = arena.neighbour.end(&arena.ended)?;
    println!("neighbour: {report}");
    let [before, after] = arena.free;
    println!("{} pages lost", before.saturating_sub(after));
    // What the first attack left behind for good is used again by the others.
    arena.judge(before > after + 8, "pages are lost");
    arena.judge(report.damaged != 0, "the neighbour's memory is damaged");
    println!("{made} attacks, {} things harmed", arena.harmed);
    if arena.harmed == 0 && made > 0 { Ok(()) } else { Err("something was harmed".into()) }
}

fn file<'a>(files: &[File<'a>], name: &'static str) -> Outcome<File<'a>> {
    Ok(*files.iter().find(|file| file.name == name).ok_or("a file is missing in the ramdisk")?)
}

impl Arena<'_> {
    fn judge(&mut self, bad: bool, what: &str) {
        if bad {
            println!("HARM: {what}");
            self.harmed += 1;
        }
    }

    fn attack(&mut self, attack: &Attack) -> Outcome<()> {
        let before = self.neighbour.report();
        let mut guests = Vec::new();
        for (place, words) in (1..).zip(attack.guests) {
            let image = file(&self.files, attack.file)?;
            // Numbers are given in order. Of two, each is told the other's.
            let peer = if place == 1 { self.last + 2 } else { self.last };
            let shown = self.boot.argument("trace").map_or(LINES, |_| u32::MAX);
            let numbers = (self.last + 1, peer);
            let guest = Guest::start(image, &self.words(words, numbers), place, shown)?;
            self.last = guest.id();
            guests.push(guest);
        }
        let begun = Instant::now();
        self.let_loose(attack.expected, &mut guests)?;
        let (mut how, mut calls) = (String::new(), 0_u32);
        for mut guest in guests {
            let end = guest.end;
            calls += guest.calls();
            self.judge(!attack.expected.is(end), attack.name);
            how += &end.map_or_else(|| "stopped ".into(), |end| alloc::format!("{end} "));
            guest.bury()?;
        }
        let took = begun.elapsed();
        self.neighbour.hold(true, &self.ended)?;
        let now = self.neighbour.report();
        let imbalances = extension::audit(&Machine)?;
        self.neighbour.hold(false, &self.ended)?;
        let Report { beats, missed, .. } = now.since(before);
        let audited = imbalances
            .map_or_else(|| "not audited".into(), |number| alloc::format!("{number} imbalances"));
        println!(
            "{}: {how}after {took:?}, {calls} calls, {missed} of {beats} beats missed, latest {} us, {audited}",
            attack.name, now.latest
        );
        self.judge(imbalances.unwrap_or(0) != 0, "counts do not fit");
        self.judge(
            missed != 0 && self.boot.arguments().any(|it| it == "strict"),
            "beats were missed",
        );
        let free = survey::machine()?.free_pages;
        println!("{free} pages are free");
        self.free = [if self.free[0] == 0 { free } else { self.free[0] }, free];
        Ok(())
    }

    /// Lets guests run, and watches them as long as they are to run.
    fn let_loose(&mut self, expected: Expected, guests: &mut [Guest]) -> Outcome<()> {
        if expected == Expected::Unborn {
            return Ok(());
        }
        for guest in guests.iter() {
            guest.domain.control(Plain::Unpause)?;
        }
        let end = |duration| Some(Instant::now() + duration);
        let until = match expected {
            Expected::Endless => end(ENDLESS),
            Expected::Paused => end(ENDLESS / 10),
            _ => None,
        };
        self.watch(guests, until)?;
        if expected == Expected::Paused {
            for guest in guests.iter() {
                guest.domain.control(Plain::Pause)?;
            }
        }
        Ok(())
    }

    /// A guest's command line: what the fuzzer is to do is on ours.
    fn words(&self, words: &str, (own, peer): (u16, u16)) -> String {
        let mut all = String::from(words);
        for (name, or) in [("seed", "1"), ("calls", "100000"), ("trace", "-")] {
            let value = self.boot.argument(name).unwrap_or(or);
            if !words.contains(name) {
                all += &alloc::format!(" {name}={value}");
            }
        }
        all += &alloc::format!(" own={own} peer={peer}");
        all
    }

    /// Shows what guests say until all have ended, or until a time, or until they make no calls any more.
    fn watch(&mut self, guests: &mut [Guest], until: Option<Instant>) -> Outcome<()> {
        let mut ports: Vec<_> = guests.iter().map(|guest| guest.channel.port()).collect();
        ports.push(self.ended.port());
        let calls = |guests: &[Guest]| guests.iter().map(|guest| guest.calls()).sum::<u32>();
        let mut moved = (Instant::now(), 0);
        loop {
            self.ended.take_pending();
            for guest in guests.iter_mut() {
                guest.look()?;
                // At once: others may still use what was its.
                if guest.end.is_some() {
                    guest.bury()?;
                }
            }
            let over = until.is_some_and(|until| Instant::now() >= until);
            if over || guests.iter().all(|guest| guest.end.is_some()) {
                return Ok(());
            }
            let (now, made) = (Instant::now(), calls(guests));
            moved = if made == moved.1 { moved } else { (now, made) };
            let stuck = moved.0 + STUCK;
            if until.is_none() && now >= stuck {
                println!("no call after {made}");
                return Ok(());
            }
            wait::poll(&Machine, &ports, until.or(Some(stuck)))?;
        }
    }
}
