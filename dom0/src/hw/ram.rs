//! Memory of a RAM disk.

use alloc::vec::Vec;

use pv_guest_sdk::device::DeviceError;

use super::piece::Direction;
use super::{Buffer, Piece};

/// The length of a page. Unit: bytes.
const PAGE: u64 = 4096;

/// Pages that are copied to and from pieces, and can be pieces themselves.
pub struct Ram(Vec<Buffer>);

impl Ram {
    /// Zeros: so many pages.
    ///
    /// # Errors
    /// [`DeviceError::Memory`] if no page is free.
    pub fn new(pages: usize) -> Result<Self, DeviceError> {
        (0..pages).map(|_| Buffer::new(4096, 0)).collect::<Result<_, _>>().map(Self)
    }

    /// Unit: bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        PAGE * self.0.len() as u64
    }

    /// Copies what is at `offset` (unit: bytes) to a piece, whole words. `None` if it is not there.
    pub(crate) fn read(&self, offset: u64, piece: &Piece) -> Option<()> {
        self.copy(offset, piece, Direction::ToPiece)
    }

    /// Copies a piece to `offset`.
    pub(crate) fn write(&self, offset: u64, piece: &Piece) -> Option<()> {
        self.copy(offset, piece, Direction::FromPiece)
    }

    fn copy(&self, offset: u64, piece: &Piece, direction: Direction) -> Option<()> {
        let (mut offset, mut done) = (offset, 0);
        while done < piece.length() {
            let page = self.0.get(usize::try_from(offset / PAGE).ok()?)?;
            let room = u32::try_from(PAGE - offset % PAGE).ok()?;
            let count = room.min(piece.length() - done);
            // SAFETY: so much is left in the page, which is atomics to Rust and stays while `self`
            // is borrowed.
            unsafe { piece.exchange(done, count, page.address() + offset % PAGE, direction) };
            done += count;
            offset += u64::from(count);
        }
        Some(())
    }

    /// What is at `offset`, `most` bytes or up to the page's end, as a piece.
    pub(crate) fn piece(&self, offset: u64, most: u32) -> Option<Piece> {
        let page = self.0.get(usize::try_from(offset / PAGE).ok()?)?;
        let room = u32::try_from(PAGE - offset % PAGE).ok()?;
        page.piece(offset % PAGE, most.min(room))
    }
}
