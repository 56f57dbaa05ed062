//! Address spaces for user mode.

use core::arch::asm;

use hypercall_abi::layout::{HYPERVISOR_FIRST_SLOT, HYPERVISOR_SLOTS};
use hypercall_abi::mmu::ENTRIES_PER_TABLE;
use hypercall_abi::mmu::mmuext::{NEW_USER_BASEPTR, PIN_L4_TABLE, TLB_FLUSH_LOCAL, UNPIN_TABLE};
use hypercall_abi::types::{PAGE_SIZE, Pfn};

use super::frame::Frame;
use super::layout::{home, layout, pointer};
use super::tables::{Tables, Walk, flush, operate, operation, release_after, with_table};
use crate::paging::{Access, Entry, MemoryError, Mode, Page};
use crate::trap::TrapFrame;
use crate::vcpu::Vcpu;

unsafe extern "C" {
    static __image_start: u8;
    static __pv_text_end: u8;
    static __pv_readonly_end: u8;
}

/// An address space for user mode: the lower half is the user's own, and of the upper half it has
/// this guest's code and constants, which it may run and read.
///
/// The kernel does not run in it: it reads and writes user memory by [`Space::read`] and
/// [`Space::write`]. Dropping the space gives all its frames back.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{paging::{Access, Frame, MemoryError, Page, Space}, println};
/// # fn example() -> Result<(), MemoryError> {
/// const AT: Page = Page::fixed(0x40_0000);
/// let mut space = Space::new()?;
/// space.map(AT, Frame::new()?, Access::WRITE)?;
/// space.write(AT.address(), b"for the user")?;
/// let mut seen = [0; 12];
/// space.read(AT.address(), &mut seen)?;
/// space.protect(AT, Access::empty())?;
/// println!("{}", space.walk(AT));
/// let frame = space.unmap(AT)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Space {
    tables: Tables,
}

impl Space {
    /// An address space with this guest's code and constants.
    ///
    /// # Errors
    /// [`MemoryError::Exhausted`] without room for its tables.
    pub fn new() -> Result<Self, MemoryError> {
        let root = with_table(Frame::new()?, |machine| {
            // SAFETY: an empty table maps nothing, and is loaded for nobody.
            unsafe { operate(&[operation(PIN_L4_TABLE, machine.0)]) }.map_err(MemoryError::from)
        })?;
        let space = Self { tables: Tables::at(root) };
        space.map_image()?;
        Ok(space)
    }

    /// Maps a frame.
    ///
    /// # Errors
    /// [`MemoryError::Reserved`] outside the lower half, [`MemoryError::Taken`] if the page is
    /// mapped, [`MemoryError::Exhausted`] without room for tables.
    pub fn map(&mut self, page: Page, frame: Frame, access: Access) -> Result<(), MemoryError> {
        if !page.is_lower() {
            return Err(MemoryError::Reserved(page));
        }
        let slot = self.tables.ensure(page)?;
        if slot.read().is_present() {
            return Err(MemoryError::Taken(page));
        }
        let machine = layout()?.machine(frame.number())?;
        // SAFETY: nothing was mapped there, and the frame is given up: no reference is left.
        unsafe { slot.write(Entry::page(machine, access, Mode::User))? };
        frame.into_page();
        Ok(())
    }

    /// Changes what a page allows.
    ///
    /// # Errors
    /// [`MemoryError::Absent`] if it is not mapped.
    pub fn protect(&mut self, page: Page, access: Access) -> Result<(), MemoryError> {
        let absent = MemoryError::Absent(page);
        let slot = self.tables.slot(page, 1).filter(|_| page.is_lower()).ok_or(absent)?;
        let entry = Some(slot.read()).filter(|entry| entry.is_present()).ok_or(absent)?;
        // SAFETY: the same frame stays mapped, and no reference leads to it.
        unsafe { slot.write(Entry::page(entry.frame(), access, Mode::User))? };
        Ok(flush(page)?)
    }

    /// Unmaps a page and returns its frame.
    ///
    /// # Errors
    /// [`MemoryError::Absent`] if it is not mapped.
    pub fn unmap(&mut self, page: Page) -> Result<Frame, MemoryError> {
        let absent = MemoryError::Absent(page);
        let slot = self.tables.slot(page, 1).filter(|_| page.is_lower()).ok_or(absent)?;
        let entry = Some(slot.read()).filter(|entry| entry.is_present()).ok_or(absent)?;
        let number = layout()?.page(entry.frame()).ok_or(absent)?;
        // SAFETY: what user mode sees is nothing that Rust knows of.
        unsafe { slot.write(Entry::ABSENT)? };
        flush(page)?;
        // SAFETY: the frame was given up when it was mapped, and is mapped nowhere else now.
        Ok(unsafe { Frame::from_page(number) })
    }

    /// What the tables say of a page.
    #[must_use]
    pub fn walk(&self, page: Page) -> Walk {
        self.tables.walk(page)
    }

