//! Trees of page tables: read at their homes, written by hypercalls.

use core::fmt;

use hypercall_abi::call::Hypercall;
use hypercall_abi::errno::Errno;
use hypercall_abi::mmu::{
    ENTRIES_PER_TABLE, MmuUpdate, MmuextOp, mmu_update::NORMAL_PT_UPDATE, mmuext,
};
use hypercall_abi::types::{DomId, Mfn, Pfn};

use super::frame::Frame;
pub(in crate::raw) use super::layout::home;
use super::layout::{layout, pointer};
use crate::error::{HypercallError, Site, perform};
use crate::paging::{Access, Entry, MemoryError, Mode, Page};
use crate::raw::gate::Machine;
use crate::raw::request::{extended, set_page, update_entries};

static UPDATE: Site = Site::call(
    Hypercall::MmuUpdate,
    &[
        (Errno::EINVAL, "the entry or the table it leads to is not allowed"),
        (Errno::EBUSY, "a frame is in use as something else"),
    ],
);
pub(in crate::raw) static SET_PAGE: Site = Site::call(
    Hypercall::UpdateVaMapping,
    &[(Errno::EINVAL, "no table maps the page, or its frame may not be mapped like this")],
);
static EXTENDED: Site = Site::call(
    Hypercall::MmuextOp,
    &[
        (Errno::EINVAL, "the frame cannot be such a table now"),
        (Errno::EBUSY, "the frame is in use as something else"),
    ],
);

/// Carries `mmuext` operations out, all or up to the first that is refused.
///
/// # Safety
/// As of [`extended`].
pub(in crate::raw) unsafe fn operate(operations: &[MmuextOp]) -> Result<(), HypercallError> {
    // SAFETY: by this function's contract.
    unsafe { operate_of(operations, DomId::SELF) }
}

/// The same, with frames of `owner`.
///
/// # Safety
/// As of [`extended`].
pub(in crate::raw) unsafe fn operate_of(
    operations: &[MmuextOp],
    owner: DomId,
) -> Result<(), HypercallError> {
    // SAFETY: by this function's contract.
    let request = unsafe { extended(operations, owner) };
    perform(&Machine, &EXTENDED, &request).map(drop)
}

/// An operation on one frame or address.
pub(in crate::raw) const fn operation(cmd: u32, arg1: u64) -> MmuextOp {
    MmuextOp { cmd, pad: 0, arg1, arg2: 0 }
}

/// Forgets on all virtual CPUs what a page was mapped to.
pub(in crate::raw) fn flush(page: Page) -> Result<(), HypercallError> {
    // SAFETY: forgetting a translation changes nothing that the tables do not say.
    unsafe { operate(&[operation(mmuext::INVLPG_ALL, page.address())]) }
}

/// Makes the home of a page writable or not.
///
/// # Safety
/// No Rust reference may lead to the page.
pub(in crate::raw) unsafe fn set_home(page: Pfn, access: Access) -> Result<(), MemoryError> {
    let entry = Entry::page(layout()?.machine(page)?, access, Mode::Kernel);
    // SAFETY: the same frame stays at its home, and nobody has a reference that could need more.
    let request = unsafe { set_page(home(page), entry.0) };
    Ok(perform(&Machine, &SET_PAGE, &request).map(drop)?)
}

/// One place in a table.
#[derive(Clone, Copy, Debug)]
pub(in crate::raw) struct Slot {
    table: Pfn,
    index: usize,
}

impl Slot {
    pub(in crate::raw) fn read(self) -> Entry {
        let entry: *const Entry = pointer(self.home());
        // SAFETY: a table at its home, mapped and never freed while its tree is borrowed. Others
        // (the processor, the hypervisor) write whole entries.
        unsafe { entry.read_volatile() }
    }

    /// The entry's address in the kernel's half.
    pub(in crate::raw) fn home(self) -> u64 {
        home(self.table) + 8 * self.index as u64
    }

    /// Writes the entry by a hypercall.
    ///
    /// # Safety
    /// As of [`update_entries`].
    pub(in crate::raw) unsafe fn write(self, entry: Entry) -> Result<(), MemoryError> {
        // SAFETY: by this function's contract.
        unsafe { self.write_of(entry, DomId::SELF) }
    }

    /// The same, where the entry leads to a frame of `owner`.
    ///
    /// # Safety
    /// As of [`update_entries`].
    pub(in crate::raw) unsafe fn write_of(
        self,
        entry: Entry,
        owner: DomId,
    ) -> Result<(), MemoryError> {
        let table = layout()?.machine(self.table)?;
        let ptr = table.address() + 8 * self.index as u64 + u64::from(NORMAL_PT_UPDATE);
        let update = [MmuUpdate { ptr, val: entry.0 }];
        // SAFETY: by this function's contract.
        let request = unsafe { update_entries(&update, owner) };
        Ok(perform(&Machine, &UPDATE, &request).map(drop)?)
    }
}

/// A tree of page tables, by its top table. Who has the value may not have the right to change
/// the tree: that is its owner's.
#[derive(Clone, Copy, Debug)]
pub(in crate::raw) struct Tables {
    pub(in crate::raw) root: Pfn,
}

impl Tables {
    pub(in crate::raw) const fn at(root: Pfn) -> Self {
        Self { root }
    }

