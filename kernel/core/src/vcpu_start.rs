//! The state a vCPU starts with, as a guest or the tools describe it.
//!
//! What the description refers to is taken first, frame by frame; only when nothing can fail any
//! more the vCPU changes.

use core::sync::atomic::Ordering;

use hypercall_abi::errno::Errno;
use hypercall_abi::layout::FIRST_RESERVED_GDT_ENTRY;
use hypercall_abi::regs::{CpuUserRegs, GuestContextFlags, VcpuGuestContext};
use hypercall_abi::types::{Mfn, PAGE_SHIFT};

use crate::bounce::rflags;
use crate::debug::DebugRegisters;
use crate::descriptors::{GdtFrames, put_frames};
use crate::dispatch::{Answer, DONE, Reply, low_u32};
use crate::guest_memory::{self, GuestRange, is_canonical};
use crate::mm::{Budget, Ldt, Mm, Stop};
use crate::platform::Platform;
use crate::regs::{GuestRegs, with_general};
use crate::saved::{FpuState, Saved, Selectors};
use crate::system::{Context, DomainVcpu};
use crate::vcpu::{Handler, State};

/// CR0: the next use of the floating-point unit faults.
const CR0_TS: u64 = 1 << 3;
/// Descriptors a local descriptor table may have.
const LDT_ENTRIES: u64 = 8192;

impl<P: Platform> Context<'_, P> {
    /// `vcpu_op(initialise)`: gives a vCPU that never ran its state.
    ///
    /// # Errors
    ///
    /// - `EFAULT`: the description can't be read.
    /// - `EEXIST`: the vCPU has a state already.
    /// - `EINVAL`: an address that is none, a table that is too long, or a frame that can't be what
    ///   it is to be.
    pub(crate) fn initialise(&mut self, target: &DomainVcpu<P>, argument: u64) -> Answer {
        let platform = &self.system.platform;
        // Five KiB: too large to be copied from place to place on the stack.
        let context: VcpuGuestContext = guest_memory::read(platform, argument)?;
        let Some(_claim) = target.vcpu.claim() else { return Ok(Reply::Again(self.args)) };
        if target.vcpu.is_initialised() {
            return Err(Errno::EEXIST);
        }
        let mut budget = core::mem::take(&mut self.budget);
        let answer = self.set_context(target, &context, "vcpu_op: initialise", &mut budget);
        self.budget = budget;
        answer
    }

    /// Gives a vCPU that never ran its state, for `call`. The caller has the vCPU's claim.
    ///
    /// # Errors
    ///
    /// `EINVAL`: an address that is none, a table that is too long, or a frame that can't be what it
    /// is to be.
    pub(crate) fn set_context(
        &self,
        target: &DomainVcpu<P>,
        context: &VcpuGuestContext,
        call: &str,
        budget: &mut Budget,
    ) -> Answer {
        let mm = Mm::new(&self.system.platform, &target.domain.memory, self.system);
        check(context)?;
        if mm.finish_pending(budget).is_err() {
            return Ok(Reply::Again(self.args));
        }
        let mut gdt = GdtFrames::default();
        let entries = low_u32(context.gdt_ents);
        for (slot, frame) in gdt.iter_mut().zip(context.gdt_frames).take(pages(entries)) {
            *slot = Some(Mfn(frame));
        }
        self.take_frames(mm, &mut gdt)?;
        let user = Some(root(context.ctrlreg[1])).filter(|user| user.0 != 0);
        let kernel = root(context.ctrlreg[3]);
        match mm.first_roots(&target.vcpu.roots, kernel, user, budget) {
            Ok(()) => {}
            Err(stop) => {
                put_frames(mm, &gdt);
                return match stop {
                    Stop::Again => Ok(Reply::Again(self.args)),
                    Stop::Refused(refusal) => Err(self.refused(call, &refusal)),
                };
            }
        }
        self.start(target, context, gdt);
        DONE
    }

    /// Makes the description, whose frames are taken, the vCPU's state.
    fn start(&self, target: &DomainVcpu<P>, context: &VcpuGuestContext, gdt: GdtFrames) {
        let platform = &self.system.platform;
        let vcpu = &target.vcpu;
        let ldt = Ldt { address: context.ldt_base, entries: low_u32(context.ldt_ents) };
        vcpu.state.lock(platform).tables.start(gdt, ldt);
        for (page, frame) in (0_u8..).zip(gdt) {
            platform.set_window_page(vcpu.window, page, frame);
        }
        self.adopt(target, context);
        vcpu.set_initialised(true);
    }

    /// Gives a vCPU that has a state, and does not run, another one.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: an address that is none.
    /// - `EOPNOTSUPP`: other tables than it has.
    pub(crate) fn change_context(
        &self,
        target: &DomainVcpu<P>,
        context: &VcpuGuestContext,
    ) -> Result<(), Errno> {
        check(context)?;
        let vcpu = &target.vcpu;
        let user = root(context.ctrlreg[1]);
        let same_roots = vcpu.roots.kernel() == Some(root(context.ctrlreg[3]))
            && vcpu.roots.user().unwrap_or_default() == user
            && (user.0 != 0 || has(context, GuestContextFlags::IN_KERNEL));
        let same_tables = {
            let state = vcpu.state.lock(&self.system.platform);
            let gdt = state.tables.gdt();
            let count = gdt.iter().flatten().count();
            let mut gdt = gdt.iter().zip(context.gdt_frames);
            gdt.all(|(frame, wanted)| frame.unwrap_or_default() == Mfn(wanted))
                && count == pages(low_u32(context.gdt_ents))
                && state.tables.ldt_address() == context.ldt_base
                && u64::from(state.tables.ldt_entries()) == context.ldt_ents
        };
        if !same_roots || !same_tables {
            return Err(Errno::EOPNOTSUPP);
        }
        self.adopt(target, context);
        Ok(())
    }

    /// Takes over from the description all but tables.
    fn adopt(&self, target: &DomainVcpu<P>, context: &VcpuGuestContext) {
        let platform = &self.system.platform;
        let vcpu = &target.vcpu;
        let in_kernel = has(context, GuestContextFlags::IN_KERNEL);
        vcpu.set_kernel_mode(in_kernel);
        *vcpu.saved.lock(platform) = saved(context, in_kernel);
        let cr4_features = self.system.cr4_features(&target.domain);
        set_state(&mut vcpu.state.lock(platform), context, cr4_features);
        // What it will read; its information does not say so.
        vcpu.cr2.store(context.ctrlreg[2], Ordering::Relaxed);
        vcpu.set_last_cpu(None);
        // It counts as up then, but nobody has set it going: measured on Xen 4.17.
        vcpu.set_up(has(context, GuestContextFlags::ONLINE));
    }
}

