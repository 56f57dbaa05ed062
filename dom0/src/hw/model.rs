//! Memory of a host in place of the machine's, where machine addresses are addresses.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU16, AtomicU64};

use pv_guest_sdk::device::DeviceError;

/// As the SDK's, of memory of the process.
#[derive(Debug)]
pub(crate) struct DmaMemory(Box<[AtomicU64]>);

impl DmaMemory {
    pub(crate) fn new(length: usize, _address_bits: u32) -> Result<Self, DeviceError> {
        let pages = length.div_ceil(4096).max(1).next_power_of_two();
        if pages > 256 {
            return Err(DeviceError::Range);
        }
        Ok(Self((0..pages * 512).map(|_| AtomicU64::new(0)).collect()))
    }

    pub(crate) fn machine(&self) -> u64 {
        self.address()
    }

    pub(crate) fn address(&self) -> u64 {
        self.0.as_ptr().expose_provenance() as u64
    }

    pub(crate) fn length(&self) -> u64 {
        8 * self.0.len() as u64
    }

    pub(crate) fn halves(&self) -> &[AtomicU16] {
        let first: *const AtomicU16 = self.0.as_ptr().cast();
        // SAFETY: four halves for each word, all of them atomics, borrowed from this value.
        unsafe { core::slice::from_raw_parts(first, 4 * self.0.len()) }
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        &self.0
    }
}

/// What a device of a test reads at a machine address.
#[cfg(test)]
pub(crate) fn peek<const N: usize>(machine: u64) -> [u8; N] {
    let address = core::ptr::with_exposed_provenance::<[u8; N]>(place(machine));
    // SAFETY: tests ask for what the driver under test told the device, which is memory.
    unsafe { address.read_unaligned() }
}

/// What a device of a test writes.
#[cfg(test)]
pub(crate) fn poke(machine: u64, bytes: &[u8]) {
    let address = core::ptr::with_exposed_provenance_mut::<u8>(place(machine));
    // SAFETY: as of `peek`; the memory is atomics, and a test has one thread.
    unsafe { core::ptr::copy(bytes.as_ptr(), address, bytes.len()) };
}

#[cfg(test)]
fn place(machine: u64) -> usize {
    usize::try_from(machine).unwrap()
}
