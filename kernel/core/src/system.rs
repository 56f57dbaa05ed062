//! The whole system: what happens on each way into ring 0, until the way out.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};

use crate::bounce::rflags;
use crate::calls::memory_map::MemoryMap;
use crate::clock::Clock;
use crate::cpu_state::{CpuState, Cpus};
use crate::crash;
use crate::domain::{Domain, Life, ShutdownReason};
use crate::domains::Domains;
use crate::frames::FrameOwners;
use crate::mm::Budget;
use crate::platform::{MachineEnd, Platform};
use crate::ports::Ports;
use crate::regs::GuestRegs;
use crate::sched::{Reasons, Scheduler, Scheduling, Share, Unit};
use crate::standstill::Standstill;
use crate::trace::Kind;
use crate::trap::Exception;
use crate::vcpu::{Handler, Vcpu};
use crate::vcpu_create::Windows;
use hypercall_abi::types::DomId;
use hypercall_abi::virq;

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
    /// The number that a domain got last.
    pub(crate) last_number: AtomicU32,
    /// A CPU serves a `domctl`.
    pub(crate) control_busy: AtomicBool,
    /// All CPUs but one stand still.
    pub(crate) standstill: Standstill,
    /// A dead domain has lost its last frame.
    pub(crate) burial: AtomicBool,
    /// The CPUs that run guests.
    pub cpus: Cpus<P>,
    /// Descriptor-table windows in use.
    pub windows: Windows,
    /// Who runs.
    pub scheduler: Scheduler<P, DomainVcpu<P>>,
    /// The time.
    pub clock: Clock,
    /// The firmware's memory map.
    pub memory_map: MemoryMap,
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

impl<P: Platform> DomainVcpu<P> {
    /// Whether both are the same.
    #[inline]
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        core::ptr::eq::<Vcpu>(&*self.vcpu, &*other.vcpu)
    }
}

impl<P: Platform> Unit for DomainVcpu<P> {
    fn scheduling(&self) -> &Scheduling {
        &self.vcpu.scheduling
    }

    fn share(&self) -> &Share {
        self.domain.share()
    }

    fn is(&self, other: &Self) -> bool {
        Self::is(self, other)
    }
}

impl<P: Platform> Clone for DomainVcpu<P> {
    fn clone(&self) -> Self {
        Self { domain: self.domain.clone(), vcpu: self.vcpu.clone() }
    }
}

/// A CPU and the vCPU it runs.
pub struct Here<P: Platform> {
    /// The CPU.
    pub cpu: P::Arc<CpuState<P>>,
    /// What it runs.
    pub running: DomainVcpu<P>,
}

/// One entry into ring 0 from a guest: who, and its registers.
pub struct Context<'a, P: Platform> {
    /// The system.
    pub system: &'a System<P>,
    /// The CPU.
    pub here: &'a CpuState<P>,
    /// The domain that entered.
    pub domain: &'a P::Arc<Domain<P>>,
    /// Its vCPU.
    pub vcpu: &'a P::Arc<Vcpu>,
    /// Its registers, with which it continues.
    pub regs: &'a mut GuestRegs,
    /// What the entry may still do before interrupts and other vCPUs have their chance, whatever the
    /// number of its calls.
    pub budget: Budget,
    /// The arguments of the hypercall that is being made, on its own or in a multicall.
    pub(crate) args: [u64; 6],
}

impl<P: Platform> System<P> {
    /// A system without domains, and without CPUs to run them.
    pub fn new(platform: P, identity: Identity, clock: Clock, ports: Ports) -> Self {
        Self {
            platform,
            identity,
            domains: Domains::new(),
            last_number: AtomicU32::new(0),
            control_busy: AtomicBool::new(false),
            standstill: Standstill::new(),
            burial: AtomicBool::new(false),
            cpus: Cpus::new(),
            windows: Windows::new(),
            scheduler: Scheduler::new(),
            clock,
            memory_map: heapless::Vec::new(),
            ports,
        }
    }

    /// A guest executed `syscall`: its kernel calls us, or its user mode calls its kernel.
    pub fn syscall(&self, here: &mut Here<P>, regs: &mut GuestRegs) {
        let mut cx = self.context(here, regs);
        if cx.regs.entry_vector == GuestRegs::SYSCALL && cx.vcpu.in_kernel_mode() {
            cx.hypercall();
        } else {
            cx.user_syscall();
        }
        self.resume(here, regs);
    }

    /// A guest raised an exception.
    pub fn exception(&self, here: &mut Here<P>, regs: &mut GuestRegs, exception: Exception) {
        self.context(here, regs).exception(exception);
        self.resume(here, regs);
    }

    /// A guest executed `int n` through a gate that is open to it.
    pub fn soft_interrupt(&self, here: &mut Here<P>, regs: &mut GuestRegs, vector: u8) {
        self.context(here, regs).open_gate(vector);
        self.resume(here, regs);
    }

    /// A guest was interrupted; what it was about has been noted.
    pub fn interrupted(&self, here: &mut Here<P>, regs: &mut GuestRegs) {
        self.resume(here, regs);
    }

