//! The network: switches between domains' interfaces, the machine's cards, and this domain's own
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
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::error::Error;

use devices::hw::PacketPages;
use devices::virtio::Net;
use hypercall_abi::types::DomId;
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

/// The switch where the cards and this domain are, and interfaces that name none.
pub(crate) const BRIDGE: &str = "xenbr0";

/// The network.
pub(crate) struct Network {
    pages: PacketPages,
    /// Where the cards are.
    switch: Shared,
    /// Others, each for the interfaces that name it, for as long as there are some.
    others: RefCell<Vec<(String, Shared)>>,
    vifs: RefCell<Vec<Attached>>,
}

/// A domain's interface at a switch.
#[derive(Clone)]
struct Attached {
    domain: DomId,
    number: u32,
    switch: Shared,
    port: PortId,
}

impl Default for Network {
    /// A switch with nothing at it.
    fn default() -> Self {
        let pages = PacketPages::new(PAGES);
        let switch = Rc::new(RefCell::new(Switch::new(pages.clone())));
        Self { pages, switch, others: RefCell::default(), vifs: RefCell::default() }
    }
}

impl Network {
    /// Where pages of packets come from.
    pub(crate) fn pages(&self) -> PacketPages {
        self.pages.clone()
    }

    /// The switch of this name, which is made if it is not there.
    fn switch(&self, name: &str) -> Shared {
        if name == BRIDGE {
            return self.switch.clone();
        }
        let mut others = self.others.borrow_mut();
        if let Some((_, switch)) = others.iter().find(|(other, _)| other == name) {
            return switch.clone();
        }
        let switch = Rc::new(RefCell::new(Switch::new(self.pages())));
        others.push((name.to_string(), switch.clone()));
        switch
    }

    /// Adds an interface, which sends from its own address alone. `None` if another one at its switch
    /// has that.
    fn attach(&self, vif: &vif::Served) -> Option<Attached> {
        let rules = Rules { address: Some(vif.mac), is_strict: true, ..Rules::default() };
        let switch = self.switch(&vif.bridge);
        let port = switch.borrow_mut().add(rules);
        let attached = Attached { domain: vif.domain, number: vif.number, switch, port: port? };
        self.vifs.borrow_mut().push(attached.clone());
        Some(attached)
    }

    /// Removes an interface, and says what went through it.
    fn detach(&self, vif: Attached) -> Counters {
        let counters = vif.switch.borrow().counters(vif.port);
        vif.switch.borrow_mut().remove(vif.port);
        let is_other = |it: &Attached| (it.domain, it.number) != (vif.domain, vif.number);
        self.vifs.borrow_mut().retain(is_other);
        drop(vif);
        self.others.borrow_mut().retain(|(_, switch)| Rc::strong_count(switch) > 1);
        counters
    }

    /// What went through a domain's interfaces, by their numbers.
    pub(crate) fn counters(&self, domain: DomId) -> Vec<(u32, Counters)> {
        let vifs = self.vifs.borrow();
        let own = vifs.iter().filter(|vif| vif.domain == domain);
        own.map(|vif| (vif.number, vif.switch.borrow().counters(vif.port))).collect()
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
