//! What the guests that use the network have in common: how they begin, and how they are ended.

use alloc::boxed::Box;
use alloc::vec;
use core::error::Error;

use pv_guest_sdk::grant::Grants;
use pv_guest_sdk::net::smoltcp::iface::{SocketSet, SocketStorage};
use pv_guest_sdk::net::smoltcp::socket::tcp::{Socket, SocketBuffer};
use pv_guest_sdk::net::{self, Address, Card, Options, Port};
use pv_guest_sdk::paging::Memory;
use pv_guest_sdk::shutdown::Reason;
use pv_guest_sdk::task::block_on;
use pv_guest_sdk::vcpu::Vcpu;
use pv_guest_sdk::xenbus::Device;
use pv_guest_sdk::xenstore::Store;
use pv_guest_sdk::{BootInfo, vary, xenstore};

/// What `main` returns.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;
/// TCP/IP of this guest.
pub(crate) type Stack = net::Stack<'static, 'static, Grants>;
/// A connection of this guest.
pub(crate) type Connection<'s> = net::Connection<'s, 'static, 'static, Grants>;

/// What a guest has when it has begun.
pub(crate) struct Start {
    /// The virtual CPU.
    pub(crate) vcpu: &'static Vcpu,
    /// Its grants.
    pub(crate) grants: Grants,
    /// The store.
    pub(crate) store: Store<'static>,
}

impl Start {
    /// Begins: memory, events, grants, the store.
    ///
    /// # Errors
    /// When one of them cannot be had.
    pub(crate) fn new(boot: &BootInfo<'static>) -> Outcome<Self> {
        let vcpu = Vcpu::start(boot)?;
        Memory::start(boot)?;
        vcpu.start_events()?;
        let grants = Grants::start(2)?;
        Ok(Self { vcpu, grants, store: xenstore::connect(boot)? })
    }

    /// The first device of a class, which `what` names for who reads the error.
    ///
    /// # Errors
    /// If there is none.
    #[inline(never)]
    pub(crate) fn first(&self, class: &str, what: &str) -> Outcome<Device<'static>> {
        let mut names = [0; 4096];
        let number = block_on(Device::numbers(self.store, class, &mut names))?.min();
        let number = number.ok_or_else(|| alloc::format!("this domain has no {what}"))?;
        Ok(block_on(Device::find(self.store, class, number))?)
    }

    /// TCP/IP over the first card, with the address of the command line: `ip=A.B.C.D/N gw=A.B.C.D`,
    /// or DHCP's. After `segments=off` no packet is longer than the network takes.
    ///
    /// # Errors
    /// If there is no card, or the words are no addresses.
    #[inline(never)]
    pub(crate) fn network(&self, boot: &BootInfo<'static>, sockets: usize) -> Outcome<Box<Stack>> {
        let address = Address::parse(boot.argument("ip"), boot.argument("gw"));
        let address = address.ok_or("give addresses as ip=A.B.C.D/N and gw=A.B.C.D")?;
        let device = self.first("vif", "network card")?;
        let segment = boot.argument("segments") != Some("off");
        let options = Options { segment, ..Options::default() };
        let card = block_on(Box::pin(Card::open(device, self.grants, options)))?;
        let info = card.info();
        let [a, b, c, d, e, f] = info.address;
        let name = format_args!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
        pv_guest_sdk::println!("network card {}, mtu {}", vary!("address", name), info.mtu);
        let buffer = || vec![0; 65_535].leak();
        let storage = (0..=sockets).map(|_| SocketStorage::EMPTY);
        let sockets = SocketSet::new(storage.collect::<alloc::vec::Vec<_>>().leak());
        Ok(Box::new(Stack::new(Port::new(card, buffer(), buffer()), sockets, address)))
    }
}

/// A socket with buffers of so many bytes.
pub(crate) fn socket(receive: usize, send: usize) -> Socket<'static> {
    let buffer = |size| SocketBuffer::new(vec![0; size].leak());
    let mut socket = Socket::new(buffer(receive), buffer(send));
    socket.set_nagle_enabled(false);
    socket
}

/// Completes when this domain is told to end, with how it is to end.
///
/// # Errors
/// If the store can't be read.
pub(crate) async fn told_to_end(store: Store<'static>) -> Outcome<Reason> {
    const NODE: &str = "control/shutdown";
    let watch = store.watch(NODE).await?;
    let reason = loop {
        let mut word = [0; 64];
        match store.read_str(NODE, &mut word).await {
            Ok("poweroff" | "halt") => break Reason::Poweroff,
            Ok("reboot") => break Reason::Reboot,
            _ => watch.next().await?,
        };
    };
    // The tools wait for an answer.
    store.write(NODE, b"").await?;
    Ok(reason)
}
