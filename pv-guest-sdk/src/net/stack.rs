//! TCP/IP over a card: what polls it, its address, and connections.

use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use heapless::Vec;
use smoltcp::iface::{
    Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet,
};
use smoltcp::phy::{Device as _, TxToken as _};
use smoltcp::socket::{dhcpv4, tcp};
use smoltcp::time::Instant as Moment;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, IpCidr, IpEndpoint, Ipv4Address, Ipv4Cidr,
};

use super::{Card, Counts, Info, NetError, Port};
use crate::raw::registers::counter;
use crate::ring::Sharing;
use crate::time::{Duration, Instant, Sleep, sleep_until, wall_clock};

/// How many packets each way are handled before other tasks have their turn.
const BURST: usize = 64;

/// Where a guest's address comes from.
///
/// # Examples
///
/// ```ignore-none
/// # use pv_guest_sdk::{net::Address};
/// let address = Address::parse(Some("10.0.2.80/24"), Some("10.0.2.2")).expect("an address");
/// assert!(matches!(address, Address::Static(..)));
/// assert!(matches!(Address::parse(None, None), Some(Address::Dhcp)));
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Address {
    /// A DHCP server's.
    Dhcp,
    /// This one, and a router.
    Static(Ipv4Cidr, Option<Ipv4Address>),
}

impl Address {
    /// From two words of a command line: `A.B.C.D/N`, or nothing for DHCP, and a router's address or
    /// nothing. None if they are not of that form.
    #[must_use]
    pub fn parse(address: Option<&str>, router: Option<&str>) -> Option<Self> {
        let Some(address) = address else { return Some(Self::Dhcp) };
        let router = router.map(str::parse).transpose().ok()?;
        Some(Self::Static(address.parse().ok()?, router))
    }
}

/// The address a guest has.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{net::Configuration, println};
/// # fn example(configuration: Configuration) {
/// println!("serving at {}, prefix {}", configuration, configuration.address.prefix_len());
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Configuration {
    /// Its own, and how much of it is the network's.
    pub address: Ipv4Cidr,
    /// What is behind this one.
    pub router: Option<Ipv4Address>,
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        self.router.map_or(Ok(()), |router| write!(f, " by {router}"))
    }
}

struct Inner<'a, 'b, S: Sharing> {
    port: Port<'a, 'b, S>,
    interface: Interface,
    sockets: SocketSet<'b>,
    dhcp: Option<SocketHandle>,
    configuration: Option<Configuration>,
    /// An address that the network was not told of yet.
    unannounced: Option<Ipv4Address>,
    next_port: u16,
}

/// TCP/IP over a card. [`Stack::run`] must run as a task beside those that use it.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{net::{Address, Port, Stack}, net::smoltcp::iface::SocketSet, net::smoltcp::socket::tcp::Socket, ring::Sharing, println};
/// # async fn example<'b, S: Sharing>(port: Port<'_, 'b, S>, sockets: SocketSet<'b>, socket: Socket<'b>) {
/// let stack = Stack::new(port, sockets, Address::Dhcp);
/// // A task of its own: `stack.run()`.
/// println!("at {}, {:?}, {:?}", stack.configured().await, stack.info(), stack.counts());
/// let sockets = stack.look(|sockets| sockets.iter().count());
/// let address = stack.with(|interface, _sockets| interface.ipv4_addr());
/// drop(stack.connection(socket));
/// let card = stack.into_card();
/// # }
/// ```
pub struct Stack<'a, 'b, S: Sharing> {
    inner: RefCell<Inner<'a, 'b, S>>,
    driver: Cell<Option<Waker>>,
    /// Who waits for an address.
    waiting: RefCell<Vec<Waker, 8>>,
}

fn moment(now: Instant) -> Moment {
    Moment::from_micros(i64::try_from(now.nanoseconds() / 1000).unwrap_or(i64::MAX))
}

