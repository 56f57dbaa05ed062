//! Questions about the machine and all domains, this one too: nothing here changes memory but the
//! caller's buffers.

use hypercall_abi::domctl::{
    self as domctl, AffinityFlags, Bitmap, Credit2, DomainInfo, Domctl, GetVcpuInfo, SchedulerOp,
    VcpuAffinity,
};
use hypercall_abi::sysctl::{self, GetDomainInfoList, PhysInfo, ReadConsole, Sysctl};
use hypercall_abi::types::{DomId, VcpuId};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::gate::Machine;
use super::request::{self, writable};
use crate::control::{site, survey_site};
use crate::error::{HypercallError, perform};

/// Makes one `sysctl`; the answer is in the payload.
///
/// # Safety
/// Guest addresses in the payload must be of memory that is borrowed for as long, and that takes
/// what the operation writes.
unsafe fn ask<P: FromBytes + IntoBytes + Immutable>(
    operation: u32,
    payload: &mut P,
) -> Result<(), HypercallError> {
    const { assert!(size_of::<P>() <= 128, "a payload has 128 bytes") };
    let mut envelope = Sysctl {
        cmd: operation,
        interface_version: sysctl::INTERFACE_VERSION,
        ..Sysctl::default()
    };
    exchange_in(&mut envelope.payload, payload);
    // SAFETY: by this function's contract.
    perform(&Machine, survey_site(operation), &unsafe { request::sysctl(&mut envelope) })?;
    exchange_out(&envelope.payload, payload);
    Ok(())
}

/// Makes one `domctl` that only asks, or sets the share of CPUs.
///
/// # Safety
/// As of [`ask`]; the operation must not touch the domain's memory or registers.
unsafe fn ask_of<P: FromBytes + IntoBytes + Immutable>(
    domain: DomId,
    operation: u32,
    payload: &mut P,
) -> Result<(), HypercallError> {
    const { assert!(size_of::<P>() <= 128, "a payload has 128 bytes") };
    let mut envelope = Domctl {
        cmd: operation,
        interface_version: domctl::INTERFACE_VERSION,
        domain,
        ..Domctl::default()
    };
    exchange_in(&mut envelope.payload, payload);
    // SAFETY: by this function's contract: the domain, be it the caller's own, stays as it is.
    perform(&Machine, site(operation), &unsafe { request::domctl(&mut envelope) })?;
    exchange_out(&envelope.payload, payload);
    Ok(())
}

fn exchange_in(to: &mut [u64; 16], payload: &(impl IntoBytes + Immutable)) {
    if let Some(to) = to.as_mut_bytes().get_mut(..size_of_val(payload)) {
        to.copy_from_slice(payload.as_bytes());
    }
}

fn exchange_out<P: FromBytes>(from: &[u64; 16], payload: &mut P) {
    if let Ok((answer, _)) = P::read_from_prefix(from.as_bytes()) {
        *payload = answer;
    }
}

/// What the machine has: CPUs, memory, and what of it is free.
///
/// # Errors
/// EPERM (1) if this is no control domain.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, control::survey, println};
/// # fn example() -> Result<(), HypercallError> {
/// println!("{:?}", survey::machine()?);
/// # Ok(())
/// # }
/// ```
pub fn machine() -> Result<PhysInfo, HypercallError> {
    let mut info = PhysInfo::default();
    // SAFETY: no guest addresses.
    unsafe { ask(sysctl::PHYSINFO, &mut info) }?;
    Ok(info)
}

/// Reads the hypervisor's log, from byte `from` of all or from the first that is kept. Returns what
/// was read, and where to go on.
///
/// # Errors
/// EPERM (1) if this is no control domain.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, control::survey, println};
/// # fn example() -> Result<(), HypercallError> {
/// let mut bytes = [0; 4096];
/// let (text, next) = survey::log(None, &mut bytes)?;
/// println!("{}", text.escape_ascii());
/// let (more, next) = survey::log(Some(next), &mut bytes)?; // what came since
/// # Ok(())
/// # }
/// ```
pub fn log(from: Option<u32>, into: &mut [u8]) -> Result<(&[u8], u32), HypercallError> {
    let mut asked = ReadConsole {
        incremental: u8::from(from.is_some()),
        index: from.unwrap_or(0),
        count: u32::try_from(into.len()).unwrap_or(u32::MAX),
        buffer: writable(into),
        ..ReadConsole::default()
    };
    // SAFETY: the buffer, of at least so many bytes, is borrowed for longer than this.
    unsafe { ask(sysctl::READCONSOLE, &mut asked) }?;
    let got = usize::try_from(asked.count).unwrap_or(usize::MAX);
    Ok((into.get(..got).unwrap_or_default(), asked.index))
}

