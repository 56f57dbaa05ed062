//! ModRM, SIB and displacement: where an instruction's memory operand is.

use crate::regs::GuestRegs;

use super::code::{CodeSize, Cursor, Fetch, NoDecode};
use super::prefix::{Prefixes, Segment};
use super::register::Gpr;
use super::width::Width;

/// Bases of the segments that have one in 64-bit code.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SegmentBases {
    /// Base of FS.
    pub fs: u64,
    /// Base of GS.
    pub gs: u64,
}

/// Where the address computation starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Base {
    /// At 0.
    None,
    /// At a register.
    Register(Gpr),
    /// At the address of the next instruction.
    NextInstruction,
}

/// A memory operand, addresses of 4 or 8 bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MemoryOperand {
    /// Segment its address is relative to.
    pub segment: Segment,
    /// First summand.
    pub base: Base,
    /// Index register and the power of two it is multiplied with.
    pub index: Option<(Gpr, u8)>,
    /// Last summand, sign-extended.
    pub displacement: u64,
    /// Size to which the sum is truncated.
    pub address: Width,
}

impl MemoryOperand {
    /// The operand's linear address, `adjustment` bytes behind what the instruction encodes; the
    /// adjustment takes part in the truncation.
    ///
    /// In compatibility mode segments are taken as flat.
    #[must_use]
    pub fn linear(
        &self,
        regs: &GuestRegs,
        bases: SegmentBases,
        size: CodeSize,
        next_rip: u64,
        adjustment: u64,
    ) -> u64 {
        let base = match self.base {
            Base::None => 0,
            Base::Register(register) => register.read(regs),
            Base::NextInstruction => next_rip,
        };
        let index = match self.index {
            Some((register, shift)) => register.read(regs).wrapping_shl(u32::from(shift)),
            None => 0,
        };
        let sum = base.wrapping_add(index).wrapping_add(self.displacement);
        let offset = sum.wrapping_add(adjustment) & self.address.mask();
        let segment = match self.segment {
            Segment::Fs => bases.fs,
            Segment::Gs => bases.gs,
            Segment::Es | Segment::Cs | Segment::Ss | Segment::Ds => 0,
        };
        let linear = offset.wrapping_add(segment);
        if size == CodeSize::Bits64 { linear } else { linear & Width::B4.mask() }
    }

    /// The operand a register points to.
    pub(super) const fn at(segment: Segment, register: Gpr, address: Width) -> Self {
        Self { segment, base: Base::Register(register), index: None, displacement: 0, address }
    }

    /// An operand whose address the instruction holds in full (`mov` with a memory offset).
    pub(super) fn absolute<F: Fetch + ?Sized>(
        cursor: &mut Cursor<'_, F>,
        prefixes: Prefixes,
        size: CodeSize,
    ) -> Result<Self, NoDecode> {
        let address = long_enough(prefixes, size)?;
        Ok(Self {
            segment: prefixes.segment.unwrap_or(Segment::Ds),
            base: Base::None,
            index: None,
            displacement: cursor.unsigned(address)?,
            address,
        })
    }
}

/// What ModRM.rm names: always memory, since this decoder has no use for register forms.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ModRm {
    /// ModRM.reg without what REX adds: an opcode extension, or a register's low bits.
    pub(super) reg: u8,
    /// The memory operand.
    pub(super) memory: MemoryOperand,
}

impl ModRm {
    /// Takes ModRM, SIB and displacement. Register forms and 16-bit addresses are not ours.
    pub(super) fn take<F: Fetch + ?Sized>(
        cursor: &mut Cursor<'_, F>,
        prefixes: Prefixes,
        size: CodeSize,
    ) -> Result<Self, NoDecode> {
        let address = long_enough(prefixes, size)?;
        let byte = cursor.byte()?;
        let (mode, reg, rm) = (byte >> 6, byte >> 3 & 7, byte & 7);
        let (mut base, mut index) = (Base::Register(Gpr::new(rm | prefixes.rex.b())), None);
        // The low bits alone decide what needs a SIB byte or has no base register, with REX too.
        let mut low = rm;
        if mode == 3 {
            return Err(NoDecode::NotOurs);
        }
        if rm == 4 {
            let sib = cursor.byte()?;
            low = sib & 7;
            base = Base::Register(Gpr::new(low | prefixes.rex.b()));
            let number = sib >> 3 & 7 | prefixes.rex.x();
            // Index 4 without REX.X is "none"; 12 is r12.
            index = (number != 4).then(|| (Gpr::new(number), sib >> 6));
        }
        let displacement = match mode {
            1 => cursor.signed(Width::B1)?,
            2 => cursor.signed(Width::B4)?,
            _ if low == 5 => {
                let relative = rm == 5 && size == CodeSize::Bits64;
                base = if relative { Base::NextInstruction } else { Base::None };
                cursor.signed(Width::B4)?
            }
            _ => 0,
        };
        let segment = prefixes.segment.unwrap_or(default_segment(base));
        Ok(Self { reg, memory: MemoryOperand { segment, base, index, displacement, address } })
    }
}

/// Addresses relative to the stack or frame pointer are in the stack segment.
fn default_segment(base: Base) -> Segment {
    match base {
        Base::Register(register) if matches!(register.number(), 4 | 5) => Segment::Ss,
        Base::None | Base::Register(_) | Base::NextInstruction => Segment::Ds,
    }
}

fn long_enough(prefixes: Prefixes, size: CodeSize) -> Result<Width, NoDecode> {
    match prefixes.address_width(size) {
        Width::B1 | Width::B2 => Err(NoDecode::NotOurs),
        address @ (Width::B4 | Width::B8) => Ok(address),
    }
}
