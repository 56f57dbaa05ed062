//! A card as the crate `smoltcp` wants it.

use core::num::NonZeroUsize;

use hypercall_abi::types::PAGE_SIZE;
use smoltcp::phy::{self, ChecksumCapabilities, DeviceCapabilities, Medium, PacketMeta};
use smoltcp::time::Instant;

use super::card::{Card, ETHERNET, LONGEST};
use super::checksum;
use super::packet::{Checksum, Note};
use crate::ring::Sharing;

/// A card as a device of `smoltcp`, which reads packets from a buffer, and writes them where the back
/// end reads them.
///
/// Checksums of TCP and UDP that are left to the other end are not looked at by `smoltcp`: this sees
/// to them, both ways. Long pieces of TCP are cut by the back end, if it does that.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{net::{Card, Port}, ring::Sharing, println};
/// # fn example<S: Sharing>(card: Card<'_, S>, receive: &mut [u8]) {
/// let port = Port::new(card, receive);
/// println!("{:?}, wrong: {}, no room: {}", port.card().info(), port.wrong(), port.is_starved());
/// let card = port.into_card();
/// # }
/// ```
pub struct Port<'a, 'b, S: Sharing> {
    card: Card<'a, S>,
    receive: &'b mut [u8],
    starved: bool,
    wrong: u64,
}

impl<'a, 'b, S: Sharing> Port<'a, 'b, S> {
    /// A card, and a buffer for packets that are received. It should have room for 65,535 bytes, and
    /// must have it for the card's `mtu` and 14.
    #[must_use]
    pub const fn new(card: Card<'a, S>, receive: &'b mut [u8]) -> Self {
        Self { card, receive, starved: false, wrong: 0 }
    }

    /// The card.
    #[must_use]
    pub const fn card(&self) -> &Card<'a, S> {
        &self.card
    }

    /// The card, to be closed.
    #[must_use]
    pub fn into_card(self) -> Card<'a, S> {
        self.card
    }

    /// Whether the last attempt to send found no room. Who listens is woken when there is some.
    #[must_use]
    pub const fn is_starved(&self) -> bool {
        self.starved
    }

    /// How many packets came with a wrong checksum, and were dropped.
    #[must_use]
    pub const fn wrong(&self) -> u64 {
        self.wrong
    }

    /// The longest packet that is sent. Unit: bytes.
    fn longest(&self) -> usize {
        let info = self.card.info();
        if info.segment { LONGEST } else { ETHERNET + usize::from(info.mtu) }
    }
}

/// A packet that has come.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{net::Port, net::smoltcp::phy::{Device, RxToken}, net::smoltcp::time::Instant, ring::Sharing, println};
/// # fn example(port: &mut Port<'_, '_, impl Sharing>) {
/// // What `receive` gives: a `Received`, and a `Room` for an answer.
/// if let Some((received, _room)) = port.receive(Instant::ZERO) {
///     received.consume(|packet| println!("{} bytes", packet.len()));
/// }
/// # }
/// ```
pub struct Received<'p, S: Sharing> {
    card: &'p Card<'p, S>,
    /// Where it is if it is not in its pages, and at which byte of these it is if it is.
    buffer: &'p [u8],
    at: Option<usize>,
    length: usize,
}

impl<S: Sharing> Received<'_, S> {
    fn with<R>(&self, using: impl FnOnce(&[u8]) -> R) -> R {
        match self.at {
            Some(at) => self.card.queue.with(at, self.length, using),
            None => using(&self.buffer[..self.length]),
        }
    }
}

impl<S: Sharing> phy::RxToken for Received<'_, S> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        self.with(take)
    }
}

impl<S: Sharing> Drop for Received<'_, S> {
    fn drop(&mut self) {
        if self.at.is_some() {
            self.card.queue.release();
        }
    }
}

/// Room for a packet to be sent.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{net::Port, net::smoltcp::phy::{Device, TxToken}, net::smoltcp::time::Instant, ring::Sharing};
/// # fn example(port: &mut Port<'_, '_, impl Sharing>) {
/// // A `Room` is one packet's.
/// if let Some(room) = port.transmit(Instant::ZERO) {
///     room.consume(60, |packet| packet.fill(0));
/// }
/// # }
/// ```
pub struct Room<'p, S: Sharing> {
    card: &'p Card<'p, S>,
    note: Note,
}

impl<S: Sharing> phy::TxToken for Room<'_, S> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, length: usize, fill: F) -> R {
        // There is room still. A card that is of no use any more takes no packets; its user is told
        // by `broken`.
        self.card.queue.send_or_lose(length, |packet| {
            let result = fill(packet);
            if self.card.info().checksum && checksum::leave_blank(packet) {
                self.note.checksum = Checksum::Blank;
            }
            (result, self.note)
        })
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.note.segment = meta.segmentation_offload_size;
    }
}

impl<S: Sharing> phy::Device for Port<'_, '_, S> {
    type RxToken<'p>
        = Received<'p, S>
    where
        Self: 'p;
    type TxToken<'p>
        = Room<'p, S>
    where
        Self: 'p;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_, S>, Room<'_, S>)> {
        // Without room for an answer the packet stays where it is.
        let pages = self.longest().div_ceil(PAGE_SIZE);
        let (length, note, at) = self.card.queue.try_receive(self.receive, pages, true).ok()??;
        self.starved = false;
        let received = Received { card: &self.card, buffer: self.receive, at, length };
        if note.checksum == Checksum::Complete && !received.with(checksum::is_right) {
            self.wrong += 1;
            // There may be others behind it.
            self.card.queue.wake();
            return None;
        }
        let room = Room { card: &self.card, note: Note::default() };
        Some((received, room))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Room<'_, S>> {
        let pages = self.longest().div_ceil(PAGE_SIZE);
        let has_room = self.card.queue.has_room(pages).unwrap_or(false);
        self.starved = !has_room;
        // It is not known yet whether it is a long one.
        has_room.then_some(Room { card: &self.card, note: Note::default() })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let info = self.card.info();
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = ETHERNET + usize::from(info.mtu);
        let here = if info.checksum { phy::Checksum::None } else { phy::Checksum::Tx };
        let mut checksum = ChecksumCapabilities::default();
        (checksum.tcp, checksum.udp) = (here, here);
        capabilities.checksum = checksum;
        let tcpv4 = NonZeroUsize::new(self.longest()).filter(|_| info.segment);
        capabilities.segmentation.tcpv4 = tcpv4;
        capabilities
    }
}
