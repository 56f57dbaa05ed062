//! Pages in a row, whose machine frames may be in a row too.

use hypercall_abi::call::Hypercall;
use hypercall_abi::errno::Errno;
use hypercall_abi::memory::{EXCHANGE, Exchange, OPS, Reservation};
use hypercall_abi::types::{DomId, Mfn, PAGE_SHIFT, PAGE_SIZE, Pfn};

use super::layout::{Layout, home, layout, pointer};
use super::tables::{SET_PAGE, Tables};
use crate::error::{Site, perform};
use crate::lock::Yielding;
use crate::paging::{Access, Entry, MemoryError, Mode, Page};
use crate::raw::gate::Machine;
use crate::raw::request;

/// The most pages of a run, as a power of two.
const MOST_ORDER: u32 = 8;

/// The end of a list of runs that were given back.
const NONE: u64 = u64::MAX;

/// Runs of each order that were given back, as lists: the first word of each is the number of the
/// next one's first page. They stay in a row. Those whose frames are in a row come first.
static RETURNED: Yielding<[[u64; MOST_ORDER as usize + 1]; 2]> = Yielding::new([[NONE; _]; 2]);

static EXCHANGED: Site = Site::operation(
    Hypercall::MemoryOp,
    OPS,
    EXCHANGE,
    &[(Errno::ENOMEM, "the machine has no such memory in a row")],
);

/// Pages in a row, by their numbers and, if so wanted, by their machine frames. They are mapped at their homes;
/// who has the value decides what is in them. Dropping it gives the pages back: a single one to all,
/// others to runs of as many.
#[derive(Debug)]
pub(in crate::raw) struct Run {
    first: Pfn,
    pages: u64,
    /// Of which list it is one day, which is none while it is made.
    list: Option<List>,
}

/// Runs whose frames are in a row, and those with any.
#[derive(Clone, Copy, Debug)]
enum List {
    InRow,
    Any,
}

impl Run {
    /// Takes 2 to the power of `order` pages, zeroed, whose machine addresses have at most
    /// `address_bits` bits; 0: any.
    pub(in crate::raw) fn new(order: u32, address_bits: u32) -> Result<Self, MemoryError> {
        if order > MOST_ORDER {
            return Err(MemoryError::Exhausted);
        }
        let layout = layout()?;
        let returned = take_returned(List::InRow, order);
        let in_row = order == 0 || returned.is_some();
        // A single page may be one that was given back.
        let fresh = || if order == 0 { layout.take() } else { layout.take_run(1 << order) };
        let first = returned.map_or_else(fresh, Ok)?;
        let list = in_row.then_some(List::InRow);
        let mut run = Self { first, pages: 1 << order, list };
        let fits = |machine: Mfn| {
            let end = machine.address() + (1 << order << PAGE_SHIFT) - 1;
            in_row && (address_bits == 0 || end.checked_shr(address_bits).unwrap_or(0) == 0)
        };
        if !fits(layout.machine(run.first)?) {
            // If this fails, pages may be unmapped, and have the frames that they had.
            run.list = None;
            run.exchange(layout, order, address_bits)?;
            run.list = Some(List::InRow);
        }
        run.clear();
        Ok(run)
    }

    /// Takes 2 to the power of `order` pages, 2 at least, zeroed, whatever their machine frames are.
    pub(in crate::raw) fn any(order: u32) -> Result<Self, MemoryError> {
        let fresh = || layout()?.take_run(1_u64.checked_shl(order).unwrap_or(u64::MAX));
        let first = take_returned(List::Any, order).map_or_else(fresh, Ok)?;
        let run = Self { first, pages: 1 << order, list: Some(List::Any) };
        run.clear();
        Ok(run)
    }

    fn clear(&self) {
        let bytes: *mut u8 = pointer(self.home());
        let length = PAGE_SIZE << self.pages.trailing_zeros();
        // SAFETY: the run's own pages, mapped at their homes and in a row, with no reference to
        // them; frames that were exchanged hold whatever the machine left there.
        unsafe { bytes.write_bytes(0, length) };
    }

    /// The page of a number.
    pub(in crate::raw) fn page(&self, number: usize) -> Pfn {
        Pfn(self.first.0 + number as u64)
    }

    /// The address of the first byte.
    pub(in crate::raw) fn home(&self) -> u64 {
        home(self.first)
    }

    /// The machine address of the first byte.
    pub(in crate::raw) fn machine(&self) -> u64 {
        layout().and_then(|layout| layout.machine(self.first)).map_or(0, Mfn::address)
    }

