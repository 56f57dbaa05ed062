//! The final page tables of the hypervisor's sixteen slots.
//!
//! Built once at boot; afterwards only the descriptor-table windows change. Every slot has its L3
//! table from the start, so a guest's new L4 copies sixteen entries and is right for ever.

use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::PhysAddr;
use x86_64::registers::control::{Cr3, Cr3Flags, Cr4, Cr4Flags};
use x86_64::structures::paging::PhysFrame;

use super::cpu;
use super::layout::{
    DEVICES_BASE, DIRECT_BASE, FIRST_SLOT, FRAMES_BASE, IMAGE_BASE, M2P_BASE, PEEPHOLES_BASE, SLOTS,
};
use super::memory::{Memory, Range, Ranges};
use super::phys;

const PAGE: u64 = 4096;
const LARGE: u64 = 2 << 20;
const HUGE: u64 = 1 << 30;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const UNCACHED: u64 = 1 << 3 | 1 << 4;
/// Accessed and dirty, set in advance: the CPU need not write kernel entries.
const USED: u64 = 1 << 5 | 1 << 6;
const LARGE_PAGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Bytes of the frame table per machine frame.
const FRAME_RECORD: u64 = 16;

static ROOT: AtomicU64 = AtomicU64::new(0);
static M2P: AtomicU64 = AtomicU64::new(0);
static M2P_ENTRIES: AtomicU64 = AtomicU64::new(0);

/// Who may do what with mapped memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Access {
    /// Ring 0 executes.
    Code,
    /// Ring 0 reads.
    Constant,
    /// Ring 0 reads and writes.
    Data,
    /// Ring 0 reads and writes, and nothing is cached.
    Device,
    /// Guests read.
    GuestReads,
}

impl Access {
    const fn flags(self) -> u64 {
        let common = PRESENT | GLOBAL | USED;
        match self {
            Self::Code => common,
            Self::Constant => common | NO_EXECUTE,
            Self::Data => common | WRITABLE | NO_EXECUTE,
            Self::Device => common | WRITABLE | NO_EXECUTE | UNCACHED,
            Self::GuestReads => common | USER | NO_EXECUTE,
        }
    }
}

/// Physical address of the L4 with nothing but the hypervisor's slots: what idle CPUs run on, and
/// where guests' L4 tables get those slots from.
pub(crate) fn root() -> u64 {
    ROOT.load(Ordering::Relaxed)
}

/// The machine-to-physical table, writable, one entry per machine frame up to the highest.
pub(crate) fn machine_to_physical() -> &'static [AtomicU64] {
    let length = usize::try_from(M2P_ENTRIES.load(Ordering::Relaxed)).unwrap_or(0);
    let start = phys::direct(M2P.load(Ordering::Relaxed)) as *const AtomicU64;
    // SAFETY: `build` allocated these pages together, filled them, and gives them to nobody else.
    unsafe { core::slice::from_raw_parts(start, length) }
}

/// Builds the tables and makes them this CPU's: image, direct map of `ram`, machine-to-physical and
/// frame table for frames below `frames`.
///
/// `None` when there is too little memory.
pub(crate) fn build(memory: &mut Memory, ram: &Ranges, frames: u64) -> Option<()> {
    let root = memory.alloc_pages(1, PAGE)?;
    for slot in FIRST_SLOT..FIRST_SLOT + SLOTS {
        let l3 = memory.alloc_pages(1, PAGE)?;
        let user = if slot == FIRST_SLOT { USER } else { 0 };
        phys::table(root)[slot].store(l3 | PRESENT | WRITABLE | USED | user, Ordering::Relaxed);
    }
    ROOT.store(root, Ordering::Relaxed);

    for (part, access) in super::image_parts() {
        map(memory, IMAGE_BASE + part.start, part.start, part.len(), access)?;
    }
    for range in ram {
        map(memory, DIRECT_BASE + range.start, range.start, range.len(), Access::Data)?;
    }
    load();
    phys::set_reachable(frames * PAGE);
    memory.reach_all();

    map_m2p(memory, frames)?;
    map_frame_table(memory, frames)
}

/// Makes the kernel's own root this CPU's. Forgets every translation, global ones included.
pub(crate) fn load() {
    let without_globals = Cr4::read() - Cr4Flags::PAGE_GLOBAL;
    // SAFETY: clearing the flag only flushes.
    unsafe { Cr4::write(without_globals) };
    let frame = PhysFrame::containing_address(PhysAddr::new(root()));
    // SAFETY: the root maps image, stacks and all memory where they are used.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) };
    // SAFETY: entries marked global are the same in every root there will ever be.
    unsafe { Cr4::write(without_globals | Cr4Flags::PAGE_GLOBAL) };
}

