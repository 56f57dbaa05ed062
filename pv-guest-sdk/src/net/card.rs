//! A network card: how it is brought up and taken down, and its operations.

use core::task::Waker;

use heapless::String;
use hypercall_abi::netif as abi;
use hypercall_abi::types::{PAGE_SIZE, Port};

use super::error::NetError;
use super::packet::{Checksum, Note};
use super::queue::{Counts, Queue, RECEIVE_PAGES, SEND_PAGES};
use crate::paging::Access;
use crate::ring::Sharing;
use crate::xenbus::{Device, Opened, State};
use crate::xenstore::decimal;

/// Before the packet's own bytes: two addresses and what it is. Unit: bytes.
pub(super) const ETHERNET: usize = 14;
/// The longest packet. Unit: bytes.
pub(super) const LONGEST: usize = abi::MAX_TX_SIZE as usize;

/// How a card is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many pages packets to send go through, 18 to 64.
    pub send_pages: usize,
    /// How many pages wait for packets, 32 to 128.
    pub receive_pages: usize,
    /// Whether to leave checksums to the other end, both ways.
    pub offload: bool,
    /// With that, whether packets of TCP may be long ones that are still to be cut, both ways.
    pub segment: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { send_pages: 64, receive_pages: 128, offload: true, segment: true }
    }
}

/// What is known of a card.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{net::Info, println};
/// # fn example(info: Info) {
/// println!("packets of up to {} bytes, its checksums: {}", info.mtu, info.checksum);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Info {
    /// Its address.
    pub address: [u8; 6],
    /// The longest packet that goes over the network, without the 14 bytes before it. Unit: bytes.
    pub mtu: u16,
    /// Whether packets may lie in several pages.
    pub scatter: bool,
    /// Whether the back end fills checksums in: takes [`Checksum::Blank`].
    pub checksum: bool,
    /// Whether the back end cuts packets of TCP over IPv4: takes [`Note::segment`].
    pub segment: bool,
    /// Whether each direction has a port of its own.
    pub split: bool,
}

/// A network card that is in use. Dropping it takes the device down without waiting for the back
/// end, whose pages go to quarantine; [`Card::close`] waits.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{net::{Card, NetError}, ring::Sharing, println};
/// # async fn example(card: Card<'_, impl Sharing>) -> Result<(), NetError> {
/// println!("{:x?} by {}", card.info().address, card.device().path());
/// let mut packet = [0; 1514];
/// let (length, note) = card.receive(&mut packet).await?;
/// card.send(&packet[..length], note).await?;
/// println!("{} packets went out", card.counts().sent);
/// if let Some(error) = card.broken() {
///     println!("of no use any more: {error}");
/// }
/// card.closing().await?; // the back end wants it back
/// card.close().await?;
/// # Ok(())
/// # }
/// ```
pub struct Card<'a, S: Sharing> {
    opened: Opened<'a>,
    pub(super) queue: Queue<S::Page, S::Strip, S::Signal>,
    info: Info,
}

