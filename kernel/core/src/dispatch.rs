//! A hypercall's way from registers to its handler and back.

use hypercall_abi::call::Hypercall;
use hypercall_abi::errno::Errno;

use crate::calls;
use crate::platform::Platform;
use crate::system::{Context, SYSCALL_LENGTH};

/// What a handler that did not fail asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reply {
    /// The call is done, with this value.
    Value(u64),
    /// The call has used up its budget. It is executed again with these arguments as soon as
    /// whatever is due has been served; the guest can't tell.
    Again([u64; 6]),
    /// The guest goes on with registers that the call has set: no value is stored.
    Registers,
}

/// What a handler answers: a reply, or an error that becomes its negated number.
pub type Answer = Result<Reply, Errno>;

/// The answer 0.
pub const DONE: Answer = Ok(Reply::Value(0));

impl<P: Platform> Context<'_, P> {
    /// Handles the hypercall that the registers describe and writes its result.
    #[inline]
    pub(crate) fn hypercall(&mut self) {
        let (number, args) = (self.regs.rax, self.regs.hypercall_args());
        let answer = self.call_traced(number, args, false);
        match answer {
            Ok(Reply::Value(value)) => self.regs.rax = value,
            Ok(Reply::Again(args)) => {
                self.regs.rip = self.regs.rip.wrapping_sub(SYSCALL_LENGTH);
                self.regs.set_hypercall_args(args);
            }
            Ok(Reply::Registers) => {}
            Err(errno) => self.regs.rax = errno.to_raw().cast_unsigned(),
        }
    }

    /// Handles a call, and records it if anybody wants to know.
    pub(crate) fn call_traced(&mut self, number: u64, args: [u64; 6], is_inner: bool) -> Answer {
        if !self.system.platform.is_tracing() {
            return self.call(number, args);
        }
        let begun = self.trace_begin(number, args, is_inner);
        self.system.platform.poison_stack();
        let answer = self.call(number, args);
        self.trace_end(begun, answer);
        answer
    }

    /// One line per call that is implemented; all others are unknown, as on a hypervisor built
    /// without them.
    #[inline]
    pub(crate) fn call(&mut self, number: u64, args: [u64; 6]) -> Answer {
        let Some(call) = Hypercall::from_number(number) else {
            return Err(Errno::ENOSYS);
        };
        self.args = args;
        match call {
            Hypercall::SetTrapTable => calls::traps::set_trap_table(self, args),
            Hypercall::StackSwitch => calls::traps::stack_switch(self, args),
            Hypercall::SetCallbacks => calls::traps::set_callbacks(self, args),
            Hypercall::CallbackOp => calls::traps::callback_op(self, args),
            Hypercall::Iret => calls::traps::iret(self),
            Hypercall::VmAssist => calls::assist::vm_assist(self, args),
            Hypercall::PhysdevOp => calls::physdev::physdev_op(self, args),
            Hypercall::PhysdevOpCompat => calls::physdev::physdev_op_compat(self, args),
            Hypercall::PlatformOp => calls::platform::platform_op(self, args),
            Hypercall::VcpuOp => calls::vcpu::vcpu_op(self, args),
            Hypercall::NmiOp => calls::assist::nmi_op(self, args),
            Hypercall::SetDebugreg => calls::assist::set_debugreg(self, args),
            Hypercall::GetDebugreg => calls::assist::get_debugreg(self, args),
            Hypercall::FpuTaskswitch => calls::cpu::fpu_taskswitch(self, args),
            Hypercall::SetSegmentBase => calls::cpu::set_segment_base(self, args),
            Hypercall::Multicall => calls::multicall::multicall(self, args),
            Hypercall::MmuUpdate => calls::mmu::mmu_update(self, args),
            Hypercall::MmuextOp => calls::mmu::mmuext_op(self, args),
            Hypercall::UpdateVaMapping => calls::mmu::update_va_mapping(self, args),
            Hypercall::UpdateVaMappingOtherdomain => {
                calls::mmu::update_va_mapping_otherdomain(self, args)
            }
            Hypercall::MemoryOp => calls::mmu::memory_op(self, args),
            Hypercall::SetGdt => self.set_gdt(args),
            Hypercall::UpdateDescriptor => calls::mmu::update_descriptor(self, args),
            Hypercall::XenVersion => calls::version::xen_version(self, args),
            Hypercall::ConsoleIo => calls::console::console_io(self, args),
            Hypercall::SetTimerOp => calls::sched::set_timer_op(self, args),
            Hypercall::EventChannelOp => calls::event::event_channel_op(self, args),
            Hypercall::EventChannelOpCompat => calls::event::event_channel_op_compat(self, args),
            Hypercall::SchedOpCompat => calls::sched::sched_op_compat(self, args),
            Hypercall::SchedOp => calls::sched::sched_op(self, args),
            Hypercall::GrantTableOp => calls::grant::grant_table_op(self, args),
            Hypercall::Domctl => calls::control::domctl(self, args),
            Hypercall::Sysctl => calls::control::sysctl(self, args),
            Hypercall::Extension => calls::extension::extension(self, args),
            _ => Err(Errno::ENOSYS),
        }
    }
}

/// The low 32 bits of a register: arguments truncate to their C type, as the ABI's do.
#[must_use]
pub const fn low_u32(register: u64) -> u32 {
    let [a, b, c, d, ..] = register.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
