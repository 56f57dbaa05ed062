//! A vCPU's descriptor tables: the guest's frames behind its GDT and LDT.
//!
//! The frames appear in the vCPU's *window*, [`WINDOW_PAGES`] pages of hypervisor address space:
//! the GDT in the first half, where the guest puts it; the LDT in the second, page by page, as the
//! processor looks for it. A frame in the window is of the type for descriptors, so the guest can't
//! write it.

use core::sync::atomic::Ordering;

use hypercall_abi::errno::Errno;
use hypercall_abi::layout::{FIRST_RESERVED_GDT_ENTRY, FIRST_RESERVED_GDT_PAGE};
use hypercall_abi::types::Mfn;

use crate::dispatch::{Answer, DONE, low_u32};
use crate::domain::Domain;
use crate::frames::{FrameType, TypeRef};
use crate::guest_memory::{self, is_canonical};
use crate::mm::{Ldt, Mm, Refusal};
use crate::platform::Platform;
use crate::system::{Context, System};
use crate::trap::FAULT_USER;
use crate::vcpu::Vcpu;

/// Pages of a window.
pub const WINDOW_PAGES: u8 = 32;
/// The first page of the LDT.
const LDT_PAGE: u8 = 16;
/// Frames the guest's part of a GDT can have.
const GDT_FRAMES: usize = FIRST_RESERVED_GDT_PAGE as usize;
/// Descriptors in a frame.
const PER_FRAME: u32 = 512;
const PAGE: u64 = 4096;
/// Bytes of a descriptor.
const DESCRIPTOR: u64 = 8;
/// In an error code: the selector is of the LDT.
const CODE_LDT: u64 = 4;

/// The frames behind the guest's part of a GDT.
pub type GdtFrames = [Option<Mfn>; GDT_FRAMES];

/// The descriptor tables of one vCPU.
#[derive(Debug, Default)]
pub struct Tables {
    /// Frames of the GDT. Each holds a reference as descriptors.
    gdt: [Slot; GDT_FRAMES],
    /// Frames of the LDT that are in the window. Each holds a reference as descriptors.
    ldt: [Slot; GDT_FRAMES + 2],
    ldt_address: u64,
    ldt_entries: u32,
}

/// A frame's number plus 1; 0: none. So a vCPU fits in a page: the direct map ends long before the frames
/// whose numbers are longer.
#[derive(Clone, Copy, Debug, Default)]
struct Slot(u32);

impl Slot {
    fn new(frame: Option<Mfn>) -> Self {
        Self(frame.and_then(|mfn| u32::try_from(mfn.0).ok()?.checked_add(1)).unwrap_or(0))
    }

    fn frame(self) -> Option<Mfn> {
        self.0.checked_sub(1).map(|number| Mfn(number.into()))
    }
}

impl Tables {
    /// Descriptors the LDT has.
    pub(crate) const fn ldt_entries(&self) -> u32 {
        self.ldt_entries
    }

    /// Frames of the GDT, without gaps.
    pub(crate) fn gdt(&self) -> GdtFrames {
        self.gdt.map(Slot::frame)
    }

    /// The LDT's address.
    pub(crate) const fn ldt_address(&self) -> u64 {
        self.ldt_address
    }

    /// All frames; each holds a reference.
    pub(crate) fn frames(&self) -> impl Iterator<Item = Mfn> {
        self.gdt.iter().chain(&self.ldt).filter_map(|slot| slot.frame())
    }

    /// The tables a vCPU starts with, whose frames are taken.
    pub(crate) fn start(&mut self, gdt: GdtFrames, ldt: Ldt) {
        self.gdt = gdt.map(Slot::new);
        self.ldt_address = ldt.address;
        self.ldt_entries = ldt.entries;
    }
}

