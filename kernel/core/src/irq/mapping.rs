//! Giving interrupts to domains under numbers of their own, and taking them back.

use hypercall_abi::errno::Errno;
use hypercall_abi::types::Mfn;

use super::PIRQS;
use super::device::{Function, Source, Table};
use super::table::{Interrupts, Mapped, Pirq, vector_of};
use crate::cpu::CpuId;
use crate::domain::Domain;
use crate::frames::{FrameType, Frames, TypeRef};
use crate::platform::Platform;
use crate::system::System;

/// Lines of the old bus, whose numbers are not given to others.
const LEGACY: u32 = 16;

/// What a number is wanted for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A line.
    Line,
    /// A message.
    Message,
}

/// An interrupt's number in a domain.
enum Known {
    /// It has one.
    Mapped(u32),
    /// It was taken back, but its port is still there.
    Lost,
    /// It has none.
    No,
}

impl<P: Platform> System<P> {
    /// A number of the domain that stands for nothing; from now on it is reserved.
    ///
    /// # Errors
    ///
    /// `ENOSPC`: there is none.
    pub fn reserve_pirq(&self, domain: &Domain<P>, kind: Kind) -> Result<u32, Errno> {
        let mut numbers = domain.pirqs.numbers.lock(&self.platform);
        let lines = u32::try_from(self.lines().count()).unwrap_or(PIRQS).min(PIRQS);
        let is_free = |pirq: &u32| {
            let at = usize::try_from(*pirq).unwrap_or(usize::MAX);
            numbers.get(at).is_some_and(|number| *number == Pirq::Free)
        };
        let low = (LEGACY..lines).find(|pirq| kind == Kind::Line && is_free(pirq));
        let found = low.or_else(|| (lines..PIRQS).rev().find(is_free)).ok_or(Errno::ENOSPC)?;
        if let Some(number) = usize::try_from(found).ok().and_then(|at| numbers.get_mut(at)) {
            *number = Pirq::Reserved;
        }
        Ok(found)
    }

    /// Gives a domain a line under a number: `wanted`, or any if that is negative. `index` is the line,
    /// or a number that the caller has for one.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: there is no such line, or no such number.
    /// - `EBUSY`: the domain had it, and has not closed its port.
    /// - `EEXIST`: it has it under another number.
    /// - `EPERM`: the caller has not got it.
    /// - `ENOSPC`, `ENOMEM`: there is no number or no room left.
    pub fn map_line(
        &self,
        caller: &Domain<P>,
        to: &P::Arc<Domain<P>>,
        index: i32,
        wanted: i32,
    ) -> Result<u32, Errno> {
        let index = u32::try_from(index).map_err(|_| Errno::EINVAL)?;
        if !self.lines().has(index) {
            return Err(Errno::EINVAL);
        }
        let interrupts = self.platform.interrupts();
        let _setup = interrupts.setup.lock(&self.platform);
        let irq = match self.irq_of(interrupts, caller, index) {
            Some(irq) => irq,
            None if caller.is_privileged() => index,
            None => return Err(Errno::EINVAL),
        };
        let known = self.known(interrupts, to, irq);
        let pirq = self.choose(to, &known, wanted, Kind::Line)?;
        let outcome = self.place_line(interrupts, caller, to, (irq, pirq), &known);
        self.forget_unless(to, pirq, outcome)
    }

    fn place_line(
        &self,
        interrupts: &Interrupts<P>,
        caller: &Domain<P>,
        to: &P::Arc<Domain<P>>,
        (irq, pirq): (u32, u32),
        known: &Known,
    ) -> Result<u32, Errno> {
        let platform = &self.platform;
        if !caller.irqs.lock(platform).contains(irq.into(), irq.into()) {
            return Err(Errno::EPERM);
        }
        let taken = matches!(self.pirq(to, pirq).ok_or(Errno::EINVAL)?, Pirq::Mapped(_));
        if taken || matches!(known, Known::Mapped(_)) {
            // Nothing changes, and that is no error.
            return Ok(pirq);
        }
        let (at, place) = interrupts.empty(platform).ok_or(Errno::ENOSPC)?;
        to.irqs.lock(platform).set(irq.into(), irq.into(), true)?;
        *place.lock(platform) = Some(mapped(to, pirq, Source::Line(irq)));
        to.pirqs.set(platform, pirq, Pirq::Mapped(at));
        Ok(pirq)
    }

