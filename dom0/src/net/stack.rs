//! This domain's own end of the network: it has an address, and answers who asks whether it is there.

use alloc::rc::Rc;
use alloc::vec;
use core::cell::RefCell;
use core::future::poll_fn;
use core::task::Poll;

use devices::hw::PacketPages;
use embassy_futures::select::select;
use netback::{Buffer, Mac, Packet, PortId, Switch, Takes};
use pv_guest_sdk::time::{self, Duration, sleep_until, wall_clock};
use smoltcp::iface::{Config, Interface, SocketSet, SocketStorage};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::dhcpv4;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address, Ipv4Cidr};

use crate::screen::Screen;
use crate::world::World;

/// The address on the wire without a card.
pub(super) const MAC: Mac = Mac([0x00, 0x16, 0x3e, 0x00, 0x00, 0x01]);
/// The longest packet. Unit: bytes.
const LONGEST: usize = 1514;

/// Where this domain's address comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Address {
    /// From who gives them on the network.
    Asked,
    /// From the command line; and who knows the way to other networks.
    Given(Ipv4Cidr, Option<Ipv4Address>),
}

impl Address {
    /// Reads `A.B.C.D/N` or `A.B.C.D/N,GATEWAY`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, gateway) =
            text.split_once(',').map_or((text, None), |(it, at)| (it, Some(at)));
        let gateway = gateway.map(str::parse).transpose().ok()?;
        Some(Self::Given(address.parse().ok()?, gateway))
    }
}

/// The stack's side of its port.
struct Port<'a> {
    switch: &'a RefCell<Switch<PacketPages>>,
    port: PortId,
}

struct Arrived<B>(Packet<B>);

impl<B: Buffer> RxToken for Arrived<B> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        // The port takes packets of a page alone.
        f(self.0.head())
    }
}

impl TxToken for Port<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut switch = self.switch.borrow_mut();
        let packet = Packet::new(length, switch.pool());
        if let Some(mut packet) = packet
            && let Some(bytes) = packet.pages_mut().first_mut().map(Buffer::bytes_mut)
            && let Some(bytes) = bytes.get_mut(..length)
        {
            let result = f(bytes);
            switch.send(self.port, packet);
            return result;
        }
        // Without pages it is lost, as on a wire.
        f(&mut vec![0; length])
    }
}

impl Device for Port<'_> {
    type RxToken<'a>
        = Arrived<devices::hw::PacketPage>
    where
        Self: 'a;
    type TxToken<'a>
        = Port<'a>
    where
        Self: 'a;

    fn receive(&mut self, now: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let packet = self.switch.borrow_mut().take(self.port)?;
        Some((Arrived(packet), self.transmit(now)?))
    }

    fn transmit(&mut self, _: Instant) -> Option<Self::TxToken<'_>> {
        Some(Port { switch: self.switch, port: self.port })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = LONGEST;
        capabilities
    }
}

fn now() -> Instant {
    let nanoseconds = time::Instant::now().nanoseconds();
    Instant::from_micros(i64::try_from(nanoseconds / 1000).unwrap_or(i64::MAX))
}

/// Uses an address, or none.
fn set(
    screen: &Screen,
    interface: &mut Interface,
    address: Option<Ipv4Cidr>,
    gateway: Option<Ipv4Address>,
) {
    if address.is_none() && interface.ip_addrs().is_empty() {
        return;
    }
    interface.update_ip_addrs(|addresses| {
        addresses.clear();
        if let Some(address) = address {
            // There is room for two.
            let _has_room = addresses.push(IpCidr::Ipv4(address));
        }
    });
    interface.routes_mut().remove_default_ipv4_route();
    if let Some(gateway) = gateway {
        let _has_room = interface.routes_mut().add_default_ipv4_route(gateway);
    }
    match address {
        Some(address) => screen.line(format_args!("this domain has the address {address}")),
        None => screen.line(format_args!("this domain has no address")),
    }
}

/// Is this domain at the switch, for ever.
pub(super) async fn serve(world: Rc<World>, port: PortId, mac: Mac, address: Address) {
    let (switch, screen) = (&*world.network.switch, &*world.screen);
    switch.borrow_mut().connect(port, Takes { longest: LONGEST, ..Takes::default() });
    let mut device = Port { switch, port };
    let mut config = Config::new(EthernetAddress(mac.0).into());
    config.random_seed = u64::try_from(wall_clock().as_nanos() & u128::from(u64::MAX)).unwrap_or(0);
    let mut interface = Interface::new(config, &mut device, now());
    let mut sockets = SocketSet::new(vec![SocketStorage::EMPTY]);
    let lease = match address {
        Address::Asked => Some(sockets.add(dhcpv4::Socket::new())),
        Address::Given(address, gateway) => {
            set(screen, &mut interface, Some(address), gateway);
            None
        }
    };
    loop {
        interface.poll(now(), &mut device, &mut sockets);
        if let Some(lease) = lease {
            match sockets.get_mut::<dhcpv4::Socket<'_>>(lease).poll() {
                Some(dhcpv4::Event::Configured(it)) => {
                    set(screen, &mut interface, Some(it.address), it.router);
                }
                Some(dhcpv4::Event::Deconfigured) => set(screen, &mut interface, None, None),
                None => {}
            }
        }
        let delay = interface.poll_delay(now(), &sockets).map(Duration::from);
        let arrival = poll_fn(|cx| {
            let mut switch = switch.borrow_mut();
            switch.listen(port, cx);
            if switch.next(port).is_some() { Poll::Ready(()) } else { Poll::Pending }
        });
        match delay {
            Some(delay) => {
                select(arrival, sleep_until(time::Instant::now() + delay)).await;
            }
            None => arrival.await,
        }
    }
}