/// Describes the domains from a number on, as many as there is room for. Returns those.
///
/// # Errors
/// EPERM (1) if this is no control domain.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, abi::types::DomId, control::{DomainInfo, survey}, println};
/// # fn example() -> Result<(), HypercallError> {
/// let mut room = [DomainInfo::default(); 16];
/// for domain in survey::domains(DomId(0), &mut room)? {
///     println!("{domain:?}");
/// }
/// # Ok(())
/// # }
/// ```
pub fn domains(first: DomId, into: &mut [DomainInfo]) -> Result<&[DomainInfo], HypercallError> {
    let mut asked = GetDomainInfoList {
        first_domain: first,
        max_domains: u32::try_from(into.len()).unwrap_or(u32::MAX),
        buffer: writable(into),
        ..GetDomainInfoList::default()
    };
    // SAFETY: the array, of at least so many elements that take any bytes, is borrowed for longer.
    unsafe { ask(sysctl::GETDOMAININFOLIST, &mut asked) }?;
    let got = usize::try_from(asked.num_domains).unwrap_or(usize::MAX);
    Ok(into.get(..got).unwrap_or_default())
}

/// What a virtual CPU of a domain is doing.
///
/// # Errors
/// ESRCH (3) or EINVAL (22) if there is none.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, abi::types::{DomId, VcpuId}, control::survey, println};
/// # fn example() -> Result<(), HypercallError> {
/// println!("{:?}", survey::vcpu(DomId(0), VcpuId(0))?);
/// # Ok(())
/// # }
/// ```
pub fn vcpu(domain: DomId, vcpu: VcpuId) -> Result<GetVcpuInfo, HypercallError> {
    let mut info = GetVcpuInfo { vcpu, ..GetVcpuInfo::default() };
    // SAFETY: no guest addresses, and it only asks.
    unsafe { ask_of(domain, domctl::GETVCPUINFO, &mut info) }?;
    Ok(info)
}

/// The real CPUs on which a virtual CPU may run, one a bit, of the first 64.
///
/// # Errors
/// ESRCH (3) or EINVAL (22) if there is none.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, abi::types::{DomId, VcpuId}, control::survey, println};
/// # fn example() -> Result<(), HypercallError> {
/// println!("{:?}", survey::affinity(DomId(0), VcpuId(0))?);
/// # Ok(())
/// # }
/// ```
pub fn affinity(domain: DomId, vcpu: VcpuId) -> Result<u64, HypercallError> {
    let mut set = [0; 8];
    let bitmap = Bitmap { bitmap: writable(&mut set), nr_bits: u64::BITS, ..Bitmap::default() };
    let mut asked = VcpuAffinity {
        vcpu,
        flags: AffinityFlags::HARD.bits(),
        cpumap_hard: bitmap,
        ..VcpuAffinity::default()
    };
    // SAFETY: the set, of so many bits, is borrowed; it only asks.
    unsafe { ask_of(domain, domctl::GETVCPUAFFINITY, &mut asked) }?;
    Ok(u64::from_le_bytes(set))
}

/// A domain's share of the CPUs; `change` is what it is set to before.
///
/// # Errors
/// ESRCH (3) if there is no such domain, EINVAL (22) for a share that there is not, or with another
/// scheduler than credit2.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, abi::types::DomId, control::survey, println};
/// # fn example() -> Result<(), HypercallError> {
/// println!("{:?}", survey::share(DomId(0), None)?);
/// # Ok(())
/// # }
/// ```
pub fn share(domain: DomId, change: Option<Credit2>) -> Result<Credit2, HypercallError> {
    let asked = |cmd, credit2| SchedulerOp {
        sched_id: domctl::SCHEDULER_CREDIT2,
        cmd,
        credit2,
        ..SchedulerOp::default()
    };
    if let Some(credit2) = change {
        let mut operation = asked(domctl::SCHEDULER_PUT, credit2);
        // SAFETY: no guest addresses; how a domain is scheduled is no memory of anybody's.
        unsafe { ask_of(domain, domctl::SCHEDULER_OP, &mut operation) }?;
    }
    let mut operation = asked(domctl::SCHEDULER_GET, Credit2::default());
    // SAFETY: as above.
    unsafe { ask_of(domain, domctl::SCHEDULER_OP, &mut operation) }?;
    Ok(operation.credit2)
}
