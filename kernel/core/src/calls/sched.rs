//! `sched_op` (hypercall 29): giving up the CPU, waiting, and ending. `set_timer_op` (hypercall 15).

use core::sync::atomic::{Ordering, fence};

use hypercall_abi::errno::Errno;
use hypercall_abi::sched::{
    self, SchedPinOverride, SchedPoll, SchedRemoteShutdown, SchedShutdown, SchedWatchdog,
};
use hypercall_abi::types::Port;

use crate::cpu::{CpuId, CpuSet};
use crate::dispatch::{Answer, DONE, Reply, low_u32};
use crate::domain::ShutdownReason;
use crate::guest_memory;
use crate::platform::Platform;
use crate::sched::Reasons;
use crate::system::{Context, DomainVcpu};
use crate::timer::{Deadlines, NEVER, instant};

/// Ports that can be polled at once.
const MOST_PORTS: usize = 128;
/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// `sched_op(cmd, argument)`.
///
/// # Errors
///
/// - `ENOSYS`: the sub-op is unknown or not implemented.
/// - `EFAULT`: the argument can't be read.
/// - else by sub-op.
pub fn sched_op<P: Platform>(cx: &mut Context<'_, P>, [cmd, argument, ..]: [u64; 6]) -> Answer {
    let platform = &cx.system.platform;
    match low_u32(cmd) {
        sched::YIELD => {
            cx.vcpu.scheduling.yield_turn();
            cx.here.call_attention();
            DONE
        }
        sched::BLOCK => {
            block(cx);
            DONE
        }
        sched::SHUTDOWN => {
            let SchedShutdown { reason } = guest_memory::read(platform, argument)?;
            log::info!("domain {} shuts down, reason {reason}", cx.domain.id.0);
            cx.shut_down(reason);
            DONE
        }
        sched::SHUTDOWN_CODE => {
            let SchedShutdown { reason } = guest_memory::read(platform, argument)?;
            let [reason, ..] = reason.to_le_bytes();
            cx.domain.set_shutdown_reason(platform, ShutdownReason(reason.into()));
            DONE
        }
        sched::POLL => poll(cx, &guest_memory::read(platform, argument)?),
        sched::REMOTE_SHUTDOWN => remote_shutdown(cx, guest_memory::read(platform, argument)?),
        sched::WATCHDOG => watchdog(cx, guest_memory::read(platform, argument)?),
        sched::PIN_OVERRIDE => {
            if !cx.domain.is_privileged() {
                return Err(Errno::EPERM);
            }
            pin_override(cx, guest_memory::read(platform, argument)?)
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// The call's older form: yield, block, and shutdown with the reason as the argument.
///
/// # Errors
///
/// `ENOSYS`: any other command.
pub fn sched_op_compat<P: Platform>(
    cx: &mut Context<'_, P>,
    [cmd, argument, ..]: [u64; 6],
) -> Answer {
    match low_u32(cmd) {
        sched::YIELD | sched::BLOCK => sched_op(cx, [cmd, 0, 0, 0, 0, 0]),
        sched::SHUTDOWN => {
            cx.shut_down(low_u32(argument));
            DONE
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// Unmasks events and waits until one is pending, or an NMI; it is delivered on the way out.
fn block<P: Platform>(cx: &Context<'_, P>) {
    let info = cx.vcpu.info(&cx.system.platform);
    info.set_mask(0);
    cx.vcpu.scheduling.wait(Reasons::WAITING);
    // Whoever sets an event pending looks afterwards whether the vCPU waits.
    fence(Ordering::SeqCst);
    if info.wants_upcall() || cx.vcpu.nmi.is_due() {
        cx.system.wake(&cx.target(), Reasons::WAITING);
    } else {
        cx.here.call_attention();
    }
}

/// Waits until one of the ports is pending, masked or not, or an upcall, or the time has come.
///
/// # Errors
///
/// - `EINVAL`: more than 128 ports, or one that is none.
/// - `EFAULT`: the list of ports can't be read.
fn poll<P: Platform>(cx: &Context<'_, P>, asked: &SchedPoll) -> Answer {
    let count = usize::try_from(asked.nr_ports).unwrap_or(usize::MAX);
    if count > MOST_PORTS {
        return Err(Errno::EINVAL);
    }
    if !guest_memory::may_begin_at(asked.ports) {
        return Err(Errno::EFAULT);
    }
    cx.domain.poller_comes();
    cx.vcpu.poll.begin(None);
    cx.vcpu.scheduling.wait(Reasons::WAITING);
    // Whoever sets a port pending looks afterwards who polls.
    fence(Ordering::SeqCst);
    match is_ready(cx, asked.ports, count) {
        Ok(Ready::Waits(only)) => {
            cx.vcpu.poll.begin(only);
            if asked.timeout != 0 {
                cx.system.set_timers(&cx.target(), |timers| timers.poll = instant(asked.timeout));
            }
            cx.here.call_attention();
            DONE
        }
        other => {
            cx.system.wake(&cx.target(), Reasons::WAITING);
            cx.end_poll();
            other.map(|_| Reply::Value(0))
        }
    }
}

/// What a look at the polled ports found.
enum Ready {
    /// There is no need to wait.
    Now,
    /// None is pending; the port, if it is only one.
    Waits(Option<Port>),
}

fn is_ready<P: Platform>(cx: &Context<'_, P>, list: u64, count: usize) -> Result<Ready, Errno> {
    let platform = &cx.system.platform;
    if cx.vcpu.info(platform).wants_upcall() {
        return Ok(Ready::Now);
    }
    let mut only = None;
    for number in 0..count {
        let at = (number as u64).wrapping_mul(size_of::<Port>() as u64);
        let port: Port = guest_memory::read(platform, list.wrapping_add(at))?;
        if !cx.system.is_open(cx.domain, port) {
            return Err(Errno::EINVAL);
        }
        if cx.domain.is_pending(platform, port) == Some(true) {
            return Ok(Ready::Now);
        }
        only = (count == 1).then_some(port);
    }
    Ok(Ready::Waits(only))
}

/// Ends another domain, or the caller.
///
/// # Errors
///
/// - `ESRCH`: there is no such domain.
/// - `EPERM`: the caller is not privileged.
fn remote_shutdown<P: Platform>(cx: &Context<'_, P>, asked: SchedRemoteShutdown) -> Answer {
    let platform = &cx.system.platform;
    let domain = cx.system.domains.get(platform, asked.domain_id).ok_or(Errno::ESRCH)?;
    if !cx.domain.is_privileged() {
        return Err(Errno::EPERM);
    }
    let [reason, ..] = asked.reason.to_le_bytes();
    cx.system.shut_down(&domain, ShutdownReason(u32::from(reason)));
    DONE
}

/// Sets a watchdog that ends the domain if it is not set again in time. Answers its number.
///
/// # Errors
///
/// - `EINVAL`: no such watchdog.
/// - `ENOSPC`: both are in use.
fn watchdog<P: Platform>(cx: &Context<'_, P>, asked: SchedWatchdog) -> Answer {
    let first = cx.domain.vcpus().next().ok_or(Errno::EINVAL)?;
    let target = DomainVcpu { domain: cx.domain.clone(), vcpu: first.clone() };
    let end = cx.system.now().saturating_add(u64::from(asked.timeout).saturating_mul(SECOND));
    let mut answer = Err(Errno::EINVAL);
    cx.system.set_timers(&target, |timers| {
        let removed = asked.timeout == 0 && asked.id != 0;
        answer = timers.set_watchdog(asked.id, if removed { NEVER } else { end });
    });
    cx.system.serve_timers(cx.system.now());
    answer.map(|id| Reply::Value(u64::from(id)))
}

/// Keeps the calling vCPU on one CPU for a while, whatever its affinity; a negative number ends it.
///
/// # Errors
///
/// - `EINVAL`: no such CPU, or there is nothing to end.
/// - `EBUSY`: it is kept already.
fn pin_override<P: Platform>(cx: &Context<'_, P>, asked: SchedPinOverride) -> Answer {
    let cpu = u8::try_from(asked.pcpu).ok().and_then(CpuId::new);
    if asked.pcpu >= 0 && cpu.is_none_or(|cpu| cx.system.cpus.get(cpu).is_none()) {
        return Err(Errno::EINVAL);
    }
    let platform = &cx.system.platform;
    let before = cx.vcpu.scheduling.affinity();
    let affinity = {
        let kept = &mut cx.vcpu.state.lock(platform).before_pin;
        match (cpu, *kept) {
            (Some(_), Some(_)) => return Err(Errno::EBUSY),
            (Some(cpu), None) => {
                *kept = Some(before);
                CpuSet::one(cpu)
            }
            (None, _) => kept.take().ok_or(Errno::EINVAL)?,
        }
    };
    let now = cx.system.now();
    let poke = cx.system.scheduler.set_affinity(platform, &cx.target(), affinity, now);
    cx.system.apply(poke.map_err(|_| Errno::EINVAL)?);
    DONE
}

/// `set_timer_op(time)`: sets the calling vCPU's one-shot timer; 0 stops it.
///
/// # Errors
///
/// None.
pub fn set_timer_op<P: Platform>(cx: &mut Context<'_, P>, [time, ..]: [u64; 6]) -> Answer {
    /// Farther than this is taken for a mistake of the guest's, which gets an event soon.
    const FAR: u64 = 1 << 50;
    const SOON: u64 = 100_000_000;
    let now = cx.system.now();
    let once = match time {
        0 => NEVER,
        _ if time.cast_signed() < 0 || time.saturating_sub(now) >= FAR => now.saturating_add(SOON),
        _ => time,
    };
    cx.set_own_timers(|timers| timers.once = once);
    DONE
}

impl<P: Platform> Context<'_, P> {
    /// The calling vCPU with its domain.
    pub(crate) fn target(&self) -> DomainVcpu<P> {
        DomainVcpu { domain: self.domain.clone(), vcpu: self.vcpu.clone() }
    }

    /// Changes the calling vCPU's timers; what is due already is served at once.
    pub(crate) fn set_own_timers(&self, change: impl FnOnce(&mut Deadlines)) {
        self.system.set_timers(&self.target(), change);
        self.system.serve_timers(self.system.now());
    }

    /// The vCPU polls nothing any more.
    pub(crate) fn end_poll(&self) {
        self.vcpu.poll.end();
        self.domain.poller_goes();
        self.system.set_timers(&self.target(), |timers| timers.poll = NEVER);
    }

    /// Ends the calling domain.
    pub(crate) fn shut_down(&self, reason: u32) {
        let [reason, ..] = reason.to_le_bytes();
        self.system.shut_down(self.domain, ShutdownReason(u32::from(reason)));
    }
}
