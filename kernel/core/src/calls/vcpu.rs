//! `vcpu_op` (hypercall 24): the vCPUs of the calling domain.

use core::sync::atomic::Ordering;

use hypercall_abi::errno::Errno;
use hypercall_abi::start::VcpuTimeInfo;
use hypercall_abi::types::{Mfn, VcpuId};
use hypercall_abi::vcpu::{
    self, GetPhysid, RegisterRunstateArea, RegisterTimeArea, RegisterVcpuInfo, SetPeriodicTimer,
    SetSingleshotTimer,
};

use crate::cpu::CpuId;
use crate::dispatch::{Answer, DONE, Reply, low_u32};
use crate::guest_memory;
use crate::platform::Platform;
use crate::sched::Reasons;
use crate::system::{Context, DomainVcpu};
use crate::timer::{NEVER, instant};
use crate::vcpu::{INFO_ALIGNMENT, LAST_INFO_OFFSET, Vcpu};

/// The shortest period of a timer. Unit: nanoseconds.
const SHORTEST_PERIOD: u64 = 1_000_000;
/// The longest period of a timer. Unit: nanoseconds.
const LONGEST_PERIOD: u64 = (1 << 62) - 1;

/// `vcpu_op(cmd, vcpu, argument)`.
///
/// # Errors
///
/// - `ENOENT`: the domain has no such vCPU.
/// - `ENOSYS`: unknown command.
/// - `EFAULT`: the argument can't be read or written.
/// - else by command.
pub fn vcpu_op<P: Platform>(
    cx: &mut Context<'_, P>,
    [cmd, number, argument, ..]: [u64; 6],
) -> Answer {
    let platform = &cx.system.platform;
    let vcpu = cx.domain.vcpu(VcpuId(low_u32(number))).ok_or(Errno::ENOENT)?;
    let target = DomainVcpu { domain: cx.domain.clone(), vcpu: vcpu.clone() };
    match low_u32(cmd) {
        vcpu::INITIALISE => cx.initialise(&target, argument),
        vcpu::UP => up(cx, &target),
        vcpu::DOWN => down(cx, &target),
        vcpu::IS_UP => Ok(Reply::Value(u64::from(vcpu.is_up()))),
        vcpu::GET_RUNSTATE_INFO => {
            let info = cx.system.runstate(&target.vcpu);
            guest_memory::write(platform, argument, &info)?;
            DONE
        }
        vcpu::REGISTER_RUNSTATE_MEMORY_AREA => register_runstate(cx, &target, argument),
        vcpu::REGISTER_VCPU_TIME_MEMORY_AREA => register_time(cx, &target, argument),
        vcpu::SET_PERIODIC_TIMER => {
            set_periodic(cx, &target, guest_memory::read(platform, argument)?)
        }
        vcpu::STOP_PERIODIC_TIMER => {
            cx.system.set_timers(&target, |timers| timers.set_period(0));
            DONE
        }
        vcpu::SET_SINGLESHOT_TIMER | vcpu::STOP_SINGLESHOT_TIMER if !target.vcpu_is(cx) => {
            Err(Errno::EINVAL)
        }
        vcpu::SET_SINGLESHOT_TIMER => set_singleshot(cx, guest_memory::read(platform, argument)?),
        vcpu::STOP_SINGLESHOT_TIMER => {
            cx.set_own_timers(|timers| timers.once = NEVER);
            DONE
        }
        vcpu::REGISTER_VCPU_INFO => {
            register_info(cx, &target, guest_memory::read(platform, argument)?)
        }
        vcpu::GET_PHYSID => {
            let phys_id = cx.physical_id(vcpu).ok_or(Errno::EINVAL)?;
            guest_memory::write(platform, argument, &GetPhysid { phys_id })?;
            DONE
        }
        vcpu::SEND_NMI if argument != 0 => Err(Errno::EINVAL),
        vcpu::SEND_NMI => {
            cx.system.send_nmi(&target);
            DONE
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// A vCPU goes up. Nobody takes its state away between the look whether it has one and that.
///
/// # Errors
///
/// `EINVAL`: it has no state.
fn up<P: Platform>(cx: &Context<'_, P>, target: &DomainVcpu<P>) -> Answer {
    let Some(_claim) = target.vcpu.claim() else { return Ok(Reply::Again(cx.args)) };
    if !target.vcpu.is_initialised() {
        return Err(Errno::EINVAL);
    }
    if !target.vcpu.set_up(true) {
        cx.system.wake(target, Reasons::DOWN);
    }
    DONE
}

/// A vCPU goes down. The last one that is up takes the domain with it.
fn down<P: Platform>(cx: &Context<'_, P>, target: &DomainVcpu<P>) -> Answer {
    // Who sees that it is not up any more may set it going again at once, so it is held by then.
    cx.system.hold(target, Reasons::DOWN);
    target.vcpu.set_up(false);
    if !cx.domain.vcpus().any(|vcpu| vcpu.is_up()) {
        cx.shut_down(hypercall_abi::sched::REASON_POWEROFF);
    }
    DONE
}

/// Sets a vCPU's periodic timer, which goes on from its last tick.
///
/// # Errors
///
/// `EINVAL`: a period below 1 ms, or of 2^62 ns and more.
fn set_periodic<P: Platform>(
    cx: &Context<'_, P>,
    target: &DomainVcpu<P>,
    SetPeriodicTimer { period_ns }: SetPeriodicTimer,
) -> Answer {
    if !(SHORTEST_PERIOD..=LONGEST_PERIOD).contains(&period_ns) {
        return Err(Errno::EINVAL);
    }
    cx.system.set_timers(target, |timers| timers.set_period(period_ns));
    cx.system.serve_timers(cx.system.now());
    DONE
}

/// Sets the calling vCPU's one-shot timer.
///
/// Flags mean nothing: measured on Xen 4.17.
///
/// # Errors
///
/// None.
fn set_singleshot<P: Platform>(cx: &Context<'_, P>, asked: SetSingleshotTimer) -> Answer {
    cx.set_own_timers(|timers| timers.once = instant(asked.timeout_abs_ns));
    DONE
}

fn register_runstate<P: Platform>(
    cx: &Context<'_, P>,
    target: &DomainVcpu<P>,
    argument: u64,
) -> Answer {
    let platform = &cx.system.platform;
    let RegisterRunstateArea { addr } = guest_memory::read(platform, argument)?;
    if !guest_memory::may_begin_at(addr) {
        return Err(Errno::EFAULT);
    }
    target.vcpu.areas.runstate.store(addr, Ordering::Relaxed);
    if addr != 0 {
        let info = cx.system.runstate(&target.vcpu);
        // An area that is not there is found out when it is read.
        let _ = guest_memory::write(platform, addr, &info);
    }
    DONE
}

fn register_time<P: Platform>(
    cx: &Context<'_, P>,
    target: &DomainVcpu<P>,
    argument: u64,
) -> Answer {
    let platform = &cx.system.platform;
    let RegisterTimeArea { addr } = guest_memory::read(platform, argument)?;
    if !guest_memory::may_begin_at(addr) {
        return Err(Errno::EFAULT);
    }
    target.vcpu.areas.time.store(addr, Ordering::Relaxed);
    if addr != 0 {
        let clock = cx.system.clock.for_vcpu(platform.tsc());
        target.vcpu.info(platform).set_clock(&clock);
        let _ = guest_memory::write(platform, addr, &clock);
    }
    DONE
}

/// Moves a vCPU's information into a page of the guest's, for good: the page stays writable, and
/// nothing else, as long as the domain lives.
///
/// # Errors
///
/// - `ENXIO`: it would leave the page, or is not aligned.
/// - `EINVAL`: it is moved already, is another vCPU's that is up, or the frame is not the domain's or
///   is in use as a table.
fn register_info<P: Platform>(
    cx: &Context<'_, P>,
    target: &DomainVcpu<P>,
    asked: RegisterVcpuInfo,
) -> Answer {
    let offset = u64::from(asked.offset);
    let vcpu = &target.vcpu;
    let Some(_claim) = vcpu.claim() else { return Ok(Reply::Again(cx.args)) };
    let other = !target.vcpu_is(cx) && vcpu.is_up();
    if offset > LAST_INFO_OFFSET || !offset.is_multiple_of(INFO_ALIGNMENT) {
        return Err(Errno::ENXIO);
    }
    if vcpu.info_is_moved() || other {
        return Err(Errno::EINVAL);
    }
    let mm = cx.mm();
    let held = mm.frames.take_writable(Mfn(asked.mfn), cx.domain.memory.as_owner());
    let frame = held.map_err(|_| Errno::EINVAL)?.into_entry();
    let platform = &cx.system.platform;
    vcpu.move_info(platform, frame, offset);
    // A guest may wait for the version to change.
    let clock = cx.system.clock.for_vcpu(platform.tsc());
    vcpu.info(platform)
        .set_clock(&VcpuTimeInfo { version: clock.version.wrapping_add(2), ..clock });
    cx.system.select_all(cx.domain, vcpu);
    DONE
}

impl<P: Platform> Context<'_, P> {
    /// What `get_physid` says of a vCPU of the initial domain that can run on one CPU alone: the
    /// number of the CPU of its own number, in both halves, and all ones where there is none.
    fn physical_id(&self, vcpu: &Vcpu) -> Option<u64> {
        let exists = |cpu: &CpuId| self.system.cpus.get(*cpu).is_some();
        let is_pinned = vcpu.scheduling.affinity().iter().filter(exists).count() == 1;
        let cpu = u8::try_from(vcpu.id.0).ok().and_then(CpuId::new).filter(exists);
        let numbers = cpu.map_or(u64::MAX, |cpu| u64::from(cpu.number()).wrapping_mul(1 << 32 | 1));
        (self.domain.is_privileged() && is_pinned).then_some(numbers)
    }
}

impl<P: Platform> DomainVcpu<P> {
    /// Whether this is the calling vCPU.
    fn vcpu_is(&self, cx: &Context<'_, P>) -> bool {
        self.vcpu.id == cx.vcpu.id
    }
}
