//! Which ports, interrupts and device memory a domain may use. Nobody can give what he has not.

use hypercall_abi::domctl::{
    self, IomemPermission, IoportPermission, IrqPermission, MemoryMapping, SetTarget,
};
use hypercall_abi::errno::Errno;
use hypercall_abi::types::{DomId, PAGE_SHIFT};

use super::info::address_bits;
use super::{Payload, get};
use crate::domain::Domain;
use crate::irq::PIRQS;
use crate::platform::Platform;
use crate::system::Context;

/// Ports of a PC.
const PORTS: u32 = 1 << 16;

impl<P: Platform> Context<'_, P> {
    /// Whether the arguments fit, of the calls about rights: said before anything else of who calls.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: no such ports or interrupt; frames that wrap, or that no address of the machine reaches
    ///   if they are to be mapped; interrupts of hardware-virtualised guests; a domain that is to rule
    ///   itself.
    /// - `EOPNOTSUPP`: what else is for hardware-virtualised guests, or needs an IOMMU.
    /// - `ESRCH`: no domain to be ruled.
    pub(crate) fn fits(&self, of: DomId, cmd: u32, payload: &Payload) -> Result<(), Errno> {
        let platform = &self.system.platform;
        let wraps = |first: u64, count: u64| first.wrapping_add(count).wrapping_sub(1) < first;
        let is_wrong = match cmd {
            domctl::IRQ_PERMISSION => get::<IrqPermission>(payload).pirq >= PIRQS,
            domctl::IOMEM_PERMISSION => {
                let asked: IomemPermission = get(payload);
                wraps(asked.first_mfn, asked.nr_mfns)
            }
            domctl::IOPORT_PERMISSION => {
                let asked: IoportPermission = get(payload);
                let end = asked.first_port.wrapping_add(asked.nr_ports);
                end <= asked.first_port || end > PORTS
            }
            domctl::MEMORY_MAPPING => {
                let MemoryMapping { first_gfn, first_mfn, nr_mfns, .. } = get(payload);
                let last = first_mfn.wrapping_add(nr_mfns).wrapping_sub(1);
                wraps(first_mfn, nr_mfns)
                    || wraps(first_gfn, nr_mfns)
                    || is_beyond(platform, first_mfn | last)
            }
            domctl::BIND_PT_IRQ | domctl::UNBIND_PT_IRQ => true,
            domctl::IOPORT_MAPPING | domctl::GET_DEVICE_GROUP => return Err(Errno::EOPNOTSUPP),
            domctl::SET_TARGET => {
                let SetTarget { target } = get(payload);
                self.system.domains.get(platform, target).ok_or(Errno::ESRCH)?;
                return Err(if target == of { Errno::EINVAL } else { Errno::EOPNOTSUPP });
            }
            _ => false,
        };
        if is_wrong { Err(Errno::EINVAL) } else { Ok(()) }
    }

    /// `memory_mapping`: nothing is to be done, as PV domains map for themselves what they may.
    ///
    /// # Errors
    ///
    /// `EPERM`: the caller or the domain may not.
    pub(crate) fn map_memory(&self, of: &Domain<P>, payload: &Payload) -> Result<(), Errno> {
        let MemoryMapping { first_mfn, nr_mfns, .. } = get(payload);
        let last = first_mfn.wrapping_add(nr_mfns).wrapping_sub(1);
        let platform = &self.system.platform;
        let may = [&self.domain.memory, &of.memory];
        let may = may.iter().all(|memory| memory.may_map_devices(platform, first_mfn, last));
        if may { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// `ioport_permission`, of arguments that [fit](Self::fits).
    ///
    /// # Errors
    ///
    /// - `EPERM`: the caller has not got them, or the kernel keeps them.
    /// - `ENOMEM`: too many ranges.
    pub(crate) fn permit_ports(&self, to: &Domain<P>, payload: &Payload) -> Result<(), Errno> {
        let asked: IoportPermission = get(payload);
        let (first, end) = (asked.first_port, asked.first_port.wrapping_add(asked.nr_ports));
        let (platform, last) = (&self.system.platform, end.saturating_sub(1));
        let own = self.domain.io_ports.lock(platform).contains(first.into(), last.into());
        if !own || self.system.ports.keeps(first, last) {
            return Err(Errno::EPERM);
        }
        to.io_ports.lock(platform).set(first.into(), last.into(), asked.allow_access != 0)
    }

    /// `iomem_permission`, of arguments that [fit](Self::fits).
    ///
    /// # Errors
    ///
    /// - `EPERM`: the caller has not got them, or no address of the machine reaches them.
    /// - `ENOMEM`: too many ranges.
    pub(crate) fn permit_memory(&self, to: &Domain<P>, payload: &Payload) -> Result<(), Errno> {
        let asked: IomemPermission = get(payload);
        let first = asked.first_mfn;
        let last = first.wrapping_add(asked.nr_mfns).wrapping_sub(1);
        let platform = &self.system.platform;
        if is_beyond(platform, last)
            || !self.domain.memory.may_map_devices(platform, first, last)
            || platform.frames().keeps_device(first, last)
        {
            return Err(Errno::EPERM);
        }
        to.memory.permit_devices(platform, first, last, asked.allow_access != 0)
    }

    /// `irq_permission`, of arguments that [fit](Self::fits).
    ///
    /// # Errors
    ///
    /// - `EPERM`: the caller has not got it.
    /// - `ENOMEM`: too many ranges.
    pub(crate) fn permit_irq(&self, to: &Domain<P>, payload: &Payload) -> Result<(), Errno> {
        let asked: IrqPermission = get(payload);
        let irq = self.system.permitted_irq(self.domain, asked.pirq).ok_or(Errno::EPERM)?;
        let irqs = &mut *to.irqs.lock(&self.system.platform);
        irqs.set(irq.into(), irq.into(), asked.allow_access != 0)
    }
}

/// Whether a frame has a number that no address of the machine reaches.
fn is_beyond(platform: &impl Platform, mfn: u64) -> bool {
    let bits = u32::from(address_bits(platform)).saturating_sub(PAGE_SHIFT);
    mfn.checked_shr(bits).is_some_and(|beyond| beyond != 0)
}
