//! `domctl` (hypercall 36) and `sysctl` (hypercall 35): other domains and the machine, for the
//! control domain. The envelope is read and judged here; [`crate::control`] does the work.
//!
//! The order of checks is Xen's: the envelope, its version, the domain that it names, the caller.

use core::sync::atomic::Ordering;

use hypercall_abi::domctl::{self, AddressSize, Domctl, SetDomainHandle, SetTimeOffset};
use hypercall_abi::errno::Errno;
use hypercall_abi::sysctl::{self, CpuLevellingCaps, SchedId, Sysctl};
use hypercall_abi::types::DomId;

use crate::control::{get, put, scheduler_op};
use crate::dispatch::{Answer, DONE, Reply};
use crate::domain::Domain;
use crate::guest_memory;
use crate::mm::Stop;
use crate::platform::Platform;
use crate::system::{Context, System};

/// `domctl(argument)`.
///
/// # Errors
///
/// - `EFAULT`: the envelope can't be read, or the answer written.
/// - `EACCES`: another version of the interface.
/// - `ESRCH`: there is no such domain, or it is being ended and the sub-op would change it.
/// - `EINVAL`: `getdomaininfo` of a number that is no domain's.
/// - `EPERM`: the caller is not the control domain. Of some sub-ops it is said before that an argument
///   is wrong, or that they are not for PV domains.
/// - `ENOSYS`: unknown sub-op.
/// - else by sub-op.
pub fn domctl<P: Platform>(cx: &mut Context<'_, P>, args: [u64; 6]) -> Answer {
    let [argument, ..] = args;
    let mut op: Domctl = guest_memory::read(&cx.system.platform, argument)?;
    if op.interface_version != domctl::INTERFACE_VERSION {
        return Err(Errno::EACCES);
    }
    let platform = &cx.system.platform;
    let domain = match op.cmd {
        domctl::CREATEDOMAIN => None,
        domctl::GETDOMAININFO if op.domain >= DomId::FIRST_RESERVED => return Err(Errno::EINVAL),
        // Of one that is not there, the next; but for who may not know of any.
        domctl::GETDOMAININFO if cx.domain.is_privileged() => {
            let domain = cx.system.domains.from(platform, op.domain).ok_or(Errno::ESRCH)?;
            op.domain = domain.id;
            Some(domain)
        }
        _ => Some(cx.system.domains.get(platform, op.domain).ok_or(Errno::ESRCH)?),
    };
    domain.as_ref().map_or(Ok(()), |domain| cx.fits(domain.id, op.cmd, &op.payload))?;
    if !cx.domain.is_privileged() {
        return Err(Errno::EPERM);
    }
    match domain {
        Some(domain) if op.cmd == domctl::DESTROYDOMAIN => return destroy(cx, &domain, args),
        // One at a time, as on Xen: so none sees another's half-done work.
        _ if cx.system.control_busy.swap(true, Ordering::Acquire) => return Ok(Reply::Again(args)),
        _ => {}
    }
    let answer = match domain {
        None => cx.system.create(&mut op).map(|()| Reply::Value(0)),
        Some(domain) => look_or_change(cx, &domain, &mut op),
    };
    cx.system.control_busy.store(false, Ordering::Release);
    // What of a policy is refused is told too.
    let is_told = answer == DONE || op.cmd == domctl::SET_CPU_POLICY && answer.is_err();
    if is_told && answers(op.cmd) {
        guest_memory::write(&cx.system.platform, argument, &op)?;
    }
    answer
}

/// Whether the envelope is the answer too.
const fn answers(cmd: u32) -> bool {
    matches!(
        cmd,
        domctl::CREATEDOMAIN
            | domctl::GETDOMAININFO
            | domctl::GETVCPUINFO
            | domctl::GETVCPUCONTEXT
            | domctl::GETVCPUEXTSTATE
            | domctl::SCHEDULER_OP
            | domctl::GET_ADDRESS_SIZE
            | domctl::GETTSCINFO
            | domctl::GET_CPU_POLICY
            | domctl::SET_CPU_POLICY
    )
}

/// Ends a domain, which goes on while others have their turn.
fn destroy<P: Platform>(cx: &Context<'_, P>, domain: &P::Arc<Domain<P>>, args: [u64; 6]) -> Answer {
    if cx.is_own(domain.id) {
        return Err(Errno::EINVAL);
    }
    match cx.system.destroy_domain(domain) {
        Ok(()) => DONE,
        Err(Stop::Again) => Ok(Reply::Again(args)),
        Err(Stop::Refused(refusal)) => Err(cx.refused("domctl: destroydomain", &refusal)),
    }
}

/// The sub-ops that only look also find a domain that is being ended.
fn look_or_change<P: Platform>(
    cx: &Context<'_, P>,
    domain: &P::Arc<Domain<P>>,
    op: &mut Domctl,
) -> Answer {
    let payload = &mut op.payload;
    match op.cmd {
        domctl::GETDOMAININFO => put(payload, &cx.system.domain_info(domain)),
        domctl::GETVCPUINFO => cx.system.vcpu_info(domain, payload)?,
        domctl::GETVCPUAFFINITY => cx.system.affinity(domain, op.cmd, payload)?,
        domctl::GETNODEAFFINITY => cx.system.nodes(domain, payload)?,
        domctl::GET_CPU_POLICY => cx.system.cpu_policy(domain, payload)?,
        domctl::GETPAGEFRAMEINFO3 => cx.system.frame_info(domain, payload)?,
        domctl::GET_ADDRESS_SIZE => put(payload, &AddressSize { size: u64::BITS }),
        _ => {
            // Nobody takes away what the domain has before this is dropped.
            let domain = &*cx.system.visit(domain.id).ok_or(Errno::ESRCH)?;
            return change(cx, domain, op);
        }
    }
    DONE
}

