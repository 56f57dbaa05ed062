//! Everything that touches the machine: the one place of the kernel with `unsafe`.
//!
//! Boot goes through [`multiboot`] (what the loader left), [`cpu`] (what the CPU can do), [`memory`]
//! (which pages are free), [`paging`] (the final page tables), [`percpu`], [`acpi`] and [`smp`]; the
//! order is in `main.rs`.
#![allow(unsafe_code, reason = "ring 0 is where the machine is programmed")]

pub mod acpi;
pub mod apic;
pub mod backtrace;
pub mod cpu;
pub mod devices;
pub mod early_idt;
pub mod exit;
pub mod layout;
pub mod memory;
pub mod multiboot;
pub mod paging;
pub mod percpu;
pub mod phys;
pub mod stop;
pub mod uart;

core::arch::global_asm!(include_str!("boot.s"));

/// Where `boot.s` enters Rust: with the loader's magic number and the physical address of its
/// information, on the boot stack, under the boot page tables.
#[unsafe(no_mangle)]
extern "C" fn boot_entry(magic: u32, information: u32) -> ! {
    crate::boot(magic, information)
}
