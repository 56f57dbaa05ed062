//! Which vCPU a CPU runs: the decisions of [`crate::sched`], carried out on the machine.
//!
//! A CPU asks the scheduler only on its way back to a guest, with nothing half done: a hypercall
//! that waits has noted what it waits for and given its answer already. So changing vCPUs is
//! exchanging registers, and one kernel stack per CPU is enough.

use core::sync::atomic::Ordering;

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
        let loaded = self.load(cpu, &here, regs);
        self.settle(&mut here, regs, loaded);
        self.resume(&mut here, regs);
        Some(here)
    }

    /// Serves what called for attention: timers, and the question who runs.
    #[cold]
    pub(crate) fn attend(&self, here: &mut Here<P>, regs: &mut GuestRegs) {
        let platform = &self.platform;
        self.stand_still();
        let (cpu, now) = (platform.cpu(), self.now());
        self.serve_timers(now);
        self.bury_if_due();
        match self.scheduler.choose(platform, cpu, now, Some(&here.running)) {
            Choice::Stay { until } => {
                here.cpu.arm(self, until);
                self.context(here, regs).goes_on();
            }
            Choice::Switch { next, until } => {
                self.save(here, regs);
                self.leave_for(cpu, &here.running, &next);
                self.put_back(cpu, &here.running);
                here.cpu.arm(self, until);
                self.trace_switch(&here.running, &next);
                here.running = next;
                let loaded = self.load(cpu, here, regs);
                self.settle(here, regs, loaded);
            }
            Choice::Idle { .. } => {
                self.save(here, regs);
                roots::unload(platform);
                here.running.domain.memory.dirty().leave(cpu);
                self.put_back(cpu, &here.running);
                let next = self.idle(cpu);
                next.load_address_space(platform);
                let same = next.is(&here.running) && next.vcpu.last_ran_on(cpu);
                self.trace_switch(&here.running, &next);
                here.running = next;
                let loaded = if same {
                    // Its registers are still here.
                    platform.load_window(here.running.vcpu.window);
                    true
                } else {
                    self.load(cpu, here, regs)
                };
                self.settle(here, regs, loaded);
            }
        }
    }

    /// Keeps the registers of the vCPU that this CPU ran, and tells the guest what it does now.
    fn save(&self, here: &Here<P>, regs: &mut GuestRegs) {
        here.running.save(&self.platform, regs);
        self.context(here, regs).write_runstate();
    }

    /// Makes the next vCPU's address space this CPU's instead of the last one's, unless it is the
    /// same and nobody can have changed it elsewhere meanwhile.
    fn leave_for(&self, cpu: CpuId, last: &DomainVcpu<P>, next: &DomainVcpu<P>) {
        let same_domain = next.domain.id == last.domain.id;
        if !(same_domain && next.vcpu.last_ran_on(cpu) && next.root() == last.root()) {
            next.load_address_space(&self.platform);
        }
        if !same_domain {
            last.domain.memory.dirty().leave(cpu);
        }
    }

    /// Gives this CPU what belongs to the vCPU it runs now, whose address space is loaded. False if
    /// one of its data selectors means nothing any more.
    fn load(&self, cpu: CpuId, here: &Here<P>, regs: &mut GuestRegs) -> bool {
        // Ring 0 loads the selectors, and finds no page of an LDT that is not shown.
        let selectors = here.running.vcpu.saved.lock(&self.platform).selectors;
        for selector in selectors.of_ldt() {
            self.context(here, regs).show_descriptor(selector);
        }
        here.running.load(&self.platform, cpu, regs)
    }

    /// Others may run the vCPU from now on, or end its domain: nothing of it is in use here any more.
    fn put_back(&self, cpu: CpuId, last: &DomainVcpu<P>) {
        let poke = self.scheduler.put_back(&self.platform, cpu, self.now(), last);
        self.apply(poke);
    }

    /// Sleeps until there is a vCPU for this CPU. Nobody's address space is loaded meanwhile, so
    /// whatever becomes of the last one does not matter here.
    fn idle(&self, cpu: CpuId) -> DomainVcpu<P> {
        loop {
            self.stand_still();
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
                None => {
                    self.platform.wait_for_interrupt();
                    if let Some(here) = self.cpus.get(cpu) {
                        let slept = self.now().saturating_sub(now);
                        here.idle_time.fetch_add(slept, Ordering::Relaxed);
                    }
                }
            }
        }
    }

    /// A reason to wait is gone: the vCPU runs when its turn comes.
    pub(crate) fn wake(&self, target: &DomainVcpu<P>, reason: Reasons) {
        let poke = self.scheduler.wake(&self.platform, target, reason, self.now());
        self.apply(poke);
    }

    /// Makes CPUs ask the scheduler. This one needs no more than its timer if that is soon enough.
    #[inline]
    pub(crate) fn apply(&self, poke: Poke) {
        if !poke.cpus().is_empty() {
            self.poke(poke);
        }
    }

    fn poke(&self, poke: Poke) {
        for cpu in poke.cpus().iter() {
            if cpu != self.platform.cpu() {
                self.platform.poke(cpu);
            } else if let Some(here) = self.cpus.get(cpu) {
                match poke.later(cpu) {
                    Some(time) => here.set_alarm(self, time),
                    None => here.call_attention(),
                }
            }
        }
    }
}