    /// What must be settled before a guest goes on: which one that is, and whether an event is to be
    /// delivered first.
    #[inline]
    pub(crate) fn resume(&self, here: &mut Here<P>, regs: &mut GuestRegs) {
        loop {
            if here.cpu.take_attention() {
                self.attend(here, regs);
            }
            let mut cx = self.context(here, regs);
            if cx.vcpu.nmi.is_due() {
                cx.deliver_nmi();
            }
            if cx.vcpu.info(&self.platform).wants_upcall() {
                cx.deliver_upcall();
            }
            if !here.cpu.wants_attention() {
                return;
            }
        }
    }

    /// What a vCPU needs that has just been switched in: it is told that its selectors are bad, and
    /// what time it is.
    pub(crate) fn settle(&self, here: &mut Here<P>, regs: &mut GuestRegs, loaded: bool) {
        let mut cx = self.context(here, regs);
        cx.goes_on();
        cx.write_areas();
        if !loaded {
            cx.failsafe();
        }
    }

    pub(crate) fn context<'a>(
        &'a self,
        here: &'a Here<P>,
        regs: &'a mut GuestRegs,
    ) -> Context<'a, P> {
        let DomainVcpu { domain, vcpu } = &here.running;
        Context::new(self, &here.cpu, domain, vcpu, regs)
    }

    /// Ends what a domain does: none of its vCPUs runs any more, and whoever looks after domains is
    /// told. It keeps what it has. The initial domain's end is the machine's.
    pub fn shut_down(&self, domain: &P::Arc<Domain<P>>, reason: ShutdownReason) {
        if domain.is_privileged() {
            self.initial_domain_ended(domain.stop(&self.platform, reason).0);
        }
        let stopped = {
            // Who lets it go on again does so before all this, or after.
            let _pauses = domain.pauses.lock(&self.platform);
            self.for_vcpus(domain, |vcpu| self.hold(vcpu, Reasons::STOPPED));
            domain.stop(&self.platform, reason).1
        };
        if stopped {
            self.send_global_virq(virq::DOM_EXC);
        }
    }

    /// Devices are stopped, and who else runs is told of. A successor would begin here: the boot modules
    /// are as the loader left them, and what each domain has of a store and a console is recorded.
    fn initial_domain_ended(&self, why: ShutdownReason) -> ! {
        self.stop_devices();
        let mut next = DomId(1);
        while let Some(domain) = self.domains.from(&self.platform, next) {
            next = DomId(domain.id.0.saturating_add(1));
            if domain.life() == Life::Alive && domain.shutdown_reason(&self.platform).is_none() {
                log::warn!("domain {} was there when the initial domain ended", domain.id);
            }
        }
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
            // Who makes it dead looks at its frames afterwards.
            fence(Ordering::SeqCst);
            if domain.memory.pages() == 0 && domain.life() == Life::Dead {
                self.bury_later();
            }
        }
    }
}

impl<'a, P: Platform> Context<'a, P> {
    /// An entry that has done nothing yet.
    pub const fn new(
        system: &'a System<P>,
        here: &'a CpuState<P>,
        domain: &'a P::Arc<Domain<P>>,
        vcpu: &'a P::Arc<Vcpu>,
        regs: &'a mut GuestRegs,
    ) -> Self {
        Self { system, here, domain, vcpu, regs, budget: Budget::new(), args: [0; 6] }
    }
}

impl<P: Platform> Context<'_, P> {
    /// The vCPU goes on after it was asked whether it may: what it waited for is over.
    pub(crate) fn goes_on(&self) {
        if self.vcpu.poll.is_on() {
            self.end_poll();
        }
        self.system.resume_periodic(&self.target());
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
        let direction = match self.regs.entry_vector {
            GuestRegs::SYSENTER => 0,
            _ => rflags::DF,
        };
        if handler.is_set() {
            self.bounce_or_crash(handler, None);
            // The one flag that `syscall` clears by the ABI; the frame has it as it was.
            self.regs.rflags &= !direction;
        } else if self.regs.entry_vector == GuestRegs::SYSENTER {
            self.general_protection(0);
        } else {
            self.regs.rip = self.regs.rip.wrapping_sub(SYSCALL_LENGTH);
            self.inject(crate::trap::INVALID_OPCODE, None);
        }
    }

    /// Enters a handler; a guest that can't be entered ends.
    pub(crate) fn bounce_or_crash(&mut self, handler: Handler, error_code: Option<u32>) {
        if self.system.platform.is_tracing() {
            self.trace(Kind::Entry, self.regs.rip, &[handler.address]);
        }
        if let Err(error) = self.bounce(handler, error_code) {
            self.crash(format_args!("{error}"));
        }
    }

    /// Ends the domain because of what its vCPU did, with a dump of its state.
    pub(crate) fn crash(&mut self, why: core::fmt::Arguments<'_>) {
        if self.system.platform.is_tracing() {
            self.trace_text(Kind::Crash, why);
        }
        crash::dump(self, why);
        self.system.shut_down(self.domain, ShutdownReason(reason::CRASH));
    }
}