impl<'a, 'b, S: Sharing> Stack<'a, 'b, S> {
    /// TCP/IP over a card, with buffers as of [`Port::new`] and room for sockets.
    #[must_use]
    pub fn new(mut port: Port<'a, 'b, S>, mut sockets: SocketSet<'b>, address: Address) -> Self {
        let card = EthernetAddress(port.card().info().address);
        let mut config = Config::new(card.into());
        // No secret: that two guests, or two starts of one, differ is enough.
        let clock = wall_clock().as_nanos().to_le_bytes();
        let [a, b, c, d, e, f, g, h, ..] = clock;
        let own = card.0.iter().fold(0, |all, &byte| all << 8 | u64::from(byte));
        let clock = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        config.random_seed = counter().wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ clock ^ own << 16;
        let interface = Interface::new(config, &mut port, moment(Instant::now()));
        let dhcp = match address {
            Address::Dhcp => Some(sockets.add(dhcpv4::Socket::new())),
            Address::Static(..) => None,
        };
        let next_port = 0xc000 | u16::from_le_bytes([a, b]) >> 2;
        let (configuration, unannounced) = (None, None);
        let inner = Inner { port, interface, sockets, dhcp, configuration, unannounced, next_port };
        let stack = Self {
            inner: RefCell::new(inner),
            driver: Cell::new(None),
            waiting: RefCell::default(),
        };
        if let Address::Static(address, router) = address {
            let configuration = Configuration { address, router };
            stack.configure(&mut stack.inner.borrow_mut(), Some(configuration));
        }
        stack
    }

