//! A device's registers in memory.

use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::mmu::EntryFlags;
use hypercall_abi::types::{DomId, Mfn, PAGE_SIZE};

use crate::device::{DeviceError, Registers};
use crate::error::perform;
use crate::paging::{Access, Entry, MemoryError, Mode, Page};
use crate::raw::gate::Machine;
use crate::raw::memory::{hook, pointer, tables};
use crate::raw::request::set_page;

/// Where registers are mapped; nothing else is ever mapped in this slot of the top table.
static NEXT: AtomicU64 = AtomicU64::new(0xffff_f000_0000_0000);
/// The most that is mapped at once. Unit: bytes.
const MOST: u64 = 1 << 30;

/// A range of a device's registers, mapped without caches. Dropping it unmaps it; the addresses are
/// not used again.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{device::{DeviceError, DeviceMemory, Registers}};
/// # fn example() -> Result<(), DeviceError> {
/// // SAFETY: it is the window of a device that this guest drives, and nobody else does.
/// let registers = unsafe { DeviceMemory::map(0xfebf_1000, 0x1000) }?;
/// registers.write8(0x14, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct DeviceMemory {
    /// Of the first register.
    address: u64,
    length: u64,
    /// The first page, and how many are mapped.
    page: u64,
    pages: u64,
}

impl DeviceMemory {
    /// Maps `length` bytes at the machine address `machine`.
    ///
    /// # Errors
    /// [`DeviceError::Range`] for no bytes, or more than 1 GiB; [`DeviceError::Memory`] if the
    /// hypervisor does not let this guest have them, or there is no room for tables.
    ///
    /// # Safety
    /// What is written there must make no device read or write memory but memory for that: see the
    /// module [`crate::device`]. It must be no memory of the machine.
    pub unsafe fn map(machine: u64, length: u64) -> Result<Self, DeviceError> {
        let offset = machine % PAGE_SIZE as u64;
        if length == 0 || length > MOST || machine.checked_add(length).is_none() {
            return Err(DeviceError::Range);
        }
        let pages = (offset + length).div_ceil(PAGE_SIZE as u64);
        let page = NEXT.fetch_add(pages * PAGE_SIZE as u64, Ordering::Relaxed);
        let mut mapped = Self { address: page + offset, length, page, pages: 0 };
        for number in 0..pages {
            let at = page + number * PAGE_SIZE as u64;
            let frame = Mfn(Mfn::containing(machine).0 + number);
            let uncached = EntryFlags::PCD.union(EntryFlags::PWT).bits();
            let entry = Entry(Entry::page(frame, Access::WRITE, Mode::Kernel).0 | uncached);
            let page = Page::at(at).ok_or(MemoryError::Address(at))?;
            // SAFETY: nothing was mapped there, and registers are no page of this guest's.
            hook(page, |slot| unsafe { slot.write_of(entry, DomId::IO) })?;
            mapped.pages = number + 1;
        }
        Ok(mapped)
    }

    fn pointer<T>(&self, offset: u64) -> *mut T {
        let fits = offset.checked_add(size_of::<T>() as u64).is_some_and(|end| end <= self.length);
        let address = self.address.wrapping_add(offset);
        assert!(fits && address.is_multiple_of(size_of::<T>() as u64), "register {offset:#x}");
        pointer(address)
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        for number in 0..self.pages {
            // SAFETY: this value's page, to which no reference leads.
            let request = unsafe { set_page(self.page + number * PAGE_SIZE as u64, 0) };
            let _address_is_lost = perform(&Machine, &tables::SET_PAGE, &request);
        }
    }
}

/// Reads or writes by one instruction.
macro_rules! access {
    ($read:ident $write:ident $type:ty) => {
        fn $read(&self, offset: u64) -> $type {
            let register = self.pointer::<$type>(offset);
            // SAFETY: mapped while this value lives; registers are no memory of Rust's.
            unsafe { register.read_volatile() }
        }

        fn $write(&self, offset: u64, value: $type) {
            let register = self.pointer::<$type>(offset);
            // What was written to memory before is the device's to see.
            core::sync::atomic::fence(Ordering::SeqCst);
            // SAFETY: as above; the mapper has promised that it is harmless.
            unsafe { register.write_volatile(value) };
        }
    };
}

impl Registers for DeviceMemory {
    fn length(&self) -> u64 {
        self.length
    }

    access!(read8 write8 u8);
    access!(read16 write16 u16);
    access!(read32 write32 u32);
}
