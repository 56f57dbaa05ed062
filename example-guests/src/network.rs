//! What the guests that use the network have in common: their TCP/IP.

use alloc::boxed::Box;
use alloc::vec;
use core::error::Error;

use pv_guest_sdk::grant::Grants;
use pv_guest_sdk::net::smoltcp::iface::{SocketSet, SocketStorage};
use pv_guest_sdk::net::smoltcp::socket::tcp::{Socket, SocketBuffer};
use pv_guest_sdk::net::{self, Address, Card, Options, Port};
use pv_guest_sdk::start::Start;
use pv_guest_sdk::task::block_on;
use pv_guest_sdk::{BootInfo, vary};

/// What `main` returns.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;
/// TCP/IP of this guest.
pub(crate) type Stack = net::Stack<'static, 'static, Grants>;
/// A connection of this guest.
pub(crate) type Connection<'s> = net::Connection<'s, 'static, 'static, Grants>;

/// TCP/IP over the first card, with the address of the command line: `ip=A.B.C.D/N gw=A.B.C.D`,
/// or DHCP's. After `segments=off` no packet is longer than the network takes.
///
/// # Errors
/// If there is no card, or the words are no addresses.
#[inline(never)]
pub(crate) fn stack(
    start: &Start,
    boot: &BootInfo<'static>,
    sockets: usize,
) -> Outcome<Box<Stack>> {
    let address = Address::parse(boot.argument("ip"), boot.argument("gw"));
    let address = address.ok_or("give addresses as ip=A.B.C.D/N and gw=A.B.C.D")?;
    let device = start.first("vif")?;
    let segment = boot.argument("segments") != Some("off");
    let options = Options { segment, ..Options::default() };
    let card = block_on(Box::pin(Card::open(device, start.grants, options)))?;
    let info = card.info();
    let [a, b, c, d, e, f] = info.address;
    let name = format_args!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    pv_guest_sdk::println!("network card {}, mtu {}", vary!("address", name), info.mtu);
    let storage = (0..=sockets).map(|_| SocketStorage::EMPTY);
    let sockets = SocketSet::new(storage.collect::<alloc::vec::Vec<_>>().leak());
    Ok(Box::new(Stack::new(Port::new(card, vec![0; 65_535].leak()), sockets, address)))
}

/// A socket with buffers of so many bytes.
pub(crate) fn socket(receive: usize, send: usize) -> Socket<'static> {
    let buffer = |size| SocketBuffer::new(vec![0; size].leak());
    let mut socket = Socket::new(buffer(receive), buffer(send));
    socket.set_nagle_enabled(false);
    socket
}
