//! Memory of a RAM disk.

use alloc::boxed::Box;
use core::sync::atomic::AtomicU64;

use super::Piece;
use super::piece::Direction;

/// Bytes that are copied to and from pieces.
pub struct Ram(Box<[AtomicU64]>);

impl Ram {
    /// Zeros. Unit: words of eight bytes.
    #[must_use]
    pub fn new(words: usize) -> Self {
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    /// Unit: bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        8 * self.0.len() as u64
    }

    /// Copies what is at `offset` (unit: bytes) to a piece, whole words. `None` if it is not there.
    pub(crate) fn read(&self, offset: u64, piece: &Piece) -> Option<()> {
        let address = self.place(offset, piece)?;
        // SAFETY: within this memory, which is atomics.
        unsafe { piece.exchange(address, Direction::ToPiece) };
        Some(())
    }

    /// Copies a piece to `offset`.
    pub(crate) fn write(&self, offset: u64, piece: &Piece) -> Option<()> {
        let address = self.place(offset, piece)?;
        // SAFETY: as of `read`.
        unsafe { piece.exchange(address, Direction::FromPiece) };
        Some(())
    }

    /// Zeros words from `offset` on.
    pub(crate) fn clear(&self, offset: u64, length: u64) {
        let first = usize::try_from(offset / 8).unwrap_or(usize::MAX);
        let count = usize::try_from(length / 8).unwrap_or(usize::MAX);
        let words = self.0.get(first..).unwrap_or_default().iter().take(count);
        words.for_each(|word| word.store(0, core::sync::atomic::Ordering::Relaxed));
    }

    fn place(&self, offset: u64, piece: &Piece) -> Option<u64> {
        let end = offset.checked_add(piece.length().into())?;
        let start = self.0.as_ptr().expose_provenance() as u64;
        (end <= self.length()).then_some(start + offset)
    }
}
