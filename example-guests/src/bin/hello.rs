//! The smallest guest: greets and says what it was given.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pv_guest_sdk::{BootInfo, entry, println};

entry!(main);

fn main(boot: &BootInfo) {
    println!("Hello from a guest of {}", boot.magic());
    println!("command line: {}", boot.command_line());
}
