//! The forced-emulation prefix: `ud2` followed by "xen".
//!
//! Measured on Xen 4.17: only a bare `cpuid` (0f a2, no prefix of its own) may follow, in kernel
//! and in user mode; anything else is the `#UD` it looks like.

use super::code::{Cursor, Fetch, NoDecode};
use super::privileged::{Decoded, Instruction};

/// The prefix and the only instruction it applies to.
const FORCED_CPUID: [u8; 7] = [0x0f, 0x0b, b'x', b'e', b'n', 0x0f, 0xa2];

/// Recognises an instruction behind the prefix; the length includes the prefix.
///
/// # Errors
///
/// [`NoDecode`] if there is something else, or it can't be read.
pub fn decode<F: Fetch + ?Sized>(source: &F) -> Result<Decoded, NoDecode> {
    let mut cursor = Cursor::new(source);
    for expected in FORCED_CPUID {
        if cursor.byte()? != expected {
            return Err(NoDecode::NotOurs);
        }
    }
    Ok(Decoded { instruction: Instruction::CpuId, length: cursor.taken() })
}
