//! A guest that checks, clause by clause, what the hypervisor under it does.
//!
//! It prints one machine-readable line per step (the protocol is in `docs/src/conformance.md`);
//! the host chooses the cases by the command line, boots again behind a case that broke the guest,
//! and compares systems. Where to read next: [`case`] for what a case is, [`cases`] for all of
//! them, [`raw`] for how they do what no guest should.
#![no_std]
#![no_main]

mod call;
mod case;
mod cases;
mod clock;
mod pin;
mod puppet;
mod raw;
mod select;
mod tables;
mod told;
mod traps;
mod vcpus;

use pv_guest_sdk::{BootInfo, entry, println};

use case::{Case, Life, Test, Verdict};
use select::Selection;

entry!(main);

fn main(boot: &BootInfo<'static>) {
    let selection = Selection::new(boot);
    let entry = raw::entry_state();
    if boot.arguments().any(|word| word == "list") {
        return list(&selection);
    }
    if boot.arguments().any(|word| word == "trace") {
        told::trace();
    }
    let number = |name| boot.argument(name).and_then(|word| word.parse().ok());
    let test = Test { name: "pair", boot, entry: &entry, peer: None };
    if let Some(master) = number("puppet") {
        tell("the puppet", puppet::serve(&test, master));
    } else if let (Some(own), Some(peer)) = (number("own"), number("peer")) {
        let with = puppet::with_peer(&test, [own, peer], |peer| {
            run_all(&selection, cases::pairs(), &Test { peer: Some(peer), ..test });
            Ok(())
        });
        tell("the puppet's other end", with);
    } else {
        run_all(&selection, cases::all(), &test);
    }
}

/// Says what went wrong where there is no case.
fn tell(what: &str, outcome: case::Outcome) {
    match outcome {
        Ok(()) => {}
        Err(Verdict::Fail(difference)) => println!("{what}: {difference}"),
        Err(Verdict::Skip(why)) => println!("{what}: {why}"),
    }
}

fn run_all(
    selection: &Selection<'_>,
    cases: impl Iterator<Item = &'static Case> + Clone,
    test: &Test<'_>,
) {
    println!("suite {}", cases.clone().count());
    let mut done = 0_u32;
    for (index, case) in selection.of(cases) {
        if case.life == Life::Ends && !selection.is_single() {
            println!("later {}", case.name);
        } else {
            run(index, case, test);
        }
        done += 1;
    }
    println!("done {done}");
}

fn run(index: usize, case: &'static Case, test: &Test<'_>) {
    println!("case {index} {}", case.name);
    let name = case.name;
    let _pinned = pin::Pinned::for_case(name);
    told::forget();
    let outcome = (case.body)(&Test { name, ..*test });
    if told::Last::is_any() && matches!(outcome, Err(Verdict::Fail(_))) {
        println!("{}", told::Last);
    }
    match outcome {
        Ok(()) if case.life == Life::Ends => {
            println!("fail {name} the guest: expected ends seen goes on")
        }
        Ok(()) => println!("pass {name}"),
        Err(Verdict::Fail(difference)) => println!("fail {name} {difference}"),
        Err(Verdict::Skip(why)) => println!("skip {name} {why}"),
    }
}

fn list(selection: &Selection<'_>) {
    for (_, case) in selection.of(cases::all().chain(cases::pairs())) {
        let life = match case.life {
            Life::Continues => "continues",
            Life::Ends => "ends",
        };
        println!("list {} {life}", case.name);
        println!("clause {}", case.clause);
    }
}