impl<'a, S: Sharing> Card<'a, S> {
    /// Brings a device up, from whatever state an earlier driver left it in.
    ///
    /// # Errors
    /// [`NetError::Refused`] if the back end is not there, or closes it; [`NetError::Form`] if what is
    /// published is no card that works so; [`NetError::Store`], [`NetError::Grant`] or
    /// [`NetError::Hypercall`] if that is what fails.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use pv_guest_sdk::{net::{Card, NetError, Options}, ring::Sharing, xenbus::Device};
    /// # async fn example(device: Device<'static>, grants: impl Sharing) -> Result<(), NetError> {
    /// let card = Card::open(device, grants, Options::default()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn open(device: Device<'a>, sharing: S, options: Options) -> Result<Self, NetError> {
        let opened = Opened::begin(device).await?.map_err(NetError::Refused)?;
        let device = &opened.device;
        let info = describe(device, options).await?;
        let peer = device.backend_domain();
        let ring = || sharing.page(peer);
        let rings = [ring()?, ring()?];
        let count = options.send_pages.clamp(18, SEND_PAGES);
        let read = Access::empty();
        let send = (sharing.strip(peer, count.next_power_of_two(), read)?, count);
        let count = options.receive_pages.clamp(32, RECEIVE_PAGES);
        let receive = (sharing.strip(peer, count.next_power_of_two(), Access::WRITE)?, count);
        let (send_port, send_signal) = sharing.signal(peer)?;
        let own = if info.split { Some(sharing.signal(peer)?) } else { None };
        let (receive_port, receive_signal) = own.unzip();
        let queue = Queue::new(rings, send, receive, (send_signal, receive_signal));
        let mut card = Self { opened, queue, info };
        card.connect(send_port, receive_port, options).await?;
        Ok(card)
    }

    /// Tells the back end where the rings and the ports are, and what this end takes, and waits for
    /// it to connect.
    async fn connect(
        &mut self,
        send: Port,
        receive: Option<Port>,
        options: Options,
    ) -> Result<(), NetError> {
        let [send_ring, receive_ring] =
            self.queue.ring_references().map(|reference| decimal(reference.0.into()));
        let (send, receive) = (decimal(send.0.into()), receive.map(|port| decimal(port.0.into())));
        let split = receive.as_deref().map(|_| &*send);
        let takes = Some(if options.offload && options.segment { "1" } else { "0" });
        let lacks = Some(if options.offload { "0" } else { "1" });
        // What an earlier program has left of another form would be believed.
        let nodes: [(&str, Option<&str>); 12] = [
            ("tx-ring-ref", Some(&send_ring)),
            ("rx-ring-ref", Some(&receive_ring)),
            ("event-channel", if split.is_none() { Some(&*send) } else { None }),
            ("event-channel-tx", split),
            ("event-channel-rx", receive.as_deref()),
            ("request-rx-copy", Some("1")),
            ("feature-rx-notify", Some("1")),
            ("feature-sg", Some("1")),
            ("feature-gso-tcpv4", takes),
            ("feature-no-csum-offload", lacks),
            ("feature-gso-tcpv6", None),
            ("multi-queue-num-queues", None),
        ];
        self.opened.connect(&nodes, State::Connected).await?.map_err(NetError::Refused)
    }

    /// What is known of it.
    #[must_use]
    pub const fn info(&self) -> Info {
        self.info
    }

    /// Its device.
    #[must_use]
    pub const fn device(&self) -> &Device<'a> {
        &self.opened.device
    }

    /// What went over it since it was opened.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.queue.counts()
    }

    /// Whether the back end takes a packet of so many bytes.
    ///
    /// # Errors
    /// As of [`Card::send`].
    fn check(&self, length: usize, note: Note) -> Result<(), NetError> {
        let most = if self.info.scatter { LONGEST } else { PAGE_SIZE };
        let longest =
            if note.segment.is_some() { most } else { ETHERNET + usize::from(self.info.mtu) };
        // A tag of a virtual network may come on top.
        if length < ETHERNET || length > most.min(longest + 4) {
            return Err(NetError::Length(length));
        }
        // Who cuts a packet fills in the checksums of its parts.
        let blank = note.checksum == Checksum::Blank;
        if (note.segment.is_some() && !(blank && self.info.segment))
            || (blank && !self.info.checksum)
        {
            return Err(NetError::Unsupported);
        }
        Ok(())
    }

    /// Sends a packet, which begins with Ethernet's addresses, after waiting for room. That it was
    /// given to the back end is all that is known then.
    ///
    /// # Errors
    /// [`NetError::Length`] if it is too short or too long, [`NetError::Unsupported`] for a note that
    /// the back end does not take, [`NetError::Broken`] or [`NetError::Gone`] if there is none any
    /// more.
    pub async fn send(&self, packet: &[u8], note: Note) -> Result<(), NetError> {
        self.check(packet.len(), note)?;
        self.queue.send(packet, note).await
    }

    /// Waits for a packet, and returns its length and what is said of it. One that is longer than
    /// `into` is dropped; with [`Options::offload`] they have up to 65,535 bytes, else `mtu` and 14.
    ///
    /// # Errors
    /// [`NetError::Broken`] or [`NetError::Gone`] if there is no back end any more.
    pub async fn receive(&self, into: &mut [u8]) -> Result<(usize, Note), NetError> {
        self.queue.receive(into).await
    }

    /// Wakes a task when something changes next: a packet has come, or one was sent.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use pv_guest_sdk::{net::Card, ring::Sharing};
    /// # fn example(card: &Card<'_, impl Sharing>, waker: &core::task::Waker) {
    /// card.listen(waker); // woken when a packet came, or there is room for one
    /// # }
    /// ```
    pub fn listen(&self, waker: &Waker) {
        self.queue.listen(waker);
    }

    /// Why it is of no use any more, if so.
    #[must_use]
    pub fn broken(&self) -> Option<NetError> {
        self.queue.broken()
    }

    /// Completes when the back end closes the card, and says in which state it is. All that waits
    /// fails then. If it is [`State::Closing`], it waits for [`Card::close`].
    ///
    /// # Errors
    /// [`NetError::Store`] if the store can't be read.
    pub async fn closing(&self) -> Result<State, NetError> {
        let state = self.opened.closing().await?;
        self.queue.end(NetError::Gone);
        Ok(state)
    }

    /// Waits until the back end has sent what it was given, takes the device down, and returns it so
    /// that it can be opened again.
    ///
    /// # Errors
    /// [`NetError::Store`] if the store can't be read or written.
    pub async fn close(mut self) -> Result<Device<'a>, NetError> {
        // A back end that is broken or gone answers no more.
        let _sent = self.queue.settle().await;
        Ok(self.opened.close().await?)
    }
}

/// Reads what is published of a card.
async fn describe(device: &Device<'_>, options: Options) -> Result<Info, NetError> {
    let has = async |key| Ok::<_, NetError>(device.backend_number(key).await? == Some(1));
    if !has("feature-rx-copy").await? {
        return Err(NetError::Form("feature-rx-copy"));
    }
    let address: String<32> = device.text("mac").await?.ok_or(NetError::Form("mac"))?;
    let mtu = device.number("mtu").await?.unwrap_or(1500);
    let mtu = u16::try_from(mtu).ok().filter(|mtu| (68..=65_000).contains(mtu));
    let scatter = has("feature-sg").await?;
    let checksum = options.offload && !has("feature-no-csum-offload").await?;
    Ok(Info {
        address: parse(&address).ok_or(NetError::Form("mac"))?,
        mtu: mtu.ok_or(NetError::Form("mtu"))?,
        scatter,
        checksum,
        segment: options.segment && checksum && scatter && has("feature-gso-tcpv4").await?,
        split: has("feature-split-event-channels").await?,
    })
}

/// Six bytes in hexadecimal, with colons, that are one card's address.
fn parse(text: &str) -> Option<[u8; 6]> {
    let (mut bytes, mut parts) = ([0; 6], text.split(':'));
    for byte in &mut bytes {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    (parts.next().is_none() && bytes[0] & 1 == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn an_address_is_six_bytes_of_one_card() {
        assert_eq!(parse("00:16:3e:0a:0b:ff"), Some([0, 0x16, 0x3e, 10, 11, 255]));
        for wrong in
            ["", "00:16:3e:0a:0b", "01:16:3e:0a:0b:ff", "00:16:3e:0a:0b:100", "0:1:2:3:4:5:6"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
