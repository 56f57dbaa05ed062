//! Instructions that write one entry of a page table.
//!
//! A guest kernel maps its level-1 tables read-only, and may write to them all the same: the page
//! fault becomes a validated update of the entry. [`decode`] says what the instruction would do,
//! [`TableWrite::apply`] what comes of it for the entry's present value; the caller validates the
//! new value, puts it in place by compare-and-swap (calling `apply` again if the entry had
//! changed), and ends with [`TableWrite::retire`]. Each entry is written in one piece whether the
//! instruction has LOCK or not, which is more than is promised.
//!
//! Measured on Xen 4.17: every instruction below is emulated, in 64-bit and in 32-bit code, with
//! and without LOCK; 1, 2, 4 and 8 bytes at an address that is a multiple of the size, other bytes
//! of the entry unchanged. At other addresses, and where the new value is refused, the kernel gets
//! its page fault. `rep stos` goes on element by element; TF gives `#DB` behind each element.
//!
//! | | |
//! |--|--|
//! | store | `mov` from register, immediate and to a memory offset; `movnti`; `stos`, `rep stos` |
//! | exchange | `xchg`, `xadd`, `cmpxchg`, `cmpxchg8b` |
//! | change | `add` `or` `adc` `sbb` `and` `sub` `xor` `inc` `dec` `not` `neg` |
//! | bits | `bts` `btr` `btc`, bit number in a register or immediate |
//!
//! Xen emulates a few more that nobody uses on page tables: `movs`, `pop`, `setcc`, `cmpxchg16b`,
//! shifts and rotates. 16-bit addressing is not decoded either. For these the kernel gets its page fault.

use crate::regs::GuestRegs;

use super::alu::{Binary, BitChange, Unary, flag};
use super::code::{CodeSize, Cursor, Fetch, NoDecode};
use super::execute::After;
use super::memory_operand::{MemoryOperand, ModRm, SegmentBases};
use super::prefix::{Prefixes, Segment};
use super::register::{Gpr, RegisterOperand};
use super::table_operation::{Effect, Operation, RegisterEffect, Repeated};
use super::width::Width;

/// The state in which a write faulted.
#[derive(Clone, Copy, Debug)]
pub struct Faulting<'a> {
    /// Mode of the code segment.
    pub size: CodeSize,
    /// Registers at the fault.
    pub regs: &'a GuestRegs,
    /// Bases of FS and GS at the fault.
    pub bases: SegmentBases,
    /// The linear address that faulted.
    pub address: u64,
}

/// A write to one aligned 8-byte entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TableWrite {
    /// What is done.
    pub operation: Operation,
    /// Linear address of the operand, a multiple of the width.
    pub address: u64,
    /// Size of the operand.
    pub width: Width,
    /// Where the guest continues.
    next_rip: u64,
    /// Flags before the instruction.
    rflags: u64,
}

/// An entry's new value and what becomes of the registers once it is in place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Applied {
    /// The entry's new value; the old one where the instruction changes nothing.
    pub new: u64,
    effect: Effect,
}

/// Recognises the instruction that wrote to [`Faulting::address`].
///
/// # Errors
///
/// [`NoDecode`] if it is not of the list, its operand is elsewhere or not aligned to its size, or
/// its bytes can't be read.
pub fn decode<F: Fetch + ?Sized>(at: &Faulting<'_>, source: &F) -> Result<TableWrite, NoDecode> {
    let write = recognise(at, source)?;
    if write.address == at.address && write.width.is_aligned(write.address) {
        Ok(write)
    } else {
        Err(NoDecode::NotOurs)
    }
}

/// Recognises an instruction of the list, wherever it writes to.
///
/// # Errors
///
/// [`NoDecode`] if it is not of the list, or its bytes can't be read.
pub fn recognise<F: Fetch + ?Sized>(at: &Faulting<'_>, source: &F) -> Result<TableWrite, NoDecode> {
    let mut cursor = Cursor::new(source);
    let (prefixes, opcode) = Prefixes::take(&mut cursor, at.size)?;
    let mut decoder = Decoder { cursor, prefixes, regs: at.regs, size: at.size };
    let found = decoder.instruction(opcode)?;
    if prefixes.lock && !found.lockable() {
        return Err(NoDecode::NotOurs);
    }
    let Found { operation, memory, adjustment, width } = found;
    let next_rip = at.size.next(at.regs.rip, decoder.cursor.taken());
    let address = memory.linear(at.regs, at.bases, at.size, next_rip, adjustment);
    Ok(TableWrite { operation, address, width, next_rip, rflags: at.regs.rflags })
}

impl TableWrite {
    /// Linear address of the entry that contains the operand.
    #[must_use]
    pub const fn entry_address(&self) -> u64 {
        self.address & !7
    }

    /// Whether the instruction stores without looking at what was there.
    #[must_use]
    pub const fn is_store(&self) -> bool {
        is_store(self.operation)
    }