fn change<P: Platform>(cx: &Context<'_, P>, domain: &P::Arc<Domain<P>>, op: &mut Domctl) -> Answer {
    let own = cx.is_own(domain.id);
    let (system, payload) = (cx.system, &mut op.payload);
    match op.cmd {
        domctl::PAUSEDOMAIN
        | domctl::MAX_VCPUS
        | domctl::RESUMEDOMAIN
        | domctl::GETTSCINFO
        | domctl::SETTSCINFO
        | domctl::SET_CPU_POLICY
            if own =>
        {
            return Err(Errno::EINVAL);
        }
        domctl::RESUMEDOMAIN => system.resume_domain(domain),
        domctl::GETTSCINFO => put(payload, &system.tsc_info(domain)),
        domctl::SETTSCINFO => system.set_tsc_info(domain, payload)?,
        domctl::PAUSEDOMAIN => system.pause_domain(domain)?,
        domctl::UNPAUSEDOMAIN => system.unpause_domain(domain)?,
        domctl::MAX_VCPUS => system.make_vcpus(domain, payload)?,
        domctl::MAX_MEM => System::set_max_memory(domain, payload),
        domctl::SETVCPUCONTEXT => return cx.set_vcpu_context(domain, payload),
        domctl::GETVCPUCONTEXT => return cx.get_vcpu_context(domain, payload),
        domctl::GETVCPUEXTSTATE => return cx.get_extended(domain, payload),
        domctl::SETVCPUEXTSTATE => return cx.set_extended(domain, payload),
        domctl::SETVCPUAFFINITY => system.affinity(domain, op.cmd, payload)?,
        domctl::SCHEDULER_OP => system.scheduler_op(domain, payload)?,
        domctl::SETDOMAINHANDLE => {
            let SetDomainHandle { handle } = get(payload);
            *domain.handle.lock(&system.platform) = handle;
        }
        domctl::SENDTRIGGER => system.send_trigger(domain, payload)?,
        domctl::SETNODEAFFINITY => system.set_nodes(domain, payload)?,
        domctl::SET_CPU_POLICY => system.set_cpu_policy(domain, payload)?,
        domctl::IOPORT_PERMISSION => cx.permit_ports(domain, payload)?,
        domctl::IOMEM_PERMISSION => cx.permit_memory(domain, payload)?,
        domctl::IRQ_PERMISSION => cx.permit_irq(domain, payload)?,
        domctl::MEMORY_MAPPING => cx.map_memory(domain, payload)?,
        domctl::HYPERCALL_INIT => cx.fill_stubs(domain, payload)?,
        domctl::SETTIMEOFFSET => {
            let SetTimeOffset { time_offset_seconds: offset } = get(payload);
            system.clock.change_wall_clock(&system.platform, domain.shared_info, offset);
        }
        domctl::SET_ADDRESS_SIZE => match get::<AddressSize>(payload).size {
            64 => {}
            32 => return Err(Errno::EOPNOTSUPP),
            _ => return Err(Errno::EINVAL),
        },
        domctl::GETHVMCONTEXT | domctl::SETHVMCONTEXT | domctl::GETHVMCONTEXT_PARTIAL => {
            return Err(Errno::EINVAL);
        }
        _ => return Err(Errno::ENOSYS),
    }
    DONE
}

/// `sysctl(argument)`.
///
/// # Errors
///
/// - `EFAULT`: the envelope can't be read, or the answer written.
/// - `EACCES`: another version of the interface.
/// - `EPERM`: the caller is not the control domain.
/// - `ENOSYS`: unknown sub-op.
/// - else by sub-op.
pub fn sysctl<P: Platform>(cx: &mut Context<'_, P>, [argument, ..]: [u64; 6]) -> Answer {
    let platform = &cx.system.platform;
    let mut op: Sysctl = guest_memory::read(platform, argument)?;
    if op.interface_version != sysctl::INTERFACE_VERSION {
        return Err(Errno::EACCES);
    }
    if !cx.domain.is_privileged() {
        return Err(Errno::EPERM);
    }
    let payload = &mut op.payload;
    let mut answer = DONE;
    match op.cmd {
        sysctl::READCONSOLE => cx.read_log(payload)?,
        sysctl::PHYSINFO => cx.phys_info(payload),
        sysctl::SCHED_ID => put(payload, &SchedId { sched_id: domctl::SCHEDULER_CREDIT2 }),
        sysctl::GETDOMAININFOLIST => cx.domain_list(payload)?,
        sysctl::GETCPUINFO => cx.cpu_info(payload)?,
        sysctl::AVAILHEAP => cx.avail_heap(payload),
        sysctl::CPUTOPOINFO => cx.cpu_topology(payload)?,
        sysctl::NUMAINFO => cx.numa_info(payload)?,
        sysctl::CPUPOOL_OP => cx.pool_op(payload)?,
        sysctl::SCHEDULER_OP => scheduler_op(payload)?,
        sysctl::PCITOPOINFO => cx.device_nodes(payload)?,
        // No CPU's CPUID is changed for whom it does not fault.
        sysctl::GET_CPU_LEVELLING_CAPS => put(payload, &CpuLevellingCaps { caps: 0 }),
        sysctl::GET_CPU_POLICY => cx.system_policy(payload)?,
        sysctl::GET_CPU_FEATURESET => answer = cx.featureset(payload)?,
        _ => return Err(Errno::ENOSYS),
    }
    guest_memory::write(platform, argument, &op)?;
    answer
}
