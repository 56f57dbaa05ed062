//! A page of memory as an owned value.

use core::mem::ManuallyDrop;

use hypercall_abi::types::{PAGE_SIZE, Pfn};

use super::layout::{home, layout, pointer};
use crate::paging::MemoryError;

/// A page of this guest's memory that is used for nothing else.
///
/// It was zeroed when it was handed out. Dropping it gives it back; forgetting it costs the page.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{paging::{Frame, MemoryError}, println};
/// # fn example() -> Result<(), MemoryError> {
/// let mut frame = Frame::new()?; // zeros
/// frame.bytes_mut()[..4].copy_from_slice(b"page");
/// println!("page {} begins with {:x?}", frame.number().0, &frame.bytes()[..4]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Eq, PartialEq)]
pub struct Frame(Pfn);

impl Frame {
    /// Takes a free page, zeroed.
    ///
    /// # Errors
    /// [`MemoryError::Exhausted`] if none is left, [`MemoryError::NotStarted`] before
    /// [`super::Memory::start`].
    pub fn new() -> Result<Self, MemoryError> {
        let mut frame = Self(layout()?.take()?);
        frame.bytes_mut().fill(0);
        Ok(frame)
    }

    /// Which of the guest's pages it is.
    #[must_use]
    pub const fn number(&self) -> Pfn {
        self.0
    }

    /// What is in it.
    #[must_use]
    pub fn bytes(&self) -> &[u8; PAGE_SIZE] {
        // SAFETY: the page is at its home, mapped and initialised; this value owns it, so that
        // only borrows of it lead there.
        unsafe { &*pointer(home(self.0)) }
    }

    /// What is in it, to be changed.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8; PAGE_SIZE] {
        // SAFETY: as in `bytes`; pages of frames are writable at their homes.
        unsafe { &mut *pointer(home(self.0)) }
    }

    /// Hands the page over to the caller, who owns it from now on.
    pub(in crate::raw) fn into_page(self) -> Pfn {
        ManuallyDrop::new(self).0
    }

    /// Takes a page over.
    ///
    /// # Safety
    /// The page must have been a frame's or of a run, belong to nobody, and be writable at its home.
    pub(in crate::raw) const unsafe fn from_page(page: Pfn) -> Self {
        Self(page)
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        if let Ok(layout) = layout() {
            // SAFETY: this value owned the page, and its end is here.
            unsafe { layout.give(self.0) }
        }
    }
}