    /// What the instruction makes of an entry that holds `old`.
    #[must_use]
    pub fn apply(&self, old: u64) -> Applied {
        // At most 7 bytes, and aligned: the operand ends inside the entry.
        let shift = u32::from(self.address.to_le_bytes()[0] & 7).wrapping_mul(8);
        let mask = self.width.mask().wrapping_shl(shift);
        let operand = old.wrapping_shr(shift) & self.width.mask();
        let effect = self.operation.effect(self.width, operand, self.rflags);
        Applied { new: old & !mask | effect.value.wrapping_shl(shift) & mask, effect }
    }

    /// Moves the guest behind the instruction, once the new value is in place.
    pub fn retire(&self, regs: &mut GuestRegs, applied: &Applied) -> After {
        let Effect { rflags, register, .. } = applied.effect;
        match register {
            RegisterEffect::None => {}
            RegisterEffect::Write(operand, value) => operand.write(regs, value),
            RegisterEffect::WritePair(value) => {
                Gpr::RAX.write(regs, Width::B4, value);
                Gpr::RDX.write(regs, Width::B4, value >> 32);
            }
        }
        let mut done = true;
        if let Operation::StoreString(_, address, repeated) = self.operation {
            step(regs, Gpr::RDI, address, self.width);
            if repeated == Repeated::Yes {
                let left = (Gpr::RCX.read(regs) & address.mask()).wrapping_sub(1);
                Gpr::RCX.write(regs, address, left);
                done = left == 0;
            }
        }
        if done {
            regs.rip = self.next_rip;
        }
        regs.rflags = rflags & !flag::RF;
        After::of(regs)
    }
}

/// Moves an index register by one element, in the direction DF gives.
pub(super) const fn step(regs: &mut GuestRegs, index: Gpr, address: Width, element: Width) {
    let size = element.bytes() as u64;
    let at = index.read(regs);
    let next =
        if regs.rflags & flag::DF == 0 { at.wrapping_add(size) } else { at.wrapping_sub(size) };
    index.write(regs, address, next);
}

/// An instruction before its address is known.
struct Found {
    operation: Operation,
    memory: MemoryOperand,
    /// Bytes between the encoded address and the operand: bit strings reach beyond it.
    adjustment: u64,
    width: Width,
}

impl Found {
    const fn new(operation: Operation, memory: MemoryOperand, width: Width) -> Self {
        Self { operation, memory, adjustment: 0, width }
    }

    /// LOCK in front of a plain store is an invalid opcode.
    const fn lockable(&self) -> bool {
        !is_store(self.operation)
    }
}

struct Decoder<'a, F: ?Sized> {
    cursor: Cursor<'a, F>,
    prefixes: Prefixes,
    regs: &'a GuestRegs,
    size: CodeSize,
}

