//! The way of an interrupt to a port, and its end.

use core::sync::atomic::Ordering;

use hypercall_abi::errno::Errno;
use hypercall_abi::types::{Mfn, Port, VcpuId};

use super::device::Source;
use super::line::{Lines, Trigger};
use super::table::{Interrupts, Mapped, Pirq, vector_of};
use super::{PIRQS, Route};
use crate::cpu::CpuId;
use crate::domain::Domain;
use crate::platform::Platform;
use crate::system::System;

impl<P: Platform> System<P> {
    /// A device raised a vector on this CPU. It is to be acknowledged to the CPU's controller
    /// afterwards: a level is masked by then.
    pub fn device_interrupt(&self, vector: u8) {
        let Some(place) = self.platform.interrupts().at_vector(vector) else { return };
        let mut place = place.lock(&self.platform);
        let Some(mapped) = place.as_mut() else { return };
        let Some(port) = mapped.port else { return };
        if self.is_level(mapped.source) {
            mapped.in_service = true;
            self.mask_source(mapped.source);
        }
        let (domain, pirq) = (mapped.domain.clone(), mapped.pirq);
        drop(place);
        self.raise_pirq(&domain, pirq, port);
    }

    /// What a domain's number stands for.
    pub(super) fn pirq(&self, domain: &Domain<P>, pirq: u32) -> Option<Pirq> {
        domain.pirqs.get(&self.platform, pirq)
    }

    /// Whether a domain may bind its number for an interrupt to a port.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: no interrupt can have it.
    /// - `EPERM`: it has no interrupt, or one that was taken from the domain.
    /// - `EEXIST`: a port is bound to it.
    pub(crate) fn may_bind_pirq(&self, domain: &Domain<P>, pirq: u32) -> Result<(), Errno> {
        let Pirq::Mapped(at) = self.pirq(domain, pirq).ok_or(Errno::EINVAL)? else {
            return Err(Errno::EPERM);
        };
        let place = self.platform.interrupts().place(at);
        let place = place.ok_or(Errno::EPERM)?.lock(&self.platform);
        let mapped = place.as_ref().ok_or(Errno::EPERM)?;
        let (source, port) = (mapped.source, mapped.port);
        drop(place);
        if !self.has_irq(domain, source) {
            return Err(Errno::EPERM);
        }
        if port.is_some() { Err(Errno::EEXIST) } else { Ok(()) }
    }

    /// Opens an interrupt's source towards a port, which is ready for it.
    ///
    /// # Errors
    ///
    /// - As [`System::may_bind_pirq`].
    /// - `EBUSY`: the line is the kernel's, or another domain has bound it.
    pub(crate) fn open_pirq(&self, domain: &Domain<P>, pirq: u32, port: Port) -> Result<(), Errno> {
        let interrupts = self.platform.interrupts();
        let _setup = interrupts.setup.lock(&self.platform);
        self.may_bind_pirq(domain, pirq)?;
        let Some(Pirq::Mapped(at)) = self.pirq(domain, pirq) else { return Err(Errno::EPERM) };
        let cpu = self.cpu_of(domain, VcpuId(0));
        if let Some(Mapped { source: Source::Line(irq), .. }) =
            &*interrupts.place(at).ok_or(Errno::EPERM)?.lock(&self.platform)
            && self.lines().get(&self.platform, *irq).is_none()
        {
            return Err(Errno::EBUSY);
        }
        if self.is_shared(interrupts, at) {
            return Err(Errno::EBUSY);
        }
        let mut place = interrupts.place(at).ok_or(Errno::EPERM)?.lock(&self.platform);
        let mapped = place.as_mut().ok_or(Errno::EPERM)?;
        (mapped.port, mapped.cpu, mapped.in_service) = (Some(port), cpu, false);
        self.become_pirq(domain, port, pirq);
        self.open_source(mapped.source, at, cpu);
        let needs_end = self.is_level(mapped.source);
        drop(place);
        self.tell_whether_end(domain, pirq, needs_end);
        Ok(())
    }

    /// Whether another place has the same line, and has bound it.
    fn is_shared(&self, interrupts: &Interrupts<P>, own: u8) -> bool {
        let line = |at: u8| {
            let place = interrupts.place(at)?.lock(&self.platform);
            match place.as_ref()? {
                Mapped { source: Source::Line(irq), port, .. } => Some((*irq, *port)),
                _ => None,
            }
        };
        let Some((irq, _)) = line(own) else { return false };
        interrupts
            .places()
            .any(|(at, _)| at != own && matches!(line(at), Some((other, Some(_))) if other == irq))
    }

    /// A port that was bound to an interrupt is being closed.
    pub(crate) fn close_pirq(&self, domain: &Domain<P>, pirq: u32, port: Port) {
        let interrupts = self.platform.interrupts();
        let _setup = interrupts.setup.lock(&self.platform);
        match self.pirq(domain, pirq) {
            Some(Pirq::Mapped(at)) => {
                let Some(place) = interrupts.place(at) else { return };
                if let Some(mapped) = &mut *place.lock(&self.platform)
                    && mapped.port == Some(port)
                {
                    self.mask_source(mapped.source);
                    (mapped.port, mapped.in_service) = (None, false);
                }
            }
            Some(Pirq::Lost(_)) => domain.pirqs.set(&self.platform, pirq, Pirq::Free),
            _ => {}
        }
    }

