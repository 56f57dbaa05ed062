//! A guest that lies to the back ends of its disks and to the store (`docs/src/block.md`).
//!
//! Of each of its disks it tries wrong requests, pages that are not granted or no longer, rings that
//! cannot be, wrong nodes and states in wrong orders, with pages that the back end keeps and without;
//! each is to be answered by the error that belongs to it, and after each the disk is to work as
//! before, with every page given back. With the word `store` it does the like to the store, by its
//! ring; with `mute` it asks there for ever more and takes no answer. With `load` it keeps 32 requests in flight until it is ended, in pages that stay mapped.
//!
//! It ends well if everything was as it should. It ends without closing what it has open.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod disk;
mod front;
mod link;
mod nodes;
mod requests;
mod store;
mod wire;

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use core::error::Error;

use front::Front;
use pv_guest_sdk::grant::Grants;
use pv_guest_sdk::paging::Memory;
use pv_guest_sdk::task::block_on;
use pv_guest_sdk::vcpu::Vcpu;
use pv_guest_sdk::xenbus::Device;
use pv_guest_sdk::{BootInfo, entry, println, xenstore};

entry!(main);
pv_guest_sdk::heap!();

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main(boot: &BootInfo<'static>) -> Outcome {
    let vcpu = Vcpu::start(boot)?;
    Memory::start(boot)?;
    vcpu.start_events()?;
    let is = |wanted| boot.arguments().any(|word| word == wanted);
    if is("store") {
        return block_on(store::attack(boot));
    }
    if is("mute") {
        return block_on(store::mute(boot));
    }
    let grants = Grants::start(4)?;
    let store = xenstore::connect(boot)?;
    let mut buffer = [0; 4096];
    let numbers: Vec<u32> = block_on(Device::numbers(store, "vbd", &mut buffer))?.collect();
    for number in numbers {
        let device = block_on(Device::find(store, "vbd", number))?;
        let front = block_on(Front::new(device, grants))?;
        if is("load") {
            block_on(disk::load(&front))?;
        }
        block_on(disk::attack(&front))?;
        println!("disk {number}: no lie was believed");
    }
    Ok(())
}

/// An error if something is not so.
fn ensure(is_so: bool, what: impl FnOnce() -> alloc::string::String) -> Outcome {
    if is_so { Ok(()) } else { Err(what().into()) }
}

/// An error if two things differ.
fn same<T: PartialEq + core::fmt::Debug>(what: &str, is: T, should: T) -> Outcome {
    ensure(is == should, || format!("{what}: it is {is:?}, and should be {should:?}"))
}
