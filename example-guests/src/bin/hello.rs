//! The smallest guest: greets, and says what it was given.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pv_guest_sdk::{BootInfo, HypercallError, Machine, entry, println, vary, version};

entry!(main);

fn main(boot: &BootInfo) -> Result<(), HypercallError> {
    println!("Hello from a guest of {}", boot.magic());
    println!("command line: {}", boot.command_line());
    println!("memory: {} pages of 4 KiB", vary!("size", boot.pages()));
    let (number, extra) = (version::version(&Machine)?, version::extra_version(&Machine)?);
    println!("hypervisor: {}", vary!("version", "{}{}", number, extra));
    println!("done");
    Ok(())
}
