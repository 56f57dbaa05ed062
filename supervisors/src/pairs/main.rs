//! Cases of the control domain and domains that it makes: what it sees of them, and what is left of
//! one that is destroyed while its memory is in use. The file `puppet` in the ramdisk is
//! the guest `conformance`; the lines are of that guest's protocol.
//!
//! Command line: `filter=TEXT` leaves the cases whose name contains it, `list` only tells names and
//! clauses.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod cases;
mod puppet;

use alloc::boxed::Box;
use core::error::Error;

use pv_guest_sdk::abi::virq;
use pv_guest_sdk::event::Channel;
use pv_guest_sdk::grant::Grants;
use pv_guest_sdk::paging::Memory;
use pv_guest_sdk::{BootInfo, entry, println, vcpu::Vcpu};

use cases::{CASES, Fault, Test};

entry!(main);
pv_guest_sdk::heap!();

fn main(boot: &BootInfo<'static>) -> Result<(), Box<dyn Error>> {
    let vcpu = Vcpu::start(boot)?;
    Memory::start(boot)?;
    let ended = Channel::virq(virq::DOM_EXC, vcpu.id())?;
    ended.mask();
    let test = Test { boot, grants: Grants::start(1)?, ended };
    let filter = boot.argument("filter").unwrap_or("");
    let chosen = CASES.iter().enumerate().filter(|(_, (name, ..))| name.contains(filter));
    if boot.arguments().any(|word| word == "list") {
        for (_, (name, clause, _)) in chosen {
            println!("list {name} continues\nclause {clause}");
        }
        return Ok(());
    }
    println!("suite {}", CASES.len());
    let mut done = 0;
    for (number, (name, _, body)) in chosen {
        println!("case {number} {name}");
        match body(&test) {
            Ok(()) => println!("pass {name}"),
            Err(Fault(what)) => println!("fail {name} {what}"),
        }
        done += 1;
    }
    println!("done {done}");
    Ok(())
}
