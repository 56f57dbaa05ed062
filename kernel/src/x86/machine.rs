//! The machine as boot found it: what is handed to the part of the kernel that runs guests.

use heapless::Vec;
use kernel_core::options::Options;

use super::acpi::Acpi;
use super::memory::{Memory, Ranges};
use super::multiboot::{MAP_ENTRIES, MODULES, MapEntry, Module};

/// The machine as boot found it.
#[derive(Debug)]
pub(crate) struct Machine {
    /// The kernel's command line, without the file's name.
    pub command_line: &'static [u8],
    /// What it says.
    pub options: Options<'static>,
    /// Files the boot loader put into memory; their memory is not free.
    pub modules: Vec<Module, MODULES>,
    /// The firmware's memory map, unchanged.
    pub map: Vec<MapEntry, MAP_ENTRIES>,
    /// Usable memory in whole pages, sorted, whether in use or not.
    pub ram: Ranges,
    /// Machine frames from 0 to the highest of usable memory: what frame table and M2P cover.
    pub frames: u64,
    /// What of it is free: the boot allocator.
    pub memory: Memory,
    /// Interrupt controllers, CPUs, power-off.
    pub acpi: Acpi,
    /// Inputs of the I/O APICs, from the first to the last.
    pub inputs: u32,
    /// A page below 1 MiB where other CPUs can start.
    pub start_page: Option<u64>,
}
