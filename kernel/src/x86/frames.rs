//! The frame table's memory: from the boot allocator to the core's [`FrameTable`].

use core::slice;
use core::sync::atomic::AtomicU64;

use hypercall_abi::types::Mfn;
use kernel_core::frames::{FrameInfo, FrameTable};

use super::exit;
use super::layout::{FRAMES_BASE, pointer};
use super::machine::Machine;
use super::memory::Range;
use super::phys;

const PAGE: u64 = 4096;

/// Ends the boot allocator: what it has left becomes the frame table's free frames, and all other
/// memory the kernel's own.
pub(super) fn take_over(machine: &mut Machine) -> FrameTable {
    let words = machine.frames.div_ceil(u64::from(u64::BITS));
    let bitmap = machine.memory.alloc_pages((words * 8).div_ceil(PAGE), PAGE);
    let Some(bitmap) = bitmap else {
        exit::refuse(format_args!(
            "there is too little memory for the frame table: give the machine more"
        ));
    };
    let table = FrameTable::new(records(machine.frames), words_at(bitmap, words));
    for range in &machine.ram {
        table.reserve(frame(range), range.len() / PAGE);
    }
    for range in machine.memory.free() {
        let range = range.inward();
        table.add_free(frame(&range), range.len() / PAGE);
    }
    table
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
