//! Where pages are: what the loader mapped, the map of all others, and the pool.

use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::call::Hypercall;
use hypercall_abi::errno::Errno;
use hypercall_abi::mmu::ENTRIES_PER_TABLE;
use hypercall_abi::types::{Mfn, PAGE_SHIFT, PAGE_SIZE, Pfn};
use hypercall_abi::vm_assist::{self, ENABLE, TYPE_WRITABLE_PAGETABLES};
use spin::Once;

use super::tables::Tables;
use crate::boot::BootInfo;
use crate::error::{Site, perform};
use crate::frames::FrameList;
use crate::lock::Yielding;
use crate::paging::{Access, Entry, MemoryError, Mode, Page, Pool};
use crate::raw::gate::Machine;
use crate::raw::{m2p, registers, request};

/// Where page 0 is mapped by the loader, and the others after it.
const IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;
/// Where this module maps the pages that the loader did not map; page `n` is `n` pages further.
const MAP_BASE: u64 = 0xffff_8880_0000_0000;

unsafe extern "C" {
    static __image_end: u8;
}

static ASSIST: Site = Site::operation(
    Hypercall::VmAssist,
    vm_assist::OPS,
    ENABLE,
    &[(Errno::ENOSYS, "stores to page tables are not carried out")],
);

/// What is known of memory once it was started.
pub(super) struct Layout {
    frames: FrameList<'static>,
    /// The kernel's top table.
    pub(super) root: Pfn,
    pool: Yielding<Pool>,
}

static LAYOUT: Once<Layout> = Once::new();
/// Pages below this one are where the loader mapped them.
static LOADED_END: AtomicU64 = AtomicU64::new(0);

/// What is known of memory.
pub(super) fn layout() -> Result<&'static Layout, MemoryError> {
    LAYOUT.get().ok_or(MemoryError::NotStarted)
}

/// The machine frame of the kernel's top table.
pub(in crate::raw) fn root() -> Result<Mfn, MemoryError> {
    let layout = layout()?;
    layout.machine(layout.root)
}

/// The home of a page.
pub(in crate::raw) fn home(page: Pfn) -> u64 {
    let base = if page.0 < LOADED_END.load(Ordering::Relaxed) { IMAGE_BASE } else { MAP_BASE };
    base.wrapping_add(page.0 << PAGE_SHIFT)
}

impl Layout {
    /// The machine frame behind a page.
    pub(super) fn machine(&self, page: Pfn) -> Result<Mfn, MemoryError> {
        self.frames.get(page).ok_or(MemoryError::Exhausted)
    }

    /// The page that a machine frame of this domain is behind.
    pub(super) fn page(&self, frame: Mfn) -> Option<Pfn> {
        m2p::lookup(frame).filter(|&page| self.frames.get(page) == Some(frame))
    }

    /// How many pages are free.
    pub(super) fn free(&self) -> u64 {
        self.pool.lock().free()
    }

    /// Takes a page that has a frame.
    pub(super) fn take(&self) -> Result<Pfn, MemoryError> {
        loop {
            let page = self.pool.lock().take(|page| {
                let link: *const u64 = pointer(home(page));
                // SAFETY: a page that was given back is the pool's, and its first word a link.
                unsafe { link.read() }
            });
            let page = page.ok_or(MemoryError::Exhausted)?;
            if self.frames.get(page).is_some() {
                return Ok(page);
            }
        }
    }

    /// Takes `count` pages in a row, whose homes and frames are there.
    pub(super) fn take_run(&self, count: u64) -> Result<Pfn, MemoryError> {
        loop {
            let first = self.pool.lock().take_run(count).ok_or(MemoryError::Exhausted)?;
            let last = Pfn(first.0 + count - 1);
            let in_row = home(last).wrapping_sub(home(first)) == (count - 1) << PAGE_SHIFT;
            let pages = (first.0..=last.0).map(Pfn);
            if in_row && pages.clone().all(|page| self.frames.get(page).is_some()) {
                return Ok(first);
            }
            // Single pages of it are good.
            for page in pages.filter(|&page| self.frames.get(page).is_some()) {
                // SAFETY: just taken, and mapped at its home as all pages with a frame are.
                unsafe { self.give(page) };
            }
        }
    }

    /// Notes the frame behind a page that has got another one.
    pub(super) fn set_machine(&self, page: Pfn, frame: Mfn) {
        self.frames.set(page, frame);
    }

    /// Gives a page back.
    ///
    /// # Safety
    /// The page must have been taken, belong to nobody, and be writable at its home.
    pub(super) unsafe fn give(&self, page: Pfn) {
        self.pool.lock().give(page, |page, next| {
            let link: *mut u64 = pointer(home(page));
            // SAFETY: by this function's contract the page is the pool's from here on.
            unsafe { link.write(next) }
        });
    }
}

/// An address as a pointer.
pub(in crate::raw) fn pointer<T>(address: u64) -> *mut T {
    #[expect(clippy::cast_possible_truncation, reason = "addresses have 64 bits")]
    core::ptr::with_exposed_provenance_mut(address as usize)
}

