//! Memory that devices read and write.

use core::sync::atomic::{AtomicU16, AtomicU64};

use hypercall_abi::types::PAGE_SIZE;

use crate::device::DeviceError;
use crate::raw::memory::{Run, pointer};

/// Memory in a row by machine addresses too, zeroed, that a device may be told the address of. To
/// this program it is atomics. Dropping it gives it back, so the device must be done with it.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{device::{DeviceError, DmaMemory}, println};
/// # fn example() -> Result<(), DeviceError> {
/// use core::sync::atomic::Ordering;
///
/// let memory = DmaMemory::new(8192, 32)?; // a device with 32 address bits
/// memory.words()[0].store(1, Ordering::Release);
/// memory.halves()[4].store(2, Ordering::Release);
/// println!("{} bytes: tell the device {:#x}", memory.length(), memory.machine());
/// println!("mapped at {:#x}", memory.address());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct DmaMemory {
    run: Run,
    machine: u64,
}

impl DmaMemory {
    /// Takes `length` bytes or more: a power of two of pages, 1 MiB at most. All of it has machine
    /// addresses of at most `address_bits` bits; 0: of any.
    ///
    /// # Errors
    /// [`DeviceError::Range`] for too much, [`DeviceError::Memory`] if no such memory is left.
    pub fn new(length: usize, address_bits: u32) -> Result<Self, DeviceError> {
        let pages = length.div_ceil(PAGE_SIZE).max(1).checked_next_power_of_two();
        let pages = pages.filter(|&pages| pages <= 256).ok_or(DeviceError::Range)?;
        let run = Run::new(pages.trailing_zeros(), address_bits)?;
        Ok(Self { machine: run.machine(), run })
    }

    /// The machine address of the first byte.
    #[must_use]
    pub const fn machine(&self) -> u64 {
        self.machine
    }

    /// The address of the first byte in this program.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.run.home()
    }

    /// Unit: bytes.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.run.length()
    }

    /// What is in it, by words of two bytes.
    #[must_use]
    pub fn halves(&self) -> &[AtomicU16] {
        let length = usize::try_from(self.length() / 2).unwrap_or(0);
        // SAFETY: the pages are this value's, mapped in a row for as long as it lives, and any
        // bytes are atomics; no other references lead there.
        unsafe { core::slice::from_raw_parts(pointer(self.address()), length) }
    }

    /// What is in it, by words of eight bytes.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        let length = usize::try_from(self.length() / 8).unwrap_or(0);
        // SAFETY: as in `halves`.
        unsafe { core::slice::from_raw_parts(pointer(self.address()), length) }
    }
}
