//! A vCPU's state, set and read from outside.

use core::sync::atomic::Ordering;

use hypercall_abi::domctl::VcpuContext;
use hypercall_abi::errno::Errno;
use hypercall_abi::regs::{CpuUserRegs, GuestContextFlags, VcpuGuestContext};
use hypercall_abi::trap::TrapInfo;
use hypercall_abi::types::{Mfn, PAGE_SHIFT};

use super::info::find;
use super::{Payload, get};
use crate::calls::assist::ASSISTS;
use crate::descriptors;
use crate::dispatch::{Answer, DONE, Reply};
use crate::domain::Domain;
use crate::emulate::control::{CR0_FIXED, CR0_TS, CR4_FIXED};
use crate::guest_memory;
use crate::mm::{Budget, Mm, Stop};
use crate::platform::Platform;
use crate::regs::with_general;
use crate::saved::Saved;
use crate::sched::Reasons;
use crate::system::{Context, DomainVcpu, System};
use crate::vcpu::{Handler, State};

impl<P: Platform> Context<'_, P> {
    /// `setvcpucontext`: the state a vCPU begins with, or goes on with; without one, it loses what it has.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the caller's own domain, no such vCPU, or as `vcpu_op` initialise.
    /// - `EFAULT`: the description can't be read.
    /// - `EOPNOTSUPP`: the vCPU has a state already, with other tables.
    pub(crate) fn set_vcpu_context(&self, domain: &P::Arc<Domain<P>>, payload: &Payload) -> Answer {
        let asked: VcpuContext = get(payload);
        if self.is_own(domain.id) {
            return Err(Errno::EINVAL);
        }
        let target = find::<P>(domain, asked.vcpu.0).map_err(|_| Errno::EINVAL)?;
        let Some(_claim) = target.vcpu.claim() else { return Ok(Reply::Again(self.args)) };
        if asked.ctxt == 0 && !target.vcpu.is_initialised() {
            return DONE;
        }
        if asked.ctxt == 0 {
            return self.reset(&target).map_or(Ok(Reply::Again(self.args)), |()| DONE);
        }
        let context: VcpuGuestContext = guest_memory::read(&self.system.platform, asked.ctxt)?;
        let known = ASSISTS.into_iter().fold(0, |bits, assist| bits | 1_u64.wrapping_shl(assist));
        if asked.vcpu.0 == 0 && context.vm_assist & !known != 0 {
            return Err(Errno::EINVAL);
        }
        let done = match target.vcpu.is_initialised() {
            false => {
                self.set_context(&target, &context, "domctl: setvcpucontext", &mut Budget::new())?
            }
            true => match self.while_still(&target, || self.change_context(&target, &context)) {
                Some(changed) => changed.and(DONE)?,
                None => Reply::Again(self.args),
            },
        };
        if done == Reply::Value(0) {
            if asked.vcpu.0 == 0 {
                for assist in ASSISTS {
                    if context.vm_assist & 1_u64.wrapping_shl(assist) != 0 {
                        domain.memory.enable_assist(assist);
                    } else {
                        domain.memory.disable_assist(assist);
                    }
                }
            }
            match target.vcpu.is_up() {
                true => self.system.wake(&target, Reasons::DOWN),
                false => self.system.hold(&target, Reasons::DOWN),
            }
        }
        Ok(done)
    }

    /// Takes its state from a vCPU: it is down, refers to nothing, and can be given another. The caller has
    /// the vCPU's claim.
    ///
    /// # Errors
    ///
    /// [`Stop::Again`]: it has still to leave its CPU, or the domain has something to be undone first.
    fn reset(&self, target: &DomainVcpu<P>) -> Result<(), Stop> {
        let (system, DomainVcpu { domain, vcpu }) = (self.system, target);
        let mm = Mm::new(&system.platform, &domain.memory, system);
        let budget = &mut Budget::new();
        mm.finish_pending(budget)?;
        let down = || {
            system.hold(target, Reasons::DOWN);
            vcpu.set_initialised(false);
            if vcpu.poll.is_on() {
                vcpu.poll.end();
                domain.poller_goes();
            }
        };
        self.while_still(target, down).ok_or(Stop::Again)?;
        // It stays down without a state, and nobody gives it one meanwhile.
        descriptors::end_tables(system, domain, vcpu);
        mm.end_roots(&vcpu.roots, budget);
        system.wake(target, Reasons::WAITING);
        Ok(())
    }

    /// `getvcpucontext`.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: no such vCPU, or the caller itself.
    /// - `ENODATA`: the vCPU has no state yet.
    /// - `EFAULT`: it can't be written.
    pub(crate) fn get_vcpu_context(&self, domain: &P::Arc<Domain<P>>, payload: &Payload) -> Answer {
        let asked: VcpuContext = get(payload);
        let target = find::<P>(domain, asked.vcpu.0).map_err(|_| Errno::EINVAL)?;
        if target.is(&self.target()) {
            return Err(Errno::EINVAL);
        }
        if !target.vcpu.is_initialised() {
            return Err(Errno::ENODATA);
        }
        let mut context = VcpuGuestContext::default();
        let described = self.while_still(&target, || self.system.describe(&target, &mut context));
        if described.is_none() {
            return Ok(Reply::Again(self.args));
        }
        guest_memory::write(&self.system.platform, asked.ctxt, &context)?;
        DONE
    }

    /// Does something while a vCPU does not run. `None`: it has still to leave its CPU, and nothing was
    /// done.
    pub(super) fn while_still<T>(
        &self,
        target: &DomainVcpu<P>,
        what: impl FnOnce() -> T,
    ) -> Option<T> {
        // It does not run while this is held, if it does not run now.
        let pauses = target.domain.pauses.lock(&self.system.platform);
        self.system.hold(target, Reasons::PAUSED);
        if target.vcpu.scheduling.is_on_cpu() {
            return None;
        }
        let done = what();
        if *pauses == 0 {
            self.system.wake(target, Reasons::PAUSED);
        }
        Some(done)
    }
}

