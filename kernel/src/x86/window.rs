//! Descriptor-table windows: where a vCPU's GDT and LDT appear to the processor.
//!
//! Each vCPU has [`WINDOW_PAGES`] pages of address space of its own. The first fourteen show the
//! frames the guest gave as its GDT, the fifteenth the descriptors the ABI reserves (one page per
//! physical CPU, since it holds the CPU's TSS), the upper half the LDT. What the guest has not given
//! is not mapped, so that a selector into it faults.

use core::arch::asm;
use core::sync::atomic::Ordering;

use hypercall_abi::types::Mfn;
use kernel_core::platform::{NoMemory, Table};
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::tables::lgdt;
use x86_64::instructions::tlb;
use x86_64::registers::segmentation::SegmentSelector;
use x86_64::structures::DescriptorTablePointer;

use super::layout::{WINDOW_PAGES, WINDOWS_BASE};
use super::{gdt, guest, paging, percpu, phys};

/// Page of a window that holds the reserved descriptors.
const RESERVED_PAGE: u8 = 14;
/// First page of the LDT.
const LDT_PAGE: u64 = 16;
const PAGE: u64 = 4096;
/// Descriptor of an LDT in ring 0, present.
const LDT_RIGHTS: u64 = 0x82 << 40;

/// Present, writable, accessed, dirty, no execution.
const WRITABLE: u64 = 1 << 63 | 0x63;
/// Present, accessed, no execution.
const READABLE: u64 = 1 << 63 | 0x21;
/// Present, writable, accessed: a table.
const TABLE: u64 = 0x23;

/// A frame of zeros.
static EMPTY: Once<Mfn> = Once::new();

/// Linear address of a window, or of one of its pages.
pub(super) const fn address(window: u32, page: u64) -> u64 {
    WINDOWS_BASE + (window as u64 * WINDOW_PAGES + page) * PAGE
}

/// Makes the tables of a window, if it never had any.
///
/// # Errors
///
/// [`NoMemory`] when there is no frame for them.
pub(super) fn make(window: u32) -> Result<(), NoMemory> {
    let table = l1_table(address(window, 0))?;
    if EMPTY.get().is_none() {
        let frame = guest::alloc_kernel_frame().ok_or(NoMemory)?;
        EMPTY.call_once(|| frame);
    }
    for page in 0..RESERVED_PAGE {
        table[index(address(window, u64::from(page)), 0)].store(nothing(page), Ordering::Relaxed);
    }
    Ok(())
}

/// The entry of a page that the guest has not given. What may be its GDT has null descriptors, which
/// `lar` and the like find without a fault; what may be its LDT is not there.
fn nothing(page: u8) -> u64 {
    let frame = if page < RESERVED_PAGE { EMPTY.get() } else { None };
    frame.map_or(0, |frame| physical(*frame) | READABLE)
}

/// Makes a window this CPU's GDT.
pub(super) fn load(window: u32) {
    let own = Mfn(percpu::current().gdt_page() / PAGE);
    set_page(window, RESERVED_PAGE, Some(own));
    let base = VirtAddr::new(address(window, 0));
    // SAFETY: the reserved descriptors, among them ring 0's code segment and this CPU's TSS, are at
    // the same place in every window.
    unsafe { lgdt(&DescriptorTablePointer { limit: gdt::LIMIT, base }) };
}

/// Puts a frame into a page of a window that has been made, or nothing.
pub(super) fn set_page(window: u32, page: u8, frame: Option<Mfn>) {
    let at = address(window, u64::from(page));
    if let Ok(table) = l1_table(at) {
        let entry = frame.map_or_else(|| nothing(page), |frame| physical(frame) | WRITABLE);
        table[index(at, 0)].store(entry, Ordering::Relaxed);
        tlb::flush(VirtAddr::new(at));
    }
}

/// Makes the second half of a window this CPU's LDT; without entries there is none.
pub(super) fn load_ldt(window: u32, entries: u32) {
    let descriptors = percpu::current().descriptors();
    let base = address(window, LDT_PAGE);
    let limit = u64::from(entries) * 8 - u64::from(entries > 0);
    let low = limit & 0xffff | (base & 0xff_ffff) << 16 | LDT_RIGHTS | ((base >> 24) & 0xff) << 56;
    descriptors[gdt::index(gdt::LDT)].store(low, Ordering::Relaxed);
    descriptors[gdt::index(gdt::LDT) + 1].store(base >> 32, Ordering::Relaxed);
    let selector = if entries == 0 { SegmentSelector(0) } else { SegmentSelector(gdt::LDT) };
    // SAFETY: null, or the descriptor just written; ring 0 uses no segment of an LDT.
    unsafe { load_local(selector) };
}

/// Loads the LDT register.
///
/// # Safety
///
/// The selector is null or that of an LDT.
unsafe fn load_local(selector: SegmentSelector) {
    // SAFETY: by the caller's promise.
    unsafe { asm!("lldt {:x}", in(reg) selector.0, options(nostack, preserves_flags)) };
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
