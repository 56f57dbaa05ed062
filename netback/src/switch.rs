//! The switch between ports: domains' devices, physical cards, this domain's own stack.
//!
//! It learns from the senders' addresses which port a packet is to go to; a packet to an unknown
//! address, to a group or to all goes to every port but its own. Each port has a queue of limited
//! length; a packet that finds it full is dropped. A port says what packets it takes, and gets no
//! others: checksums are filled in and long packets cut as late as that, and not at all between two
//! ports that leave both to a wire that is not there.

mod exit;
mod port;
mod table;

use alloc::rc::Weak;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::task::{Context, Poll};

pub(crate) use exit::{Exit, Placed, Rest};
pub use port::{Counters, Flow, Rules, Takes};

use crate::headers::ETHERNET;
use crate::packet::{Packet, Pool};
use port::Port;
use table::Table;

/// What begins the addresses of protocols between a switch and what is at its ports: what is sent
/// there goes no further.
const LINK_LOCAL: [u8; 5] = [0x01, 0x80, 0xc2, 0x00, 0x00];

/// An address of Ethernet.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    const fn number(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    /// Whether it is of a group, or of all.
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    fn is_link_local(self) -> bool {
        let [start @ .., last] = self.0;
        start == LINK_LOCAL && last < 0x10
    }

    /// Reads it as it is written: six numbers of two digits of base 16 with colons between them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2)?;
            let digits = part.bytes().all(|digit| digit.is_ascii_hexdigit());
            *byte = digits.then(|| u8::from_str_radix(part, 16).ok()).flatten()?;
        }
        parts.next().is_none().then_some(Self(bytes))
    }
}

/// A port of a switch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PortId(u16);

/// A switch, and the pool of pages of what travels through it.
pub struct Switch<P: Pool> {
    pool: P,
    ports: Vec<Option<Port<P::Buffer>>>,
    table: Table,
    /// Addresses that are known to be behind a port, by their numbers, in order.
    fixed: Vec<(u64, PortId)>,
    /// Ports whose packets are not copied yet.
    placed: Vec<PortId>,
}

/// Where a packet is to go.
#[derive(Clone, Copy)]
pub(crate) enum Route {
    Nowhere,
    To(PortId),
    /// To every port but its own; to a group, or to an address that is not known.
    Flood {
        is_group: bool,
    },
}

impl<P: Pool> Switch<P> {
    /// A switch without ports.
    #[must_use]
    pub fn new(pool: P) -> Self {
        Self { pool, ports: Vec::new(), table: Table::new(), fixed: Vec::new(), placed: Vec::new() }
    }

    /// Where pages come from.
    pub const fn pool(&mut self) -> &mut P {
        &mut self.pool
    }

    /// Adds a port, behind which nobody is yet. `None` if another port has the address, or there
    /// are 65536.
    pub fn add(&mut self, rules: Rules) -> Option<PortId> {
        let free = self.ports.iter().position(Option::is_none).unwrap_or(self.ports.len());
        let id = PortId(u16::try_from(free).ok()?);
        if let Some(address) = rules.address {
            let address = address.number();
            let place = self.fixed.binary_search_by_key(&address, |it| it.0).err()?;
            self.fixed.insert(place, (address, id));
        }
        if free == self.ports.len() {
            self.ports.push(None);
        }
        *self.ports.get_mut(free)? = Some(Port::new(rules));
        Some(id)
    }

    /// Removes a port with all that waits for it.
    pub fn remove(&mut self, port: PortId) {
        self.forget(port);
        self.fixed.retain(|(_, other)| *other != port);
        if let Some(place) = self.ports.get_mut(usize::from(port.0)) {
            *place = None;
        }
    }

    /// Somebody is behind a port, who takes such packets.
    pub fn connect(&mut self, port: PortId, takes: Takes) {
        if let Some(port) = self.port(port) {
            port.takes = Some(takes);
        }
    }

    /// From now on packets for a port leave there at once, in their senders' turns.
    pub(crate) fn join(&mut self, port: PortId, exit: Weak<RefCell<dyn Exit<P::Buffer>>>) {
        if let Some(port) = self.port(port) {
            port.exit = Some(exit);
        }
    }

