//! The bytes of an instruction and the mode they are decoded in.

use super::width::Width;

/// Longest instruction the processor accepts, in bytes.
pub const MAX_LENGTH: u8 = 15;

/// Where the bytes of an instruction come from.
pub trait Fetch {
    /// The byte `offset` bytes behind the instruction pointer; `None` if it can't be read.
    ///
    /// Asked for ascending offsets below [`MAX_LENGTH`], each once.
    fn byte(&self, offset: u8) -> Option<u8>;
}

impl<F: Fn(u8) -> Option<u8>> Fetch for F {
    fn byte(&self, offset: u8) -> Option<u8> {
        self(offset)
    }
}

/// Default sizes of a code segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CodeSize {
    /// L set: 64-bit code.
    Bits64,
    /// L clear, D set: compatibility mode, 32-bit defaults.
    Bits32,
    /// L and D clear: compatibility mode, 16-bit defaults.
    Bits16,
}

impl CodeSize {
    /// The address behind an instruction of `length` bytes at `rip`.
    #[must_use]
    pub fn next(self, rip: u64, length: u8) -> u64 {
        let next = rip.wrapping_add(u64::from(length));
        match self {
            Self::Bits64 => next,
            Self::Bits32 => next & Width::B4.mask(),
            Self::Bits16 => next & Width::B2.mask(),
        }
    }
}

/// Why bytes are not one of the instructions looked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoDecode {
    /// Another instruction, or none at all.
    NotOurs,
    /// One of them with a LOCK that makes it undefined.
    Locked,
    /// The byte at this offset from the instruction pointer can't be read.
    Unreadable(u8),
    /// Still incomplete after [`MAX_LENGTH`] bytes.
    TooLong,
}

/// Takes an instruction's bytes one by one and counts them.
pub(super) struct Cursor<'a, F: ?Sized> {
    source: &'a F,
    taken: u8,
}

impl<'a, F: Fetch + ?Sized> Cursor<'a, F> {
    pub(super) const fn new(source: &'a F) -> Self {
        Self { source, taken: 0 }
    }

    /// How many bytes were taken: an instruction's length once it is decoded.
    pub(super) const fn taken(&self) -> u8 {
        self.taken
    }

    pub(super) fn byte(&mut self) -> Result<u8, NoDecode> {
        if self.taken >= MAX_LENGTH {
            return Err(NoDecode::TooLong);
        }
        let byte = self.source.byte(self.taken).ok_or(NoDecode::Unreadable(self.taken))?;
        self.taken = self.taken.wrapping_add(1);
        Ok(byte)
    }

    /// A little-endian number of this width, zero-extended.
    pub(super) fn unsigned(&mut self, width: Width) -> Result<u64, NoDecode> {
        let mut bytes = [0; 8];
        for byte in bytes.iter_mut().take(width.bytes()) {
            *byte = self.byte()?;
        }
        Ok(u64::from_le_bytes(bytes))
    }

    /// A little-endian number of this width, sign-extended to 64 bits.
    pub(super) fn signed(&mut self, width: Width) -> Result<u64, NoDecode> {
        Ok(width.sign_extend(self.unsigned(width)?))
    }

    /// An immediate of an instruction with this operand size: at most 4 bytes, sign-extended.
    pub(super) fn immediate(&mut self, operand: Width) -> Result<u64, NoDecode> {
        let encoded = if operand == Width::B8 { Width::B4 } else { operand };
        self.signed(encoded)
    }
}