impl<P: Platform> Context<'_, P> {
    /// `set_gdt(frames, entries)`: the guest's part of the GDT.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: more entries than are the guest's; a frame that is not the domain's, is in use as
    ///   something else, or holds a descriptor that a guest may not have. The log says which.
    /// - `EFAULT`: the list of frames can't be read.
    pub(crate) fn set_gdt(&mut self, [list, entries, ..]: [u64; 6]) -> Answer {
        let entries = low_u32(entries);
        if entries > FIRST_RESERVED_GDT_ENTRY {
            return Err(Errno::EINVAL);
        }
        let platform = &self.system.platform;
        let mut wanted = [None; GDT_FRAMES];
        let count = usize::try_from(entries.div_ceil(PER_FRAME)).unwrap_or(GDT_FRAMES);
        for (number, slot) in (0_u64..).zip(wanted.iter_mut().take(count)) {
            let at = list.wrapping_add(number.wrapping_mul(size_of::<u64>() as u64));
            *slot = Some(Mfn(guest_memory::read(platform, at)?));
        }
        self.take_frames(self.mm(), &mut wanted)?;
        let old = {
            let mut state = self.vcpu.state.lock(platform);
            core::mem::replace(&mut state.tables.gdt, wanted.map(Slot::new))
        };
        for (page, frame) in (0_u8..).zip(wanted) {
            self.show(page, frame);
        }
        self.put_frames(&old.map(Slot::frame));
        DONE
    }

    /// Takes a reference to each frame; after an error, none is held.
    pub(crate) fn take_frames(
        &self,
        mm: Mm<'_, P, System<P>>,
        wanted: &mut GdtFrames,
    ) -> Result<(), Errno> {
        for at in 0..GDT_FRAMES {
            let Some(mfn) = wanted.get(at).copied().flatten() else { continue };
            match mm.take_descriptors(mfn) {
                Ok(held) => {
                    let _ = held.into_entry();
                }
                Err(refusal) => {
                    put_frames(mm, wanted.get(..at).unwrap_or(&[]));
                    self.refused("set_gdt", &refusal);
                    return Err(Errno::EINVAL);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn put_frames(&self, frames: &[Option<Mfn>]) {
        put_frames(self.mm(), frames);
    }

    /// Puts a frame into a page of the window, or nothing. The kernel's own tables for the window
    /// exist since the vCPU does.
    fn show(&self, page: u8, frame: Option<Mfn>) {
        self.system.platform.set_window_page(self.vcpu.window, page, frame);
    }

    /// Uses another LDT from now on.
    ///
    /// The one it has stays as it is, pages included: a guest that has changed what its addresses
    /// mean sets another in between.
    pub(crate) fn set_ldt(&self, ldt: Ldt) {
        let platform = &self.system.platform;
        {
            let tables = &self.vcpu.state.lock(platform).tables;
            if (tables.ldt_address, tables.ldt_entries) == (ldt.address, ldt.entries) {
                return;
            }
        }
        self.forget_ldt();
        {
            let mut state = self.vcpu.state.lock(platform);
            state.tables.ldt_address = ldt.address;
            state.tables.ldt_entries = ldt.entries;
        }
        platform.load_ldt(self.vcpu.window, ldt.entries);
    }

    /// Takes the LDT's frames out of the window: its address may mean others from now on.
    pub(crate) fn forget_ldt(&self) {
        forget_ldt(self.system, self.domain, self.vcpu);
    }

    /// The processor looked for a descriptor in the window and found no page. True if this was that,
    /// and is settled: the page is there now, or the guest has its fault.
    pub(crate) fn descriptor_fault(&mut self, address: u64, error_code: u32) -> bool {
        // The processor reads descriptors for itself; a guest's own access to the window is a fault
        // like any other.
        if error_code & FAULT_USER != 0 {
            return false;
        }
        let base = self.system.platform.window_base(self.vcpu.window);
        let Some(offset) = address.checked_sub(base) else { return false };
        let ldt_offset = u64::from(LDT_PAGE).wrapping_mul(PAGE);
        if offset >= ldt_offset.wrapping_mul(2) {
            return false;
        }
        let Some(offset) = offset.checked_sub(ldt_offset) else {
            self.general_protection(low_u32(offset & !DESCRIPTOR.wrapping_sub(1)));
            return true;
        };
        let (guest_address, length) = self.ldt_place(offset);
        if offset < length && self.map_ldt_page(guest_address, offset).is_ok() {
            // The access is repeated.
        } else if is_canonical(guest_address) {
            self.guest_page_fault(guest_address, error_code);
        } else {
            let code = offset & !DESCRIPTOR.wrapping_sub(1) | CODE_LDT;
            self.general_protection(low_u32(code));
        }
        true
    }

    /// Makes the descriptor of a selector visible if it is of the LDT, for ring 0 to look at: the
    /// pages of the LDT are otherwise not there until a guest's own use of them faults.
    pub(crate) fn show_descriptor(&self, selector: u16) {
        let offset = u64::from(selector & !7);
        let (guest_address, length) = self.ldt_place(offset);
        let is_local = u64::from(selector) & CODE_LDT != 0;
        if is_local && offset < length && !self.is_shown(offset) {
            // A descriptor that can't be shown is none: the instruction that asks for it says so.
            let _ = self.map_ldt_page(guest_address, offset);
        }
    }

    /// The descriptor of a selector, as the processor sees it: in the frames of the window.
    pub(crate) fn descriptor(&self, selector: u16) -> Option<u64> {
        self.show_descriptor(selector);
        let index = usize::from(selector >> 3);
        let platform = &self.system.platform;
        let tables = &self.vcpu.state.lock(platform).tables;
        let is_local = u64::from(selector) & CODE_LDT != 0;
        let frames: &[Slot] = if is_local { &tables.ldt } else { &tables.gdt };
        let frame = frames.get(index >> 9)?.frame()?;
        let descriptor = platform.table(frame).get(index & 511)?;
        Some(descriptor.load(Ordering::Relaxed))
    }

    /// Whether the page with this byte of the LDT is in the window.
    fn is_shown(&self, offset: u64) -> bool {
        let number = usize::try_from(offset.wrapping_div(PAGE)).unwrap_or(usize::MAX);
        let tables = &self.vcpu.state.lock(&self.system.platform).tables;
        tables.ldt.get(number).is_some_and(|slot| slot.frame().is_some())
    }

    /// Guest address of a byte of the LDT, and the LDT's length in bytes.
    fn ldt_place(&self, offset: u64) -> (u64, u64) {
        let tables = &self.vcpu.state.lock(&self.system.platform).tables;
        let length = u64::from(tables.ldt_entries).wrapping_mul(DESCRIPTOR);
        (tables.ldt_address.wrapping_add(offset), length)
    }

    fn map_ldt_page(&self, guest_address: u64, offset: u64) -> Result<(), Refusal> {
        let mm = self.mm();
        let held = mm.take_descriptors(mm.mapped_at(&self.vcpu.roots, guest_address)?)?;
        let mfn = held.into_entry();
        let number = usize::try_from(offset.wrapping_div(PAGE)).unwrap_or(usize::MAX);
        let old = {
            let mut state = self.vcpu.state.lock(&self.system.platform);
            let slot = state.tables.ldt.get_mut(number);
            slot.and_then(|slot| core::mem::replace(slot, Slot::new(Some(mfn))).frame())
        };
        self.put_frames(&[old]);
        self.show(LDT_PAGE.wrapping_add(u8::try_from(number).unwrap_or(0)), Some(mfn));
        Ok(())
    }
}

/// Takes the LDT's frames out of a vCPU's window.
pub(crate) fn forget_ldt<P: Platform>(system: &System<P>, domain: &Domain<P>, vcpu: &Vcpu) {
    let platform = &system.platform;
    let old = core::mem::take(&mut vcpu.state.lock(platform).tables.ldt).map(Slot::frame);
    for (page, _) in (LDT_PAGE..).zip(old).filter(|(_, frame)| frame.is_some()) {
        platform.set_window_page(vcpu.window, page, None);
    }
    put_frames(Mm::new(platform, &domain.memory, system), &old);
}

/// Takes all frames out of the window of a vCPU that runs no more.
pub(crate) fn end_tables<P: Platform>(system: &System<P>, domain: &Domain<P>, vcpu: &Vcpu) {
    forget_ldt(system, domain, vcpu);
    let old = core::mem::take(&mut vcpu.state.lock(&system.platform).tables.gdt).map(Slot::frame);
    for (page, _) in (0_u8..).zip(old).filter(|(_, frame)| frame.is_some()) {
        system.platform.set_window_page(vcpu.window, page, None);
    }
    put_frames(Mm::new(&system.platform, &domain.memory, system), &old);
}

/// Puts back a reference to each frame.
pub(crate) fn put_frames<P: Platform>(mm: Mm<'_, P, System<P>>, frames: &[Option<Mfn>]) {
    for mfn in frames.iter().copied().flatten() {
        mm.put_descriptors(TypeRef::from_entry(mfn, FrameType::Descriptors));
    }
}
