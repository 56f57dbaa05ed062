//! The code segment a guest runs in, for decoding its instructions.

use hypercall_abi::layout::{FIRST_RESERVED_GDT_ENTRY, FLAT_RING3_CS32};

use crate::emulate::code::CodeSize;
use crate::guest_memory::GuestRange;
use crate::platform::Platform;
use crate::system::Context;

/// Bits of a code descriptor: 64-bit code; 32-bit defaults.
const LONG: u64 = 1 << 53;
const DEFAULT_32: u64 = 1 << 54;

/// What decoding needs to know of a code segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct CodeSegment {
    /// Defaults of its instructions.
    pub(crate) size: CodeSize,
    /// Where it begins; 0 for 64-bit code, whatever its descriptor says.
    base: u64,
}

impl CodeSegment {
    const fn of(descriptor: u64) -> Self {
        let base = (descriptor >> 16) & 0xff_ffff | (descriptor >> 32) & 0xff00_0000;
        if descriptor & LONG != 0 {
            Self { size: CodeSize::Bits64, base: 0 }
        } else if descriptor & DEFAULT_32 != 0 {
            Self { size: CodeSize::Bits32, base }
        } else {
            Self { size: CodeSize::Bits16, base }
        }
    }

    /// Linear address of a byte of its code.
    fn linear(self, rip: u64, offset: u8) -> u64 {
        let at = rip.wrapping_add(u64::from(offset));
        if self.size == CodeSize::Bits64 { at } else { self.base.wrapping_add(at) & 0xffff_ffff }
    }
}

impl<P: Platform> Context<'_, P> {
    /// The code segment that the registers name.
    #[inline]
    pub(crate) fn code_segment(&self) -> CodeSegment {
        if self.regs.is_flat_64() {
            return CodeSegment { size: CodeSize::Bits64, base: 0 };
        }
        let [low, high, ..] = self.regs.cs.to_le_bytes();
        let selector = u16::from_le_bytes([low, high]);
        let is_reserved = u32::from(selector >> 3) >= FIRST_RESERVED_GDT_ENTRY;
        let descriptor = match self.descriptor(selector) {
            _ if selector == FLAT_RING3_CS32 => DEFAULT_32,
            Some(descriptor) if !is_reserved || selector & 4 != 0 => descriptor,
            // The only other reserved code segment is the flat one for 64 bits.
            _ => LONG,
        };
        CodeSegment::of(descriptor)
    }

    /// A byte of the guest's code; `None` if it can't be read.
    pub(crate) fn fetch_byte(&self, segment: CodeSegment, rip: u64, offset: u8) -> Option<u8> {
        let mut byte = [0];
        let range = GuestRange::new(segment.linear(rip, offset), 1).ok()?;
        self.system.platform.read_guest(range, &mut byte).ok()?;
        let [byte] = byte;
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_taken_apart() {
        let flat = CodeSegment::of(0x00af_fb00_0000_ffff);
        assert_eq!((flat.size, flat.linear(1 << 40, 2)), (CodeSize::Bits64, (1 << 40) + 2));
        let based = CodeSegment::of(0x12cf_fb34_5678_ffff);
        assert_eq!((based.size, based.base), (CodeSize::Bits32, 0x1234_5678));
        assert_eq!(based.linear(0xffff_ffff, 1), 0x1234_5678);
        assert_eq!(CodeSegment::of(0x008f_fb00_0000_ffff).size, CodeSize::Bits16);
    }
}
