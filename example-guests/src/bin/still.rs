//! A guest that does nothing: it says so and ends, or with the word `wait` waits for ever.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pv_guest_sdk::{BootInfo, HypercallError, Machine, entry, println, wait};

entry!(main);

fn main(boot: &BootInfo) -> Result<(), HypercallError> {
    if boot.arguments().next() != Some("wait") {
        println!("nothing to wait for");
        return Ok(());
    }
    loop {
        wait::poll(&Machine, &[], None)?;
    }
}
