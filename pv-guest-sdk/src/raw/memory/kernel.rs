//! Mappings in the kernel's address space.

use hypercall_abi::types::{Mfn, PAGE_SIZE, Pfn};

use super::frame::Frame;
use super::layout::{layout, start};
use super::tables::{Slot, Tables, Walk, flush};
use crate::boot::BootInfo;
use crate::lock::Yielding;
use crate::paging::{Access, Entry, MemoryError, Mode, Page};
use crate::raw::probe;
use crate::trap::Trapped;

/// Who changes the kernel's tables.
static KERNEL: Yielding<()> = Yielding::new(());

/// This guest's memory, after it was started.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{BootInfo, paging::{Access, Frame, Memory, MemoryError, Page}, println};
/// # fn example(boot: &BootInfo<'static>) -> Result<(), MemoryError> {
/// let memory = Memory::start(boot)?;
/// println!("{} pages are free, {} in rows", memory.free(), memory.in_rows());
/// let frame = Frame::new()?;
/// let found = memory.machine(frame.number()).and_then(|frame| memory.page(frame));
/// assert_eq!(found, Some(frame.number()));
/// let mapping = memory.map(Page::fixed(0x1000_0000), frame, Access::WRITE)?;
/// println!("{}", memory.walk(mapping.page()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Memory(());

impl Memory {
    /// Finds the memory that the loader left unused, and maps all of it for the kernel.
    ///
    /// # Errors
    /// [`MemoryError::NotStarted`] the second time, [`MemoryError::BootTables`] for a loader that
    /// does not keep to the ABI, [`MemoryError::Exhausted`] if there is no room for tables.
    pub fn start(boot: &BootInfo<'static>) -> Result<Self, MemoryError> {
        start(boot).map(|()| Self(()))
    }

    /// How many pages are free.
    #[must_use]
    pub fn free(self) -> u64 {
        layout().map_or(0, super::layout::Layout::free)
    }

    /// How many pages are in rows that were given back: memory for devices takes them again, and
    /// nothing else does, so that what was in a row once need not be exchanged anew.
    #[must_use]
    pub fn in_rows(self) -> u64 {
        super::contiguous::returned_pages()
    }

    /// The machine frame behind one of the guest's pages.
    #[must_use]
    pub fn machine(self, page: Pfn) -> Option<Mfn> {
        layout().ok()?.machine(page).ok()
    }

    /// The page that a machine frame is behind, if it is this guest's.
    ///
    /// The machine's memory has holes in which the answer is a page fault.
    #[must_use]
    pub fn page(self, frame: Mfn) -> Option<Pfn> {
        layout().ok()?.page(frame)
    }

    /// What the kernel's tables say of a page.
    #[must_use]
    pub fn walk(self, page: Page) -> Walk {
        layout().map_or(Walk([None; 4]), |layout| Tables::at(layout.root).walk(page))
    }

    /// Maps a frame in the kernel's address space.
    ///
    /// # Errors
    /// [`MemoryError::Reserved`] if the page is not for guests to use, [`MemoryError::Taken`] if
    /// it is mapped, [`MemoryError::Exhausted`] without room for tables.
    pub fn map(self, page: Page, frame: Frame, access: Access) -> Result<Mapping, MemoryError> {
        if !page.is_free() {
            return Err(MemoryError::Reserved(page));
        }
        let machine = layout()?.machine(frame.number())?;
        let slot = hook(page, |slot| {
            // SAFETY: nothing was mapped there, and the frame is given up to the mapping: no
            // reference to it is left.
            unsafe { slot.write(Entry::page(machine, access, Mode::Kernel))? };
            Ok::<_, MemoryError>(slot)
        })?;
        Ok(Mapping { page, frame: Some(frame), slot })
    }
}

/// Lets `map` map something at a page of the kernel's address space where nothing is mapped.
pub(in crate::raw) fn hook<T, E: From<MemoryError>>(
    page: Page,
    map: impl FnOnce(Slot) -> Result<T, E>,
) -> Result<T, E> {
    let _changing = KERNEL.lock();
    let slot = Tables::at(layout()?.root).ensure(page)?;
    if slot.read().is_present() {
        return Err(MemoryError::Taken(page).into());
    }
    map(slot)
}

