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
mod raw;
mod select;
mod tables;
mod traps;
mod vcpus;

use pv_guest_sdk::{BootInfo, entry, println};

use case::{Case, Life, Test, Verdict};
use raw::EntryState;
use select::Selection;

entry!(main);

fn main(boot: &BootInfo<'static>) {
    let selection = Selection::new(boot);
    let entry = raw::entry_state();
    if boot.arguments().any(|word| word == "list") {
        return list(&selection);
    }
    println!("suite {}", cases::all().count());
    let mut done = 0_u32;
    for (index, case) in selection.cases() {
        if case.life == Life::Ends && !selection.is_single() {
            println!("later {}", case.name);
        } else {
            run(index, case, boot, &entry);
        }
        done += 1;
    }
    println!("done {done}");
}

fn run(index: usize, case: &'static Case, boot: &BootInfo<'static>, entry: &EntryState) {
    println!("case {index} {}", case.name);
    let name = case.name;
    match (case.body)(&Test { name, boot, entry }) {
        Ok(()) if case.life == Life::Ends => {
            println!("fail {name} the guest: expected ends seen goes on")
        }
        Ok(()) => println!("pass {name}"),
        Err(Verdict::Fail(difference)) => println!("fail {name} {difference}"),
        Err(Verdict::Skip(why)) => println!("skip {name} {why}"),
    }
}

fn list(selection: &Selection<'_>) {
    for (_, case) in selection.cases() {
        let life = match case.life {
            Life::Continues => "continues",
            Life::Ends => "ends",
        };
        println!("list {} {life}", case.name);
        println!("clause {}", case.clause);
    }
}
