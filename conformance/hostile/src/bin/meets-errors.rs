//! placeholder
#![no_std]
#![no_main]
pv_guest_sdk::entry!(main);
fn main(_: &pv_guest_sdk::BootInfo<'static>) {}
