//! Software interrupts: which vector an instruction asks for.
//!
//! A gate that a guest may not use answers `int n` with `#GP` and error code `n * 8 + 2`, the
//! instruction pointer still at the instruction. QEMU 7.2's TCG gives `n * 16 + 2`, so that
//! `int 0x82` would be taken for `int 4`: the vector is read from the instruction instead.

use super::code::{CodeSize, Cursor, Fetch, NoDecode};
use super::prefix::Prefixes;

/// How the interrupt was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// `int n`.
    Int,
    /// `int3`, one byte.
    Int3,
    /// `into`, in 32-bit code only; interrupts if OF is set.
    Into,
    /// `icebp`: the debug exception.
    IceBp,
}

/// A software interrupt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SoftInterrupt {
    /// The instruction.
    pub form: Form,
    /// The vector it asks for.
    pub vector: u8,
    /// Its length in bytes.
    pub length: u8,
}

impl SoftInterrupt {
    /// The error code of the `#GP` a processor raises if the gate is not for this caller.
    #[must_use]
    pub const fn error_code(self) -> u32 {
        (self.vector as u32).wrapping_mul(8) | 2
    }
}

/// Recognises a software interrupt at the instruction pointer.
///
/// # Errors
///
/// [`NoDecode`] if there is another instruction, or it can't be read or is too long.
pub fn decode<F: Fetch + ?Sized>(size: CodeSize, source: &F) -> Result<SoftInterrupt, NoDecode> {
    let mut cursor = Cursor::new(source);
    let (prefixes, opcode) = Prefixes::take(&mut cursor, size)?;
    let (form, vector) = match opcode {
        0xcc => (Form::Int3, 3),
        0xcd => (Form::Int, cursor.byte()?),
        0xce if size != CodeSize::Bits64 => (Form::Into, 4),
        0xf1 => (Form::IceBp, 1),
        _ => return Err(NoDecode::NotOurs),
    };
    if prefixes.lock {
        return Err(NoDecode::NotOurs);
    }
    Ok(SoftInterrupt { form, vector, length: cursor.taken() })
}
