//! The table of interrupt controllers (MADT), which is also the list of CPUs.

use heapless::Vec;

use crate::x86::phys::Fields;

/// Most CPUs looked at; beyond [`crate::x86::layout::MAX_CPUS`] they are counted, not started.
const CPUS: usize = 256;

/// The controllers and CPUs of the machine.
#[derive(Debug, Default)]
pub(crate) struct Interrupts {
    /// The CPUs that may be used, in the firmware's order.
    pub cpus: Vec<CpuNumbers, CPUS>,
    /// The I/O APICs.
    pub io_apics: Vec<IoApic, 16>,
    /// Legacy interrupts that are not wired as their number says.
    pub overrides: Vec<Override, 16>,
}

/// How a CPU is called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuNumbers {
    /// The number of its local APIC.
    pub apic: u32,
    /// That of its processor in other tables.
    pub acpi: u32,
}

impl Interrupts {
    /// The numbers of the CPU with this local APIC, whether the table has it or not.
    pub(crate) fn cpu(&self, apic: u32) -> CpuNumbers {
        let listed = self.cpus.iter().find(|cpu| cpu.apic == apic);
        listed.copied().unwrap_or(CpuNumbers { apic, acpi: 0 })
    }
}

/// An I/O APIC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IoApic {
    /// Its number.
    pub id: u8,
    /// Physical address of its registers.
    pub address: u64,
    /// The system interrupt that its first pin is.
    pub first_interrupt: u32,
}

/// A legacy interrupt that arrives elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Override {
    /// The legacy interrupt.
    pub legacy: u8,
    /// The system interrupt it arrives at.
    pub interrupt: u32,
    /// Bits 0-1 polarity (1 high, 3 low), bits 2-3 trigger (1 edge, 3 level); 0 the bus's default.
    pub flags: u16,
}

const ENTRIES: usize = 44;
const ENABLED: u32 = 1;

/// Reads the table. What no longer fits the lists is lost: such machines get fewer CPUs.
pub(super) fn read(table: &'static [u8]) -> Interrupts {
    let mut found = Interrupts::default();
    let mut rest = table.get(ENTRIES..).unwrap_or_default();
    while let (Some(kind), Some(length)) = (rest.u8(0), rest.u8(1)) {
        let length = usize::from(length);
        let Some(entry) = rest.get(..length).filter(|_| length >= 2) else { break };
        // An entry shorter than its kind demands is passed over.
        let _ = found.add(kind, entry);
        rest = rest.get(length..).unwrap_or_default();
    }
    found
}

impl Interrupts {
    fn add(&mut self, kind: u8, entry: &[u8]) -> Option<()> {
        match kind {
            0 => {
                let (acpi, apic) = (entry.u8(2)?.into(), entry.u8(3)?.into());
                self.add_cpu(CpuNumbers { apic, acpi }, entry.u32(4)?)
            }
            1 => {
                let address = u64::from(entry.u32(4)?);
                let apic = IoApic { id: entry.u8(2)?, address, first_interrupt: entry.u32(8)? };
                self.io_apics.push(apic).ok()
            }
            2 => {
                let (legacy, interrupt) = (entry.u8(3)?, entry.u32(4)?);
                self.overrides.push(Override { legacy, interrupt, flags: entry.u16(8)? }).ok()
            }
            9 => {
                let (apic, acpi) = (entry.u32(4)?, entry.u32(12)?);
                self.add_cpu(CpuNumbers { apic, acpi }, entry.u32(8)?)
            }
            _ => None,
        }
    }

    /// Firmware may list a CPU in both forms; it is one all the same.
    fn add_cpu(&mut self, numbers: CpuNumbers, flags: u32) -> Option<()> {
        if flags & ENABLED == 0 || self.cpus.iter().any(|cpu| cpu.apic == numbers.apic) {
            return None;
        }
        self.cpus.push(numbers).ok()
    }
}
