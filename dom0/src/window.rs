//! Addresses where frames of other domains are mapped.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

use hypercall_abi::types::PAGE_SIZE;
use pv_guest_sdk::paging::Page;

/// The first of them; nothing else is mapped in this slot of the top table.
const BASE: u64 = 0xffff_a000_0000_0000;
/// How many there are.
const PAGES: usize = 1 << 20;

/// The addresses, of which some are in use.
#[derive(Debug, Default)]
pub(crate) struct Windows(RefCell<Free>);

#[derive(Debug, Default)]
struct Free {
    returned: Vec<usize>,
    /// From here on none was ever used.
    fresh: usize,
}

/// One page of addresses. It is free again when this is dropped, which is to be after what was
/// mapped there.
#[derive(Debug)]
pub(crate) struct Window {
    windows: Rc<Windows>,
    number: usize,
    page: Page,
}

impl Windows {
    /// Takes one; `None` if all are in use.
    pub(crate) fn take(self: &Rc<Self>) -> Option<Window> {
        let mut free = self.0.borrow_mut();
        let number = match free.returned.pop() {
            Some(number) => number,
            None if free.fresh < PAGES => {
                free.fresh += 1;
                free.fresh - 1
            }
            None => return None,
        };
        let page = Page::at(BASE + (number * PAGE_SIZE) as u64)?;
        Some(Window { windows: self.clone(), number, page })
    }

    /// How many are in use.
    pub(crate) fn used(&self) -> usize {
        let free = self.0.borrow();
        free.fresh.saturating_sub(free.returned.len())
    }
}

impl Window {
    /// Where it is.
    pub(crate) const fn page(&self) -> Page {
        self.page
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.windows.0.borrow_mut().returned.push(self.number);
    }
}