/// Finds out what the loader left, and maps the rest.
pub(super) fn start(boot: &BootInfo<'static>) -> Result<(), MemoryError> {
    let mut fresh = false;
    let layout = LAYOUT.try_call_once(|| {
        fresh = true;
        plan(boot)
    })?;
    if !fresh {
        return Err(MemoryError::NotStarted);
    }
    let assist = request::vm_assist(ENABLE, TYPE_WRITABLE_PAGETABLES);
    perform(&Machine, &ASSIST, &assist)?;
    let tables = Tables::at(layout.root);
    let mut page = Pfn(LOADED_END.load(Ordering::Relaxed));
    let end = Pfn(boot.pages());
    while page.0 < end.0 {
        page = map_chunk(layout, tables, page, end)?;
    }
    Ok(())
}

/// Maps the pages from `first` on that share a level-1 table, at their homes. Returns the page
/// behind them.
fn map_chunk(layout: &Layout, tables: Tables, first: Pfn, end: Pfn) -> Result<Pfn, MemoryError> {
    let per_table = ENTRIES_PER_TABLE as u64;
    let begin = first.0 - first.0 % per_table;
    let behind = (begin + per_table).min(end.0);
    let start = Page::at(home(first)).ok_or(MemoryError::BootTables)?;
    let fill = |index: usize| {
        let page = Pfn(begin + index as u64);
        let frame = layout.frames.get(page).filter(|_| (first.0..behind).contains(&page.0));
        frame.map_or(Entry::ABSENT, |frame| Entry::page(frame, Access::WRITE, Mode::Kernel))
    };
    // SAFETY: the home of a page that the loader did not map is used for nothing else, and no
    // reference to these pages exists yet.
    unsafe { tables.add_level_1(start, fill)? };
    Ok(Pfn(behind))
}

/// Finds what the loader mapped, and of it what nobody uses.
fn plan(boot: &BootInfo<'static>) -> Result<Layout, MemoryError> {
    let start = boot.start_info();
    let root = page_of(start.pt_base)?;
    let area = root.0..root.0 + start.nr_pt_frames;
    let table = |entry: Entry| {
        let page = m2p::lookup(entry.frame()).filter(|_| entry.is_present());
        page.filter(|page| area.contains(&page.0)).ok_or(MemoryError::BootTables)
    };
    let read = |table: Pfn, index: usize| {
        let entry: *const Entry = pointer(IMAGE_BASE + (table.0 << PAGE_SHIFT));
        // SAFETY: one of the loader's tables, which it mapped for reading; nobody has changed
        // them yet but for level-1 entries, by hypercalls.
        unsafe { entry.wrapping_add(index).read_volatile() }
    };
    let base = Page::at(IMAGE_BASE).ok_or(MemoryError::BootTables)?;
    let level_3 = table(read(root, base.index(4)))?;
    let level_2 = table(read(level_3, base.index(3)))?;
    let last = (0..ENTRIES_PER_TABLE).rev().find_map(|index| {
        let level_1 = table(read(level_2, index)).ok()?;
        let used = |&place: &usize| read(level_1, place).is_present();
        let place = (0..ENTRIES_PER_TABLE).rev().find(used)?;
        Some((index * ENTRIES_PER_TABLE + place) as u64)
    });
    let loaded_end = last.ok_or(MemoryError::BootTables)? + 1;
    let in_use = in_use(boot)?;
    if in_use > loaded_end {
        return Err(MemoryError::BootTables);
    }
    LOADED_END.store(loaded_end, Ordering::Relaxed);
    let pool = Yielding::new(Pool::new(Pfn(in_use), Pfn(boot.pages())));
    Ok(Layout { frames: boot.frames(), root, pool })
}

/// The page behind all that the loader left in its mapping.
fn in_use(boot: &BootInfo<'static>) -> Result<u64, MemoryError> {
    let start = boot.start_info();
    let image_end = (&raw const __image_end).expose_provenance() as u64;
    let ramdisk = boot.ramdisk();
    let ends = [
        image_end,
        if ramdisk.is_empty() { 0 } else { start.mod_start + start.mod_len },
        start.mfn_list + 8 * start.nr_pages,
        core::ptr::from_ref(start).addr() as u64 + PAGE_SIZE as u64,
        start.pt_base + start.nr_pt_frames * PAGE_SIZE as u64,
        registers::at_entry().rsp,
    ];
    let end = ends.into_iter().max().unwrap_or(image_end);
    page_of(end.next_multiple_of(PAGE_SIZE as u64)).map(|page| page.0)
}

/// The page that the loader mapped at an address.
fn page_of(address: u64) -> Result<Pfn, MemoryError> {
    let offset = address.checked_sub(IMAGE_BASE).ok_or(MemoryError::BootTables)?;
    Ok(Pfn(offset >> PAGE_SHIFT))
}
