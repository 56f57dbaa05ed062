//! General registers by their encoded number.

use crate::regs::GuestRegs;

use super::prefix::Rex;
use super::width::Width;

/// A general register by the number instructions encode it with, 0 (rax) to 15 (r15).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Gpr(u8);

impl Gpr {
    /// The accumulator.
    pub const RAX: Self = Self(0);
    /// The counter.
    pub const RCX: Self = Self(1);
    /// The data register.
    pub const RDX: Self = Self(2);
    /// The base register.
    pub const RBX: Self = Self(3);
    /// The stack pointer.
    pub const RSP: Self = Self(4);
    /// The source index.
    pub const RSI: Self = Self(6);
    /// The destination index.
    pub const RDI: Self = Self(7);

    /// The register with this number; only the low four bits count.
    #[must_use]
    pub const fn new(number: u8) -> Self {
        Self(number & 15)
    }

    /// The register's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// All 64 bits.
    #[must_use]
    pub const fn read(self, regs: &GuestRegs) -> u64 {
        match self.0 {
            0 => regs.rax,
            1 => regs.rcx,
            2 => regs.rdx,
            3 => regs.rbx,
            4 => regs.rsp,
            5 => regs.rbp,
            6 => regs.rsi,
            7 => regs.rdi,
            8 => regs.r8,
            9 => regs.r9,
            10 => regs.r10,
            11 => regs.r11,
            12 => regs.r12,
            13 => regs.r13,
            14 => regs.r14,
            _ => regs.r15,
        }
    }

    /// Writes the low `width` of the register as the processor does: 4 bytes clear the upper half,
    /// 1 and 2 bytes keep the rest.
    pub const fn write(self, regs: &mut GuestRegs, width: Width, value: u64) {
        let kept = match width {
            Width::B1 | Width::B2 => self.read(regs) & !width.mask(),
            Width::B4 | Width::B8 => 0,
        };
        *self.slot(regs) = kept | value & width.mask();
    }

    const fn slot(self, regs: &mut GuestRegs) -> &mut u64 {
        match self.0 {
            0 => &mut regs.rax,
            1 => &mut regs.rcx,
            2 => &mut regs.rdx,
            3 => &mut regs.rbx,
            4 => &mut regs.rsp,
            5 => &mut regs.rbp,
            6 => &mut regs.rsi,
            7 => &mut regs.rdi,
            8 => &mut regs.r8,
            9 => &mut regs.r9,
            10 => &mut regs.r10,
            11 => &mut regs.r11,
            12 => &mut regs.r12,
            13 => &mut regs.r13,
            14 => &mut regs.r14,
            _ => &mut regs.r15,
        }
    }
}

/// A register operand: a register's low bytes, or bits 8 to 15 of one of the first four.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RegisterOperand {
    /// The register.
    pub register: Gpr,
    /// Size of the operand.
    pub width: Width,
    /// Whether it is `ah`, `ch`, `dh` or `bh`. Then the width is 1.
    pub high: bool,
}

impl RegisterOperand {
    /// The operand an instruction with this operand size means by register number `number`:
    /// without REX, byte registers 4 to 7 are the high bytes of registers 0 to 3.
    #[must_use]
    pub const fn new(number: u8, width: Width, rex: Rex) -> Self {
        let high = matches!(width, Width::B1) && !rex.is_present() && number & 0b1100 == 0b0100;
        let register = Gpr::new(if high { number & 3 } else { number });
        Self { register, width, high }
    }

    /// The low bytes of this register.
    #[must_use]
    pub const fn low(register: Gpr, width: Width) -> Self {
        Self { register, width, high: false }
    }

    /// The operand's value, zero-extended.
    #[must_use]
    pub const fn read(self, regs: &GuestRegs) -> u64 {
        let all = self.register.read(regs);
        if self.high { all >> 8 & 0xff } else { all & self.width.mask() }
    }

    /// Replaces the operand's value.
    pub const fn write(self, regs: &mut GuestRegs, value: u64) {
        if self.high {
            let word = self.register.read(regs) & 0xff | (value & 0xff) << 8;
            self.register.write(regs, Width::B2, word);
        } else {
            self.register.write(regs, self.width, value);
        }
    }
}
