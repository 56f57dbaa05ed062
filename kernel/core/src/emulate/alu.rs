//! Arithmetic with the flags a processor computes.

use super::width::Width;

/// Bits of RFLAGS.
pub mod flag {
    /// Carry.
    pub const CF: u64 = 1 << 0;
    /// Parity of the low byte.
    pub const PF: u64 = 1 << 2;
    /// Carry out of bit 3.
    pub const AF: u64 = 1 << 4;
    /// Zero.
    pub const ZF: u64 = 1 << 6;
    /// Sign.
    pub const SF: u64 = 1 << 7;
    /// Trap: a debug exception behind each instruction.
    pub const TF: u64 = 1 << 8;
    /// Direction of string instructions.
    pub const DF: u64 = 1 << 10;
    /// Signed overflow.
    pub const OF: u64 = 1 << 11;
    /// Resume: no instruction breakpoint on the next instruction.
    pub const RF: u64 = 1 << 16;
    /// The six flags arithmetic sets.
    pub const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;
}

/// An operation with two operands; the numbers are those of the encoding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Binary {
    /// `add`
    Add,
    /// `or`
    Or,
    /// `adc`
    AddCarry,
    /// `sbb`
    SubBorrow,
    /// `and`
    And,
    /// `sub`
    Sub,
    /// `xor`
    Xor,
}

impl Binary {
    /// The operation with this number; 7 is `cmp`, which writes nothing.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Add,
            1 => Self::Or,
            2 => Self::AddCarry,
            3 => Self::SubBorrow,
            4 => Self::And,
            5 => Self::Sub,
            6 => Self::Xor,
            _ => return None,
        })
    }
}

/// An operation with one operand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unary {
    /// `inc`
    Inc,
    /// `dec`
    Dec,
    /// `not`
    Not,
    /// `neg`
    Neg,
}

/// What becomes of a tested bit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BitChange {
    /// `bts`
    Set,
    /// `btr`
    Reset,
    /// `btc`
    Complement,
}

/// A result and the flags as they are then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Computed {
    /// The result, zero-extended.
    pub value: u64,
    /// All of RFLAGS.
    pub rflags: u64,
}

/// Two operands. AF, undefined in the manuals after a logical operation, is cleared as processors
/// do.
#[must_use]
pub const fn binary(kind: Binary, width: Width, left: u64, right: u64, rflags: u64) -> Computed {
    let carry = rflags & flag::CF;
    match kind {
        Binary::Add => add(width, left, right, 0, rflags),
        Binary::AddCarry => add(width, left, right, carry, rflags),
        Binary::Sub => sub(width, left, right, 0, rflags),
        Binary::SubBorrow => sub(width, left, right, carry, rflags),
        Binary::And => logic(width, left & right, rflags),
        Binary::Or => logic(width, left | right, rflags),
        Binary::Xor => logic(width, left ^ right, rflags),
    }
}

/// One operand.
#[must_use]
pub const fn unary(kind: Unary, width: Width, operand: u64, rflags: u64) -> Computed {
    let carry = rflags & flag::CF;
    match kind {
        Unary::Inc => keep_carry(add(width, operand, 1, 0, rflags), carry),
        Unary::Dec => keep_carry(sub(width, operand, 1, 0, rflags), carry),
        Unary::Not => Computed { value: !operand & width.mask(), rflags },
        Unary::Neg => sub(width, 0, operand, 0, rflags),
    }
}

/// Changes bit `bit` (below the width) and puts what it was in CF; other flags stay.
#[must_use]
pub const fn bit(change: BitChange, operand: u64, bit: u32, rflags: u64) -> Computed {
    let mask = 1_u64.wrapping_shl(bit);
    let value = match change {
        BitChange::Set => operand | mask,
        BitChange::Reset => operand & !mask,
        BitChange::Complement => operand ^ mask,
    };
    let carry = if operand & mask == 0 { 0 } else { flag::CF };
    Computed { value, rflags: rflags & !flag::CF | carry }
}

/// The flags of `cmp`: the difference without its value.
#[must_use]
pub const fn compare(width: Width, left: u64, right: u64, rflags: u64) -> u64 {
    sub(width, left, right, 0, rflags).rflags
}

const fn add(width: Width, left: u64, right: u64, carry: u64, rflags: u64) -> Computed {
    let value = left.wrapping_add(right).wrapping_add(carry) & width.mask();
    let carries = left & right | (left | right) & !value;
    let overflow = (left ^ value) & (right ^ value);
    arithmetic(width, value, carries, overflow, left ^ right ^ value, rflags)
}

const fn sub(width: Width, left: u64, right: u64, borrow: u64, rflags: u64) -> Computed {
    let value = left.wrapping_sub(right).wrapping_sub(borrow) & width.mask();
    let borrows = !left & right | (!left | right) & value;
    let overflow = (left ^ right) & (left ^ value);
    arithmetic(width, value, borrows, overflow, left ^ right ^ value, rflags)
}

/// Flags from the carries out of each bit, the overflow in the sign bit, and the auxiliary carry
/// in bit 4.
const fn arithmetic(
    width: Width,
    value: u64,
    carries: u64,
    overflow: u64,
    auxiliary: u64,
    rflags: u64,
) -> Computed {
    let mut flags = of_result(width, value) | auxiliary & flag::AF;
    if carries & width.sign() != 0 {
        flags |= flag::CF;
    }
    if overflow & width.sign() != 0 {
        flags |= flag::OF;
    }
    Computed { value, rflags: rflags & !flag::ARITHMETIC | flags }
}

const fn logic(width: Width, value: u64, rflags: u64) -> Computed {
    let value = value & width.mask();
    Computed { value, rflags: rflags & !flag::ARITHMETIC | of_result(width, value) }
}

/// ZF, SF and PF.
const fn of_result(width: Width, value: u64) -> u64 {
    let mut flags = 0;
    if value == 0 {
        flags |= flag::ZF;
    }
    if value & width.sign() != 0 {
        flags |= flag::SF;
    }
    if (value & 0xff).count_ones() & 1 == 0 {
        flags |= flag::PF;
    }
    flags
}

const fn keep_carry(computed: Computed, carry: u64) -> Computed {
    Computed { value: computed.value, rflags: computed.rflags & !flag::CF | carry }
}