    fn configure(&self, inner: &mut Inner<'a, 'b, S>, configuration: Option<Configuration>) {
        inner.interface.update_ip_addrs(|addresses| {
            addresses.clear();
            let address = configuration.map(|it| IpCidr::Ipv4(it.address));
            addresses.extend(address);
        });
        let routes = inner.interface.routes_mut();
        routes.remove_default_ipv4_route();
        if let Some(router) = configuration.and_then(|it| it.router) {
            let _there_is_room = routes.add_default_ipv4_route(router);
        }
        inner.configuration = configuration;
        inner.unannounced = configuration.map(|it| it.address.address());
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// Sends and receives for all sockets, whenever an event or a timer says that there is something
    /// to do, until the card is of no use any more, and says why.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use pv_guest_sdk::{net::Stack, ring::Sharing, println};
    /// # async fn example(stack: &Stack<'_, '_, impl Sharing>) {
    /// println!("the network has ended: {}", stack.run().await);
    /// # }
    /// ```
    pub async fn run(&self) -> NetError {
        let mut sleep: Option<(Instant, Waker, Sleep)> = None;
        poll_fn(|context| {
            self.driver.set(Some(context.waker().clone()));
            let mut inner = self.inner.borrow_mut();
            inner.port.card().listen(context.waker());
            if let Some(error) = inner.port.card().broken() {
                return Poll::Ready(error);
            }
            let now = Instant::now();
            if self.turn(&mut inner, now) {
                // The rest has its turn after other tasks.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let Some(at) = inner.wait(now) else { return Poll::Pending };
            // With each packet the time moves on. A timer that ends too early for it is cheaper than
            // one that is set anew again and again.
            let stays = |(timer, waker, _): &(_, Waker, _)| {
                *timer > now && *timer <= at && waker.will_wake(context.waker())
            };
            if !sleep.as_ref().is_some_and(stays) {
                let mut timer = sleep_until(at);
                if Pin::new(&mut timer).poll(context).is_ready() {
                    context.waker().wake_by_ref();
                }
                sleep = Some((at, context.waker().clone(), timer));
            }
            Poll::Pending
        })
        .await
    }

    /// Handles packets, and says whether there may be more.
    fn turn(&self, inner: &mut Inner<'a, 'b, S>, now: Instant) -> bool {
        let now = moment(now);
        inner.announce(now);
        let Inner { port, interface, sockets, .. } = inner;
        interface.poll_maintenance(now);
        let mut came = (0..BURST).map(|_| interface.poll_ingress_single(now, port, sockets));
        let more = came.all(|it| !matches!(it, PollIngressSingleResult::None));
        let mut went = (0..BURST).map(|_| interface.poll_egress(now, port, sockets));
        let more = went.all(|it| it == PollResult::SocketStateChanged) || more;
        let event = inner.dhcp.and_then(|dhcp| {
            let event = inner.sockets.get_mut::<dhcpv4::Socket<'_>>(dhcp).poll()?;
            Some(match event {
                dhcpv4::Event::Deconfigured => None,
                dhcpv4::Event::Configured(it) => {
                    Some(Configuration { address: it.address, router: it.router })
                }
            })
        });
        if let Some(configuration) = event
            && configuration != inner.configuration
        {
            self.configure(inner, configuration);
        }
        more
    }

    /// Has the driver look at the sockets.
    fn kick(&self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    /// Uses the interface and the sockets, and has the driver look at them afterwards.
    pub fn with<T>(&self, using: impl FnOnce(&mut Interface, &mut SocketSet<'b>) -> T) -> T {
        let inner = &mut *self.inner.borrow_mut();
        let result = using(&mut inner.interface, &mut inner.sockets);
        self.kick();
        result
    }

    /// Uses the sockets for what gives the driver nothing to do, as to take what has come to one that
    /// is not of TCP.
    pub fn look<T>(&self, using: impl FnOnce(&mut SocketSet<'b>) -> T) -> T {
        using(&mut self.inner.borrow_mut().sockets)
    }

    /// Waits until this guest has an address.
    pub async fn configured(&self) -> Configuration {
        poll_fn(|context| {
            if let Some(configuration) = self.inner.borrow().configuration {
                return Poll::Ready(configuration);
            }
            if let Err(waker) = self.waiting.borrow_mut().push(context.waker().clone()) {
                waker.wake();
            }
            Poll::Pending
        })
        .await
    }

    /// What is known of the card.
    pub fn info(&self) -> Info {
        self.inner.borrow().port.card().info()
    }

    /// What went over the card, and how many packets came with a wrong checksum.
    pub fn counts(&self) -> (Counts, u64) {
        let inner = self.inner.borrow();
        (inner.port.card().counts(), inner.port.wrong())
    }

    /// The card, to be closed. What is in the sockets is lost.
    pub fn into_card(self) -> Card<'a, S> {
        self.inner.into_inner().port.into_card()
    }

    /// Makes a socket with such buffers, which is not connected.
    pub fn connection<'s>(&'s self, socket: tcp::Socket<'b>) -> Connection<'s, 'a, 'b, S> {
        let handle = self.inner.borrow_mut().sockets.add(socket);
        Connection { stack: self, handle }
    }
}

impl<S: Sharing> Inner<'_, '_, S> {
    /// Says to all whose a new address is: who knew it by another card would go on sending there.
    fn announce(&mut self, now: Moment) {
        let own = EthernetAddress(self.port.card().info().address);
        let Some(address) = self.unannounced else { return };
        let Some(token) = self.port.transmit(now) else { return };
        let packet = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: own,
            source_protocol_addr: address,
            target_hardware_addr: EthernetAddress::default(),
            target_protocol_addr: address,
        };
        let header = EthernetRepr {
            src_addr: own,
            dst_addr: EthernetAddress::BROADCAST,
            ethertype: EthernetProtocol::Arp,
        };
        token.consume(header.buffer_len() + packet.buffer_len(), |bytes| {
            let mut frame = EthernetFrame::new_unchecked(bytes);
            header.emit(&mut frame);
            packet.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
        });
        self.unannounced = None;
    }

    /// Until when the sockets wait if nothing comes before.
    fn wait(&mut self, since: Instant) -> Option<Instant> {
        let now = moment(since);
        let at = self.interface.poll_at(now, &self.sockets)?;
        if at <= now && self.port.is_starved() {
            // That there is room again is an event.
            return None;
        }
        // What cannot be sent now, though it should, is tried again a little later.
        let micros = at.total_micros().max(now.total_micros() + 1000);
        let at = Instant::from_nanoseconds(u64::try_from(micros).unwrap_or(0).saturating_mul(1000));
        Some(at.min(since + Duration::from_secs(3600)))
    }
}

/// Why a connection is of no use.
///
/// # Examples
///
/// ```ignore-none
/// # use pv_guest_sdk::{net::ConnectionError};
/// assert_ne!(ConnectionError::Reset.to_string(), ConnectionError::Invalid.to_string());
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConnectionError {
    /// The socket is in use, or the other end's address is none.
    Invalid,
    /// The other end refused, ended it in disorder, or is not there.
    Reset,
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid => "not an address to connect to, or the connection is in use",
            Self::Reset => "the connection was refused or reset",
        })
    }
}