    /// Unit: bytes.
    pub(in crate::raw) const fn length(&self) -> u64 {
        self.pages << PAGE_SHIFT
    }

    pub(in crate::raw) fn pages(&self) -> impl Iterator<Item = Pfn> + Clone + use<> {
        (self.first.0..self.first.0 + self.pages).map(Pfn)
    }

    /// Gets frames in a row for the pages. If the hypervisor has none, the pages keep theirs.
    fn exchange(&self, layout: &Layout, order: u32, bits: u32) -> Result<(), MemoryError> {
        let mut given = [0_u64; 1 << MOST_ORDER];
        let given = given.get_mut(..1 << order).ok_or(MemoryError::Exhausted)?;
        for (place, page) in given.iter_mut().zip(self.pages()) {
            *place = layout.machine(page)?.0;
            map_home(page, Entry::ABSENT)?;
        }
        let mut first = [self.first.0];
        let reservation = |list: &mut [u64], extent_order, mem_flags| Reservation {
            extent_start: request::writable(list),
            nr_extents: list.len() as u64,
            extent_order,
            mem_flags,
            domid: DomId::SELF,
            ..Reservation::default()
        };
        let mut argument = Exchange {
            given: reservation(given, 0, 0),
            taken: reservation(&mut first, order, bits),
            ..Exchange::default()
        };
        // SAFETY: both lists are borrowed for longer than this; the pages' only mapping is at
        // their homes, from where they were just taken.
        let done = perform(&Machine, &EXCHANGED, &unsafe { request::exchange(&mut argument) });
        if done.is_ok() {
            (first[0]..).zip(self.pages()).for_each(|(mfn, page)| {
                layout.set_machine(page, Mfn(mfn));
            });
        }
        for page in self.pages() {
            map_home(page, Entry::page(layout.machine(page)?, Access::WRITE, Mode::Kernel))?;
        }
        done.map(drop).map_err(MemoryError::from)
    }
}

/// Sets the entry of a page of a run at its home.
fn map_home(page: Pfn, entry: Entry) -> Result<(), MemoryError> {
    // SAFETY: called for pages of a run alone, and no reference leads to it while it is made.
    let request = unsafe { request::set_page(home(page), entry.0) };
    Ok(perform(&Machine, &SET_PAGE, &request).map(drop)?)
}

/// Takes a run of 2 to the power of `order` pages that was given back.
fn take_returned(list: List, order: u32) -> Option<Pfn> {
    let mut returned = RETURNED.lock();
    let head = returned.get_mut(list as usize)?.get_mut(usize::try_from(order).ok()?)?;
    let first = Some(*head).filter(|&first| first != NONE).map(Pfn)?;
    let link: *const u64 = pointer(home(first));
    // SAFETY: a run that was given back is its list's, mapped at home, and its first word a link.
    *head = unsafe { link.read() };
    Some(first)
}

/// How many pages are in runs that were given back.
pub(super) fn returned_pages() -> u64 {
    let returned = RETURNED.lock();
    let mut pages = 0;
    let lists = returned.iter().flat_map(|list| list.iter().enumerate());
    for (order, &head) in lists {
        let mut next = head;
        while next != NONE {
            pages += 1 << order;
            let link: *const u64 = pointer(home(Pfn(next)));
            // SAFETY: as in `take_returned`; the list is locked.
            next = unsafe { link.read() };
        }
    }
    pages
}

impl Drop for Run {
    fn drop(&mut self) {
        let Ok(layout) = layout() else { return };
        let order = usize::try_from(self.pages.trailing_zeros()).unwrap_or(0);
        let mut returned = RETURNED.lock();
        let list = self.list.and_then(|list| returned.get_mut(list as usize));
        if let Some(head) = list.and_then(|list| list.get_mut(order)).filter(|_| order > 0) {
            let link: *mut u64 = pointer(self.home());
            // SAFETY: the pages were this value's, whose end is here, and are mapped at home.
            unsafe { link.write(*head) };
            *head = self.first.0;
            return;
        }
        // A page that could not be mapped again is lost; it would fault here.
        let mapped = |page: &Pfn| {
            let tables = Tables::at(layout.root);
            Page::at(home(*page)).is_some_and(|page| tables.walk(page).mapped().is_some())
        };
        for page in self.pages().filter(mapped) {
            // SAFETY: the page was taken for this value, whose end is here.
            unsafe { layout.give(page) };
        }
    }
}
