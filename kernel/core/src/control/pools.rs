//! CPUs, nodes and devices as Xen groups them: all CPUs are one pool with one scheduler, and memory
//! is one node.

use core::sync::atomic::Ordering;

use hypercall_abi::domctl::{Bitmap, SCHEDULER_CREDIT2};
use hypercall_abi::errno::Errno;
use hypercall_abi::physdev::PciDevice;
use hypercall_abi::sysctl::{
    CPUPOOL_ADDCPU, CPUPOOL_ANY, CPUPOOL_CREATE, CPUPOOL_DESTROY, CPUPOOL_FREEINFO, CPUPOOL_INFO,
    CPUPOOL_MOVEDOMAIN, CPUPOOL_RMCPU, CpuPoolOp, INVALID_ID, PciTopoInfo, SCHEDULER_GETINFO,
    SCHEDULER_PUTINFO, SystemSchedulerOp, UNKNOWN_DEVICE,
};
use hypercall_abi::types::DomId;

use super::machine::{read_at, write_at};
use super::{Payload, get, put};
use crate::domain::Domain;
use crate::irq::Function;
use crate::platform::Platform;
use crate::sched::RATE_LIMIT;
use crate::system::{Context, System};

/// The pool that there is.
const POOL: u32 = 0;
/// A vCPU's least time before it makes way, that can be asked for on Xen. Unit: microseconds.
const RATE_LIMITS: core::ops::RangeInclusive<u32> = 100..=500_000;
/// The node that there is, as a set.
const NODE: u64 = 1;
/// Devices that one call tells of.
const MOST_DEVICES: u32 = 256;

impl<P: Platform> Context<'_, P> {
    /// `cpupool_op`. There is no room for another pool, and the one has all CPUs for good.
    ///
    /// # Errors
    ///
    /// - `ENOSPC`: another pool is to be made.
    /// - `ENOENT`: there is no such pool.
    /// - `EBUSY`: it is to be removed, or one of its CPUs to be taken from it.
    /// - `ENODEV`, `EINVAL`: no such CPU is in no pool; the first CPU, or one that is not there, is to be
    ///   taken from one.
    /// - `EPERM`, `ESRCH`: the domain to be moved is the caller, or is not there.
    /// - `EFAULT`: the set of CPUs can't be written.
    /// - `ENOSYS`: an unknown command.
    pub(crate) fn pool_op(&self, payload: &mut Payload) -> Result<(), Errno> {
        let mut asked: CpuPoolOp = get(payload);
        let system = self.system;
        let exists = if asked.cpupool_id == POOL { Ok(()) } else { Err(Errno::ENOENT) };
        let cpus = system.cpu_set();
        let has = |cpu: u32| 1_u64.checked_shl(cpu).is_some_and(|bit| cpus.bits() & bit != 0);
        match asked.op {
            CPUPOOL_CREATE => return Err(Errno::ENOSPC),
            CPUPOOL_DESTROY => return exists.and(Err(Errno::EBUSY)),
            CPUPOOL_INFO => {
                exists?;
                (asked.sched_id, asked.n_dom) = (SCHEDULER_CREDIT2, system.domain_count());
                system.write_bits(asked.cpumap, cpus.bits())?;
            }
            CPUPOOL_ADDCPU => {
                exists?;
                let may_be = asked.cpu == CPUPOOL_ANY || asked.cpu < system.cpu_count();
                return Err(if may_be { Errno::ENODEV } else { Errno::EINVAL });
            }
            CPUPOOL_RMCPU => {
                exists?;
                let last = system.cpu_count().saturating_sub(1);
                let cpu = if asked.cpu == CPUPOOL_ANY { last } else { asked.cpu };
                return Err(if cpu != 0 && has(cpu) { Errno::EBUSY } else { Errno::EINVAL });
            }
            CPUPOOL_MOVEDOMAIN => {
                let [low, high, ..] = asked.domid.to_le_bytes();
                let id = DomId(u16::from_le_bytes([low, high]));
                system.domains.get(&system.platform, id).ok_or(Errno::ESRCH)?;
                if self.is_own(id) {
                    return Err(Errno::EPERM);
                }
                exists?;
            }
            CPUPOOL_FREEINFO => system.write_bits(asked.cpumap, 0)?,
            _ => return Err(Errno::ENOSYS),
        }
        put(payload, &asked);
        Ok(())
    }

    /// `pcitopoinfo`: devices that the hypervisor was told of are near no node.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: no arrays.
    /// - `EFAULT`: they can't be read or written.
    pub(crate) fn device_nodes(&self, payload: &mut Payload) -> Result<(), Errno> {
        let mut asked: PciTopoInfo = get(payload);
        if asked.devs == 0 || asked.nodes == 0 {
            return Err(Errno::EINVAL);
        }
        // Who asked for more goes on behind these.
        asked.num_devs = asked.num_devs.min(MOST_DEVICES);
        let system = self.system;
        for number in 0..asked.num_devs {
            let device: PciDevice = read_at(&system.platform, asked.devs, number)?;
            let PciDevice { seg, bus, devfn } = device;
            let function = Function { segment: seg, bdf: u16::from_le_bytes([devfn, bus]) };
            let node = if system.knows_device(function) { INVALID_ID } else { UNKNOWN_DEVICE };
            write_at(&system.platform, asked.nodes, number, &node)?;
        }
        put(payload, &asked);
        Ok(())
    }
}

