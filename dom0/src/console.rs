//! A domain's console: what it says comes out line by line, with the domain's name before it.

use core::cell::RefCell;

use hypercall_abi::types::{Mfn, Port};
use pv_guest_sdk::control::{ControlError, Domain, Foreign};
use pv_guest_sdk::event::Channel;
use pv_guest_sdk::println;
use toolstack::lines::Lines;

use crate::window::Window;

/// How much is taken at once. Unit: bytes.
const PIECE: usize = 512;

/// The back end of one domain's console.
#[derive(Debug)]
pub(crate) struct Console<'a> {
    name: &'a str,
    ring: Foreign,
    channel: Channel,
    lines: RefCell<Lines>,
    /// Behind the mapping, as it is to be dropped after that.
    _window: Window,
}

impl<'a> Console<'a> {
    /// Connects to the ring in a frame of the domain, and to its port.
    ///
    /// # Errors
    /// [`ControlError`] if the hypervisor refuses one of them.
    pub(crate) fn new(
        name: &'a str,
        domain: &Domain,
        (frame, port): (Mfn, Port),
        window: Window,
    ) -> Result<Self, ControlError> {
        let ring = domain.map(window.page(), frame)?;
        let channel = Channel::connect(domain.id(), port)?;
        Ok(Self { name, ring, channel, lines: RefCell::default(), _window: window })
    }

    /// Serves it for ever.
    pub(crate) async fn serve(&self) {
        loop {
            self.drain();
            self.channel.notified().await;
        }
    }

    /// Shows what waits.
    fn drain(&self) {
        let mut text = [0; PIECE];
        loop {
            let taken = self.ring.console().take(&mut text);
            if taken == 0 {
                return;
            }
            let text = text.get(..taken).unwrap_or_default();
            self.lines.borrow_mut().feed(text, |line| println!("{}| {line}", self.name));
            // One that waits for room goes on; one that is gone does not.
            let _is_gone = self.channel.send();
        }
    }

    /// Shows what is left, of a domain that has ended.
    pub(crate) fn end(&self) {
        self.drain();
        self.lines.borrow_mut().end(|line| println!("{}| {line}", self.name));
    }
}
