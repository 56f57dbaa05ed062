//! Wild hypercalls by the million, the same each time for a seed.
//!
//! Words on its command line: `seed=N` (1), `calls=N` (100,000), `own=N` (2) and `peer=N`
//! (1), the numbers of this domain and of one to share with. It ends well when all calls were made and nothing was seen that is not its own.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use hostile::fuzz::Fuzz;
use hostile::land::Land;
use hostile::slate::{self, Slate};
use pv_guest_sdk::{BootInfo, entry, println};

entry!(main);

fn main(boot: &BootInfo<'static>) -> Result<(), &'static str> {
    let number = |name, or| boot.argument(name).and_then(|it| it.parse().ok()).unwrap_or(or);
    let (seed, calls) = (number("seed", 1), number("calls", 100_000));
    let trace = number("trace", u64::MAX);
    println!("seed {seed}, {calls} calls");
    let land = Land::new(boot).ok_or("this guest cannot have what it needs")?;
    let mut fuzz = Fuzz::new(land, seed, [number("own", 2), number("peer", 1)]);
    let (mut made, slate) = (0, Slate::new(boot));
    while made < calls {
        fuzz.trace(made >= trace);
        made += fuzz.step();
        slate.set(slate::CALLS, made);
    }
    if fuzz.report() { Ok(()) } else { Err("something was seen that is not this guest's") }
}