/// `sysctl`'s `scheduler_op`. How long a vCPU runs at least is told, and stays.
///
/// # Errors
///
/// - `EINVAL`: an unknown command, another scheduler, or a time that is too short or too long.
/// - `ESRCH`: no such pool.
/// - `EOPNOTSUPP`: another time than it is.
pub(crate) fn scheduler_op(payload: &mut Payload) -> Result<(), Errno> {
    let mut asked: SystemSchedulerOp = get(payload);
    let is_known = matches!(asked.cmd, SCHEDULER_PUTINFO | SCHEDULER_GETINFO);
    match (asked.cpupool_id, asked.sched_id) {
        _ if !is_known => return Err(Errno::EINVAL),
        (POOL, SCHEDULER_CREDIT2) => {}
        (POOL, _) => return Err(Errno::EINVAL),
        _ => return Err(Errno::ESRCH),
    }
    let (now, wanted) = (u32::try_from(RATE_LIMIT / 1000).unwrap_or(0), asked.ratelimit_us);
    if asked.cmd == SCHEDULER_PUTINFO && wanted != now {
        let may_be = wanted == 0 || RATE_LIMITS.contains(&wanted);
        return Err(if may_be { Errno::EOPNOTSUPP } else { Errno::EINVAL });
    }
    asked.ratelimit_us = now;
    put(payload, &asked);
    Ok(())
}

impl<P: Platform> System<P> {
    fn domain_count(&self) -> u32 {
        let next = |first| self.domains.from(&self.platform, first);
        let mut domains = 0_u32;
        let mut found = next(DomId(0));
        while let Some(domain) = found {
            domains = domains.saturating_add(1);
            found = domain.id.0.checked_add(1).and_then(|first| next(DomId(first)));
        }
        domains
    }

    /// `setnodeaffinity`: from which nodes a domain shall have its memory. There is one; others that are
    /// named are remembered.
    ///
    /// # Errors
    ///
    /// - `EFAULT`: the set can't be read.
    /// - `EINVAL`: no node that there is.
    pub(crate) fn set_nodes(&self, domain: &Domain<P>, payload: &Payload) -> Result<(), Errno> {
        let nodes = self.read_bits(get::<Bitmap>(payload))?;
        if nodes & NODE == 0 {
            return Err(Errno::EINVAL);
        }
        // To name all is to name none.
        let kept = if nodes == u64::MAX { 0 } else { nodes };
        domain.nodes.store(kept, Ordering::Relaxed);
        Ok(())
    }

    /// `getnodeaffinity`.
    ///
    /// # Errors
    ///
    /// `EFAULT`: the set can't be written.
    pub(crate) fn nodes(&self, domain: &Domain<P>, payload: &Payload) -> Result<(), Errno> {
        let nodes = match domain.nodes.load(Ordering::Relaxed) {
            // As yet it runs nowhere.
            0 if domain.vcpus().next().is_none() => u64::MAX,
            0 => NODE,
            named => named,
        };
        self.write_bits(get(payload), nodes)
    }
}