/// Maps frames for the heap or a stack at `end` and behind, for ever: `wanted` bytes, or less if memory is
/// used up. Returns how many bytes there are, not none. Where not even `least` bytes are free nothing is
/// taken: it would be of no use, and lost for others.
pub(in crate::raw) fn map_kept(
    end: u64,
    wanted: usize,
    least: usize,
) -> Result<usize, MemoryError> {
    let layout = layout()?;
    if layout.free() < least.div_ceil(PAGE_SIZE) as u64 {
        return Err(MemoryError::Exhausted);
    }
    let tables = Tables::at(layout.root);
    let _changing = KERNEL.lock();
    let mut done = 0;
    while done < wanted {
        let address = end + done as u64;
        let page = Page::at(address).ok_or(MemoryError::Address(address))?;
        match map_kept_page(tables, page) {
            Ok(()) => done += PAGE_SIZE,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

fn map_kept_page(tables: Tables, page: Page) -> Result<(), MemoryError> {
    let slot = tables.ensure(page)?;
    if slot.read().is_present() {
        // Another one is here.
        return Err(MemoryError::Taken(page));
    }
    let frame = Frame::new()?;
    let machine = layout()?.machine(frame.number())?;
    // SAFETY: nothing was mapped there, and the frame is given up: it stays theirs.
    unsafe { slot.write(Entry::page(machine, Access::WRITE, Mode::Kernel))? };
    frame.into_page();
    Ok(())
}

/// A page of the kernel's address space with a frame behind it. Dropping it unmaps the page and
/// gives the frame back.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{paging::{Access, Mapping, MemoryError}, println};
/// # fn example(mut mapping: Mapping) -> Result<(), MemoryError> {
/// if mapping.store(0, 42).is_err() {
///     println!("{} may not be written: {}", mapping.page(), mapping.entry());
/// }
/// mapping.protect(Access::empty())?;
/// println!("{:?}", mapping.load(0));
/// // By writing the entry itself, which the hypervisor carries out.
/// let done = mapping.protect_by_store(Access::WRITE);
/// let frame = mapping.unmap()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Mapping {
    page: Page,
    /// The frame; nobody borrows it while it is here.
    frame: Option<Frame>,
    slot: Slot,
}

impl Mapping {
    /// Where it is.
    #[must_use]
    pub const fn page(&self) -> Page {
        self.page
    }

    /// Its entry, as the hypervisor left it.
    #[must_use]
    pub fn entry(&self) -> Entry {
        self.slot.read()
    }

    /// Loads the word at an offset into the page, in words.
    ///
    /// # Errors
    /// [`Trapped`] if the load faulted and the handler gave it up.
    ///
    /// # Panics
    /// If `word` is 512 or more.
    pub fn load(&self, word: usize) -> Result<u64, Trapped> {
        // SAFETY: the address is within this mapping, and no reference leads to its frame.
        unsafe { probe::load(self.word(word)) }
    }

    /// Stores a word.
    ///
    /// # Errors
    /// [`Trapped`] if the store faulted and the handler gave it up.
    ///
    /// # Panics
    /// If `word` is 512 or more.
    pub fn store(&self, word: usize, value: u64) -> Result<(), Trapped> {
        // SAFETY: as in `load`.
        unsafe { probe::store(self.word(word), value) }
    }

    fn word(&self, word: usize) -> u64 {
        assert!(word < PAGE_SIZE / 8, "word {word} of a page of {}", PAGE_SIZE / 8);
        self.page.address() + 8 * word as u64
    }

    /// Changes what the mapping allows.
    ///
    /// # Errors
    /// [`MemoryError::Refused`] if the hypervisor refuses.
    pub fn protect(&mut self, access: Access) -> Result<(), MemoryError> {
        let entry = Entry::page(self.entry().frame(), access, Mode::Kernel);
        // SAFETY: the same frame stays mapped, and no reference leads to it.
        unsafe { self.slot.write(entry)? };
        Ok(flush(self.page)?)
    }

    /// The same, but by storing to the page table as if it were ordinary memory. The store faults,
    /// and the hypervisor carries it out; if it does not, the fault is the guest's.
    ///
    /// # Errors
    /// [`Trapped`] if the fault came to the guest and its handler gave the store up.
    pub fn protect_by_store(&mut self, access: Access) -> Result<(), Trapped> {
        let entry = Entry::page(self.entry().frame(), access, Mode::Kernel);
        // SAFETY: a word of a table that this mapping owns; the entry is as in `protect`.
        unsafe { probe::store(self.slot.home(), entry.0)? };
        // A translation that is left is one that was allowed before.
        let _cannot_be_refused = flush(self.page);
        Ok(())
    }

    /// Unmaps the page and returns the frame.
    ///
    /// # Errors
    /// [`MemoryError::Refused`] if the hypervisor refuses; the frame stays where it is.
    pub fn unmap(mut self) -> Result<Frame, MemoryError> {
        self.end()?.ok_or(MemoryError::Absent(self.page))
    }

    fn end(&mut self) -> Result<Option<Frame>, MemoryError> {
        if self.frame.is_none() {
            return Ok(None);
        }
        let _changing = KERNEL.lock();
        // SAFETY: the page is this mapping's.
        let unmapped = unsafe { self.slot.write(Entry::ABSENT) };
        let done = unmapped.and_then(|()| Ok(flush(self.page)?));
        let frame = self.frame.take();
        if done.is_err() {
            // Still mapped: nobody else may have it.
            core::mem::forget(frame);
            return done.map(|()| None);
        }
        Ok(frame)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let _frame_goes_back = self.end();
    }
}
