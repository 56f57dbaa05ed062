//! Descriptor tables in pages of their own, as the hypervisor checks and loads them.

use core::marker::PhantomData;

use hypercall_abi::call::Hypercall;
use hypercall_abi::errno::Errno;
use hypercall_abi::mmu::{MmuextOp, mmuext::SET_LDT};
use hypercall_abi::types::{PAGE_SIZE, Pfn};

use super::gate::Machine;
use super::memory::{Frame, tables};
use super::request::{set_gdt, update_descriptor};
use crate::descriptor::Descriptor;
use crate::error::{Site, perform};
use crate::paging::MemoryError;

static SET_GDT: Site =
    Site::call(Hypercall::SetGdt, &[(Errno::EINVAL, "a descriptor is not allowed")]);
static UPDATE: Site = Site::call(
    Hypercall::UpdateDescriptor,
    &[(Errno::EINVAL, "the descriptor is not allowed, or its page not this domain's")],
);

/// How many descriptors a table here may have: one page.
const CAPACITY: usize = PAGE_SIZE / 8;

/// A page of descriptors, not writable, loaded on this virtual CPU and so not to be sent to another.
#[derive(Debug)]
struct Page {
    number: Pfn,
    length: usize,
    stays: PhantomData<*const ()>,
}

impl Page {
    /// Fills a page; what follows the descriptors is null.
    fn new(descriptors: &[Descriptor]) -> Result<Self, MemoryError> {
        let mut frame = Frame::new()?;
        for (word, descriptor) in frame.bytes_mut().chunks_exact_mut(8).zip(descriptors) {
            word.copy_from_slice(&descriptor.0.to_le_bytes());
        }
        let number = tables::with_table(frame, |_| Ok(()))?;
        Ok(Self { number, length: descriptors.len().min(CAPACITY), stays: PhantomData })
    }

    fn update(&self, index: usize, descriptor: Descriptor) -> Result<(), MemoryError> {
        assert!(index < self.length, "descriptor {index} of {}", self.length);
        let at = tables::machine(self.number)?.address() + 8 * index as u64;
        // SAFETY: the page is this table's, and nothing in kernel mode uses the guest's own
        // segments.
        let request = unsafe { update_descriptor(at, descriptor.0) };
        Ok(perform(&Machine, &UPDATE, &request).map(drop)?)
    }
}

/// The guest's part of the global descriptor table of this virtual CPU. Dropping one leaves the
/// CPU without, even if another was loaded since.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{descriptor::{Descriptor, Gdt}, paging::MemoryError};
/// # fn example() -> Result<(), MemoryError> {
/// let mut table = Gdt::load(&[Descriptor::data(0x1000, 0xff)])?;
/// table.update(0, Descriptor::data(0x2000, 0xff))?;
/// let selector = Gdt::selector(0); // for `fs` or `gs`
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Gdt(Page);

impl Gdt {
    /// Loads a table; what is loaded already is replaced. More than 512 descriptors are cut off.
    ///
    /// # Errors
    /// [`MemoryError::Refused`] for a descriptor that would give more than ring 3 may have.
    pub fn load(descriptors: &[Descriptor]) -> Result<Self, MemoryError> {
        let page = Page::new(descriptors)?;
        let frames = [tables::machine(page.number)?.0];
        // SAFETY: kernel mode runs in the hypervisor's own flat segments.
        let request = unsafe { set_gdt(&frames, page.length as u64) };
        if let Err(refused) = perform(&Machine, &SET_GDT, &request) {
            tables::release(page.number)?;
            return Err(refused.into());
        }
        Ok(Self(page))
    }

    /// The selector of a descriptor.
    #[must_use]
    pub const fn selector(index: u16) -> u16 {
        index << 3 | 3
    }

    /// Replaces a descriptor.
    ///
    /// # Errors
    /// [`MemoryError::Refused`] as of [`Gdt::load`].
    ///
    /// # Panics
    /// If there is no descriptor of that index.
    pub fn update(&mut self, index: usize, descriptor: Descriptor) -> Result<(), MemoryError> {
        self.0.update(index, descriptor)
    }
}

impl Drop for Gdt {
    fn drop(&mut self) {
        // SAFETY: as in `load`.
        let request = unsafe { set_gdt(&[], 0) };
        if perform(&Machine, &SET_GDT, &request).is_ok() {
            let _lost_if_refused = tables::release(self.0.number);
        }
    }
}

/// The local descriptor table of this virtual CPU. Dropping one leaves the CPU without, even if
/// another was loaded since.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{descriptor::{Descriptor, Ldt}, paging::MemoryError};
/// # fn example() -> Result<(), MemoryError> {
/// let mut table = Ldt::load(&[Descriptor::data(0, 0xff)])?;
/// table.update(0, Descriptor::data(0, 0xff).absent())?;
/// let selector = Ldt::selector(0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Ldt(Page);

impl Ldt {
    /// Loads a table; what is loaded already is replaced. More than 512 descriptors are cut off.
    ///
    /// The hypervisor checks the page when a descriptor is first used; one that is not allowed is
    /// then a page fault.
    ///
    /// # Errors
    /// [`MemoryError::Refused`] if the hypervisor refuses.
    pub fn load(descriptors: &[Descriptor]) -> Result<Self, MemoryError> {
        let page = Page::new(descriptors)?;
        set_ldt(tables::home(page.number), page.length)?;
        Ok(Self(page))
    }

    /// The selector of a descriptor.
    #[must_use]
    pub const fn selector(index: u16) -> u16 {
        index << 3 | 7
    }

    /// Replaces a descriptor.
    ///
    /// # Errors
    /// [`MemoryError::Refused`] if it would give more than ring 3 may have.
    ///
    /// # Panics
    /// If there is no descriptor of that index.
    pub fn update(&mut self, index: usize, descriptor: Descriptor) -> Result<(), MemoryError> {
        self.0.update(index, descriptor)
    }
}

impl Drop for Ldt {
    fn drop(&mut self) {
        if set_ldt(0, 0).is_ok() {
            let _lost_if_refused = tables::release(self.0.number);
        }
    }
}

fn set_ldt(address: u64, length: usize) -> Result<(), MemoryError> {
    let operation = MmuextOp { cmd: SET_LDT, pad: 0, arg1: address, arg2: length as u64 };
    // SAFETY: nothing in kernel mode uses the guest's own segments.
    Ok(unsafe { tables::operate(&[operation]) }?)
}
