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
use x86::memory::{self, Memory};
use x86::{cpu, early_idt, gdt, multiboot, paging, percpu};

const COM1: u16 = 0x3f8;
const BAUD: u32 = 115_200;

/// From the loader's handover on.
fn boot(magic: u32, information: u32) -> ! {
    log::start(COM1, BAUD, ::log::LevelFilter::Info);
    early_idt::load();
    ::log::info!("Paravane {}", env!("CARGO_PKG_VERSION"));
    let handover = multiboot::handover(magic, information).unwrap();
    let ram = memory::usable(&handover.map);
    let mut memory = Memory::new(&ram);
    memory.reserve(x86::image());
    for range in &handover.occupied {
        memory.reserve(*range);
    }
    for module in &handover.modules {
        memory.reserve(module.bytes);
    }
    ::log::info!("{:x?}", memory);
    let frames = ram.last().unwrap().end / 4096;
    cpu::enable_no_execute();
    paging::build(&mut memory, &ram, frames).unwrap();
    let cpu = percpu::prepare(&mut memory, 0).unwrap();
    gdt::load(cpu);
    cpu::init();
    ::log::info!("{:x?} {:x?}", memory, cpu::features());
    percpu::switch_to_main_stack(cpu, second);
}

extern "C" fn second() -> ! {
    ::log::info!("on cpu {}", percpu::current().id());
    panic!("hello");
}
