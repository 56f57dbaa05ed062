//! Prefixes.

use super::code::{CodeSize, Cursor, Fetch, NoDecode};
use super::width::Width;

/// A segment register named by a prefix or implied by an instruction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Segment {
    /// Extra segment.
    Es,
    /// Code segment.
    Cs,
    /// Stack segment.
    Ss,
    /// Data segment.
    Ds,
    /// Has a base in 64-bit code too.
    Fs,
    /// Has a base in 64-bit code too.
    Gs,
}

/// A repeat prefix.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Repeat {
    /// F3.
    Equal,
    /// F2.
    NotEqual,
}

/// The REX prefix, if there is one directly in front of the opcode.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rex(Option<u8>);

impl Rex {
    /// Whether there is one, whatever its bits.
    #[must_use]
    pub const fn is_present(self) -> bool {
        self.0.is_some()
    }

    const fn bit(self, bit: u32) -> bool {
        match self.0 {
            Some(byte) => byte >> bit & 1 != 0,
            None => false,
        }
    }

    /// 64-bit operand size.
    #[must_use]
    pub const fn w(self) -> bool {
        self.bit(3)
    }

    /// What it adds to the number in ModRM.reg: 0 or 8.
    #[must_use]
    pub const fn r(self) -> u8 {
        if self.bit(2) { 8 } else { 0 }
    }

    /// What it adds to the number in SIB.index: 0 or 8.
    #[must_use]
    pub const fn x(self) -> u8 {
        if self.bit(1) { 8 } else { 0 }
    }

    /// What it adds to the number in ModRM.rm, SIB.base or the opcode: 0 or 8.
    #[must_use]
    pub const fn b(self) -> u8 {
        if self.bit(0) { 8 } else { 0 }
    }
}

/// Everything in front of the opcode.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Prefixes {
    /// 66 is among them.
    pub operand_size: bool,
    /// 67 is among them.
    pub address_size: bool,
    /// F0 is among them.
    pub lock: bool,
    /// The last of F2 and F3.
    pub repeat: Option<Repeat>,
    /// The last segment prefix; in 64-bit code only FS and GS count.
    pub segment: Option<Segment>,
    /// REX, in 64-bit code.
    pub rex: Rex,
}

impl Prefixes {
    /// Takes the prefixes and the opcode's first byte.
    pub(super) fn take<F: Fetch + ?Sized>(
        cursor: &mut Cursor<'_, F>,
        size: CodeSize,
    ) -> Result<(Self, u8), NoDecode> {
        let mut prefixes = Self::default();
        loop {
            let byte = cursor.byte()?;
            if size == CodeSize::Bits64 && byte & 0xf0 == 0x40 {
                prefixes.rex = Rex(Some(byte));
            } else if prefixes.add(byte, size) {
                // The processor ignores a REX that is not directly in front of the opcode.
                prefixes.rex = Rex(None);
            } else {
                return Ok((prefixes, byte));
            }
        }
    }

    /// Notes a legacy prefix. False if the byte is none.
    const fn add(&mut self, byte: u8, size: CodeSize) -> bool {
        match byte {
            0x66 => self.operand_size = true,
            0x67 => self.address_size = true,
            0xf0 => self.lock = true,
            0xf2 => self.repeat = Some(Repeat::NotEqual),
            0xf3 => self.repeat = Some(Repeat::Equal),
            0x64 => self.segment = Some(Segment::Fs),
            0x65 => self.segment = Some(Segment::Gs),
            0x26 | 0x2e | 0x36 | 0x3e => {
                if !matches!(size, CodeSize::Bits64) {
                    self.segment = Some(match byte {
                        0x26 => Segment::Es,
                        0x2e => Segment::Cs,
                        0x36 => Segment::Ss,
                        _ => Segment::Ds,
                    });
                }
            }
            _ => return false,
        }
        true
    }

    /// The operand size of an instruction whose opcode does not say "byte".
    #[must_use]
    pub const fn operand_width(&self, size: CodeSize) -> Width {
        match (size, self.operand_size) {
            (CodeSize::Bits64, _) if self.rex.w() => Width::B8,
            (CodeSize::Bits64 | CodeSize::Bits32, false) | (CodeSize::Bits16, true) => Width::B4,
            (CodeSize::Bits64 | CodeSize::Bits32, true) | (CodeSize::Bits16, false) => Width::B2,
        }
    }

    /// The size of addresses the instruction computes.
    #[must_use]
    pub const fn address_width(&self, size: CodeSize) -> Width {
        match (size, self.address_size) {
            (CodeSize::Bits64, false) => Width::B8,
            (CodeSize::Bits64, true) | (CodeSize::Bits32, false) | (CodeSize::Bits16, true) => {
                Width::B4
            }
            (CodeSize::Bits32, true) | (CodeSize::Bits16, false) => Width::B2,
        }
    }
}