impl<F: Fetch + ?Sized> Decoder<'_, F> {
    fn instruction(&mut self, opcode: u8) -> Result<Found, NoDecode> {
        let width = self.width(opcode);
        match opcode {
            0x00..=0x3f if opcode & 7 < 2 => {
                let kind = Binary::from_number(opcode >> 3).ok_or(NoDecode::NotOurs)?;
                self.with_register(width, |_, value| Operation::Binary(kind, value))
            }
            0x80 | 0x81 | 0x83 => self.binary_immediate(opcode, width),
            0x82 if self.size != CodeSize::Bits64 => self.binary_immediate(opcode, width),
            0x86 | 0x87 => self.with_register(width, Operation::Exchange),
            0x88 | 0x89 => self.with_register(width, |_, value| Operation::Store(value)),
            0xa2 | 0xa3 => {
                let memory = MemoryOperand::absolute(&mut self.cursor, self.prefixes, self.size)?;
                Ok(Found::new(Operation::Store(self.accumulator(width)), memory, width))
            }
            0xaa | 0xab => self.store_string(width),
            0xc6 | 0xc7 => {
                let ModRm { reg, memory } = self.modrm()?;
                let value = self.cursor.immediate(width)?;
                if reg != 0 {
                    return Err(NoDecode::NotOurs);
                }
                Ok(Found::new(Operation::Store(value), memory, width))
            }
            0xf6 | 0xf7 | 0xfe | 0xff => {
                let ModRm { reg, memory } = self.modrm()?;
                let kind = match (opcode, reg) {
                    (0xf6 | 0xf7, 2) => Unary::Not,
                    (0xf6 | 0xf7, 3) => Unary::Neg,
                    (0xfe | 0xff, 0) => Unary::Inc,
                    (0xfe | 0xff, 1) => Unary::Dec,
                    _ => return Err(NoDecode::NotOurs),
                };
                Ok(Found::new(Operation::Unary(kind), memory, width))
            }
            0x0f => self.two_byte(),
            _ => Err(NoDecode::NotOurs),
        }
    }

    fn two_byte(&mut self) -> Result<Found, NoDecode> {
        let opcode = self.cursor.byte()?;
        let width = self.width(opcode);
        let word = self.prefixes.operand_width(self.size);
        match opcode {
            0xab => self.bit_in_register(BitChange::Set, word),
            0xb3 => self.bit_in_register(BitChange::Reset, word),
            0xbb => self.bit_in_register(BitChange::Complement, word),
            0xba => self.bit_immediate(word),
            0xb0 | 0xb1 => {
                let expected = self.accumulator(width);
                self.with_register(width, |_, new| Operation::CompareExchange { expected, new })
            }
            0xc0 | 0xc1 => self.with_register(width, Operation::ExchangeAdd),
            0xc3 if !self.prefixes.operand_size && self.prefixes.repeat.is_none() => {
                // Its operand size does not depend on the mode's default.
                let width = if self.prefixes.rex.w() { Width::B8 } else { Width::B4 };
                self.with_register(width, |_, value| Operation::Store(value))
            }
            0xc7 if !self.prefixes.rex.w() => {
                let ModRm { reg, memory } = self.modrm()?;
                if reg != 1 {
                    return Err(NoDecode::NotOurs);
                }
                let expected = pair(self.regs.rdx, self.regs.rax);
                let new = pair(self.regs.rcx, self.regs.rbx);
                let operation = Operation::CompareExchangePair { expected, new };
                Ok(Found::new(operation, memory, Width::B8))
            }
            _ => Err(NoDecode::NotOurs),
        }
    }

    /// Even opcodes work on bytes.
    fn width(&self, opcode: u8) -> Width {
        if opcode & 1 == 0 { Width::B1 } else { self.prefixes.operand_width(self.size) }
    }

    fn accumulator(&self, width: Width) -> u64 {
        RegisterOperand::low(Gpr::RAX, width).read(self.regs)
    }

    fn modrm(&mut self) -> Result<ModRm, NoDecode> {
        ModRm::take(&mut self.cursor, self.prefixes, self.size)
    }

    fn with_register(
        &mut self,
        width: Width,
        operation: impl FnOnce(RegisterOperand, u64) -> Operation,
    ) -> Result<Found, NoDecode> {
        let ModRm { reg, memory } = self.modrm()?;
        let rex = self.prefixes.rex;
        let operand = RegisterOperand::new(reg | rex.r(), width, rex);
        Ok(Found::new(operation(operand, operand.read(self.regs)), memory, width))
    }

    fn binary_immediate(&mut self, opcode: u8, width: Width) -> Result<Found, NoDecode> {
        let ModRm { reg, memory } = self.modrm()?;
        let value = match opcode {
            0x83 => self.cursor.signed(Width::B1)?,
            _ => self.cursor.immediate(width)?,
        };
        let kind = Binary::from_number(reg).ok_or(NoDecode::NotOurs)?;
        Ok(Found::new(Operation::Binary(kind, value & width.mask()), memory, width))
    }

    /// The bit number is signed and counts from the encoded address on, in both directions; memory
    /// is accessed in units of the operand size.
    fn bit_in_register(&mut self, change: BitChange, width: Width) -> Result<Found, NoDecode> {
        let ModRm { reg, memory } = self.modrm()?;
        let number = Gpr::new(reg | self.prefixes.rex.r()).read(self.regs);
        let offset = width.sign_extend(number).cast_signed();
        let unit = offset.wrapping_shr(width.bits().trailing_zeros());
        let adjustment = unit.wrapping_shl(width.bytes().trailing_zeros()).cast_unsigned();
        let operation = Operation::Bit(change, bit_number(number, width));
        Ok(Found { operation, memory, adjustment, width })
    }

    fn bit_immediate(&mut self, width: Width) -> Result<Found, NoDecode> {
        let ModRm { reg, memory } = self.modrm()?;
        let number = self.cursor.byte()?;
        let change = match reg {
            5 => BitChange::Set,
            6 => BitChange::Reset,
            7 => BitChange::Complement,
            _ => return Err(NoDecode::NotOurs),
        };
        let operation = Operation::Bit(change, bit_number(u64::from(number), width));
        Ok(Found::new(operation, memory, width))
    }

    fn store_string(&self, width: Width) -> Result<Found, NoDecode> {
        let address = self.prefixes.address_width(self.size);
        if matches!(address, Width::B1 | Width::B2) {
            return Err(NoDecode::NotOurs);
        }
        let repeated = match self.prefixes.repeat {
            Some(_) => Repeated::Yes,
            None => Repeated::No,
        };
        if repeated == Repeated::Yes && self.regs.rcx & address.mask() == 0 {
            return Err(NoDecode::NotOurs);
        }
        let memory = MemoryOperand::at(Segment::Es, Gpr::RDI, address);
        let value = self.accumulator(width);
        Ok(Found::new(Operation::StoreString(value, address, repeated), memory, width))
    }
}

const fn is_store(operation: Operation) -> bool {
    matches!(operation, Operation::Store(_) | Operation::StoreString(..))
}

/// The bit's number within its operand.
const fn bit_number(number: u64, width: Width) -> u32 {
    let [low, ..] = number.to_le_bytes();
    low as u32 & width.bits().wrapping_sub(1)
}

/// 64 bits from the low halves of two registers.
const fn pair(high: u64, low: u64) -> u64 {
    high << 32 | low & 0xffff_ffff
}