    /// Nobody is behind a port any more. What waits for it is dropped.
    pub fn disconnect(&mut self, port: PortId) {
        self.forget(port);
        if let Some(port) = self.port(port) {
            (port.takes, port.exit) = (None, None);
            port.clear();
        }
    }

    fn forget(&mut self, port: PortId) {
        self.table.forget(port);
        if let Some(port) = self.port(port) {
            port.learned = 0;
        }
    }

    fn port(&mut self, port: PortId) -> Option<&mut Port<P::Buffer>> {
        self.ports.get_mut(usize::from(port.0))?.as_mut()
    }

    /// What went through a port.
    #[must_use]
    pub fn counters(&self, port: PortId) -> Counters {
        let port = self.ports.get(usize::from(port.0)).and_then(Option::as_ref);
        port.map_or_else(Counters::default, |port| port.counters)
    }

    /// To count what goes wrong at a port.
    pub(crate) fn count(&mut self, port: PortId, count: impl FnOnce(&mut Counters)) {
        if let Some(port) = self.port(port) {
            count(&mut port.counters);
        }
    }

    /// The next packet for a port.
    #[must_use]
    pub fn next(&self, port: PortId) -> Option<&Packet<P::Buffer>> {
        self.ports.get(usize::from(port.0))?.as_ref()?.front()
    }

    /// Takes the next packet for a port.
    pub fn take(&mut self, port: PortId) -> Option<Packet<P::Buffer>> {
        self.port(port)?.pop()
    }

    /// The task of `cx` is woken by the next packet for a port.
    pub fn listen(&mut self, port: PortId, cx: &Context<'_>) {
        if let Some(port) = self.port(port) {
            port.listen(cx);
        }
    }

    /// Takes the next packet for a port, or wakes the task of `cx` when there is one.
    pub fn poll_take(&mut self, port: PortId, cx: &Context<'_>) -> Poll<Packet<P::Buffer>> {
        self.listen(port, cx);
        self.take(port).map_or(Poll::Pending, Poll::Ready)
    }

    /// Takes a packet that comes from a port to where it is to go.
    pub fn send(&mut self, from: PortId, packet: Packet<P::Buffer>) {
        self.send_all(from, [packet]);
    }

    /// Takes packets that come from a port to where they are to go. How many they are.
    pub fn send_all(
        &mut self,
        from: PortId,
        packets: impl IntoIterator<Item = Packet<P::Buffer>>,
    ) -> usize {
        let mut count = 0;
        for packet in packets {
            let route = self.route(from, &packet);
            self.follow(route, from, packet);
            count += 1;
        }
        self.finish(&mut Vec::new());
        count
    }

    /// Where a packet that comes from a port is to go.
    pub(crate) fn route(&mut self, from: PortId, packet: &Packet<P::Buffer>) -> Route {
        let [a, b, c, d, e, f, sender @ ..]: [u8; 12] = packet.start();
        let (to, sender) = (Mac([a, b, c, d, e, f]), Mac(sender));
        let Some(source) = self.port(from) else { return Route::Nowhere };
        source.counters.from.packets += 1;
        source.counters.from.bytes += packet.length() as u64;
        let is_own = source.rules.address == Some(sender);
        let is_spoofed = source.rules.is_strict && !is_own;
        let is_wrong = packet.length() < ETHERNET || sender.is_group();
        if is_spoofed || is_wrong || to.is_link_local() {
            source.counters.spoofed += u64::from(is_spoofed);
            source.counters.from.dropped += 1;
            return Route::Nowhere;
        }
        if !is_own {
            self.learn(sender, from);
        }
        if to.is_group() {
            return Route::Flood { is_group: true };
        }
        match self.find(to) {
            Some(port) if port != from && self.is_connected(port) => Route::To(port),
            // Behind the port it came from, or nobody is there.
            Some(_) => {
                self.count(from, |counters| counters.from.dropped += 1);
                Route::Nowhere
            }
            None => Route::Flood { is_group: false },
        }
    }

    /// Takes a packet there. [`Switch::finish`] must follow.
    pub(crate) fn follow(&mut self, route: Route, from: PortId, packet: Packet<P::Buffer>) {
        match route {
            Route::Nowhere => {}
            Route::Flood { is_group } => self.flood(from, packet, is_group),
            Route::To(to) => {
                if let Some(Some(port)) = self.ports.get_mut(usize::from(to.0)) {
                    port.put(from, packet, &mut self.pool);
                    note(&mut self.placed, to, port);
                }
            }
        }
    }

