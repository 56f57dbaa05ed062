//! The machine's disks and network cards.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::error::Error;

use devices::disks::{Found, announce, find};
use devices::hw::{ConfigurationPorts, PacketPages};
use devices::lines::{Line, Lines};
use devices::pci::{self, Device};
use devices::virtio::{Net, TransportError, probe};
use pv_guest_sdk::println;

/// What was found, and interrupts that are to be served.
#[derive(Default)]
pub(crate) struct Equipment {
    /// Disks.
    pub(crate) disks: Vec<Found>,
    /// Network cards.
    pub(crate) cards: Vec<Rc<Net>>,
    /// The interrupts of all.
    pub(crate) lines: Vec<Rc<Line>>,
}

impl Equipment {
    /// Brings the machine's devices up; without access to devices there are none. Cards get pages
    /// of packets.
    pub(crate) fn find(pages: &PacketPages) -> Self {
        Self::search(pages).unwrap_or_else(|error| {
            println!("no devices: {error}");
            Self::default()
        })
    }

    fn search(pages: &PacketPages) -> Result<Self, Box<dyn Error>> {
        let config = ConfigurationPorts::claim()?;
        announce(&config)?;
        let mut lines = Lines::default();
        let (disks, _) = find(&config, &mut lines);
        let mut cards = Vec::new();
        for function in pci::functions(&config) {
            let device = Device::at(&config, function);
            if probe::kind(device) != Some(probe::NET) {
                continue;
            }
            match bring_up(device, &mut lines, pages) {
                Ok(card) => cards.push(card),
                Err(error) => println!("card at {function}: {error}"),
            }
        }
        Ok(Self { disks, cards, lines: lines.iter().cloned().collect() })
    }
}

fn bring_up(
    device: Device<'_, ConfigurationPorts>,
    lines: &mut Lines,
    pages: &PacketPages,
) -> Result<Rc<Net>, TransportError> {
    let found = probe::device(device, lines)?;
    let age = if found.transport.is_legacy() { "legacy" } else { "modern" };
    let card = Rc::new(Net::start(found.transport, pages.clone())?);
    found.line.add(card.clone());
    let mac = toolstack::config::Mac(card.mac().unwrap_or_default());
    println!("card at {}: {age}, {mac}", device.function());
    Ok(card)
}