    /// The place of a page's entry in the table of `level`, if the tables lead there.
    pub(in crate::raw) fn slot(self, page: Page, level: u32) -> Option<Slot> {
        let mut table = self.root;
        for above in (level + 1..=4).rev() {
            let entry = Slot { table, index: page.index(above) }.read();
            table = layout().ok()?.page(entry.frame()).filter(|_| entry.is_present())?;
        }
        Some(Slot { table, index: page.index(level) })
    }

    /// The place of a page's level-1 entry; tables that miss are added.
    pub(in crate::raw) fn ensure(self, page: Page) -> Result<Slot, MemoryError> {
        for level in [4, 3, 2] {
            let slot = self.slot(page, level).ok_or(MemoryError::Absent(page))?;
            if !slot.read().is_present() {
                // SAFETY: an empty table maps nothing.
                unsafe { add(slot, |_| Entry::ABSENT)? };
            }
        }
        self.slot(page, 1).ok_or(MemoryError::Absent(page))
    }

    /// Adds the level-1 table that a page needs, with these entries.
    ///
    /// # Safety
    /// As of [`update_entries`].
    pub(in crate::raw) unsafe fn add_level_1(
        self,
        page: Page,
        fill: impl Fn(usize) -> Entry,
    ) -> Result<(), MemoryError> {
        for level in [4, 3] {
            let slot = self.slot(page, level).ok_or(MemoryError::Absent(page))?;
            if !slot.read().is_present() {
                // SAFETY: an empty table maps nothing.
                unsafe { add(slot, |_| Entry::ABSENT)? };
            }
        }
        let slot = self.slot(page, 2).ok_or(MemoryError::Absent(page))?;
        // SAFETY: by this function's contract.
        unsafe { add(slot, fill) }
    }

    /// What each level says of a page.
    pub(in crate::raw) fn walk(self, page: Page) -> Walk {
        let read = |level| self.slot(page, level).map(Slot::read);
        Walk([4, 3, 2, 1].map(read))
    }
}

/// Makes a new table of a free page and hooks it in at `slot`.
///
/// # Safety
/// As of [`update_entries`], for the new entries.
unsafe fn add(slot: Slot, fill: impl Fn(usize) -> Entry) -> Result<(), MemoryError> {
    let mut frame = Frame::new()?;
    for (index, word) in frame.bytes_mut().chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&fill(index).0.to_le_bytes());
    }
    // SAFETY: by this function's contract.
    let hook = |machine| unsafe { slot.write(Entry::table(machine)) };
    with_table(frame, hook).map(drop)
}

/// The machine frame behind a page.
pub(in crate::raw) fn machine(page: Pfn) -> Result<Mfn, MemoryError> {
    layout()?.machine(page)
}

/// The page that a machine frame of this domain is behind.
#[cfg(feature = "x86_64")]
pub(in crate::raw) fn page(frame: Mfn) -> Option<Pfn> {
    layout().ok()?.page(frame)
}

/// Turns a frame into what may become a table, and lets `hook` do it; an error gives it back.
pub(in crate::raw) fn with_table(
    frame: Frame,
    hook: impl FnOnce(Mfn) -> Result<(), MemoryError>,
) -> Result<Pfn, MemoryError> {
    let machine = layout()?.machine(frame.number())?;
    let page = frame.into_page();
    // SAFETY: the frame was given up, so no reference leads to it.
    unsafe { set_home(page, Access::empty())? };
    if let Err(error) = hook(machine) {
        release(page)?;
        return Err(error);
    }
    Ok(page)
}

/// Takes back a page that was a table, or might have become one. If the hypervisor still holds on
/// to it, the page is lost.
pub(in crate::raw) fn release(page: Pfn) -> Result<(), MemoryError> {
    release_after(page, || Ok(()))
}

/// The same, with something to be done once the hypervisor no longer holds on to the page, before
/// it may be used anew.
pub(in crate::raw) fn release_after(
    page: Pfn,
    last: impl FnOnce() -> Result<(), MemoryError>,
) -> Result<(), MemoryError> {
    // SAFETY: only tables' pages come here, to which no reference leads.
    unsafe { set_home(page, Access::WRITE)? };
    last()?;
    // SAFETY: the page was a frame's before it was a table's, and is writable again.
    drop(unsafe { Frame::from_page(page) });
    Ok(())
}

/// What the tables of every level say of a page, top level first; `None` where a table misses.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{paging::{Access, Walk}, println};
/// # fn example(walk: Walk) {
/// if walk.mapped().is_some_and(|entry| entry.allows(Access::WRITE)) {
///     println!("it may be written: {walk}");
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Walk(pub [Option<Entry>; 4]);

impl Walk {
    /// The level-1 entry, if it maps something.
    #[must_use]
    pub fn mapped(&self) -> Option<Entry> {
        self.0[3].filter(|entry| entry.is_present())
    }
}

impl fmt::Display for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (entry, level) in self.0.iter().zip(["L4", "L3", "L2", "L1"]) {
            let gap = if level == "L4" { "" } else { " " };
            match entry {
                Some(entry) => write!(f, "{gap}{level} {entry}")?,
                None => write!(f, "{gap}{level} no table")?,
            }
        }
        Ok(())
    }
}

const _: () = assert!(ENTRIES_PER_TABLE * 8 == 4096);
