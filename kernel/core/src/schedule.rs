//! Which vCPU a CPU runs: the decisions of [`crate::sched`], carried out on the machine.
//!
//! A CPU asks the scheduler only on its way back to a guest, with nothing half done: a hypercall
//! that waits has noted what it waits for and given its answer already. So changing vCPUs is
//! exchanging registers, and one kernel stack per CPU is enough.

use crate::cpu::CpuId;
use crate::mm::roots;
use crate::platform::{NoMemory, Platform};
use crate::regs::GuestRegs;
use crate::sched::{Choice, Poke, Reasons};
use crate::system::{DomainVcpu, Here, System};

impl<P: Platform> System<P> {
    /// System time. Unit: nanoseconds.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.clock.time_at(self.platform.tsc())
    }

    /// Lets the calling CPU run guests from now on.
    ///
    /// # Errors
    ///
    /// [`NoMemory`].
    pub fn cpu_online(&self) -> Result<(), NoMemory> {
        let cpu = self.platform.cpu();
        self.platform.frames().epochs().cpu_online(cpu);
        self.cpus.add(&self.platform, cpu)?;
        self.scheduler.cpu_online(&self.platform, cpu)
    }

    /// Waits for the first vCPU of the calling CPU, which must be online, and gives it the CPU.
    pub fn first_vcpu(&self, regs: &mut GuestRegs) -> Option<Here<P>> {
        let cpu = self.platform.cpu();
        let state = self.cpus.get(cpu)?.clone();
        let mut here = Here { cpu: state, running: self.idle(cpu) };
        here.running.load_address_space(&self.platform);
        let loaded = here.running.load(&self.platform, cpu, regs);
        self.settle(&mut here, regs, loaded);
        self.resume(&mut here, regs);
        Some(here)
    }

    /// Serves what called for attention: timers, and the question who runs.
    #[cold]
    pub(crate) fn attend(&self, here: &mut Here<P>, regs: &mut GuestRegs) {
        let platform = &self.platform;
        let (cpu, now) = (platform.cpu(), self.now());
        self.serve_timers(now);
        let (next, idled) = match self.scheduler.choose(platform, cpu, now, Some(&here.running)) {
            Choice::Stay { until } => {
                here.cpu.arm(self, until);
                return self.context(here, regs).goes_on();
            }
            Choice::Switch { next, until } => {
                self.leave(cpu, here, regs, now);
                here.cpu.arm(self, until);
                (next, false)
            }
            Choice::Idle { .. } => {
                self.leave(cpu, here, regs, now);
                roots::unload(platform);
                here.running.domain.memory.dirty().leave(cpu);
                (self.idle(cpu), true)
            }
        };
        let previous = core::mem::replace(&mut here.running, next);
        let loaded = self.enter(cpu, &previous, here, regs, idled);
        self.settle(here, regs, loaded);
    }

    /// Keeps the registers of the vCPU that this CPU ran; others may run it from now on.
    fn leave(&self, cpu: CpuId, here: &Here<P>, regs: &GuestRegs, now: u64) {
        here.running.save(&self.platform, regs);
        let poke = self.scheduler.put_back(&self.platform, cpu, now, &here.running);
        self.apply(poke);
    }

    /// Sleeps until there is a vCPU for this CPU. Nobody's address space is loaded meanwhile, so
    /// whatever becomes of the last one does not matter here.
    fn idle(&self, cpu: CpuId) -> DomainVcpu<P> {
        loop {
            let now = self.now();
            self.serve_timers(now);
            let choice = self.scheduler.choose(&self.platform, cpu, now, None);
            let (until, next) = match choice {
                Choice::Switch { next, until } => (until, Some(next)),
                Choice::Idle { until } | Choice::Stay { until } => (until, None),
            };
            if let Some(here) = self.cpus.get(cpu) {
                here.arm(self, until);
                here.take_attention();
            }
            match next {
                Some(next) => return next,
                None => self.platform.wait_for_interrupt(),
            }
        }
    }

    /// Gives this CPU to `here.running`, after `previous`. False if a selector could not be loaded.
    fn enter(
        &self,
        cpu: CpuId,
        previous: &DomainVcpu<P>,
        here: &Here<P>,
        regs: &mut GuestRegs,
        idled: bool,
    ) -> bool {
        let platform = &self.platform;
        let next = &here.running;
        if next.is(previous) && next.vcpu.last_ran_on(cpu) {
            // Its registers are still here.
            if idled {
                next.load_address_space(platform);
                platform.load_window(next.vcpu.window);
            }
            return true;
        }
        let same_domain = next.domain.id == previous.domain.id;
        // A vCPU that ran elsewhere may have left something here that was changed meanwhile.
        let same_space = !idled && same_domain && next.vcpu.last_ran_on(cpu);
        if !(same_space && next.root() == previous.root()) {
            next.load_address_space(platform);
        }
        if !idled && !same_domain {
            previous.domain.memory.dirty().leave(cpu);
        }
        next.load(platform, cpu, regs)
    }

    /// A reason to wait is gone: the vCPU runs when its turn comes.
    pub(crate) fn wake(&self, target: &DomainVcpu<P>, reason: Reasons) {
        let poke = self.scheduler.wake(&self.platform, target, reason, self.now());
        self.apply(poke);
    }

    /// Makes a CPU ask the scheduler.
    pub(crate) fn apply(&self, poke: Poke) {
        for cpu in poke.cpus().iter() {
            if cpu != self.platform.cpu() {
                self.platform.poke(cpu);
            } else if let Some(here) = self.cpus.get(cpu) {
                here.call_attention();
            }
        }
    }
}