    /// Gives a packet of which the rest is in its sender's pages to who it is for. It comes back if
    /// it has to be here for that. [`Switch::finish`] must follow.
    pub(crate) fn pass(
        &mut self,
        to: PortId,
        packet: Packet<P::Buffer>,
        rest: Rest<'_>,
    ) -> Option<Packet<P::Buffer>> {
        let Some(Some(port)) = self.ports.get_mut(usize::from(to.0)) else { return Some(packet) };
        let back = port.pass(packet, rest);
        note(&mut self.placed, to, port);
        back
    }

    /// Whether packets for a port leave there at once now.
    pub(crate) fn leaves_at_once(&self, port: PortId) -> bool {
        let port = self.ports.get(usize::from(port.0)).and_then(Option::as_ref);
        port.is_some_and(|port| port.has_placed)
    }

    /// Copies all that has places, and adds the tags of what could not be copied.
    pub(crate) fn finish(&mut self, failed: &mut Vec<u16>) {
        while let Some(port) = self.placed.pop() {
            let Some(port) = self.port(port) else { continue };
            (port.has_placed, port.is_noted) = (false, false);
            if let Some(exit) = port.exit.as_ref().and_then(Weak::upgrade) {
                exit.borrow_mut().finish(&mut port.counters, failed);
            }
        }
    }

    fn is_connected(&self, port: PortId) -> bool {
        let port = self.ports.get(usize::from(port.0)).and_then(Option::as_ref);
        port.is_some_and(|port| port.takes.is_some())
    }

    fn fixed(&self, address: Mac) -> Option<PortId> {
        let place = self.fixed.binary_search_by_key(&address.number(), |it| it.0).ok()?;
        self.fixed.get(place).map(|it| it.1)
    }

    fn find(&mut self, address: Mac) -> Option<PortId> {
        self.fixed(address).or_else(|| self.table.find(address))
    }

    fn learn(&mut self, address: Mac, from: PortId) {
        if self.fixed(address).is_some() {
            return;
        }
        let may_grow = self.port(from).is_some_and(|port| port.learned < port.rules.addresses);
        let (before, is_new) = self.table.learn(address, from, may_grow);
        if is_new {
            if let Some(port) = before.and_then(|port| self.port(port)) {
                port.learned -= 1;
            }
            if let Some(port) = self.port(from) {
                port.learned += 1;
            }
        }
    }

    /// Gives a packet to every port but its own; to a group, or to an address that is not known.
    fn flood(&mut self, from: PortId, packet: Packet<P::Buffer>, is_group: bool) {
        let is_other = |index: usize| index != usize::from(from.0);
        let takes =
            |port: &Port<P::Buffer>| port.takes.is_some() && (is_group || !port.rules.is_strict);
        let last = self
            .ports
            .iter()
            .enumerate()
            .rposition(|(index, port)| is_other(index) && port.as_ref().is_some_and(&takes));
        let Some(last) = last else {
            return self.count(from, |counters| counters.from.dropped += 1);
        };
        for (index, port) in self.ports.iter_mut().enumerate().take(last) {
            let Some(port) = port.as_mut().filter(|port| is_other(index) && takes(port)) else {
                continue;
            };
            let room = port.has_room(from, self.pool.left());
            let copy = room.then(|| packet.duplicate(&mut self.pool)).flatten();
            match copy {
                Some(copy) => {
                    port.put(from, copy, &mut self.pool);
                    let id = PortId(u16::try_from(index).unwrap_or_default());
                    note(&mut self.placed, id, port);
                }
                None => port.counters.to.dropped += 1,
            }
        }
        let id = PortId(u16::try_from(last).unwrap_or_default());
        self.follow(Route::To(id), from, packet);
    }
}

/// Notes a port if packets have places there that are not copied yet.
fn note<B>(placed: &mut Vec<PortId>, id: PortId, port: &mut Port<B>) {
    if port.has_placed && !core::mem::replace(&mut port.is_noted, true) {
        placed.push(id);
    }
}
