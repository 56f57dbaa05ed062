//! Descriptor-table windows: where a vCPU's GDT and LDT appear to the processor.
//!
//! Each vCPU has [`WINDOW_PAGES`] pages of address space of its own. The first fourteen show the
//! frames the guest gave as its GDT, the fifteenth the descriptors the ABI reserves (one page per
//! physical CPU, since it holds the CPU's TSS), the upper half the LDT. What the guest has not given
//! is not mapped, so that a selector into it faults.

use core::sync::atomic::Ordering;

use hypercall_abi::types::Mfn;
use kernel_core::platform::{NoMemory, Table};
use x86_64::VirtAddr;
use x86_64::instructions::tables::lgdt;
use x86_64::instructions::tlb;
use x86_64::structures::DescriptorTablePointer;

use super::layout::{WINDOW_PAGES, WINDOWS_BASE};
use super::{guest, paging, percpu, phys};

/// Page of a window that holds the reserved descriptors.
const RESERVED_PAGE: u64 = 14;
/// The ABI's GDT ends with the reserved descriptors' page but one: limit as a guest reads it.
const GDT_LIMIT: u16 = 0xefff;

/// Present, writable, accessed, dirty, no execution.
const WRITABLE: u64 = 1 << 63 | 0x63;
/// Present, writable, accessed: a table.
const TABLE: u64 = 0x23;

/// The window of one vCPU.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Window {
    number: u32,
}

impl Window {
    /// The window with this number; its tables are made when they are first needed.
    pub(super) const fn new(number: u32) -> Self {
        Self { number }
    }

    fn address(self, page: u64) -> u64 {
        WINDOWS_BASE + (u64::from(self.number) * WINDOW_PAGES + page) * 4096
    }

    /// Makes this window this CPU's GDT.
    ///
    /// # Errors
    ///
    /// [`NoMemory`] when its tables don't exist yet and there is no frame for them.
    pub(super) fn load(self) -> Result<(), NoMemory> {
        let address = self.address(RESERVED_PAGE);
        let entry = percpu::current().gdt_page() | WRITABLE;
        let l1 = l1_table(address)?;
        l1[index(address, 0)].store(entry, Ordering::Relaxed);
        tlb::flush(VirtAddr::new(address));
        let base = VirtAddr::new(self.address(0));
        // SAFETY: the reserved descriptors, among them ring 0's code segment and this CPU's TSS,
        // are at the same place in every window.
        unsafe { lgdt(&DescriptorTablePointer { limit: GDT_LIMIT, base }) };
        Ok(())
    }
}

fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * level) & 511) as usize
}

/// The L1 table that maps `address`, made if need be.
fn l1_table(address: u64) -> Result<&'static Table, NoMemory> {
    let mut table = phys::table(paging::root());
    for level in [3, 2, 1] {
        let slot = &table[index(address, level)];
        if slot.load(Ordering::Relaxed) & 1 == 0 {
            let frame = guest::alloc_kernel_frame().ok_or(NoMemory)?;
            slot.store(physical(frame) | TABLE, Ordering::Relaxed);
        }
        table = phys::table(slot.load(Ordering::Relaxed) & 0x000f_ffff_ffff_f000);
    }
    Ok(table)
}

fn physical(frame: Mfn) -> u64 {
    frame.0 * 4096
}
