//! Paravane's ring 0: what happens from the boot loader's jump to the initial domain's first
//! instruction, in this order.
//!
//! Every decision that is not about the machine itself is `kernel-core`'s; everything that touches
//! the machine is in [`x86`].
#![no_std]
#![no_main]

mod log;
mod panic;
mod x86;

use x86::exit::{self, Outcome};
use x86::{early_idt, multiboot};

const COM1: u16 = 0x3f8;
const BAUD: u32 = 115_200;

/// From the loader's handover on.
fn boot(magic: u32, information: u32) -> ! {
    log::start(COM1, BAUD, ::log::LevelFilter::Info);
    early_idt::load();
    ::log::info!("Paravane {}", env!("CARGO_PKG_VERSION"));
    let handover = multiboot::handover(magic, information);
    ::log::info!("{handover:?}");
    exit::exit(Outcome::Success)
}