    /// Gives a domain a message of a device under a number: `wanted`, or any if that is negative. The
    /// device has it programmed and masked, if it can mask it.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: there is no such number, or no such entry in the device's table.
    /// - `EEXIST`: the number is in use.
    /// - `ENODEV`: the device was not reported, or sends no messages in this way.
    /// - `ENXIO`: the device's memory is not switched on, or where its table should be is none.
    /// - `EBUSY`: the device sends messages in the other way.
    /// - `ENOSPC`, `ENOMEM`: there is no number or no room left.
    pub fn map_message(
        &self,
        to: &P::Arc<Domain<P>>,
        function: Function,
        table: Option<Table>,
        wanted: i32,
    ) -> Result<u32, Errno> {
        let interrupts = self.platform.interrupts();
        let mut devices = interrupts.setup.lock(&self.platform);
        let pirq = self.choose(to, &Known::No, wanted, Kind::Message)?;
        let outcome = match self.pirq(to, pirq) {
            None => Err(Errno::EINVAL),
            Some(Pirq::Mapped(_) | Pirq::Lost(_)) => return Err(Errno::EEXIST),
            Some(Pirq::Free | Pirq::Reserved) => {
                interrupts.empty(&self.platform).ok_or(Errno::ENOSPC).and_then(|(at, place)| {
                    let message = self.platform.message(CpuId::BOOT, vector_of(at));
                    let source =
                        devices.begin(&self.platform, &to.memory, function, table, message)?;
                    let source = Source::Message(source);
                    *place.lock(&self.platform) = Some(mapped(to, pirq, source));
                    to.pirqs.set(&self.platform, pirq, Pirq::Mapped(at));
                    Ok(pirq)
                })
            }
        };
        self.forget_unless(to, pirq, outcome)
    }

    /// Takes an interrupt from a domain. A port that is bound to it stays, and is raised no more.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the domain has no interrupt under the number.
    pub fn unmap_pirq(&self, domain: &Domain<P>, pirq: i32) -> Result<(), Errno> {
        let pirq = u32::try_from(pirq).map_err(|_| Errno::EINVAL)?;
        let interrupts = self.platform.interrupts();
        let mut devices = interrupts.setup.lock(&self.platform);
        let platform = &self.platform;
        let Some(Pirq::Mapped(at)) = self.pirq(domain, pirq) else { return Err(Errno::EINVAL) };
        let place = interrupts.place(at).ok_or(Errno::EINVAL)?;
        // The caller knows the domain: the reference that goes here is not the last.
        let Some(mapped) = place.lock(platform).take() else { return Err(Errno::EINVAL) };
        let irq = self.number_of(mapped.source, at);
        if mapped.port.is_some() {
            self.mask_source(mapped.source);
        }
        match mapped.source {
            Source::Line(_) => {
                // That there is no room to note it takes more from the domain than it should lose: then
                // it keeps the right.
                let _ = domain.irqs.lock(platform).set(irq.into(), irq.into(), false);
            }
            Source::Message(message) => devices.end(platform, message),
        }
        let left = if mapped.port.is_some() { Pirq::Lost(irq) } else { Pirq::Free };
        domain.pirqs.set(platform, pirq, left);
        Ok(())
    }

    /// Takes all interrupts from a domain that ends and has no ports any more, and the frame of its
    /// map.
    pub(crate) fn end_pirqs(&self, domain: &Domain<P>, frames: Frames<'_, P, Self>) {
        for pirq in 0..i32::try_from(PIRQS).unwrap_or(0) {
            // Refused where there is none.
            let _ = self.unmap_pirq(domain, pirq);
        }
        let map = domain.pirqs.eoi_map.swap(0, core::sync::atomic::Ordering::AcqRel);
        if map != 0 {
            let _ = frames.put_type(TypeRef::from_entry(Mfn(map), FrameType::Writable));
        }
    }

    /// Whether a domain may use an interrupt that it has under a number: messages belong to whom they
    /// were given.
    pub(super) fn has_irq(&self, domain: &Domain<P>, source: Source) -> bool {
        match source {
            Source::Line(irq) => domain.irqs.lock(&self.platform).contains(irq.into(), irq.into()),
            Source::Message(_) => true,
        }
    }

    /// The interrupt that a domain has under a number, if it may use it.
    pub(crate) fn permitted_irq(&self, domain: &Domain<P>, pirq: u32) -> Option<u32> {
        let interrupts = self.platform.interrupts();
        let irq = self.irq_of(interrupts, domain, pirq)?;
        let allowed = !self.lines().has(irq) || self.has_irq(domain, Source::Line(irq));
        allowed.then_some(irq)
    }

    fn irq_of(&self, interrupts: &Interrupts<P>, domain: &Domain<P>, pirq: u32) -> Option<u32> {
        let Some(Pirq::Mapped(at)) = self.pirq(domain, pirq) else { return None };
        let place = interrupts.place(at)?.lock(&self.platform);
        place.as_ref().map(|mapped| self.number_of(mapped.source, at))
    }

