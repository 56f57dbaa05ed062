//! Memory that devices read and write, shared by whoever keeps it.

use alloc::rc::Rc;
use core::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use pv_guest_sdk::device::DeviceError;

use super::Piece;

#[cfg(not(target_os = "none"))]
use super::model::DmaMemory;
#[cfg(target_os = "none")]
use pv_guest_sdk::device::DmaMemory;

/// Memory in a row by machine addresses, zeroed when it was made. It is there until the last clone
/// and the last [`Piece`] of it is dropped.
#[derive(Clone, Debug)]
pub struct Buffer(Rc<DmaMemory>);

impl Buffer {
    /// Takes `length` bytes or more, 1 MiB at most, with machine addresses of at most
    /// `address_bits` bits; 0: of any.
    ///
    /// # Errors
    /// [`DeviceError::Range`] for too much, [`DeviceError::Memory`] if no such memory is left.
    pub fn new(length: usize, address_bits: u32) -> Result<Self, DeviceError> {
        DmaMemory::new(length, address_bits).map(|memory| Self(Rc::new(memory)))
    }

    /// The machine address of the first byte.
    #[must_use]
    pub fn machine(&self) -> u64 {
        self.0.machine()
    }

    /// The address of the first byte in this program.
    pub(super) fn address(&self) -> u64 {
        self.0.address()
    }

    /// Unit: bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.0.length()
    }

    /// What is in it, by words of two bytes.
    #[must_use]
    pub fn halves(&self) -> &[AtomicU16] {
        self.0.halves()
    }

    /// What is in it, by words of eight bytes.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        self.0.words()
    }

    /// A part of it, to be told to a device. `None` if it is not within.
    #[must_use]
    pub fn piece(&self, offset: u64, length: u32) -> Option<Piece> {
        let end = offset.checked_add(length.into())?;
        let keep = self.0.clone();
        let (machine, address) = (self.machine() + offset, self.0.address() + offset);
        // SAFETY: within this buffer, whose memory stays as long as `keep` and is atomics.
        (end <= self.length()).then(|| unsafe { Piece::new(machine, address, length, Some(keep)) })
    }

    /// Copies words out from `offset` (unit: bytes) on, as many as there are.
    pub fn read(&self, offset: usize, words: &mut [u64]) {
        let places = self.words().get(offset / 8..).unwrap_or_default();
        for (word, place) in words.iter_mut().zip(places) {
            *word = place.load(Ordering::Relaxed);
        }
    }

    /// Copies words in.
    pub fn write(&self, offset: usize, words: &[u64]) {
        let places = self.words().get(offset / 8..).unwrap_or_default();
        for (word, place) in words.iter().zip(places) {
            place.store(*word, Ordering::Relaxed);
        }
    }

    /// How many clones and pieces there are.
    #[cfg(test)]
    pub(crate) fn holders(&self) -> usize {
        Rc::strong_count(&self.0)
    }

    /// Never gives the memory back: a device may still have it.
    pub(crate) fn leak(&self) {
        core::mem::forget(self.clone());
    }
}
