//! The closed list of privileged instructions, and how to recognise them.
//!
//! Measured on Xen 4.17 with an initial domain, for each instruction in kernel and in user mode and
//! with virtual IOPL 0, 1 and 3 (K: done for the guest's kernel, I: done where the virtual IOPL
//! admits the mode, which is 1 for the kernel and 3 for user mode; `-`: the guest gets `#GP(0)`):
//!
//! | instruction | who | note |
//! |--|--|--|
//! | `mov` from and to cr0, cr2, cr3, cr4 | K | [`super::control`]; the mod bits are ignored |
//! | `mov` from and to dr0-dr7 | K | [`super::control`] |
//! | `mov` cr1, cr8 | - | |
//! | `clts`, `wbinvd`, `wbnoinvd` | K | |
//! | `rdmsr`, `wrmsr` | K | [`super::msr`] |
//! | `in`, `out`, `ins`, `outs` | I | else where the port bitmap admits it |
//! | `cli`, `sti` | I | without any effect: the virtual interrupt flag is not theirs |
//! | `cpuid` | both | only where it faults, which is the processor's choice |
//! | `rdtsc`, `rdtscp` | K | fault only with CR4.TSD |
//! | `xsetbv` | K | [`super::xcr0`] |
//! | `lmsw`, `hlt`, `invd`, `invlpg`, `rdpmc`, `swapgs`, `sysret`, `sysexit` | - | |
//! | `lgdt`, `lidt`, `lldt`, `ltr` | - | |
//! | `smsw`, `sgdt`, `sidt`, `sldt`, `str`, `pushf`, `popf` | | never fault |
//!
//! Prefixes without a meaning for the instruction are accepted and ignored, up to 15 bytes in all.
//! With LOCK each of them is undefined: a processor answers `#UD` at once, and where an emulated one
//! answers `#GP`, the guest gets `#UD` all the same.

use super::code::{CodeSize, Cursor, Fetch, NoDecode};
use super::prefix::{Prefixes, Segment};
use super::register::Gpr;
use super::width::Width;

/// A control register that exists for a guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ControlRegister {
    /// Modes.
    Cr0,
    /// Address of the last page fault.
    Cr2,
    /// Root of the page tables.
    Cr3,
    /// Extensions.
    Cr4,
}

/// A debug register as encoded, 0 to 7: 4 and 5 are other names of 6 and 7, or nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DebugRegister(u8);

impl DebugRegister {
    /// The register's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The register with this number; `None` from 8 on.
    #[must_use]
    pub const fn new(encoded: u8) -> Option<Self> {
        if encoded < 8 { Some(Self(encoded)) } else { None }
    }
}

/// What names a port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PortOperand {
    /// The instruction itself.
    Immediate(u8),
    /// Register dx.
    Dx,
}

/// `ins` or `outs`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StringPort {
    /// Bytes an element.
    pub width: Width,
    /// Size of the index and count registers.
    pub address: Width,
    /// Whether a repeat prefix makes rcx count.
    pub repeated: bool,
    /// Segment of the memory operand.
    pub segment: Segment,
}

/// A privileged instruction of the list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Instruction {
    /// `mov` from a control register.
    ReadControl(ControlRegister, Gpr),
    /// `mov` to a control register.
    WriteControl(ControlRegister, Gpr),
    /// `mov` from a debug register.
    ReadDebug(DebugRegister, Gpr),
    /// `mov` to a debug register.
    WriteDebug(DebugRegister, Gpr),
    /// `clts`.
    ClearTaskSwitched,
    /// `wbinvd`, `wbnoinvd`.
    WriteBackCaches,
    /// `rdmsr`.
    ReadMsr,
    /// `wrmsr`.
    WriteMsr,
    /// `in`.
    In(PortOperand, Width),
    /// `out`.
    Out(PortOperand, Width),
    /// `ins`.
    InString(StringPort),
    /// `outs`.
    OutString(StringPort),
    /// `cli`.
    DisableInterrupts,
    /// `sti`.
    EnableInterrupts,
    /// `cpuid`.
    CpuId,
    /// `rdtsc`.
    ReadTimestamp,
    /// `rdtscp`.
    ReadTimestampAndCpu,
    /// `xgetbv`.
    ReadExtendedControl,
    /// `xsetbv`.
    WriteExtendedControl,
}

/// A recognised instruction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Decoded {
    /// What it is.
    pub instruction: Instruction,
    /// Its length in bytes, 1 to 15.
    pub length: u8,
}