    /// The number of an interrupt: its line's, or for a message one behind all lines.
    fn number_of(&self, source: Source, at: u8) -> u32 {
        let lines = u32::try_from(self.lines().count()).unwrap_or(0);
        match source {
            Source::Line(irq) => irq,
            Source::Message(_) => lines.saturating_add(at.into()),
        }
    }

    fn known(&self, interrupts: &Interrupts<P>, domain: &Domain<P>, irq: u32) -> Known {
        let mut places = interrupts.places();
        let mapped = places.find_map(|(_, place)| match place.lock(&self.platform).as_ref() {
            Some(Mapped { domain: owner, pirq, source: Source::Line(line), .. })
                if owner.id == domain.id && *line == irq =>
            {
                Some(*pirq)
            }
            _ => None,
        });
        match (mapped, domain.pirqs.lost(&self.platform, irq)) {
            (Some(pirq), _) => Known::Mapped(pirq),
            (None, Some(_)) => Known::Lost,
            (None, None) => Known::No,
        }
    }

    /// The number under which a domain is to get an interrupt.
    fn choose(
        &self,
        domain: &Domain<P>,
        known: &Known,
        wanted: i32,
        kind: Kind,
    ) -> Result<u32, Errno> {
        match (u32::try_from(wanted), known) {
            (Err(_), Known::Lost) => Err(Errno::EBUSY),
            (Err(_), Known::Mapped(pirq)) => Ok(*pirq),
            (Err(_), Known::No) => self.reserve_pirq(domain, kind),
            (Ok(_), Known::Lost) => Err(Errno::EEXIST),
            (Ok(wanted), Known::Mapped(pirq)) if wanted != *pirq => Err(Errno::EEXIST),
            (Ok(wanted), _) => Ok(wanted),
        }
    }

    /// A number for which nothing was found is free again.
    fn forget_unless(
        &self,
        domain: &Domain<P>,
        pirq: u32,
        outcome: Result<u32, Errno>,
    ) -> Result<u32, Errno> {
        if outcome.is_err() && self.pirq(domain, pirq) == Some(Pirq::Reserved) {
            domain.pirqs.set(&self.platform, pirq, Pirq::Free);
        }
        outcome
    }

    /// Notes that a device exists, or what is known of it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: too many devices.
    pub fn add_device(&self, function: Function) -> Result<(), Errno> {
        self.platform.interrupts().setup.lock(&self.platform).add(&self.platform, function)
    }

    /// Forgets a device. The interrupts that are mapped of it stay mapped, and silent.
    ///
    /// # Errors
    ///
    /// `ENODEV`: it was not reported.
    pub fn remove_device(&self, function: Function) -> Result<(), Errno> {
        self.platform.interrupts().setup.lock(&self.platform).remove(&self.platform, function)
    }

    /// Whether a device was reported.
    pub fn knows_device(&self, function: Function) -> bool {
        self.platform.interrupts().setup.lock(&self.platform).knows(function)
    }

    /// Programs the messages of a device again, which has forgotten them.
    ///
    /// # Errors
    ///
    /// - `ENODEV`: the device was not reported.
    /// - `ENXIO`: its memory is not switched on.
    pub fn restore_device(&self, function: Function) -> Result<(), Errno> {
        let interrupts = self.platform.interrupts();
        let devices = interrupts.setup.lock(&self.platform);
        if !devices.knows(function) {
            return Err(Errno::ENODEV);
        }
        for (at, place) in interrupts.places() {
            if let Some(mapped) = place.lock(&self.platform).as_ref()
                && let Source::Message(source) = mapped.source
                && source.is_of(function)
            {
                let message = self.platform.message(mapped.cpu, vector_of(at));
                source.restore(&self.platform, message, mapped.port.is_some())?;
            }
        }
        Ok(())
    }

    /// Takes away, or gives back, the table of messages of a device that another domain will drive.
    ///
    /// # Errors
    ///
    /// - `ENODEV`: the device was not reported, or has no such table.
    /// - `EBUSY`: it is in use, or was not taken away.
    /// - As [`System::map_message`].
    pub fn prepare_table(&self, owner: &Domain<P>, of: Function, end: bool) -> Result<(), Errno> {
        let interrupts = self.platform.interrupts();
        let mut devices = interrupts.setup.lock(&self.platform);
        devices.prepare(&self.platform, &owner.memory, of, end)
    }
}

fn mapped<P: Platform>(to: &P::Arc<Domain<P>>, pirq: u32, source: Source) -> Mapped<P> {
    let (port, cpu, in_service) = (None, CpuId::BOOT, false);
    Mapped { domain: to.clone(), pirq, source, port, cpu, in_service }
}