    /// From now on an interrupt is raised where a vCPU runs at this moment.
    pub(crate) fn move_pirq(&self, domain: &Domain<P>, pirq: u32, vcpu: VcpuId) {
        let interrupts = self.platform.interrupts();
        let _setup = interrupts.setup.lock(&self.platform);
        let Some(Pirq::Mapped(at)) = self.pirq(domain, pirq) else { return };
        let Some(place) = interrupts.place(at) else { return };
        let cpu = self.cpu_of(domain, vcpu);
        if let Some(mapped) = &mut *place.lock(&self.platform)
            && mapped.port.is_some()
            && mapped.cpu != cpu
        {
            mapped.cpu = cpu;
            // One in service stays masked: its end opens it where it is now.
            if !mapped.in_service {
                self.open_source(mapped.source, at, cpu);
            }
        }
    }

    /// The guest reports that an interrupt was handled: a level is open again.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the domain has no such interrupt.
    pub fn end_of_pirq(&self, domain: &P::Arc<Domain<P>>, pirq: u32) -> Result<(), Errno> {
        let at = match self.pirq(domain, pirq).ok_or(Errno::EINVAL)? {
            Pirq::Free => return Err(Errno::EINVAL),
            Pirq::Reserved | Pirq::Lost(_) => return Ok(()),
            Pirq::Mapped(at) => at,
        };
        let Some(place) = self.platform.interrupts().place(at) else { return Ok(()) };
        let mut place = place.lock(&self.platform);
        let mine = |mapped: &&mut Mapped<P>| mapped.domain.id == domain.id && mapped.pirq == pirq;
        let Some(mapped) = place.as_mut().filter(mine) else { return Ok(()) };
        let port = mapped.port;
        if port.is_some() && core::mem::take(&mut mapped.in_service) {
            self.open_source(mapped.source, at, mapped.cpu);
        }
        drop(place);
        if let Some(port) = port.filter(|_| domain.pirqs.unmasks.load(Ordering::Relaxed)) {
            self.unmask_port(domain, port)?;
        }
        Ok(())
    }

    /// Ends all interrupts of a domain that wait for it and whose ports are not masked.
    pub fn end_of_unmasked(&self, domain: &P::Arc<Domain<P>>) {
        let interrupts = self.platform.interrupts();
        for (_, place) in interrupts.places() {
            let waits = match place.lock(&self.platform).as_ref() {
                Some(mapped) if mapped.in_service && mapped.domain.id == domain.id => {
                    mapped.port.map(|port| (mapped.pirq, port))
                }
                _ => None,
            };
            if let Some((pirq, port)) = waits
                && !domain.is_masked(&self.platform, port)
            {
                // It may just have been taken back.
                let _ = self.end_of_pirq(domain, pirq);
            }
        }
    }

    /// The machine's lines.
    pub(crate) fn lines(&self) -> &Lines {
        &self.platform.interrupts().lines
    }

    pub(super) fn is_level(&self, source: Source) -> bool {
        let Source::Line(irq) = source else { return false };
        self.lines().get(&self.platform, irq).is_some_and(|line| line.trigger == Trigger::Level)
    }

    fn cpu_of(&self, domain: &Domain<P>, vcpu: VcpuId) -> CpuId {
        domain.vcpu(vcpu).map_or(CpuId::BOOT, |vcpu| vcpu.scheduling.cpu())
    }

    pub(super) fn mask_source(&self, source: Source) {
        match source {
            Source::Line(irq) => {
                if let Some(pin) = self.lines().get(&self.platform, irq).and_then(|line| line.pin) {
                    self.platform.set_line(pin, None);
                }
            }
            Source::Message(message) => message.set_masked(&self.platform),
        }
    }

    fn open_source(&self, source: Source, at: u8, cpu: CpuId) {
        let vector = vector_of(at);
        match source {
            Source::Line(irq) => {
                let Some(line) = self.lines().get(&self.platform, irq) else { return };
                let Some(pin) = line.pin else { return };
                let (trigger, polarity) = (line.trigger, line.polarity);
                let route = Route { vector, cpu, trigger, polarity };
                self.platform.set_line(pin, Some(route));
            }
            Source::Message(source) => {
                source.open(&self.platform, self.platform.message(cpu, vector));
            }
        }
    }

    /// Says in the domain's map whether an interrupt needs its end reported.
    fn tell_whether_end(&self, domain: &Domain<P>, pirq: u32, needs_end: bool) {
        let frame = domain.pirqs.eoi_map.load(Ordering::Acquire);
        if frame == 0 || pirq >= PIRQS {
            return;
        }
        let word = usize::try_from(pirq.wrapping_shr(6)).unwrap_or(0);
        let Some(word) = self.platform.table(Mfn(frame)).get(word) else { return };
        let bit = 1_u64.wrapping_shl(pirq);
        if needs_end {
            word.fetch_or(bit, Ordering::SeqCst);
        } else {
            word.fetch_and(!bit, Ordering::SeqCst);
        }
    }
}