    /// Copies user memory out, as much as user mode itself could read.
    ///
    /// # Errors
    /// [`MemoryError::Absent`] with the first page that is not mapped; bytes before it are copied.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), MemoryError> {
        self.each_piece(address, bytes.len(), Access::empty(), |from, range| {
            if let Some(piece) = bytes.get_mut(range) {
                copy(from, piece.as_mut_ptr().expose_provenance() as u64, piece.len());
            }
        })
    }

    /// Copies to user memory, where user mode itself could write.
    ///
    /// # Errors
    /// [`MemoryError::Absent`] with the first page that is not mapped for writing; bytes before it
    /// are copied.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        self.each_piece(address, bytes.len(), Access::WRITE, |to, range| {
            if let Some(piece) = bytes.get(range) {
                copy(piece.as_ptr().expose_provenance() as u64, to, piece.len());
            }
        })
    }

    /// Cuts a range of user memory into pieces that do not cross pages; `piece` gets the address
    /// of each in the kernel's half, and which of the bytes it is.
    fn each_piece(
        &self,
        address: u64,
        length: usize,
        access: Access,
        mut piece: impl FnMut(u64, core::ops::Range<usize>),
    ) -> Result<(), MemoryError> {
        let mut done = 0;
        while done < length {
            let wrong = MemoryError::Address(address);
            let at = address.checked_add(done as u64).ok_or(wrong)?;
            let page = Page::containing(at).ok_or(wrong)?;
            let entry = self.tables.walk(page).mapped().filter(|entry| entry.allows(access));
            let absent = MemoryError::Absent(page);
            let frame = layout()?.page(entry.ok_or(absent)?.frame()).ok_or(absent)?;
            let offset = at - page.address();
            let room = PAGE_SIZE - usize::try_from(offset).unwrap_or(0);
            let end = length.min(done + room);
            piece(home(frame) + offset, done..end);
            done = end;
        }
        Ok(())
    }

    /// Runs user mode from `frame` on until it traps.
    pub(crate) fn run(&self, vcpu: &Vcpu, frame: &mut TrapFrame) -> Result<(), MemoryError> {
        let machine = layout()?.machine(self.tables.root)?.0;
        if vcpu.user_root.get() != machine {
            let load = [operation(NEW_USER_BASEPTR, machine), operation(TLB_FLUSH_LOCAL, 0)];
            // SAFETY: user tables are not used by this program, but by user mode alone.
            unsafe { operate(&load)? };
            vcpu.user_root.set(machine);
        }
        crate::raw::user::enter(frame);
        Ok(())
    }

    /// Maps this guest's code and constants.
    fn map_image(&self) -> Result<(), MemoryError> {
        let start = (&raw const __image_start).expose_provenance() as u64;
        let text_end = (&raw const __pv_text_end).expose_provenance() as u64;
        let end = (&raw const __pv_readonly_end).expose_provenance() as u64;
        let kernel = Tables::at(layout()?.root);
        for address in (start..end).step_by(PAGE_SIZE) {
            let page = Page::at(address).ok_or(MemoryError::BootTables)?;
            let entry = kernel.walk(page).mapped().ok_or(MemoryError::Absent(page))?;
            let access = if address < text_end { Access::EXECUTE } else { Access::empty() };
            let entry = Entry::page(entry.frame(), access, Mode::User).borrowed();
            // SAFETY: code and constants never change, and are mapped for reading alone.
            unsafe { self.tables.ensure(page)?.write(entry)? };
        }
        Ok(())
    }

    /// Unloads and unpins the tree, then frees it from the root down.
    fn end(&mut self) -> Result<(), MemoryError> {
        let machine = layout()?.machine(self.tables.root)?.0;
        if let Some(vcpu) = Vcpu::current().filter(|vcpu| vcpu.user_root.get() == machine) {
            // SAFETY: without user tables there is no user mode.
            unsafe { operate(&[operation(NEW_USER_BASEPTR, 0)])? };
            vcpu.user_root.set(0);
        }
        // SAFETY: unpinning changes no mapping. Nobody uses the tree any more.
        let unpin = unsafe { operate(&[operation(UNPIN_TABLE, machine)]) };
        unpin?;
        free(self.tables.root, 4)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _lost_if_refused = self.end();
    }
}

/// Frees a table of `level` that nothing uses any more, then all below it. What a table leads to
/// stays as it is if the hypervisor still holds on to the table.
fn free(table: Pfn, level: u32) -> Result<(), MemoryError> {
    // What the hypervisor puts into a top table may lead to frames of this guest, even to the table
    // itself.
    let foreign = HYPERVISOR_FIRST_SLOT..HYPERVISOR_FIRST_SLOT + HYPERVISOR_SLOTS;
    let own = |index: &usize| level < 4 || !foreign.contains(index);
    release_after(table, || {
        (0..ENTRIES_PER_TABLE).filter(own).try_for_each(|index| free_entry(table, index, level))
    })
}

/// Frees what an entry of a table that was released leads to, unless it is borrowed.
fn free_entry(table: Pfn, index: usize, level: u32) -> Result<(), MemoryError> {
    let entry: *const Entry = pointer(home(table));
    // SAFETY: the page is not in use anew yet, so that it holds what the table held.
    let entry = unsafe { entry.wrapping_add(index).read() };
    if !entry.is_present() || entry.is_borrowed() {
        return Ok(());
    }
    let Some(below) = layout()?.page(entry.frame()) else { return Ok(()) };
    if level > 1 {
        return free(below, level - 1);
    }
    // SAFETY: the frame was given up when it was mapped here, and here alone.
    drop(unsafe { Frame::from_page(below) });
    Ok(())
}

/// Copies bytes between memory that Rust knows and memory of user mode.
fn copy(from: u64, to: u64, length: usize) {
    // SAFETY: one of the two is a borrowed slice, the other lies within one page that user mode
    // may read or write and no reference leads to.
    unsafe {
        asm!("rep movsb", inout("rsi") from => _, inout("rdi") to => _, inout("rcx") length => _,
            options(nostack, preserves_flags));
    }
}
