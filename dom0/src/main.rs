//! The privileged guest. For now it reports what it was given, or with the word `disks` on its
//! command line tries the disks of the machine.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod layout;
mod report;

extern crate alloc;

use alloc::boxed::Box;
use core::error::Error;

use pv_guest_sdk::{BootInfo, entry};

entry!(main);
pv_guest_sdk::heap!();

fn main(boot: &BootInfo<'static>) -> Result<(), Box<dyn Error>> {
    if boot.arguments().any(|word| word == "disks") {
        return devices::disks::run(boot);
    }
    report::registers();
    report::start_of_day(boot);
    report::shared_page(boot)?;
    report::hypervisor()?;
    report::machine();
    Ok(())
}
