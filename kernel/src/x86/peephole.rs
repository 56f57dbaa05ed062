//! Registers of devices that the kernel does not drive: those with which a device raises interrupts.
//!
//! They may be anywhere, and come and go with the device. So each CPU has one page of its own, whose
//! entry is written for each access. Interrupts are off in ring 0, so nothing comes in between, and no
//! other CPU ever uses the page: what it has cached of it does not matter.

use core::sync::atomic::{AtomicU64, Ordering};

use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::tlb;

use super::layout::PEEPHOLES_BASE;
use super::memory::Memory;
use super::{paging, percpu};

const PAGE: u64 = 4096;

static ENTRIES: Once<&'static [AtomicU64; 512]> = Once::new();

/// Makes the table with the pages' entries; to be called once.
///
/// `None` when memory is exhausted.
pub(crate) fn prepare(memory: &mut Memory) -> Option<()> {
    let entries = paging::peepholes(memory)?;
    ENTRIES.call_once(|| entries);
    Some(())
}

/// Reads the 32-bit register at a physical address.
pub(super) fn read(address: u64) -> u32 {
    let Some(pointer) = look_at(address) else { return u32::MAX };
    // SAFETY: this CPU's page, just mapped; the core has checked that the address is no memory, and
    // that reading there is the privileged domain's to ask for.
    unsafe { pointer.read_volatile() }
}

/// Writes the 32-bit register at a physical address.
pub(super) fn write(address: u64, value: u32) {
    let Some(pointer) = look_at(address) else { return };
    // SAFETY: as for reading: it is a device's, and no memory of anybody's.
    unsafe { pointer.write_volatile(value) };
}

/// Maps the page with the register for this CPU.
fn look_at(address: u64) -> Option<*mut u32> {
    let id = percpu::current().id();
    let page = PEEPHOLES_BASE + id as u64 * PAGE;
    ENTRIES.get()?[id].store(paging::device_entry(address), Ordering::Relaxed);
    tlb::flush(VirtAddr::new_truncate(page));
    // Aligned: a register of 32 bits does not cross a page.
    Some((page + (address & (PAGE - 1) & !3)) as *mut u32)
}