impl<P: Platform> System<P> {
    /// Describes a vCPU that does not run.
    fn describe(&self, target: &DomainVcpu<P>, context: &mut VcpuGuestContext) {
        let DomainVcpu { domain, vcpu } = target;
        let in_kernel = vcpu.in_kernel_mode();
        set_registers(context, &vcpu.saved.lock(&self.platform), in_kernel);
        set_state(context, &vcpu.state.lock(&self.platform));
        let table = |frame: Option<Mfn>| frame.map_or(0, register);
        context.ctrlreg[1] = table(vcpu.roots.user());
        context.ctrlreg[2] = vcpu.cr2.load(Ordering::Relaxed);
        context.ctrlreg[3] = table(vcpu.roots.kernel());
        let mut flags = GuestContextFlags::from_bits_retain(context.flags);
        flags |= GuestContextFlags::I387_VALID;
        flags.set(GuestContextFlags::IN_KERNEL, in_kernel);
        let down = vcpu.scheduling.reasons().contains(Reasons::DOWN);
        flags.set(GuestContextFlags::ONLINE, !down);
        context.flags = flags.bits();
        let on = ASSISTS.into_iter().filter(|&assist| domain.memory.has_assist(assist));
        context.vm_assist = on.fold(0, |bits, assist| bits | 1_u64.wrapping_shl(assist));
    }
}

/// The root register that names a frame.
const fn register(Mfn(mfn): Mfn) -> u64 {
    mfn.wrapping_shl(PAGE_SHIFT) | mfn.wrapping_shr(64 - PAGE_SHIFT)
}

fn set_registers(context: &mut VcpuGuestContext, saved: &Saved, in_kernel: bool) {
    let regs = &saved.regs;
    let [cs, ss] = [regs.cs, regs.ss].map(|selector| {
        let [low, high, ..] = selector.to_le_bytes();
        u16::from_le_bytes([low, high])
    });
    context.user_regs = with_general!(CpuUserRegs, regs, {
        rip: regs.rip,
        cs,
        rflags: regs.rflags,
        rsp: regs.rsp,
        ss,
        ds: saved.selectors.ds,
        es: saved.selectors.es,
        fs: saved.selectors.fs,
        gs: saved.selectors.gs,
        ..CpuUserRegs::default()
    });
    context.fpu_ctxt = *saved.fpu.legacy();
    let [fs, active, other] = saved.bases;
    let (kernel, user) = if in_kernel { (active, other) } else { (other, active) };
    (context.fs_base, context.gs_base_kernel, context.gs_base_user) = (fs, kernel, user);
}

fn set_state(context: &mut VcpuGuestContext, state: &State) {
    for (vector, row) in (0_u8..=255).zip(&mut context.trap_ctxt) {
        let Handler { address, cs, masks_events, ring } = state.traps.get(vector);
        if address != 0 {
            let masks = if masks_events { TrapInfo::MASK_EVENTS } else { 0 };
            *row = TrapInfo { vector, flags: ring | masks, cs, address, ..TrapInfo::default() };
        }
    }
    context.user_regs.rflags |= state.iopl;
    context.ctrlreg[0] = CR0_FIXED | if state.task_switched { CR0_TS } else { 0 };
    context.ctrlreg[4] = CR4_FIXED | state.cr4;
    for (number, value) in (0..).zip(&mut context.debugreg) {
        // 4 and 5 are other names of 6 and 7, and not described.
        *value = if matches!(number, 4 | 5) { 0 } else { state.debug.get(number, 0).unwrap_or(0) };
    }
    context.kernel_ss = u64::from(state.kernel_ss);
    context.kernel_sp = state.kernel_sp;
    context.event_callback_eip = state.event.address;
    context.failsafe_callback_eip = state.failsafe.address;
    context.syscall_callback_eip = state.syscall.address;
    let mut flags = GuestContextFlags::empty();
    flags.set(GuestContextFlags::FAILSAFE_DISABLES_EVENTS, state.failsafe.masks_events);
    flags.set(GuestContextFlags::SYSCALL_DISABLES_EVENTS, state.syscall.masks_events);
    context.flags = flags.bits();
    let frames = state.tables.gdt();
    for (to, from) in context.gdt_frames.iter_mut().zip(frames) {
        *to = from.map_or(0, |frame| frame.0);
    }
    context.gdt_ents = (frames.iter().flatten().count() as u64).wrapping_mul(512);
    context.ldt_base = state.tables.ldt_address();
    context.ldt_ents = u64::from(state.tables.ldt_entries());
}
