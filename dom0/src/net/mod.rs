//! The network: a switch between domains' interfaces, the machine's cards, and this domain's own
//! stack.
//!
//! What is at the switch is a task each: [`vif`] serves an interface of a domain, [`uplink`] a card,
//! [`stack`] is this domain itself. The word `ip=off` on the command line leaves this domain out;
//! `ip=A.B.C.D/N` or `ip=A.B.C.D/N,GATEWAY` gives it an address, and without such a word it asks the
//! network of the first card for one (`ip=dhcp`).

mod stack;
mod uplink;
pub(crate) mod vif;

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::error::Error;

use devices::hw::PacketPages;
use devices::virtio::Net;
use netback::{Counters, Mac, PortId, Rules, Switch};
use pv_guest_sdk::{BootInfo, println};

use crate::world::World;
pub(crate) use stack::Address;

/// Pages of all packets on their way.
const PAGES: usize = 4096;

/// The switch, as its ports share it.
pub(crate) type Shared = Rc<RefCell<Switch<PacketPages>>>;

/// The word on the command line that says what this domain's address is.
pub(crate) const WORD: &str = "ip=";

/// The network.
pub(crate) struct Network {
    switch: Shared,
    pages: PacketPages,
}

impl Default for Network {
    /// A switch with nothing at it.
    fn default() -> Self {
        let pages = PacketPages::new(PAGES);
        let switch = Rc::new(RefCell::new(Switch::new(pages.clone())));
        Self { switch, pages }
    }
}

impl Network {
    /// Where pages of packets come from.
    pub(crate) fn pages(&self) -> PacketPages {
        self.pages.clone()
    }

    /// Adds an interface. `None` if another one has its address.
    fn add(&self, mac: Mac) -> Option<PortId> {
        let rules = Rules { address: Some(mac), is_strict: true, ..Rules::default() };
        self.switch.borrow_mut().add(rules)
    }

    /// Removes an interface, and says what went through it.
    fn remove(&self, port: PortId) -> Counters {
        let mut switch = self.switch.borrow_mut();
        let counters = switch.counters(port);
        switch.remove(port);
        counters
    }
}

/// Puts the cards and this domain at the switch.
///
/// # Errors
/// If there are too many tasks, or the word `ip=` says nothing that can be.
pub(crate) fn start(
    world: &Rc<World>,
    boot: &BootInfo<'_>,
    cards: Vec<Rc<Net>>,
) -> Result<(), Box<dyn Error>> {
    let address = match boot.argument("ip") {
        Some("off") => None,
        Some("dhcp") => Some(Address::Asked),
        Some(text) => Some(Address::parse(text).ok_or("ip= is like 10.0.2.5/24, dhcp or off")?),
        None => (!cards.is_empty()).then_some(Address::Asked),
    };
    let mac = cards.first().and_then(|card| card.mac()).map_or(stack::MAC, Mac);
    for (number, card) in cards.into_iter().enumerate() {
        let network = &world.network;
        let Some(port) = network.switch.borrow_mut().add(Rules::default()) else { continue };
        world.background(uplink::serve(world.clone(), number, card, port))?;
    }
    if let Some(address) = address {
        let rules = Rules { address: Some(mac), is_strict: true, ..Rules::default() };
        let port = world.network.switch.borrow_mut().add(rules).ok_or("no port is left")?;
        world.background(stack::serve(world.clone(), port, mac, address))?;
        println!("this domain is at the switch as {}", toolstack::config::Mac(mac.0));
    }
    Ok(())
}
