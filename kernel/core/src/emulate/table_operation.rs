//! What an instruction does to the value in memory.

use super::alu::{self, Binary, BitChange, Computed, Unary, flag};
use super::register::{Gpr, RegisterOperand};
use super::width::Width;

/// An operation on memory, with the values its other operands had when it was decoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// Stores a value: `mov`, `movnti`.
    Store(u64),
    /// Stores a value and moves on: `stos`. The address size, and whether rcx counts.
    StoreString(u64, Width, Repeated),
    /// Swaps with a register, which had this value: `xchg`.
    Exchange(RegisterOperand, u64),
    /// Adds a register, which had this value, and gives it the old value: `xadd`.
    ExchangeAdd(RegisterOperand, u64),
    /// Combines with a value.
    Binary(Binary, u64),
    /// Changes in place.
    Unary(Unary),
    /// Changes one bit, counted within the operand.
    Bit(BitChange, u32),
    /// Stores a value if the memory holds the expected one, else loads the accumulator:
    /// `cmpxchg`.
    CompareExchange {
        /// What the accumulator had.
        expected: u64,
        /// What is stored if the memory holds that.
        new: u64,
    },
    /// The same with edx:eax and ecx:ebx: `cmpxchg8b`.
    CompareExchangePair {
        /// What edx:eax had.
        expected: u64,
        /// What ecx:ebx had.
        new: u64,
    },
}

/// Whether a string instruction has a repeat prefix.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Repeated {
    /// One element.
    No,
    /// As many elements as rcx says.
    Yes,
}

/// What the operation does to registers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RegisterEffect {
    /// Nothing.
    None,
    /// Writes one operand.
    Write(RegisterOperand, u64),
    /// Writes eax and edx.
    WritePair(u64),
}

/// What an operation comes to when the memory holds a certain value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Effect {
    /// New value of the operand, zero-extended.
    pub value: u64,
    /// All of RFLAGS behind the instruction.
    pub rflags: u64,
    /// What registers become.
    pub register: RegisterEffect,
}

impl Operation {
    /// What happens if the operand holds `old` (zero-extended) and the flags are `rflags`.
    #[must_use]
    pub fn effect(self, width: Width, old: u64, rflags: u64) -> Effect {
        match self {
            Self::Store(value) | Self::StoreString(value, ..) => {
                Effect { value: value & width.mask(), rflags, register: RegisterEffect::None }
            }
            Self::Exchange(operand, value) => {
                Effect { value, rflags, register: RegisterEffect::Write(operand, old) }
            }
            Self::ExchangeAdd(operand, value) => {
                let computed = alu::binary(Binary::Add, width, old, value, rflags);
                Effect { register: RegisterEffect::Write(operand, old), ..computed.into() }
            }
            Self::Binary(kind, value) => alu::binary(kind, width, old, value, rflags).into(),
            Self::Unary(kind) => alu::unary(kind, width, old, rflags).into(),
            Self::Bit(change, bit) => alu::bit(change, old, bit, rflags).into(),
            Self::CompareExchange { expected, new } => {
                let rflags = alu::compare(width, expected, old, rflags);
                let accumulator = RegisterOperand::low(Gpr::RAX, width);
                let loaded = RegisterEffect::Write(accumulator, old);
                compare_exchange(old == expected, old, new, rflags, loaded)
            }
            Self::CompareExchangePair { expected, new } => {
                let equal = if old == expected { flag::ZF } else { 0 };
                let rflags = rflags & !flag::ZF | equal;
                compare_exchange(old == expected, old, new, rflags, RegisterEffect::WritePair(old))
            }
        }
    }
}

/// The memory is written in both cases: with its own value if the comparison failed.
const fn compare_exchange(
    equal: bool,
    old: u64,
    new: u64,
    rflags: u64,
    loaded: RegisterEffect,
) -> Effect {
    if equal {
        Effect { value: new, rflags, register: RegisterEffect::None }
    } else {
        Effect { value: old, rflags, register: loaded }
    }
}

impl From<Computed> for Effect {
    fn from(computed: Computed) -> Self {
        let Computed { value, rflags } = computed;
        Self { value, rflags, register: RegisterEffect::None }
    }
}
