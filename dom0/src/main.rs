//! The privileged guest. For now it only reports what it was given.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod layout;
mod report;

use pv_guest_sdk::{BootInfo, HypercallError, entry};

entry!(main);

fn main(boot: &BootInfo) -> Result<(), HypercallError> {
    report::registers();
    report::start_of_day(boot);
    report::shared_page(boot)?;
    report::hypervisor()?;
    report::machine();
    Ok(())
}
