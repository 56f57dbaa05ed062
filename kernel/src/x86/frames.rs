//! The frame table's memory: from the boot allocator to the core's [`FrameTable`].

use core::slice;
use core::sync::atomic::{AtomicU32, AtomicU64};

use hypercall_abi::types::{DomId, Mfn};
use kernel_core::frames::{DeviceAccess, FrameInfo, FrameTable, Link, TooManyKept};

use super::acpi::Reset;
use super::apic;
use super::exit;
use super::layout::{FRAMES_BASE, pointer};
use super::machine::Machine;
use super::memory::{LOW_MEMORY, Range};
use super::paging;
use super::phys;

const PAGE: u64 = 4096;
/// Unit: bytes.
const LINK: u64 = size_of::<Link>() as u64;
/// Addresses to which a write is an interrupt.
const MESSAGES: Mfn = Mfn(0xfee00);
const MESSAGE_FRAMES: u64 = 0x100;

/// Ends the boot allocator: what it has left becomes the frame table's free frames, and all other
/// memory the kernel's own.
pub(super) fn take_over(machine: &mut Machine) -> FrameTable {
    let words = machine.frames.div_ceil(u64::from(u64::BITS));
    let bitmap = words_at(pages(machine, words * 8), words);
    let links = links_at(pages(machine, machine.frames * LINK), machine.frames);
    let domains = u64::from(DomId::FIRST_RESERVED.0);
    let heads = heads_at(pages(machine, domains * 4), domains);
    let mut table = FrameTable::new(records(machine.frames), (links, heads), bitmap);
    for range in &machine.ram {
        let range = Range { start: range.start.max(LOW_MEMORY), ..*range };
        table.reserve(frame(&range), range.len() / PAGE);
    }
    for range in machine.memory.free() {
        let range = range.inward();
        table.add_free(frame(&range), range.len() / PAGE);
    }
    let (start, count) = paging::machine_to_physical_frames();
    table.show(Mfn(start), count);
    if keep_devices(machine, &mut table).is_err() {
        exit::refuse(format_args!("the machine has more interrupt controllers than fit a list"));
    }
    table
}

/// Zeroed pages for so many bytes, for ever.
fn pages(machine: &mut Machine, bytes: u64) -> u64 {
    machine.memory.alloc_pages(bytes.div_ceil(PAGE), PAGE).unwrap_or_else(|| {
        exit::refuse(format_args!(
            "there is too little memory for the frame table: give the machine more"
        ))
    })
}

fn keep_devices(machine: &Machine, table: &mut FrameTable) -> Result<(), TooManyKept> {
    kept(machine).try_for_each(|(start, count, access)| table.keep_device(start, count, access))
}

/// What ring 0 drives itself: the local APICs, whose page begins the addresses that stand for
/// interrupt messages, the I/O APICs, and what resets the machine. The I/O APICs may be read: that
/// changes nothing but what the next read of the same register gives.
pub(super) fn kept(machine: &Machine) -> impl Iterator<Item = (Mfn, u64, DeviceAccess)> {
    let page = |address: u64, access| (Mfn(address / PAGE), 1, access);
    let io_apics = machine.acpi.interrupts.io_apics.iter();
    let reset = match machine.acpi.power.reset {
        Some(Reset::Memory { address, .. }) => Some(page(address, DeviceAccess::None)),
        _ => None,
    };
    core::iter::once((MESSAGES, MESSAGE_FRAMES, DeviceAccess::None))
        .chain(apic::registers().map(|local| page(local, DeviceAccess::None)))
        .chain(io_apics.map(move |controller| page(controller.address, DeviceAccess::Read)))
        .chain(reset)
}

fn frame(range: &Range) -> Mfn {
    Mfn(range.start / PAGE)
}

/// The frame table's records, which `paging::build` mapped and zeroed for this number of frames.
fn records(frames: u64) -> &'static [FrameInfo] {
    let start = FRAMES_BASE as *const FrameInfo;
    // SAFETY: mapped for ever, zeroed, aligned, and used by nobody else; zero is a valid record.
    unsafe { slice::from_raw_parts(start, pointer(frames)) }
}

/// Words in pages of the boot allocator, which are zeroed.
fn words_at(physical: u64, count: u64) -> &'static [AtomicU64] {
    let start = phys::direct(physical) as *const AtomicU64;
    // SAFETY: just allocated for this alone, mapped for ever, aligned, and zero is a valid word.
    unsafe { slice::from_raw_parts(start, pointer(count)) }
}

/// Links in pages of the boot allocator, which are zeroed.
fn links_at(physical: u64, count: u64) -> &'static [Link] {
    let start = phys::direct(physical) as *const Link;
    // SAFETY: just allocated for this alone, mapped for ever, aligned, and zero is a valid link.
    unsafe { slice::from_raw_parts(start, pointer(count)) }
}

/// Heads of lists in pages of the boot allocator, which are zeroed.
fn heads_at(physical: u64, count: u64) -> &'static [AtomicU32] {
    let start = phys::direct(physical) as *const AtomicU32;
    // SAFETY: just allocated for this alone, mapped for ever, aligned, and zero is a valid head.
    unsafe { slice::from_raw_parts(start, pointer(count)) }
}
