//! ACPI as far as ring 0 needs it: the interrupt controllers and CPUs, power-off, reset, the timer.
//!
//! Read once, at boot, under the boot page tables (the tables are rarely in memory that the final
//! ones map). The initial domain reads ACPI for itself.

mod madt;
mod power;

pub(crate) use madt::{CpuNumbers, Interrupts};
pub(crate) use power::{Power, Reset};

use super::memory::Range;
use super::phys::{self, Fields};

/// Physical address of the word with the segment of the extended BIOS data area.
const EBDA_POINTER: u64 = 0x40e;
const BIOS: Range = Range { start: 0xe_0000, end: 0x10_0000 };
const HEADER: u64 = 36;
/// Where in the root table the addresses of the others begin.
const TABLES: usize = 36;
/// A table longer than this is taken for garbage.
const TABLE_LIMIT: u64 = 1 << 20;

/// What ACPI says.
#[derive(Debug, Default)]
pub(crate) struct Acpi {
    /// Interrupt controllers and CPUs.
    pub interrupts: Interrupts,
    /// How to power off and reset.
    pub power: Power,
    /// I/O port of the 3.58 MHz timer.
    pub timer_port: Option<u16>,
}

/// Reads the tables, beginning with `rsdp` if the loader passed a copy of the root pointer. `None`
/// if there are none.
pub(crate) fn read(rsdp: Option<&'static [u8]>) -> Option<Acpi> {
    let root = rsdp.and_then(root_pointer).or_else(search)?;
    let mut acpi = Acpi::default();
    for address in root.tables() {
        let Some(table) = table(address) else { continue };
        match table.get(..4) {
            Some(b"APIC") => acpi.interrupts = madt::read(table),
            Some(b"FACP") => {
                acpi.power = power::read(table);
                let port = table.u32(76).and_then(|port| u16::try_from(port).ok());
                acpi.timer_port = port.filter(|port| *port != 0);
            }
            _ => {}
        }
    }
    Some(acpi)
}

/// The root table, in its two forms.
struct Root {
    table: &'static [u8],
    wide: bool,
}

impl Root {
    /// Physical addresses of the other tables.
    fn tables(&self) -> impl Iterator<Item = u64> {
        let size = if self.wide { 8 } else { 4 };
        self.table.get(TABLES..).unwrap_or_default().chunks_exact(size).filter_map(move |entry| {
            if size == 8 { entry.u64(0) } else { entry.u32(0).map(u64::from) }
        })
    }
}

/// Looks for the root pointer where a PC's firmware leaves it.
fn search() -> Option<Root> {
    let segment = phys::left_behind(EBDA_POINTER, 2)?.u16(0)?;
    let ebda = u64::from(segment) << 4;
    let areas = [Range { start: ebda, end: ebda + 1024 }, BIOS];
    areas.iter().filter(|area| area.end <= BIOS.end).find_map(|area| {
        let bytes = phys::left_behind(area.start, area.len())?;
        let candidates = (0..bytes.len()).step_by(16).filter_map(|at| bytes.get(at..));
        candidates.filter(|candidate| candidate.starts_with(b"RSD PTR ")).find_map(root_pointer)
    })
}

/// The root table that the pointer structure at the start of `bytes` leads to.
fn root_pointer(bytes: &'static [u8]) -> Option<Root> {
    let first = bytes.get(..20).filter(|bytes| bytes.starts_with(b"RSD PTR ") && sums_up(bytes))?;
    let wide = bytes.get(..36).filter(|bytes| first.u8(15) >= Some(2) && sums_up(bytes));
    let wide = wide.and_then(|bytes| bytes.u64(24)).filter(|address| *address != 0);
    if let Some(table) = wide.and_then(table).filter(|table| table.starts_with(b"XSDT")) {
        return Some(Root { table, wide: true });
    }
    let table = table(u64::from(first.u32(16)?)).filter(|table| table.starts_with(b"RSDT"))?;
    Some(Root { table, wide: false })
}

/// The table at `address`, if it can be reached and its checksum is right.
fn table(address: u64) -> Option<&'static [u8]> {
    let length = phys::left_behind(address, HEADER)?.u32(4)?;
    let plausible = (HEADER..TABLE_LIMIT).contains(&u64::from(length));
    let table = phys::left_behind(address, u64::from(length)).filter(|_| plausible)?;
    sums_up(table).then_some(table)
}

fn sums_up(bytes: &[u8]) -> bool {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) == 0
}