/// Whether all that can be judged by itself is right.
fn check(context: &VcpuGuestContext) -> Result<(), Errno> {
    let regs = &context.user_regs;
    let addresses = [
        regs.rip,
        regs.rsp,
        context.kernel_sp,
        context.event_callback_eip,
        context.failsafe_callback_eip,
        context.syscall_callback_eip,
        context.fs_base,
        context.gs_base_kernel,
        context.gs_base_user,
    ];
    let handlers = context.trap_ctxt.iter().map(|row| row.address);
    let ldt = context.ldt_base.is_multiple_of(4096)
        && GuestRange::new(context.ldt_base, 1).is_ok()
        && is_canonical(context.ldt_base)
        && context.ldt_ents <= LDT_ENTRIES;
    let gdt = context.gdt_ents <= u64::from(FIRST_RESERVED_GDT_ENTRY);
    let user = has(context, GuestContextFlags::IN_KERNEL) || root(context.ctrlreg[1]).0 != 0;
    if addresses.into_iter().chain(handlers).all(is_canonical) && ldt && gdt && user {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

fn has(context: &VcpuGuestContext, flag: GuestContextFlags) -> bool {
    context.flags & flag.bits() != 0
}

/// The frame that a root register names.
const fn root(register: u64) -> Mfn {
    Mfn(register >> PAGE_SHIFT | register.wrapping_shl(64 - PAGE_SHIFT))
}

/// Frames of so many descriptors.
fn pages(entries: u32) -> usize {
    usize::try_from(entries.div_ceil(512)).unwrap_or(usize::MAX)
}

fn saved(context: &VcpuGuestContext, in_kernel: bool) -> Saved {
    let regs = &context.user_regs;
    let (active, other) = if in_kernel {
        (context.gs_base_kernel, context.gs_base_user)
    } else {
        (context.gs_base_user, context.gs_base_kernel)
    };
    Saved {
        regs: general(regs),
        selectors: Selectors { ds: regs.ds, es: regs.es, fs: regs.fs, gs: regs.gs },
        bases: [context.fs_base, active, other],
        fpu: if has(context, GuestContextFlags::I387_VALID) {
            FpuState::from_guest(context.fpu_ctxt)
        } else {
            FpuState::INITIAL
        },
    }
}

fn general(regs: &CpuUserRegs) -> GuestRegs {
    with_general!(GuestRegs, regs, {
        // Every register is to be as described, so the vCPU is entered by `iretq`.
        error_code: 0,
        entry_vector: 0,
        rip: regs.rip,
        cs: u64::from(regs.cs | 3),
        rflags: regs.rflags & !(rflags::IOPL | rflags::VM) | rflags::IF | 1 << 1,
        rsp: regs.rsp,
        ss: u64::from(regs.ss | 3),
    })
}

fn set_state(state: &mut State, context: &VcpuGuestContext, cr4_features: u64) {
    state.traps.clear();
    for (vector, row) in (0_u8..=255).zip(context.trap_ctxt) {
        state.traps.set(&hypercall_abi::trap::TrapInfo { vector, ..row });
    }
    let failsafe_masks = has(context, GuestContextFlags::FAILSAFE_DISABLES_EVENTS);
    let syscall_masks = has(context, GuestContextFlags::SYSCALL_DISABLES_EVENTS);
    state.event = Handler::callback(context.event_callback_eip, true);
    state.failsafe = Handler::callback(context.failsafe_callback_eip, failsafe_masks);
    state.syscall = Handler::callback(context.syscall_callback_eip, syscall_masks);
    let [low, high, ..] = context.kernel_ss.to_le_bytes();
    state.kernel_ss = u16::from_le_bytes([low, high]) | 3;
    state.kernel_sp = context.kernel_sp;
    state.iopl = context.user_regs.rflags & rflags::IOPL;
    state.task_switched = context.ctrlreg[0] & CR0_TS != 0;
    state.cr4 = context.ctrlreg[4] & cr4_features;
    state.debug = DebugRegisters::default();
    for number in [0_u8, 1, 2, 3, 6, 7] {
        let value = context.debugreg.get(usize::from(number)).copied().unwrap_or(0);
        // What a guest may not have there is passed over.
        let _ = state.debug.set(number.into(), value, state.cr4);
    }
}
