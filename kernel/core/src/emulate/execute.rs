//! Execution of the privileged instructions.

use crate::dispatch::low_u32;
use crate::regs::GuestRegs;

use super::alu::flag;
use super::code::CodeSize;
use super::control;
use super::msr;
use super::port;
use super::privileged::{Decoded, Instruction, PortOperand, StringPort};
use super::register::{Gpr, RegisterOperand};
use super::state::{Mode, PrivilegedState, Refused};
use super::string_io::{self, Direction, Progress, low_u16};
use super::width::Width;
use super::xcr0;

/// How a guest continues behind an emulated instruction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum After {
    /// At its instruction pointer.
    Continue,
    /// With `#DB`, of these causes in DR6, at its instruction pointer.
    DebugException(u64),
}

/// DR6: single-stepping is on.
const SINGLE_STEP: u64 = 1 << 14;

impl After {
    /// What TF asks for.
    pub const fn of(regs: &GuestRegs) -> Self {
        Self::because(step(regs))
    }

    /// What these causes in DR6 ask for.
    const fn because(causes: u64) -> Self {
        if causes == 0 { Self::Continue } else { Self::DebugException(causes) }
    }
}

/// The cause in DR6 that TF is.
const fn step(regs: &GuestRegs) -> u64 {
    if regs.rflags & flag::TF == 0 { 0 } else { SINGLE_STEP }
}

/// An exception the guest gets instead, its instruction pointer still at the instruction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// `#UD`
    InvalidOpcode,
    /// `#GP(0)`
    GeneralProtection,
    /// `#PF`
    Page {
        /// CR2.
        address: u64,
        /// Error code, as the guest is to see it.
        error_code: u32,
    },
}

/// What became of an instruction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Outcome {
    /// It was executed, or a part of its elements was: registers, instruction pointer included, and
    /// state are as behind it.
    Emulated(After),
    /// It raises this instead. Only complete elements of a string instruction have had an effect.
    Inject(Fault),
    /// Nothing happened; the guest gets the exception the processor raised.
    NotOurs,
}

/// Executes a privileged instruction that faulted at the guest's instruction pointer.
pub fn execute(
    state: &mut impl PrivilegedState,
    regs: &mut GuestRegs,
    size: CodeSize,
    decoded: Decoded,
) -> Outcome {
    let causes = step(regs);
    let mut cpu = Executor { state, regs, size, causes };
    match cpu.run(decoded.instruction) {
        Ok(Progress::Done) => cpu.regs.rip = size.next(cpu.regs.rip, decoded.length),
        Ok(Progress::Again) => {}
        Ok(Progress::NotOurs) => return Outcome::NotOurs,
        Err(fault) => return Outcome::Inject(fault),
    }
    let after = After::because(cpu.causes);
    cpu.regs.rflags &= !flag::RF;
    Outcome::Emulated(after)
}

struct Executor<'a, S> {
    state: &'a mut S,
    regs: &'a mut GuestRegs,
    size: CodeSize,
    /// What DR6 has to tell behind the instruction.
    causes: u64,
}

