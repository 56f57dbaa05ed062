//! x
#![no_std]
#![no_main]
#![forbid(unsafe_code)]
use pv_guest_sdk::{BootInfo, entry, println};
entry!(main);
fn main(_boot: &BootInfo<'static>) {
    println!("x {}", hostile::SECRET);
}