/// Maps registers of a device, `length` bytes at physical `start`; returns their linear address.
///
/// `None` when memory for tables is exhausted.
pub(crate) fn map_device(memory: &mut Memory, start: u64, length: u64) -> Option<u64> {
    static NEXT: AtomicU64 = AtomicU64::new(DEVICES_BASE);
    let pages = Range { start, end: start + length }.outward();
    let at = NEXT.fetch_add(pages.len(), Ordering::Relaxed);
    map(memory, at, pages.start, pages.len(), Access::Device)?;
    Some(at + (start - pages.start))
}

/// Maps `length` bytes of whole pages at linear address `at` to physical `start`, in the largest
/// pages that fit. Nothing may be mapped there yet.
///
/// `None` when memory for tables is exhausted.
pub(crate) fn map(
    memory: &mut Memory,
    at: u64,
    start: u64,
    length: u64,
    access: Access,
) -> Option<()> {
    let mut done = 0;
    while done < length {
        let (at, start, left) = (at + done, start + done, length - done);
        let fits = |size: u64| (at | start) & (size - 1) == 0 && left >= size;
        let (levels, size) = if fits(HUGE) && cpu::features().huge_pages {
            (1, HUGE)
        } else if fits(LARGE) {
            (2, LARGE)
        } else {
            (3, PAGE)
        };
        let large = if size == PAGE { 0 } else { LARGE_PAGE };
        let slot = entry(memory, at, levels)?;
        debug_assert!(slot.load(Ordering::Relaxed) == 0, "mapped twice: {at:#x}");
        slot.store(start | access.flags() | large, Ordering::Relaxed);
        done += size;
    }
    Some(())
}

/// The entry for linear address `at`, `levels` steps below the L4; makes the tables on the way.
fn entry(memory: &mut Memory, at: u64, levels: u32) -> Option<&'static AtomicU64> {
    let index = |shift: u32| usize::try_from(at >> shift & 511).unwrap_or(0);
    let mut slot = &phys::table(root())[index(39)];
    for level in 0..levels {
        let mut value = slot.load(Ordering::Relaxed);
        if value == 0 {
            let table = memory.alloc_pages(1, PAGE)?;
            // Rights are decided by the last entry; above it, only the guest-readable slot differs.
            let user = if index(39) == FIRST_SLOT { USER } else { 0 };
            value = table | PRESENT | WRITABLE | USED | user;
            slot.store(value, Ordering::Relaxed);
        }
        slot = &phys::table(value & ADDRESS)[index(30 - 9 * level)];
    }
    Some(slot)
}

/// The table with the entries of the CPUs' pages for registers of devices, all empty.
///
/// `None` when memory for tables is exhausted.
pub(crate) fn peepholes(memory: &mut Memory) -> Option<&'static [AtomicU64; 512]> {
    entry(memory, PEEPHOLES_BASE, 3)?;
    let above = entry(memory, PEEPHOLES_BASE, 2)?;
    Some(phys::table(above.load(Ordering::Relaxed) & ADDRESS))
}

/// An entry for a page with registers of a device at a physical address. It is not global: only one
/// CPU uses it, and that forgets it itself.
pub(crate) const fn device_entry(address: u64) -> u64 {
    address & ADDRESS | Access::Device.flags() & !GLOBAL
}

/// The machine-to-physical table: all entries say "nobody's". In whole 2 MiB pages, because the ABI
/// lets a toolstack map it by those; in one piece, so that writing it is an index.
fn map_m2p(memory: &mut Memory, frames: u64) -> Option<()> {
    let bytes = (frames * 8).next_multiple_of(LARGE);
    let start = memory.alloc_pages(bytes / PAGE, LARGE)?;
    phys::fill(start, bytes, 0xff);
    M2P.store(start, Ordering::Relaxed);
    M2P_ENTRIES.store(bytes / 8, Ordering::Relaxed);
    map(memory, M2P_BASE, start, bytes, Access::GuestReads)
}

/// The frame table, zeroed: 2 MiB pages as long as they are filled, and small ones for the rest, so
/// that a small machine does not pay for a large page.
fn map_frame_table(memory: &mut Memory, frames: u64) -> Option<()> {
    let bytes = (frames * FRAME_RECORD).next_multiple_of(PAGE);
    let mut done = 0;
    while done < bytes {
        let large = bytes - done >= LARGE;
        let allocated = if large { memory.alloc_pages(LARGE / PAGE, LARGE) } else { None };
        let (start, size) = match allocated {
            Some(start) => (start, LARGE),
            None => (memory.alloc_pages(1, PAGE)?, PAGE),
        };
        map(memory, FRAMES_BASE + done, start, size, Access::Data)?;
        done += size;
    }
    Some(())
}
