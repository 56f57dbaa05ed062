//! The whole system: what happens on each way into ring 0, until the way out.

use hypercall_abi::memory::E820Entry;

use crate::calls::memory_map::MAP_LINES;
use crate::clock::Clock;
use crate::crash;
use crate::domain::{Domain, ShutdownReason};
use crate::domains::Domains;
use crate::frames::FrameOwners;
use crate::mm::Mode;
use crate::platform::{MachineEnd, Platform};
use crate::ports::Ports;
use crate::regs::GuestRegs;
use crate::trap::Exception;
use crate::vcpu::{Handler, Vcpu};
use hypercall_abi::types::DomId;

/// Length of the `syscall` instruction. Unit: bytes.
pub(crate) const SYSCALL_LENGTH: u64 = 2;

/// Reasons of `sched_op(shutdown)` with a meaning for the machine when the initial domain ends.
mod reason {
    pub(super) const POWER_OFF: u32 = 0;
    pub(super) const REBOOT: u32 = 1;
    pub(super) const CRASH: u32 = 3;
}

/// Everything the kernel knows.
pub struct System<P: Platform> {
    /// The machine.
    pub platform: P,
    /// What guests are told about the hypervisor.
    pub identity: Identity,
    /// All domains.
    pub domains: Domains<P>,
    /// The time.
    pub clock: Clock,
    /// The firmware's memory map.
    pub memory_map: heapless::Vec<E820Entry, MAP_LINES>,
    /// Ports that the kernel keeps.
    pub ports: Ports,
}

/// What guests are told about the hypervisor itself.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The kernel's command line.
    pub command_line: &'static [u8],
    /// Revision the kernel was built from.
    pub changeset: &'static str,
    /// Compiler that built it.
    pub compiler: &'static str,
}

/// A vCPU with its domain: what a CPU runs.
pub struct DomainVcpu<P: Platform> {
    /// The domain.
    pub domain: P::Arc<Domain<P>>,
    /// The vCPU.
    pub vcpu: P::Arc<Vcpu>,
}

impl<P: Platform> Clone for DomainVcpu<P> {
    fn clone(&self) -> Self {
        Self { domain: self.domain.clone(), vcpu: self.vcpu.clone() }
    }
}

/// One entry into ring 0 from a guest: who, and its registers.
pub struct Context<'a, P: Platform> {
    /// The system.
    pub system: &'a System<P>,
    /// The domain that entered.
    pub domain: &'a P::Arc<Domain<P>>,
    /// Its vCPU.
    pub vcpu: &'a P::Arc<Vcpu>,
    /// Its registers, with which it continues.
    pub regs: &'a mut GuestRegs,
}

impl<P: Platform> System<P> {
    /// A guest executed `syscall`: its kernel calls us, or its user mode calls its kernel.
    pub fn syscall(&self, running: &DomainVcpu<P>, regs: &mut GuestRegs) {
        let mut cx = self.context(running, regs);
        if cx.regs.entry_vector == GuestRegs::SYSCALL && cx.vcpu.in_kernel_mode() {
            cx.hypercall();
        } else {
            cx.user_syscall();
        }
        cx.before_resume();
    }

    /// A guest raised an exception.
    pub fn exception(&self, running: &DomainVcpu<P>, regs: &mut GuestRegs, exception: Exception) {
        let mut cx = self.context(running, regs);
        cx.exception(exception);
        cx.before_resume();
    }

    /// A guest executed `int n` through a gate that is open to it.
    pub fn soft_interrupt(&self, running: &DomainVcpu<P>, regs: &mut GuestRegs, vector: u8) {
        let mut cx = self.context(running, regs);
        cx.open_gate(vector);
        cx.before_resume();
    }

    /// A guest was interrupted by something that does not concern it.
    pub fn interrupted(&self, running: &DomainVcpu<P>, regs: &mut GuestRegs) {
        self.context(running, regs).before_resume();
    }

    /// Makes a vCPU's kernel address space this CPU's.
    pub fn load_address_space(&self, running: &DomainVcpu<P>) {
        running.vcpu.roots.resume(&self.platform, &running.domain.memory, Mode::Kernel);
    }

    fn context<'a>(
        &'a self,
        running: &'a DomainVcpu<P>,
        regs: &'a mut GuestRegs,
    ) -> Context<'a, P> {
        Context { system: self, domain: &running.domain, vcpu: &running.vcpu, regs }
    }

    /// The initial domain's end is the machine's.
    fn initial_domain_ended(&self, why: ShutdownReason) -> ! {
        let end = match why.0 {
            reason::POWER_OFF => MachineEnd::PowerOff,
            reason::REBOOT => MachineEnd::Reboot,
            _ => MachineEnd::GuestFailed,
        };
        self.platform.end(end)
    }
}

/// Each domain keeps account of its own frames.
impl<P: Platform> FrameOwners for System<P> {
    fn frame_freed(&self, owner: DomId) {
        if let Some(domain) = self.domains.get(&self.platform, owner) {
            domain.memory.shrink(1);
        }
    }
}

impl<P: Platform> Context<'_, P> {
    /// What must be settled before the guest goes on: whether it may go on at all, and whether an
    /// event is to be delivered first.
    #[inline]
    fn before_resume(&mut self) {
        self.end_if_stopped();
        if self.vcpu.nmi.is_due() {
            self.deliver_nmi();
        }
        if self.vcpu.info(&self.system.platform).wants_upcall() {
            self.deliver_upcall();
        }
        self.end_if_stopped();
    }

    /// A domain that has stopped, by itself or just now, goes no further.
    #[inline]
    fn end_if_stopped(&self) {
        if let Some(why) = self.domain.shutdown_reason(&self.system.platform) {
            self.system.initial_domain_ended(why);
        }
    }

    fn deliver_upcall(&mut self) {
        let handler = self.vcpu.state.lock(&self.system.platform).event;
        if let Err(error) = self.bounce(handler, None) {
            self.crash(format_args!("an event is pending and not masked, but {error}"));
        }
    }

    /// User mode executed `syscall` or `sysenter`, or the kernel one of those that are no hypercall:
    /// enters the kernel's handler. Without one it is the fault of an instruction that is not there.
    fn user_syscall(&mut self) {
        let state = self.vcpu.state.lock(&self.system.platform);
        let handler = match self.regs.entry_vector {
            GuestRegs::SYSENTER => state.sysenter,
            GuestRegs::SYSCALL_32 => state.syscall32,
            _ => state.syscall,
        };
        drop(state);
        if handler.is_set() {
            self.bounce_or_crash(handler, None);
        } else if self.regs.entry_vector == GuestRegs::SYSENTER {
            self.general_protection(0);
        } else {
            self.regs.rip = self.regs.rip.wrapping_sub(SYSCALL_LENGTH);
            self.inject(crate::trap::INVALID_OPCODE, None);
        }
    }

    /// Enters a handler; a guest that can't be entered ends.
    pub(crate) fn bounce_or_crash(&mut self, handler: Handler, error_code: Option<u32>) {
        if let Err(error) = self.bounce(handler, error_code) {
            self.crash(format_args!("{error}"));
        }
    }

    /// Ends the domain because of what its vCPU did, with a dump of its state.
    pub(crate) fn crash(&mut self, why: core::fmt::Arguments<'_>) {
        crash::dump(self, why);
        self.domain.shut_down(&self.system.platform, ShutdownReason(reason::CRASH));
    }
}
