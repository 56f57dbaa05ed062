//! What iced-x86 says about the same bytes, in the emulator's terms.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction as Iced, Mnemonic, OpKind, Register};
use kernel_core::emulate::alu::{Binary, BitChange, Unary};
use kernel_core::emulate::code::CodeSize;
use kernel_core::emulate::prefix::Segment;
use kernel_core::emulate::privileged::{
    ControlRegister, DebugRegister, Decoded, Instruction, PortOperand, StringPort,
};
use kernel_core::emulate::register::{Gpr, RegisterOperand};
use kernel_core::emulate::table_operation::{Operation, Repeated};
use kernel_core::emulate::width::Width;
use kernel_core::regs::GuestRegs;

/// Decodes one instruction; `None` if it is invalid, cut off or longer than the processor allows.
pub(crate) fn iced(size: CodeSize, bytes: &[u8], ip: u64) -> Option<Iced> {
    let bitness = match size {
        CodeSize::Bits64 => 64,
        CodeSize::Bits32 => 32,
        CodeSize::Bits16 => 16,
    };
    let mut decoder = Decoder::with_ip(bitness, bytes, ip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// The privileged instruction of the list this is, if it is one.
pub(crate) fn privileged(iced: &Iced) -> Option<Decoded> {
    let instruction = special_register(iced).or_else(|| port(iced)).or_else(|| plain(iced))?;
    Some(Decoded { instruction, length: u8::try_from(iced.len()).unwrap() })
}

fn plain(iced: &Iced) -> Option<Instruction> {
    Some(match iced.mnemonic() {
        Mnemonic::Clts => Instruction::ClearTaskSwitched,
        Mnemonic::Wbinvd | Mnemonic::Wbnoinvd => Instruction::WriteBackCaches,
        Mnemonic::Rdmsr if iced.op_count() == 0 => Instruction::ReadMsr,
        Mnemonic::Wrmsr => Instruction::WriteMsr,
        Mnemonic::Cli => Instruction::DisableInterrupts,
        Mnemonic::Sti => Instruction::EnableInterrupts,
        Mnemonic::Cpuid => Instruction::CpuId,
        Mnemonic::Rdtsc => Instruction::ReadTimestamp,
        Mnemonic::Rdtscp => Instruction::ReadTimestampAndCpu,
        Mnemonic::Xgetbv => Instruction::ReadExtendedControl,
        Mnemonic::Xsetbv => Instruction::WriteExtendedControl,
        _ => return None,
    })
}

fn special_register(iced: &Iced) -> Option<Instruction> {
    if iced.mnemonic() != Mnemonic::Mov || iced.op1_kind() != OpKind::Register {
        return None;
    }
    let (to, from) = (iced.op0_register(), iced.op1_register());
    if from.is_cr() {
        return Some(Instruction::ReadControl(control(from)?, gpr(to)));
    }
    if to.is_cr() {
        return Some(Instruction::WriteControl(control(to)?, gpr(from)));
    }
    if from.is_dr() {
        return Some(Instruction::ReadDebug(debug(from)?, gpr(to)));
    }
    if to.is_dr() {
        return Some(Instruction::WriteDebug(debug(to)?, gpr(from)));
    }
    None
}

fn control(register: Register) -> Option<ControlRegister> {
    Some(match register {
        Register::CR0 => ControlRegister::Cr0,
        Register::CR2 => ControlRegister::Cr2,
        Register::CR3 => ControlRegister::Cr3,
        Register::CR4 => ControlRegister::Cr4,
        _ => return None,
    })
}

fn debug(register: Register) -> Option<DebugRegister> {
    let number = match register {
        Register::DR0 => 0,
        Register::DR1 => 1,
        Register::DR2 => 2,
        Register::DR3 => 3,
        Register::DR4 => 4,
        Register::DR5 => 5,
        Register::DR6 => 6,
        Register::DR7 => 7,
        _ => return None,
    };
    DebugRegister::new(number)
}

fn port(iced: &Iced) -> Option<Instruction> {
    let by = |kind, register: Register| match kind {
        OpKind::Immediate8 => PortOperand::Immediate(iced.immediate8()),
        _ => {
            assert_eq!(register, Register::DX);
            PortOperand::Dx
        }
    };
    let repeated = iced.has_rep_prefix() || iced.has_repne_prefix();
    Some(match iced.mnemonic() {
        Mnemonic::In => Instruction::In(
            by(iced.op1_kind(), iced.op1_register()),
            width(iced.op0_register().size()),
        ),
        Mnemonic::Out => Instruction::Out(
            by(iced.op0_kind(), iced.op0_register()),
            width(iced.op1_register().size()),
        ),
        Mnemonic::Insb | Mnemonic::Insw | Mnemonic::Insd => Instruction::InString(StringPort {
            width: width(iced.memory_size().size()),
            address: string_address(iced.op0_kind()),
            repeated,
            segment: Segment::Es,
        }),
        Mnemonic::Outsb | Mnemonic::Outsw | Mnemonic::Outsd => Instruction::OutString(StringPort {
            width: width(iced.memory_size().size()),
            address: string_address(iced.op1_kind()),
            repeated,
            segment: segment(iced),
        }),
        _ => return None,
    })
}

/// In 64-bit code a segment prefix without effect is no override.
fn segment(iced: &Iced) -> Segment {
    match iced.memory_segment() {
        Register::FS => Segment::Fs,
        Register::GS => Segment::Gs,
        _ if is_64(iced) => Segment::Ds,
        Register::ES => Segment::Es,
        Register::CS => Segment::Cs,
        Register::SS => Segment::Ss,
        _ => Segment::Ds,
    }
}

fn is_64(iced: &Iced) -> bool {
    iced.code_size() == iced_x86::CodeSize::Code64
}

fn string_address(kind: OpKind) -> Width {
    match kind {
        OpKind::MemoryESDI | OpKind::MemorySegSI => Width::B2,
        OpKind::MemoryESEDI | OpKind::MemorySegESI => Width::B4,
        OpKind::MemoryESRDI | OpKind::MemorySegRSI => Width::B8,
        other => panic!("{other:?} is no string operand"),
    }
}

pub(crate) fn width(bytes: usize) -> Width {
    Width::ALL.into_iter().find(|width| width.bytes() == bytes).unwrap()
}

fn gpr(register: Register) -> Gpr {
    Gpr::new(u8::try_from(register.full_register() as u32 - Register::RAX as u32).unwrap())
}

fn operand(register: Register) -> RegisterOperand {
    let high = matches!(register, Register::AH | Register::BH | Register::CH | Register::DH);
    RegisterOperand { register: gpr(register), width: width(register.size()), high }
}

/// A write to memory as iced sees it.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) operation: Operation,
    pub(crate) width: Width,
    /// Linear address, bit strings included.
    pub(crate) address: u64,
    pub(crate) length: u64,
}

/// The write of the list this is, if it is one; 16-bit addresses are not on the list.
pub(crate) fn table_write(
    size: CodeSize,
    iced: &Iced,
    regs: &GuestRegs,
    fs: u64,
    gs: u64,
) -> Option<Write> {
    let memory = matches!(
        iced.op0_kind(),
        OpKind::Memory | OpKind::MemoryESDI | OpKind::MemoryESEDI | OpKind::MemoryESRDI
    );
    if !memory || has_16_bit_address(iced) {
        return None;
    }
    let width = Width::ALL.into_iter().find(|width| width.bytes() == iced.memory_size().size())?;
    let (operation, adjustment) = operation(iced, width, regs)?;
    let value_of = |register: Register, _, _| match register {
        Register::FS => Some(fs),
        Register::GS => Some(gs),
        register if register.is_segment_register() => Some(0),
        register => Some(operand(register).read(regs)),
    };
    let encoded = iced.virtual_address(0, 0, value_of)?;
    let base = match (iced.op0_kind(), iced.memory_segment()) {
        (OpKind::Memory, Register::FS) => fs,
        (OpKind::Memory, Register::GS) => gs,
        _ => 0,
    };
    let offset = encoded.wrapping_sub(base).wrapping_add_signed(adjustment);
    let address = address_mask(iced, size) & offset;
    let linear = address.wrapping_add(base);
    Some(Write {
        operation,
        width,
        address: if size == CodeSize::Bits64 { linear } else { linear & 0xffff_ffff },
        length: u64::try_from(iced.len()).unwrap(),
    })
}

fn has_16_bit_address(iced: &Iced) -> bool {
    iced.op0_kind() == OpKind::MemoryESDI
        || iced.op0_kind() == OpKind::Memory
            && (iced.memory_base().size() == 2
                || iced.memory_index().size() == 2
                || iced.memory_displ_size() == 2)
}

fn address_mask(iced: &Iced, size: CodeSize) -> u64 {
    let long = match iced.op0_kind() {
        OpKind::MemoryESRDI => true,
        OpKind::MemoryESEDI => false,
        _ => {
            size == CodeSize::Bits64
                && (iced.memory_base().size() == 8
                    || iced.memory_index().size() == 8
                    || iced.memory_displ_size() == 8)
        }
    };
    if long { u64::MAX } else { 0xffff_ffff }
}

/// The operation, and how many bytes a bit string's operand is away from the encoded address.
fn operation(iced: &Iced, width: Width, regs: &GuestRegs) -> Option<(Operation, i64)> {
    let is_register = iced.op_count() > 1 && iced.op1_kind() == OpKind::Register;
    let with = || operand(iced.op1_register());
    let value = || {
        if is_register { with().read(regs) } else { iced.immediate(1) & width.mask() }
    };
    let binary = |kind| Operation::Binary(kind, value());
    let bit = |change| bit_operation(iced, change, width, regs);
    Some((
        match iced.mnemonic() {
            Mnemonic::Mov if is_register && iced.op1_register().is_segment_register() => {
                return None;
            }
            Mnemonic::Mov | Mnemonic::Movnti => Operation::Store(value()),
            Mnemonic::Stosb | Mnemonic::Stosw | Mnemonic::Stosd | Mnemonic::Stosq => {
                let repeated = if iced.has_rep_prefix() || iced.has_repne_prefix() {
                    Repeated::Yes
                } else {
                    Repeated::No
                };
                Operation::StoreString(value(), string_address(iced.op0_kind()), repeated)
            }
            Mnemonic::Xchg => Operation::Exchange(with(), value()),
            Mnemonic::Xadd => Operation::ExchangeAdd(with(), value()),
            Mnemonic::Add => binary(Binary::Add),
            Mnemonic::Or => binary(Binary::Or),
            Mnemonic::Adc => binary(Binary::AddCarry),
            Mnemonic::Sbb => binary(Binary::SubBorrow),
            Mnemonic::And => binary(Binary::And),
            Mnemonic::Sub => binary(Binary::Sub),
            Mnemonic::Xor => binary(Binary::Xor),
            Mnemonic::Inc => Operation::Unary(Unary::Inc),
            Mnemonic::Dec => Operation::Unary(Unary::Dec),
            Mnemonic::Not => Operation::Unary(Unary::Not),
            Mnemonic::Neg => Operation::Unary(Unary::Neg),
            Mnemonic::Bts => return Some(bit(BitChange::Set)),
            Mnemonic::Btr => return Some(bit(BitChange::Reset)),
            Mnemonic::Btc => return Some(bit(BitChange::Complement)),
            Mnemonic::Cmpxchg => {
                let expected = regs.rax & width.mask();
                Operation::CompareExchange { expected, new: value() }
            }
            Mnemonic::Cmpxchg8b => Operation::CompareExchangePair {
                expected: regs.rdx << 32 | regs.rax & 0xffff_ffff,
                new: regs.rcx << 32 | regs.rbx & 0xffff_ffff,
            },
            _ => return None,
        },
        0,
    ))
}

fn bit_operation(
    iced: &Iced,
    change: BitChange,
    width: Width,
    regs: &GuestRegs,
) -> (Operation, i64) {
    let bits = i64::from(width.bits());
    let number = if iced.op1_kind() == OpKind::Register {
        let raw = operand(iced.op1_register()).read(regs);
        match width {
            Width::B2 => i64::from(u16::try_from(raw).unwrap().cast_signed()),
            Width::B4 => i64::from(u32::try_from(raw).unwrap().cast_signed()),
            _ => raw.cast_signed(),
        }
    } else {
        i64::from(iced.immediate8()) % bits
    };
    let bit = u32::try_from(number.rem_euclid(bits)).unwrap();
    (Operation::Bit(change, bit), number.div_euclid(bits) * (bits / 8))
}

/// Whether iced takes the bytes for a software interrupt: its vector.
pub(crate) fn soft_interrupt(iced: &Iced) -> Option<u8> {
    Some(match iced.code() {
        Code::Int_imm8 => iced.immediate8(),
        Code::Int3 => 3,
        Code::Into => 4,
        Code::Int1 => 1,
        _ => return None,
    })
}