/// Recognises the instruction at the instruction pointer.
///
/// # Errors
///
/// [`NoDecode`] if it is not of the list, can't be read or is too long.
pub fn decode<F: Fetch + ?Sized>(size: CodeSize, source: &F) -> Result<Decoded, NoDecode> {
    let mut cursor = Cursor::new(source);
    let (prefixes, opcode) = Prefixes::take(&mut cursor, size)?;
    let mut decoder = Decoder { cursor, prefixes, size };
    let instruction = match opcode {
        0x0f => decoder.two_byte()?,
        _ => decoder.one_byte(opcode)?,
    };
    if prefixes.lock {
        return Err(NoDecode::Locked);
    }
    Ok(Decoded { instruction, length: decoder.cursor.taken() })
}

struct Decoder<'a, F: ?Sized> {
    cursor: Cursor<'a, F>,
    prefixes: Prefixes,
    size: CodeSize,
}

impl<F: Fetch + ?Sized> Decoder<'_, F> {
    fn one_byte(&mut self, opcode: u8) -> Result<Instruction, NoDecode> {
        let width = self.port_width(opcode);
        Ok(match opcode {
            0x6c | 0x6d => Instruction::InString(self.string(width, Segment::Es)),
            0x6e | 0x6f => {
                let segment = self.prefixes.segment.unwrap_or(Segment::Ds);
                Instruction::OutString(self.string(width, segment))
            }
            0xe4 | 0xe5 => Instruction::In(PortOperand::Immediate(self.cursor.byte()?), width),
            0xe6 | 0xe7 => Instruction::Out(PortOperand::Immediate(self.cursor.byte()?), width),
            0xec | 0xed => Instruction::In(PortOperand::Dx, width),
            0xee | 0xef => Instruction::Out(PortOperand::Dx, width),
            0xfa => Instruction::DisableInterrupts,
            0xfb => Instruction::EnableInterrupts,
            _ => return Err(NoDecode::NotOurs),
        })
    }

    /// Even opcodes move bytes; there are no 8-byte ports.
    fn port_width(&self, opcode: u8) -> Width {
        if opcode & 1 == 0 {
            return Width::B1;
        }
        match self.prefixes.operand_width(self.size) {
            Width::B8 => Width::B4,
            width => width,
        }
    }

    fn string(&self, width: Width, segment: Segment) -> StringPort {
        StringPort {
            width,
            address: self.prefixes.address_width(self.size),
            repeated: self.prefixes.repeat.is_some(),
            segment,
        }
    }

    fn two_byte(&mut self) -> Result<Instruction, NoDecode> {
        Ok(match self.cursor.byte()? {
            0x01 => return self.group_7(),
            0x06 => Instruction::ClearTaskSwitched,
            0x09 => Instruction::WriteBackCaches,
            opcode @ 0x20..=0x23 => return self.special_register(opcode),
            0x30 => Instruction::WriteMsr,
            0x31 => Instruction::ReadTimestamp,
            0x32 => Instruction::ReadMsr,
            0xa2 => Instruction::CpuId,
            _ => return Err(NoDecode::NotOurs),
        })
    }

    /// The three register forms of `0f 01` that are on the list.
    fn group_7(&mut self) -> Result<Instruction, NoDecode> {
        let plain = self.prefixes.repeat.is_none() && !self.prefixes.operand_size;
        match self.cursor.byte()? {
            0xd0 if plain => Ok(Instruction::ReadExtendedControl),
            0xd1 if plain => Ok(Instruction::WriteExtendedControl),
            0xf9 => Ok(Instruction::ReadTimestampAndCpu),
            _ => Err(NoDecode::NotOurs),
        }
    }

    /// `mov` with a control or debug register; ModRM always names a register, whatever its mod.
    fn special_register(&mut self, opcode: u8) -> Result<Instruction, NoDecode> {
        let modrm = self.cursor.byte()?;
        let rex = self.prefixes.rex;
        let special = modrm >> 3 & 7 | rex.r();
        let general = Gpr::new(modrm & 7 | rex.b());
        if opcode & 1 != 0 {
            let register = DebugRegister::new(special).ok_or(NoDecode::NotOurs)?;
            return Ok(if opcode == 0x21 {
                Instruction::ReadDebug(register, general)
            } else {
                Instruction::WriteDebug(register, general)
            });
        }
        let register = match special {
            0 => ControlRegister::Cr0,
            2 => ControlRegister::Cr2,
            3 => ControlRegister::Cr3,
            4 => ControlRegister::Cr4,
            _ => return Err(NoDecode::NotOurs),
        };
        Ok(if opcode == 0x20 {
            Instruction::ReadControl(register, general)
        } else {
            Instruction::WriteControl(register, general)
        })
    }
}
