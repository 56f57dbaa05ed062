//! Interrupts as owned values.

use hypercall_abi::errno::Errno;

use super::DeviceError;
use super::physdev::{self, Source};
use crate::error::HypercallError;
use crate::event::{Channel, Notified, port::Share};
use crate::raw::device::{begin, waits};
use crate::raw::gate::Machine;

/// A device's interrupt, which comes as an event. Dropping it takes the interrupt away; the number
/// of a wired one stays mapped, because Xen gives a wired interrupt back to nobody: with its number
/// it takes the domain's right to it.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{device::{DeviceError, Interrupt, physdev::Source}};
/// # async fn example() -> Result<(), DeviceError> {
/// let interrupt = Interrupt::new(Source::Wire(11))?;
/// loop {
///     interrupt.notified().await;
///     // Here the device is looked after.
///     if interrupt.reports_end() {
///         interrupt.end()?;
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Interrupt {
    // Fields are dropped in this order.
    channel: Channel,
    pirq: Pirq,
    /// Whether its ends must be reported, if the hypervisor says it once and for all.
    reports_end: bool,
}

/// A number of an interrupt. Dropping it takes that of a message back.
#[derive(Debug)]
struct Pirq {
    number: u32,
    source: Source,
}

impl Drop for Pirq {
    fn drop(&mut self) {
        if matches!(self.source, Source::Message { .. }) {
            let _is_mapped = physdev::unmap(&Machine, self.number);
        }
    }
}

impl Interrupt {
    /// Takes an interrupt; one that is wired may come for others too.
    ///
    /// # Errors
    /// As of [`physdev::map`] and [`crate::event::port::bind_pirq`]: EEXIST (17) if this domain has
    /// the wired interrupt already.
    pub fn new(source: Source) -> Result<Self, DeviceError> {
        begin();
        let pirq = Pirq { number: physdev::map(&Machine, source)?, source };
        let share = match source {
            Source::Message { .. } | Source::Legacy(_) => Share::Alone,
            Source::Wire(gsi) => {
                physdev::set_level(&Machine, gsi).or_else(in_use)?;
                Share::Shared
            }
        };
        let channel = Channel::pirq(pirq.number, share)?;
        let reports_end = physdev::reports_end(&Machine, pirq.number)?;
        Ok(Self { channel, pirq, reports_end })
    }

    /// Completes when the interrupt has come since the last time.
    pub const fn notified(&self) -> Notified<'_> {
        self.channel.notified()
    }

    /// Says that the devices were looked at: the interrupt may come again.
    ///
    /// # Errors
    /// [`HypercallError`] if the hypervisor has lost it.
    pub fn end(&self) -> Result<(), HypercallError> {
        if self.reports_end() { physdev::end(&Machine, self.pirq.number) } else { Ok(()) }
    }

    /// Whether the hypervisor waits for an end. It says so for each interrupt if it can; if not,
    /// Xen says of all that they must be reported, even of messages.
    #[must_use]
    pub fn reports_end(&self) -> bool {
        waits(self.pirq.number).unwrap_or(self.reports_end)
    }
}

/// A wired interrupt that is in use was set before.
fn in_use(error: HypercallError) -> Result<(), HypercallError> {
    if error.errno() == Some(Errno::EEXIST) { Ok(()) } else { Err(error) }
}
