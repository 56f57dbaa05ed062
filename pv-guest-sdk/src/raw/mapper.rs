//! Traits of the crate `x86_64`, where they fit. Physical addresses are machine addresses.

use hypercall_abi::mmu::{ENTRY_ADDRESS_MASK, EntryFlags};
use hypercall_abi::types::{Mfn, PAGE_SIZE};
use x86_64::structures::paging::mapper::{MappedFrame, Translate, TranslateResult};
use x86_64::structures::paging::{
    FrameAllocator, FrameDeallocator, PageTableFlags, PhysFrame, Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

use super::memory::{Frame, Memory, tables};
use crate::paging::Page;

// SAFETY: frames come from the pool, which hands each out once.
unsafe impl FrameAllocator<Size4KiB> for Memory {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let frame = Frame::new().ok()?;
        let machine = self.machine(frame.number())?;
        frame.into_page();
        Some(PhysFrame::containing_address(PhysAddr::new(machine.address())))
    }
}

impl FrameDeallocator<Size4KiB> for Memory {
    unsafe fn deallocate_frame(&mut self, frame: PhysFrame) {
        let machine = Mfn::containing(frame.start_address().as_u64());
        let page = tables::page(machine);
        // SAFETY: by this trait's contract the frame is unused; it came from `allocate_frame`.
        drop(page.map(|page| unsafe { Frame::from_page(page) }));
    }
}

impl Translate for Memory {
    fn translate(&self, address: VirtAddr) -> TranslateResult {
        let Some(page) = Page::containing(address.as_u64()) else {
            return TranslateResult::NotMapped;
        };
        let Some(entry) = self.walk(page).mapped() else { return TranslateResult::NotMapped };
        let start = PhysAddr::new(entry.0 & ENTRY_ADDRESS_MASK);
        let flags = entry.flags().difference(EntryFlags::AVAIL_HIGH);
        TranslateResult::Mapped {
            frame: MappedFrame::Size4KiB(PhysFrame::containing_address(start)),
            offset: address.as_u64() % PAGE_SIZE as u64,
            flags: PageTableFlags::from_bits_truncate(flags.bits()),
        }
    }
}
