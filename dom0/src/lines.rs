//! Interrupts and the devices that they are of.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::convert::Infallible;

use pv_guest_sdk::HypercallError;
use pv_guest_sdk::device::physdev::Source;
use pv_guest_sdk::device::{DeviceError, Interrupt};

/// A device that an interrupt may be of.
pub trait Served {
    /// Looks at what the device has to say.
    fn on_interrupt(&self);
}

impl Served for crate::virtio::Block {
    fn on_interrupt(&self) {
        let _others_may_be_meant = Self::on_interrupt(self);
    }
}

impl Served for crate::virtio::Net {
    fn on_interrupt(&self) {
        let _others_may_be_meant = Self::on_interrupt(self);
    }
}

/// An interrupt, and its devices: those of a wired one may be several.
pub struct Line {
    source: Source,
    interrupt: Interrupt,
    devices: RefCell<Vec<Rc<dyn Served>>>,
}

impl Line {
    /// Adds a device.
    pub fn add(&self, device: Rc<dyn Served>) {
        self.devices.borrow_mut().push(device);
    }

    /// Where the interrupt comes from.
    #[must_use]
    pub const fn source(&self) -> Source {
        self.source
    }

    /// Whether the hypervisor is told when the devices were looked at.
    #[must_use]
    pub fn reports_end(&self) -> bool {
        self.interrupt.reports_end()
    }

    /// Gives the interrupt to its devices whenever it comes: a task of its own.
    ///
    /// # Errors
    /// [`HypercallError`] if the hypervisor has lost it.
    pub async fn serve(&self) -> Result<Infallible, HypercallError> {
        loop {
            self.interrupt.notified().await;
            self.devices.borrow().iter().for_each(|device| device.on_interrupt());
            // Behind the devices, or a line that is still on would come again at once.
            self.interrupt.end()?;
        }
    }
}

/// All interrupts that are in use.
#[derive(Default)]
pub struct Lines(Vec<Rc<Line>>);

impl Lines {
    /// The interrupt from `source`, taken from the hypervisor if it is the first device's.
    ///
    /// # Errors
    /// As of [`Interrupt::new`].
    pub fn line(&mut self, source: Source) -> Result<Rc<Line>, DeviceError> {
        if let Some(line) = self.0.iter().find(|line| line.source == source) {
            return Ok(line.clone());
        }
        let (interrupt, devices) = (Interrupt::new(source)?, RefCell::default());
        let line = Rc::new(Line { source, interrupt, devices });
        self.0.push(line.clone());
        Ok(line)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<Line>> {
        self.0.iter()
    }
}
