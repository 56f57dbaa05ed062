//! Virtual CPUs compete for one processor: equal ones get the same, one that gives up its turn just
//! before it ends gains nothing, and one that is woken runs soon. Words on its command line:
//! `seconds=N`, for how long each of these is measured (1); `strict`, to fail where one of them does
//! not hold, which is fair to ask only where nobody else disturbs the machine, as with `--icount`;
//! `until=N`, to do nothing but take all there is until N seconds after the machine's start.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{boxed::Box, vec::Vec};
use core::error::Error;

use pv_guest_sdk::abi::types::VcpuId;
use pv_guest_sdk::paging::Memory;
use pv_guest_sdk::task::block_on;
use pv_guest_sdk::time::{Duration, Instant, sleep_until};
use pv_guest_sdk::vcpu::{self, Running, SpawnError, Vcpu};
use pv_guest_sdk::{BootInfo, entry, println, vary, wait};

entry!(main);
pv_guest_sdk::heap!();

type Outcome = Result<(), Box<dyn Error>>;

const MILLISECOND: Duration = Duration::from_millis(1);
/// Long enough for all to have begun.
const LEAD: Duration = Duration::from_millis(20);

fn main(boot: &BootInfo<'static>) -> Outcome {
    let first = Vcpu::start(boot)?;
    Memory::start(boot)?;
    first.start_events()?;
    let until = boot.arguments().find_map(|word| word.strip_prefix("until=")?.parse().ok());
    if let Some(seconds) = until {
        hog(Instant::default() + Duration::from_secs(seconds));
        return Ok(());
    }
    let seconds = boot.arguments().find_map(|word| word.strip_prefix("seconds=")?.parse().ok());
    let length = Duration::from_secs(seconds.unwrap_or(1));
    let equal = compete([hog; 3], length)?;
    println!("three that want all: {}", vary!("equal", "{:?}", equal));
    check(
        boot,
        "each has a third",
        equal.iter().all(|&share| close(share, equal.iter().sum(), 3)),
    )?;
    for (name, dodger) in
        [("a long turn", before_the_end as fn(Instant) -> Duration), ("none", at_once)]
    {
        let unequal = compete([hog, hog, dodger], length)?;
        println!("two, and one that gives up after {name}: {}", vary!("dodger", "{:?}", unequal));
        let gained = unequal[2] > unequal[0] + unequal[0] / 20;
        check(boot, "it gains nothing", !gained)?;
    }
    let late = compete([hog, hog, woken], length)?[2];
    println!("one that is woken beside two, at most {} late", vary!("late", "{:?}", late));
    check(boot, "within a millisecond", late < MILLISECOND)
}

/// Says whether something holds. It need not, unless the command line is strict.
fn check(boot: &BootInfo<'_>, what: &str, holds: bool) -> Outcome {
    println!("{what}: {}", vary!("holds", holds));
    let strict = boot.arguments().any(|word| word == "strict");
    if holds || !strict { Ok(()) } else { Err(what.into()) }
}

/// Whether a share is that of one of `count`, to a twentieth.
fn close(share: Duration, all: Duration, count: u32) -> bool {
    let wanted = all / count;
    share.abs_diff(wanted) <= wanted / 20
}

/// Lets three virtual CPUs do something from one time on, until another; what each answers.
fn compete(
    work: [fn(Instant) -> Duration; 3],
    length: Duration,
) -> Result<Vec<Duration>, SpawnError> {
    let start = Instant::now() + LEAD;
    let from_start = |work: fn(Instant) -> Duration| {
        move || {
            block_on(sleep_until(start));
            work(start + length)
        }
    };
    let all: Result<Vec<_>, _> =
        (1..).zip(work).map(|(id, work)| vcpu::spawn(VcpuId(id), from_start(work))).collect();
    Ok(all?.into_iter().map(Running::join).collect())
}

/// How long the calling virtual CPU ran so far, as of its last turn.
fn ran() -> Duration {
    Vcpu::current().map_or(Duration::ZERO, |vcpu| vcpu.runstate().running)
}

/// Runs until then without a pause, between turns of `turn`. How long it ran.
fn turns(end: Instant, turn: Duration) -> Duration {
    let before = ran();
    while Instant::now() < end {
        let begun = Instant::now();
        while begun.elapsed() < turn && Instant::now() < end {}
        wait::yield_now();
    }
    ran() - before
}

/// Takes all it can get.
fn hog(end: Instant) -> Duration {
    turns(end, Duration::from_secs(3600))
}

/// Gives up its turn a little before it would end.
fn before_the_end(end: Instant) -> Duration {
    turns(end, MILLISECOND * 39 / 10)
}

/// Gives up its turn at once, again and again.
fn at_once(end: Instant) -> Duration {
    turns(end, Duration::ZERO)
}

/// Sleeps again and again. How much later than it should it was woken, at most.
fn woken(end: Instant) -> Duration {
    let mut worst = Duration::ZERO;
    let mut next = Instant::now() + MILLISECOND * 5;
    while next < end {
        block_on(sleep_until(next));
        worst = worst.max(next.elapsed());
        next = Instant::now() + MILLISECOND * 3;
    }
    worst
}
