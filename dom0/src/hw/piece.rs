//! Parts of memory that devices are told.

use alloc::rc::Rc;
use core::any::Any;
use core::arch::asm;
use core::fmt;

/// A part of memory in a row by machine addresses, for a device to read or write. Its memory stays
/// at least as long as the piece; a clone is the same memory.
#[derive(Clone)]
pub struct Piece {
    machine: u64,
    address: u64,
    length: u32,
    /// Who has the memory.
    keep: Option<Rc<dyn Any>>,
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at machine address {:#x}", self.length, self.machine)
    }
}

impl Piece {
    /// A part of memory: its machine address, its address in this program (where a RAM disk copies
    /// it), its length in bytes.
    ///
    /// # Safety
    /// Both addresses must be of the same memory, which stays mapped and nobody else's for as long
    /// as `keep` (without one: for ever), and to which no Rust reference leads but to atomics. It
    /// must be in a row: within a page, unless it is a `Buffer`'s.
    #[must_use]
    pub unsafe fn new(machine: u64, address: u64, length: u32, keep: Option<Rc<dyn Any>>) -> Self {
        Self { machine, address, length, keep }
    }

    /// The machine address of the first byte.
    #[must_use]
    pub const fn machine(&self) -> u64 {
        self.machine
    }

    /// Unit: bytes.
    #[must_use]
    pub const fn length(&self) -> u32 {
        self.length
    }

    /// A part of the piece. `None` if it is not within.
    #[must_use]
    pub fn part(&self, offset: u32, length: u32) -> Option<Self> {
        let end = offset.checked_add(length)?;
        let start = u64::from(offset);
        (end <= self.length).then(|| Self {
            machine: self.machine + start,
            address: self.address + start,
            length,
            keep: self.keep.clone(),
        })
    }

    /// Copies words between memory at `address` and `length` bytes of the piece from `offset` on,
    /// which are within it.
    ///
    /// # Safety
    /// So much memory must be there, which is atomics to Rust.
    pub(super) unsafe fn exchange(
        &self,
        offset: u32,
        length: u32,
        address: u64,
        direction: Direction,
    ) {
        let end = offset.checked_add(length).filter(|&end| end <= self.length);
        assert!(end.is_some(), "{length} bytes at {offset} of {self:?}");
        let own = self.address + u64::from(offset);
        let (from, to) = match direction {
            Direction::ToPiece => (address, own),
            Direction::FromPiece => (own, address),
        };
        let words = u64::from(length / 8);
        // SAFETY: both are memory for so many words, by this function's contract and that of
        // `new`; what others write meanwhile is copied as it is found.
        unsafe {
            asm!("rep movsq", inout("rsi") from => _, inout("rdi") to => _, inout("rcx") words => _,
                options(nostack, preserves_flags));
        }
    }
}

/// Which way to copy.
#[derive(Clone, Copy, Debug)]
pub(super) enum Direction {
    ToPiece,
    FromPiece,
}
