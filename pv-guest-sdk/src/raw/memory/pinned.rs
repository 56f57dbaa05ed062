//! Page tables by themselves, kept checked by a pin.

use hypercall_abi::mmu::mmuext::UNPIN_TABLE;
use hypercall_abi::mmu::mmuext::{PIN_L1_TABLE, PIN_L2_TABLE, PIN_L3_TABLE, PIN_L4_TABLE};
use hypercall_abi::types::Pfn;

use super::frame::Frame;
use super::layout::layout;
use super::tables::{operate, operation, release, with_table};
use crate::paging::MemoryError;

/// A page table that is pinned: the hypervisor has checked it and keeps it checked, whether or
/// not it is in use. Dropping it takes the pin and the page back.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{paging::{Frame, MemoryError, Table}, println};
/// # fn example() -> Result<(), MemoryError> {
/// let table = Table::pin(Frame::new()?, 1)?; // empty, and of the lowest level
/// println!("page {} is a page table", table.number().0);
/// table.unpin()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Table {
    page: Option<Pfn>,
}

impl Table {
    /// Makes an empty table of `level`, 1 to 4, and pins it.
    ///
    /// # Errors
    /// [`MemoryError::Refused`] if the hypervisor refuses.
    pub fn pin(frame: Frame, level: u32) -> Result<Self, MemoryError> {
        let pin = match level {
            1 => PIN_L1_TABLE,
            2 => PIN_L2_TABLE,
            3 => PIN_L3_TABLE,
            _ => PIN_L4_TABLE,
        };
        let mut frame = frame;
        frame.bytes_mut().fill(0);
        let page = with_table(frame, |machine| {
            // SAFETY: an empty table maps nothing.
            unsafe { operate(&[operation(pin, machine.0)]) }.map_err(MemoryError::from)
        })?;
        Ok(Self { page: Some(page) })
    }

    /// Which of the guest's pages it is.
    #[must_use]
    pub fn number(&self) -> Pfn {
        self.page.unwrap_or_default()
    }

    /// Takes the pin back.
    ///
    /// # Errors
    /// [`MemoryError::Refused`] if the hypervisor refuses; the page is lost then.
    pub fn unpin(mut self) -> Result<(), MemoryError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), MemoryError> {
        let Some(page) = self.page.take() else { return Ok(()) };
        let machine = layout()?.machine(page)?;
        // SAFETY: unpinning changes no mapping.
        unsafe { operate(&[operation(UNPIN_TABLE, machine.0)])? };
        release(page)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let _lost_if_refused = self.end();
    }
}
