//! The privileged guest: it builds the domains of its boot bundle, serves them, and watches them.
//!
//! The bundle is its ramdisk, a cpio archive of configurations (`*.cfg`, see
//! `toolstack::config`) and of the kernels and ramdisks that they name. Without a bundle it reports
//! what it was given, and ends; with the word `disks` on its command line it tries the disks of the
//! machine. With the word `operator` it begins with those domains alone that its command line names,
//! and does what an operator says ([`operator`]). [`files`] finds what is not in the bundle on disks.
//!
//! It is made of services that run as tasks on one virtual CPU, woken by event channels: nothing is
//! polled. What they share is the [`world::World`].
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod bell;
mod block;
mod complaints;
mod console;
mod domain;
mod dump;
mod equipment;
mod files;
mod halves;
mod layout;
mod net;
mod operator;
mod report;
mod screen;
mod storage;
mod store;
mod window;
mod world;

use alloc::boxed::Box;
use core::error::Error;

use pv_guest_sdk::paging::Memory;
use pv_guest_sdk::vcpu::Vcpu;
use pv_guest_sdk::{BootInfo, entry};

entry!(main);
pv_guest_sdk::heap!();

fn main(boot: &BootInfo<'static>) -> Result<(), Box<dyn Error>> {
    if boot.arguments().any(|word| word == "disks") {
        return devices::disks::run(boot);
    }
    if boot.ramdisk().is_empty() && boot.argument("from").is_none() {
        return Ok(report::all(boot)?);
    }
    let vcpu = Vcpu::start(boot)?;
    let memory = Memory::start(boot)?;
    vcpu.start_events()?;
    world::run(boot, vcpu, memory)
}

/// How much of the heap is in use, and how large it is. Unit: bytes.
fn heap() -> (usize, usize) {
    (__PV_HEAP.used(), __PV_HEAP.size())
}
