//! Everything that touches the machine: the one place of the kernel with `unsafe`.
//!
//! Boot goes through [`multiboot`] (what the loader left), [`cpu`] (what the CPU can do), [`memory`]
//! (which pages are free), [`paging`] (the final page tables), [`percpu`], [`acpi`] and [`smp`]; the
//! order is in `main.rs`.
#![allow(unsafe_code, reason = "ring 0 is where the machine is programmed")]

pub(crate) mod acpi;
pub(crate) mod apic;
pub(crate) mod backtrace;
pub(crate) mod clock;
mod copy;
pub(crate) mod cpu;
mod debug;
pub(crate) mod devices;
pub(crate) mod entry;
pub(crate) mod exit;
pub(crate) mod fault;
mod flush;
mod fpu;
mod frame;
mod frames;
pub(crate) mod gdt;
pub(crate) mod guest;
pub(crate) mod idt;
mod interrupt;
pub(crate) mod ioapic;
pub(crate) mod layout;
pub(crate) mod machine;
pub(crate) mod memory;
pub(crate) mod multiboot;
mod own_cell;
mod page_arc;
pub(crate) mod paging;
mod pci;
pub(crate) mod peephole;
pub(crate) mod percpu;
pub(crate) mod phys;
pub(crate) mod pic;
mod platform;
mod port;
pub(crate) mod rtc;
mod segment;
pub(crate) mod smap;
pub(crate) mod smp;
pub(crate) mod stop;
pub(crate) mod trace;
mod trap;
pub(crate) mod uart;
mod video;
mod window;

use layout::IMAGE_BASE;
use memory::Range;
use paging::Access;

core::arch::global_asm!(include_str!("boot.s"));

/// Where `boot.s` enters Rust: with the loader's magic number and the physical address of its
/// information, on the boot stack, under the boot page tables.
#[unsafe(no_mangle)]
extern "C" fn boot_entry(magic: u32, information: u32) -> ! {
    crate::boot(magic, information)
}

unsafe extern "C" {
    static __image_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __image_end: u8;
    static boot_stack: u8;
    static boot_stack_top: u8;
}

/// The image in physical memory.
pub(crate) fn image() -> Range {
    physical(&raw const __image_start, &raw const __image_end)
}

/// The image's parts in physical memory and what they are for.
fn image_parts() -> [(Range, Access); 3] {
    [
        (physical(&raw const __image_start, &raw const __text_end), Access::Code),
        (physical(&raw const __text_end, &raw const __rodata_end), Access::Constant),
        (physical(&raw const __rodata_end, &raw const __image_end), Access::Data),
    ]
}

/// Linear addresses of the stack the boot CPU starts on.
fn boot_stack_area() -> Range {
    Range {
        start: (&raw const boot_stack).addr() as u64,
        end: (&raw const boot_stack_top).addr() as u64,
    }
}

fn physical(start: *const u8, end: *const u8) -> Range {
    Range { start: start.addr() as u64 - IMAGE_BASE, end: end.addr() as u64 - IMAGE_BASE }
}

/// Number of the boot CPU's local APIC, before the controller itself can be asked.
pub(crate) fn boot_apic_id() -> u32 {
    cpu::cpuid(1, 0).ebx >> 24
}
