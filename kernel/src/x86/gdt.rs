//! The descriptors the ABI reserves, and loading them.
//!
//! A guest's descriptor table has 14 pages of its own; the 15th, from selector e000 on, is the
//! CPU's. Until a vCPU's window provides the pages before it, GDTR points so far below the CPU's
//! page that the selectors are right; the memory there is the CPU's own stacks and data or nothing,
//! and no selector below e000 is ever loaded meanwhile.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::instructions::segmentation::{CS, DS, ES, FS, GS, SS, Segment};
use x86_64::instructions::tables::{lgdt, load_tss};
use x86_64::registers::segmentation::SegmentSelector;
use x86_64::structures::DescriptorTablePointer;
use x86_64::{PrivilegeLevel, VirtAddr};

use super::percpu::Cpu;

/// Bytes of the table before the reserved page.
pub(crate) const RESERVED_OFFSET: u64 = 0xe000;
/// GDTR's limit, with the reserved page and nothing behind it.
pub(crate) const LIMIT: u16 = 0xefff;
/// Ring 0's code selector.
pub(crate) const KERNEL_CS: u16 = 0xe008;
/// Ring 0's data selector.
pub(crate) const KERNEL_DS: u16 = 0xe010;
/// Selector of the task state segment.
pub(crate) const TSS: u16 = 0xe040;
/// Selector of the local descriptor table.
pub(crate) const LDT: u16 = 0xe050;
/// What `syscall` and `sysret` derive selectors from: `sysret` to 64-bit code gives e033 and e02b.
pub(crate) const STAR_SYSRET: u16 = 0xe023;

/// Flat segments in the page's order, from e000: none, kernel code and data, none, user 32-bit code,
/// user data, user 64-bit code. All are marked as accessed, so the CPU never writes them.
const FLAT: [u64; 7] = [
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0,
    0x00cf_fb00_0000_ffff,
    0x00cf_f300_0000_ffff,
    0x00af_fb00_0000_ffff,
];

const AVAILABLE_TSS: u64 = 0x89 << 40;
const TSS_LIMIT: u64 = 103;

/// Index within the reserved page of the descriptor that `selector` names.
pub(crate) const fn index(selector: u16) -> usize {
    (selector as usize & 0xfff) / 8
}

/// Fills a fresh reserved page; `tss` is the address of the CPU's task state segment.
pub(crate) fn fill(page: &[AtomicU64; 512], tss: u64) {
    for (slot, descriptor) in page.iter().zip(FLAT) {
        slot.store(descriptor, Ordering::Relaxed);
    }
    let low = TSS_LIMIT | (tss & 0xff_ffff) << 16 | AVAILABLE_TSS | (tss >> 24 & 0xff) << 56;
    page[index(TSS)].store(low, Ordering::Relaxed);
    page[index(TSS) + 1].store(tss >> 32, Ordering::Relaxed);
}

/// Makes this CPU's own descriptors its table, instead of a window's.
pub(crate) fn load_table(cpu: &'static Cpu) {
    let base = VirtAddr::new(cpu.gdt_address() - RESERVED_OFFSET);
    let pointer = DescriptorTablePointer { limit: LIMIT, base };
    // SAFETY: the reserved page lies where the base says, is filled and stays.
    unsafe { lgdt(&pointer) };
}

/// Makes `cpu`'s descriptors those of this CPU, which must be `cpu`: table, segments, task register.
pub(crate) fn load(cpu: &'static Cpu) {
    load_table(cpu);
    let selector = |value: u16| SegmentSelector::new(value >> 3, PrivilegeLevel::Ring0);
    // SAFETY: e008 is 64-bit code of ring 0 in every table this kernel ever loads.
    unsafe { CS::set_reg(selector(KERNEL_CS)) };
    // SAFETY: e010 is flat data of ring 0.
    unsafe { SS::set_reg(selector(KERNEL_DS)) };
    let none = SegmentSelector(0);
    // SAFETY: 64-bit code needs no data segments.
    unsafe { DS::set_reg(none) };
    // SAFETY: as above.
    unsafe { ES::set_reg(none) };
    // SAFETY: ring 0 does not use FS.
    unsafe { FS::set_reg(none) };
    // SAFETY: ring 0 does not use GS.
    unsafe { GS::set_reg(none) };
    // SAFETY: e040 describes this CPU's own task state segment, and is loaded once.
    unsafe { load_tss(selector(TSS)) };
    // At reset the LDT is all of low memory: whatever a guest has there would be descriptors.
    // SAFETY: null; ring 0 uses no segment of an LDT.
    unsafe { asm!("lldt {:x}", in(reg) 0_u16, options(nostack, preserves_flags)) };
}