impl core::error::Error for ConnectionError {}

/// A socket of TCP, which is connected, or not, one time after the other. Dropping it forgets a
/// connection.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{net::{Connection, ConnectionError}, ring::Sharing, time::Duration};
/// # async fn example(connection: &Connection<'_, '_, '_, impl Sharing>) -> Result<(), ConnectionError> {
/// connection.keep_alive(Duration::from_secs(10), Duration::from_secs(30));
/// let peer = connection.accept(7).await?; // or `connect`
/// let mut bytes = [0; 512];
/// match connection.read(&mut bytes).await? {
///     0 => connection.close().await,
///     count => connection.write(&bytes[..count]).await?,
/// }
/// connection.abort(); // whatever was not sent
/// # Ok(())
/// # }
/// ```
pub struct Connection<'s, 'a, 'b, S: Sharing> {
    stack: &'s Stack<'a, 'b, S>,
    handle: SocketHandle,
}

impl<S: Sharing> Connection<'_, '_, '_, S> {
    fn with<T>(&self, using: impl FnOnce(&mut tcp::Socket<'_>) -> T) -> T {
        self.stack.with(|_, sockets| using(sockets.get_mut(self.handle)))
    }

    /// Waits until `look` has found something; the socket's changes wake.
    async fn wait<T>(&self, mut look: impl FnMut(&mut tcp::Socket<'_>) -> Option<T>) -> T {
        poll_fn(|context: &mut Context<'_>| {
            let inner = &mut *self.stack.inner.borrow_mut();
            let socket = inner.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
            if let Some(found) = look(socket) {
                self.stack.kick();
                return Poll::Ready(found);
            }
            socket.register_recv_waker(context.waker());
            socket.register_send_waker(context.waker());
            Poll::Pending
        })
        .await
    }

    /// Waits until somebody connects to a port, and says who.
    ///
    /// # Errors
    /// [`ConnectionError::Invalid`] for port 0, or a socket that is in use.
    pub async fn accept(&self, port: u16) -> Result<IpEndpoint, ConnectionError> {
        let listen = |socket: &mut tcp::Socket<'_>| socket.listen(port);
        self.with(listen).map_err(|_| ConnectionError::Invalid)?;
        loop {
            let remote = self.wait(|socket| match socket.state() {
                tcp::State::Listen | tcp::State::SynReceived => None,
                _ => Some(socket.remote_endpoint()),
            });
            if let Some(remote) = remote.await {
                return Ok(remote);
            }
            // Whoever came is gone already.
            self.with(listen).map_err(|_| ConnectionError::Invalid)?;
        }
    }

    /// Connects.
    ///
    /// # Errors
    /// [`ConnectionError::Invalid`] for what is no address, or a socket that is in use;
    /// [`ConnectionError::Reset`] if the other end refuses, or does not answer in time.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use pv_guest_sdk::{net::{Connection, ConnectionError}, net::smoltcp::wire::{IpAddress, IpEndpoint}, ring::Sharing};
    /// # async fn example(connection: &Connection<'_, '_, '_, impl Sharing>) -> Result<(), ConnectionError> {
    /// connection.connect(IpEndpoint::new(IpAddress::v4(10, 0, 2, 2), 80)).await?;
    /// connection.write(b"GET / HTTP/1.0\r\n\r\n").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(&self, remote: IpEndpoint) -> Result<(), ConnectionError> {
        let connect = {
            let inner = &mut *self.stack.inner.borrow_mut();
            inner.next_port = inner.next_port.wrapping_add(1).max(0xc000);
            let socket = inner.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
            socket.connect(inner.interface.context(), remote, inner.next_port)
        };
        connect.map_err(|_| ConnectionError::Invalid)?;
        self.stack.kick();
        self.wait(|socket| match socket.state() {
            tcp::State::SynSent | tcp::State::SynReceived => None,
            tcp::State::Closed => Some(Err(ConnectionError::Reset)),
            _ => Some(Ok(())),
        })
        .await
    }

    /// Waits for bytes, and returns how many there are: 0 at the end.
    ///
    /// # Errors
    /// [`ConnectionError::Reset`] if the connection broke.
    pub async fn read(&self, into: &mut [u8]) -> Result<usize, ConnectionError> {
        self.wait(|socket| match socket.recv_slice(into) {
            Ok(0) if !into.is_empty() => None,
            Ok(count) => Some(Ok(count)),
            Err(tcp::RecvError::Finished) => Some(Ok(0)),
            Err(tcp::RecvError::InvalidState) => Some(Err(ConnectionError::Reset)),
        })
        .await
    }

    /// Waits for bytes, and shows some of them, at least one, where they lie, which spares a copy: `using`
    /// returns how many of them are done with, and what this returns; `None` at the end.
    ///
    /// # Errors
    /// [`ConnectionError::Reset`] if the connection broke.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use pv_guest_sdk::{net::{Connection, ConnectionError}, ring::Sharing};
    /// # async fn example(connection: &Connection<'_, '_, '_, impl Sharing>) -> Result<u64, ConnectionError> {
    /// let mut sum = 0;
    /// let add = |bytes: &[u8]| (bytes.len(), bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>());
    /// while let Some(more) = connection.read_with(add).await? {
    ///     sum += more;
    /// }
    /// # Ok(sum)
    /// # }
    /// ```
    pub async fn read_with<T>(
        &self,
        mut using: impl FnMut(&[u8]) -> (usize, T),
    ) -> Result<Option<T>, ConnectionError> {
        let mut look = |bytes: &mut [u8]| {
            let used = (!bytes.is_empty()).then(|| using(bytes));
            used.map_or((0, None), |(count, found)| (count.min(bytes.len()), Some(Ok(Some(found)))))
        };
        self.wait(|socket| match socket.recv(&mut look) {
            Ok(found) => found,
            Err(tcp::RecvError::Finished) => Some(Ok(None)),
            Err(tcp::RecvError::InvalidState) => Some(Err(ConnectionError::Reset)),
        })
        .await
    }

    /// Gives all bytes to the socket, after waiting for room.
    ///
    /// # Errors
    /// [`ConnectionError::Reset`] if the connection broke.
    pub async fn write(&self, mut data: &[u8]) -> Result<(), ConnectionError> {
        while !data.is_empty() {
            let count = self.wait(|socket| match socket.send_slice(data) {
                Ok(0) => None,
                Ok(count) => Some(Ok(count)),
                Err(_) => Some(Err(ConnectionError::Reset)),
            });
            data = &data[count.await?..];
        }
        Ok(())
    }

    /// Says that this end sends no more, and waits until both ends have ended the connection. The
    /// socket can be used again then.
    pub async fn close(&self) {
        self.with(|socket| socket.close());
        // What still comes is of no interest; taking it makes room for the rest, and the other end is
        // told of that, like of all that `wait` finds.
        while self.wait(Self::discard).await {}
    }

    /// Takes what has come. Whether that was something; or nothing, and nothing more comes.
    fn discard(socket: &mut tcp::Socket<'_>) -> Option<bool> {
        let came = socket.recv(|bytes| (bytes.len(), !bytes.is_empty())).unwrap_or(false);
        (came || !socket.is_open()).then_some(came)
    }

    /// Sets how long the other end may be silent, when it should answer, until the connection is
    /// broken, and after how long it is asked.
    pub fn keep_alive(&self, interval: Duration, timeout: Duration) {
        self.with(|socket| {
            socket.set_keep_alive(Some(interval.into()));
            socket.set_timeout(Some(timeout.into()));
        });
    }

    /// Ends the connection at once.
    pub fn abort(&self) {
        self.with(|socket| socket.abort());
    }
}

impl<S: Sharing> Drop for Connection<'_, '_, '_, S> {
    fn drop(&mut self) {
        self.stack.with(|_, sockets| drop(sockets.remove(self.handle)));
    }
}