impl<S: PrivilegedState> Executor<'_, S> {
    fn run(&mut self, instruction: Instruction) -> Result<Progress, Fault> {
        match instruction {
            Instruction::CpuId => self.cpuid(),
            Instruction::DisableInterrupts | Instruction::EnableInterrupts => {
                if !self.state.io_privilege().admits(self.state.mode()) {
                    return Err(Fault::GeneralProtection);
                }
                self.forget_step();
            }
            Instruction::In(operand, width) => self.port_in(operand, width)?,
            Instruction::Out(operand, width) => self.port_out(operand, width)?,
            Instruction::InString(operation) => return self.string(operation, Direction::In),
            Instruction::OutString(operation) => return self.string(operation, Direction::Out),
            kernels if self.state.mode() == Mode::Kernel => return self.kernels(kernels),
            _ => return Ok(Progress::NotOurs),
        }
        Ok(Progress::Done)
    }

    /// What only the guest's kernel may do.
    fn kernels(&mut self, instruction: Instruction) -> Result<Progress, Fault> {
        match instruction {
            Instruction::ReadControl(register, into) => {
                into.write(self.regs, self.native(), control::read(self.state, register));
            }
            Instruction::WriteControl(register, from) => {
                let value = from.read(self.regs) & self.native().mask();
                control::write(self.state, register, value)
                    .map_err(|_| Fault::GeneralProtection)?;
            }
            Instruction::ReadDebug(register, into) => {
                let number =
                    control::debug_register(self.state, register).ok_or(Fault::InvalidOpcode)?;
                into.write(self.regs, self.native(), self.state.debug_register(number));
            }
            Instruction::WriteDebug(register, from) => {
                let number =
                    control::debug_register(self.state, register).ok_or(Fault::InvalidOpcode)?;
                let value = from.read(self.regs) & self.native().mask();
                self.state
                    .set_debug_register(number, value)
                    .map_err(|_| Fault::GeneralProtection)?;
            }
            Instruction::ClearTaskSwitched => self.state.set_task_switched(false),
            Instruction::WriteBackCaches => self.state.write_back_caches(),
            Instruction::ReadMsr => {
                let number = low_u32(self.regs.rcx);
                let value = match msr::read(self.state, number) {
                    Ok(value) => value,
                    Err(Refused) if msr::reads_without_handler(self.state, number) => 0,
                    Err(Refused) => return Err(Fault::GeneralProtection),
                };
                self.set_pair(value);
            }
            Instruction::WriteMsr => {
                msr::write(self.state, low_u32(self.regs.rcx), self.pair())
                    .map_err(|_| Fault::GeneralProtection)?;
            }
            Instruction::ReadTimestamp => self.set_pair(self.state.timestamp()),
            Instruction::ReadTimestampAndCpu => {
                let cpu = self.state.tsc_aux().ok_or(Fault::InvalidOpcode)?;
                self.set_pair(self.state.timestamp());
                Gpr::RCX.write(self.regs, Width::B4, u64::from(cpu));
            }
            Instruction::ReadExtendedControl => self.read_extended_control()?,
            Instruction::WriteExtendedControl => self.write_extended_control()?,
            Instruction::CpuId
            | Instruction::DisableInterrupts
            | Instruction::EnableInterrupts
            | Instruction::In(..)
            | Instruction::Out(..)
            | Instruction::InString(_)
            | Instruction::OutString(_) => return Ok(Progress::NotOurs),
        }
        Ok(Progress::Done)
    }

    fn cpuid(&mut self) {
        let (leaf, subleaf) = (low_u32(self.regs.rax), low_u32(self.regs.rcx));
        let [eax, ebx, ecx, edx] = self.state.cpuid(leaf, subleaf);
        self.regs.rax = u64::from(eax);
        self.regs.rbx = u64::from(ebx);
        self.regs.rcx = u64::from(ecx);
        self.regs.rdx = u64::from(edx);
    }

    fn port_in(&mut self, operand: PortOperand, width: Width) -> Result<(), Fault> {
        let port = self.port(operand, width)?;
        let value = u64::from(self.state.port_in(port, width));
        RegisterOperand::low(Gpr::RAX, width).write(self.regs, value);
        Ok(())
    }

    fn port_out(&mut self, operand: PortOperand, width: Width) -> Result<(), Fault> {
        let port = self.port(operand, width)?;
        let value = low_u32(RegisterOperand::low(Gpr::RAX, width).read(self.regs));
        self.state.port_out(port, width, value);
        Ok(())
    }

    fn string(&mut self, operation: StringPort, way: Direction) -> Result<Progress, Fault> {
        let (state, regs) = (&mut *self.state, &mut *self.regs);
        string_io::run(state, regs, self.size, operation, way, &mut self.causes)
    }

    fn port(&mut self, operand: PortOperand, width: Width) -> Result<u16, Fault> {
        let port = match operand {
            PortOperand::Immediate(port) => u16::from(port),
            PortOperand::Dx => low_u16(self.regs.rdx),
        };
        if port::may_access(self.state, port, width) {
            if self.state.reaches_machine(port, width) {
                self.forget_step();
            }
            self.causes |= self.state.port_breakpoints(port, width);
            Ok(port)
        } else {
            Err(Fault::GeneralProtection)
        }
    }

    /// Xen tells of no single step over this instruction; the next one's comes.
    const fn forget_step(&mut self) {
        self.causes &= !SINGLE_STEP;
    }

    fn read_extended_control(&mut self) -> Result<(), Fault> {
        if self.state.cr4() & control::CR4_OSXSAVE == 0 {
            return Err(Fault::InvalidOpcode);
        }
        if low_u32(self.regs.rcx) != 0 {
            return Err(Fault::GeneralProtection);
        }
        self.set_pair(self.state.xcr0());
        Ok(())
    }

    fn write_extended_control(&mut self) -> Result<(), Fault> {
        if self.state.cr4() & control::CR4_OSXSAVE == 0 {
            return Err(Fault::InvalidOpcode);
        }
        let value = self.pair();
        if low_u32(self.regs.rcx) != 0 || !xcr0::is_valid(value, self.state.xcr0_features()) {
            return Err(Fault::GeneralProtection);
        }
        self.state.set_xcr0(value);
        Ok(())
    }

    /// The size of a `mov` with a control or debug register.
    fn native(&self) -> Width {
        if self.size == CodeSize::Bits64 { Width::B8 } else { Width::B4 }
    }

    /// edx:eax.
    const fn pair(&self) -> u64 {
        self.regs.rdx << 32 | self.regs.rax & 0xffff_ffff
    }

    const fn set_pair(&mut self, value: u64) {
        self.regs.rax = value & 0xffff_ffff;
        self.regs.rdx = value >> 32;
    }
}
