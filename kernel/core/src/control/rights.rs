//! Which ports, interrupts and device memory a domain may use. Nobody can give what he has not.

use hypercall_abi::domctl::{IomemPermission, IoportPermission, IrqPermission};
use hypercall_abi::errno::Errno;
use hypercall_abi::types::PAGE_SHIFT;

use super::info::address_bits;
use super::{Payload, get};
use crate::domain::Domain;
use crate::irq::PIRQS;
use crate::platform::Platform;
use crate::system::Context;

/// Ports of a PC.
const PORTS: u32 = 1 << 16;

impl<P: Platform> Context<'_, P> {
    /// `ioport_permission`.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: no port, or beyond the last.
    /// - `EPERM`: the caller has not got them, or the kernel keeps them.
    /// - `ENOMEM`: too many ranges.
    pub(crate) fn permit_ports(&self, to: &Domain<P>, payload: &Payload) -> Result<(), Errno> {
        let asked: IoportPermission = get(payload);
        let (first, end) = (asked.first_port, asked.first_port.wrapping_add(asked.nr_ports));
        if end <= first || end > PORTS {
            return Err(Errno::EINVAL);
        }
        let (platform, last) = (&self.system.platform, end.saturating_sub(1));
        let own = self.domain.io_ports.lock(platform).contains(first.into(), last.into());
        if !own || self.system.ports.keeps(first, last) {
            return Err(Errno::EPERM);
        }
        to.io_ports.lock(platform).set(first.into(), last.into(), asked.allow_access != 0)
    }

    /// `iomem_permission`.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: no frame, or the range wraps.
    /// - `EPERM`: the caller has not got them, or no address of the machine reaches them.
    /// - `ENOMEM`: too many ranges.
    pub(crate) fn permit_memory(&self, to: &Domain<P>, payload: &Payload) -> Result<(), Errno> {
        let asked: IomemPermission = get(payload);
        let first = asked.first_mfn;
        let last = first.wrapping_add(asked.nr_mfns).wrapping_sub(1);
        if last < first {
            return Err(Errno::EINVAL);
        }
        let platform = &self.system.platform;
        let beyond = last.checked_shr(u32::from(address_bits(platform)).saturating_sub(PAGE_SHIFT));
        if beyond.is_some_and(|beyond| beyond != 0)
            || !self.domain.memory.may_map_devices(platform, first, last)
            || platform.frames().keeps_device(first, last)
        {
            return Err(Errno::EPERM);
        }
        to.memory.permit_devices(platform, first, last, asked.allow_access != 0)
    }

    /// `irq_permission`.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: no such interrupt.
    /// - `EPERM`: the caller has not got it.
    /// - `ENOMEM`: too many ranges.
    pub(crate) fn permit_irq(&self, to: &Domain<P>, payload: &Payload) -> Result<(), Errno> {
        let asked: IrqPermission = get(payload);
        if asked.pirq >= PIRQS {
            return Err(Errno::EINVAL);
        }
        let irq = self.system.permitted_irq(self.domain, asked.pirq).ok_or(Errno::EPERM)?;
        let irqs = &mut *to.irqs.lock(&self.system.platform);
        irqs.set(irq.into(), irq.into(), asked.allow_access != 0)
    }
}
