//! Network cards.
//!
//! Packets are pages of packets in both directions. What the driver lends to the card it takes back
//! when the card says that it is done. For packets from the card there is always the same number of
//! pages: without a fresh page to take its place, a packet is dropped and its page lent again. A
//! card that breaks the rules is reset, and what it was told is never given back.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::mem::ManuallyDrop;
use core::task::{Context, Waker};

use netback::{Buffer as _, Checksum, Family, Headers, Packet, Pool, Segmentation, Takes};

use super::queue::{Part, Queue, QueueError};
use super::transport::{self, Transport, TransportError};
use crate::hw::{Buffer, Lent, PacketPage, PacketPages};

/// Features: the card fills checksums in, and leaves those of packets for us blank; it has an
/// address; it may give long packets, and takes them; it puts a packet into several buffers.
const CSUM: u64 = 1;
const GUEST_CSUM: u64 = 1 << 1;
const MAC: u64 = 1 << 5;
const GUEST_TSO4: u64 = 1 << 7;
const GUEST_TSO6: u64 = 1 << 8;
const HOST_TSO4: u64 = 1 << 11;
const HOST_TSO6: u64 = 1 << 12;
const MRG_RXBUF: u64 = 1 << 15;

/// The queues: from the card, to the card.
const RX: u16 = 0;
const TX: u16 = 1;
/// Descriptors of a queue, if the card has more and lets the driver choose.
const DESCRIPTORS: u16 = 256;
/// Pages that the card has for packets to come.
const PAGES: usize = 128;
/// Descriptors of a packet at most: its pages, and its header.
const MOST_PARTS: usize = 18;
/// The longest packet. Unit: bytes.
const LONGEST: usize = 65535 + 18;
/// The longest packet on the wire. Unit: bytes.
const ON_WIRE: u16 = 1518;
/// The shortest: Ethernet's header.
const SHORTEST: usize = 14;
/// What a header has in the page of headers, and at the end of a page that gets it apart.
const HEADER: usize = 16;
const APART: usize = 4096 - HEADER;

/// A header's flags: the checksum is blank; it is right.
const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
/// What kind of packet is to be cut, and a mark that says more of it.
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_ECN: u8 = 0x80;

/// What a packet's header says of it. Offsets and sizes in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Header {
    flags: u8,
    gso: u8,
    head: u16,
    size: u16,
    start: u16,
    offset: u16,
    buffers: u16,
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Self> {
        let half = |at| Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        Some(Self {
            flags: *bytes.first()?,
            gso: *bytes.get(1)?,
            head: half(2)?,
            size: half(4)?,
            start: half(6)?,
            offset: half(8)?,
            buffers: half(10)?,
        })
    }

    /// As the card reads it: words of eight bytes.
    fn words(&self) -> [u64; 2] {
        let first = u64::from(self.flags)
            | u64::from(self.gso) << 8
            | u64::from(self.head) << 16
            | u64::from(self.size) << 32
            | u64::from(self.start) << 48;
        [first, u64::from(self.offset) | u64::from(self.buffers) << 16]
    }

    /// What is to be said of a packet; `None` if it is not what it says.
    fn of(packet: &Packet<PacketPage>) -> Option<Self> {
        if packet.checksum != Checksum::Blank {
            return packet.segmentation.is_none().then(Self::default);
        }
        let headers = Headers::of(packet)?;
        let half = |length: usize| u16::try_from(length).ok();
        let mut header = Self {
            flags: NEEDS_CSUM,
            start: half(headers.transport)?,
            offset: if headers.is_tcp { 16 } else { 6 },
            ..Self::default()
        };
        if let Some(plan) = packet.segmentation {
            header.gso = if plan.family == Family::V4 { GSO_TCPV4 } else { GSO_TCPV6 };
            (header.head, header.size) = (half(headers.data)?, plan.size);
        }
        Some(header)
    }

    /// Notes what it says in a packet. Returns whether that can be.
    fn describe(&self, packet: &mut Packet<PacketPage>) -> bool {
        let is_blank = self.flags & NEEDS_CSUM != 0;
        if !is_blank {
            let is_right = self.flags & DATA_VALID != 0;
            packet.checksum = if is_right { Checksum::Right } else { Checksum::Unknown };
            return self.gso == GSO_NONE;
        }
        let Some(headers) = Headers::of(packet) else { return false };
        packet.checksum = Checksum::Blank;
        let family = match self.gso & !GSO_ECN {
            GSO_NONE => return usize::from(self.start) == headers.transport,
            GSO_TCPV4 => Family::V4,
            GSO_TCPV6 => Family::V6,
            _ => return false,
        };
        packet.segmentation = Some(Segmentation { family, size: self.size });
        self.size != 0
            && headers.is_tcp
            && headers.family == family
            && usize::from(self.start) == headers.transport
    }
}

/// A packet that the card has.
struct Flight {
    header: u16,
    packet: ManuallyDrop<Packet<PacketPage>>,
}

/// A packet of which not all buffers have come.
struct Gathered {
    header: Header,
    /// How many are still to come.
    left: u16,
    pages: Vec<(PacketPage, usize)>,
    /// It is to be dropped, but the rest of it comes.
    is_lost: bool,
}

struct State {
    rx: Queue<Lent>,
    tx: Queue<Flight>,
    /// Headers that are free.
    free: Vec<u16>,
    gathered: Option<Gathered>,
    /// The parts of the packet that is sent.
    parts: Vec<Part>,
    /// Which queue has something that the card was not told of: from it, to it.
    untold: (bool, bool),
    waker: Option<Waker>,
    broken: Option<QueueError>,
    counted: Counted,
}

/// Packets that went no further.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counted {
    /// From the card, without a page to take their place.
    pub dropped: u64,
    /// From the card or to it, and not what they said.
    pub wrong: u64,
}

/// A card that was brought up. Its interrupt must lead to [`Net::on_interrupt`].
pub struct Net {
    transport: Box<dyn Transport>,
    pages: PacketPages,
    headers: Buffer,
    mac: Option<[u8; 6]>,
    takes: Takes,
    /// How long headers are. Unit: bytes.
    header: usize,
    /// Whether a packet may come in several buffers.
    merges: bool,
    state: RefCell<State>,
}

impl Net {
    /// Brings a card up, which gets pages of packets for what comes.
    ///
    /// # Errors
    /// [`TransportError`] if it does not take part, or there is no memory.
    pub fn start(
        transport: Box<dyn Transport>,
        pages: PacketPages,
    ) -> Result<Self, TransportError> {
        let it = &*transport;
        let has = |set: u64, feature: u64| set & feature == feature;
        let offered = it.offered();
        let mut wanted = CSUM | GUEST_CSUM | MAC | MRG_RXBUF;
        if has(offered, CSUM) {
            wanted |= HOST_TSO4 | HOST_TSO6;
        }
        // Long packets have room in several buffers alone, and no checksum.
        if has(offered, GUEST_CSUM | MRG_RXBUF) {
            wanted |= GUEST_TSO4 | GUEST_TSO6;
        }
        let features = transport::begin(it, wanted)?;
        let merges = has(features, MRG_RXBUF);
        let (rx, tx) = (queue(it, RX)?, queue(it, TX)?);
        let mac = has(features, MAC).then(|| {
            transport::read_config(it, |it| [0, 1, 2, 3, 4, 5].map(|offset| it.config8(offset)))
        });
        let checksums = has(features, CSUM);
        let takes = Takes {
            checksum_v4: checksums,
            checksum_v6: checksums,
            gso_v4: has(features, HOST_TSO4),
            gso_v6: has(features, HOST_TSO6),
            longest: ON_WIRE.into(),
        };
        tx.want_interrupts(false);
        let slots = tx.size();
        let state = State {
            rx,
            free: (0..slots).collect(),
            tx,
            gathered: None,
            parts: Vec::new(),
            untold: (false, false),
            waker: None,
            broken: None,
            counted: Counted::default(),
        };
        let net = Self {
            headers: Buffer::new(usize::from(slots) * HEADER, 0)?,
            mac: mac.filter(|mac| mac[0] & 1 == 0 && *mac != [0; 6]),
            takes,
            header: if merges || !it.is_legacy() { 12 } else { 10 },
            merges,
            pages,
            state: RefCell::new(state),
            transport,
        };
        net.fill()?;
        transport::run(&*net.transport);
        net.tell();
        Ok(net)
    }

    /// Lends the card its pages.
    fn fill(&self) -> Result<(), TransportError> {
        let (mut pages, mut state) = (self.pages.clone(), self.state.borrow_mut());
        for _ in 0..PAGES {
            let Some(page) = pages.buffer() else { break };
            if !self.lend(&mut state, page) {
                break;
            }
        }
        if state.untold.0 { Ok(()) } else { Err(TransportError::Queue(RX)) }
    }

    /// Its address, if it says one.
    #[must_use]
    pub const fn mac(&self) -> Option<[u8; 6]> {
        self.mac
    }

    /// What packets it takes.
    #[must_use]
    pub const fn takes(&self) -> Takes {
        self.takes
    }

    /// What it did that cannot be, if it did. Nothing goes through it any more then.
    #[must_use]
    pub fn fault(&self) -> Option<QueueError> {
        self.state.borrow().broken
    }

    /// Packets that went no further.
    #[must_use]
    pub fn counted(&self) -> Counted {
        self.state.borrow().counted
    }

    /// Wakes the task that listens. Whether the interrupt was this card's.
    pub fn on_interrupt(&self) -> bool {
        let ours = self.transport.take_interrupt();
        if let Some(waker) = self.state.borrow_mut().waker.take() {
            waker.wake();
        }
        ours
    }

    /// The task of `cx` is woken when there may be packets, or room again after a
    /// [`Net::has_room`] that said no.
    pub fn listen(&self, cx: &Context<'_>) {
        self.state.borrow_mut().waker = Some(cx.waker().clone());
    }

    /// Takes the next packet.
    #[must_use]
    pub fn receive(&self) -> Option<Packet<PacketPage>> {
        let mut state = self.state.borrow_mut();
        while state.broken.is_none() {
            match state.rx.pop() {
                Ok(Some((page, length))) => match self.take(&mut state, page, length) {
                    Ok(Some(packet)) => return Some(packet),
                    Ok(None) => {}
                    Err(error) => self.give_up(&mut state, error),
                },
                Ok(None) => break,
                Err(error) => self.give_up(&mut state, error),
            }
        }
        None
    }

    /// Whether a packet can be sent; if not, an interrupt comes when it can.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let mut state = self.state.borrow_mut();
        if self.reap(&mut state) {
            return true;
        }
        state.tx.want_interrupts(true);
        let has_room = self.reap(&mut state);
        if has_room {
            state.tx.want_interrupts(false);
        }
        has_room
    }

    /// Gives the card a packet, for which there is room; or counts it as wrong.
    pub fn send(&self, packet: Packet<PacketPage>) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let Some((header, &slot)) = Header::of(&packet).zip(state.free.last()) else {
            state.counted.wrong += 1;
            return;
        };
        if state.broken.is_some() {
            return;
        }
        let place = usize::from(slot) * HEADER;
        self.headers.write(place, &header.words());
        state.parts.clear();
        let length = |length: usize| u32::try_from(length).unwrap_or(0);
        state.parts.push(Part::read_at(self.headers.machine() + place as u64, length(self.header)));
        let parts = packet.pages().iter().zip(packet.parts());
        state
            .parts
            .extend(parts.map(|(page, part)| Part::read_at(page.machine(), length(part.len()))));
        let flight = Flight { header: slot, packet: ManuallyDrop::new(packet) };
        match state.tx.push(&state.parts, flight) {
            Ok(()) => {
                state.free.pop();
                state.untold.1 = true;
            }
            // The card never had it.
            Err(flight) => {
                drop(ManuallyDrop::into_inner(flight.packet));
                state.counted.wrong += 1;
            }
        }
    }

    /// Tells the card what was sent and lent since the last time.
    pub fn tell(&self) {
        let mut state = self.state.borrow_mut();
        let (rx, tx) = core::mem::take(&mut state.untold);
        if state.broken.is_some() {
            return;
        }
        if rx && state.rx.wants_notice() {
            self.transport.notify(RX);
        }
        if tx && state.tx.wants_notice() {
            self.transport.notify(TX);
        }
    }

    /// Takes back what the card has sent. Returns whether there is room for a packet.
    fn reap(&self, state: &mut State) -> bool {
        while state.broken.is_none() {
            match state.tx.pop() {
                Ok(Some((flight, _))) => {
                    drop(ManuallyDrop::into_inner(flight.packet));
                    state.free.push(flight.header);
                }
                Ok(None) => break,
                Err(error) => self.give_up(state, error),
            }
        }
        state.broken.is_none() && state.tx.room() >= MOST_PARTS
    }

    /// Lends the card a page. Returns whether there was room.
    fn lend(&self, state: &mut State, page: PacketPage) -> bool {
        let page = page.lend();
        let (start, apart) = (page.machine(), page.machine() + APART as u64);
        let pushed = if self.merges {
            state.rx.push(&[Part::written_at(start, 4096)], page)
        } else {
            // Old cards want the header apart.
            let length = u32::try_from(self.header).unwrap_or(0);
            let parts = [Part::written_at(apart, length), Part::written_at(start, ON_WIRE.into())];
            state.rx.push(&parts, page)
        };
        match pushed {
            Ok(()) => {
                state.untold.0 = true;
                true
            }
            Err(page) => {
                drop(page.take_back());
                false
            }
        }
    }

    /// Takes a page that the card has filled: a packet, if it is whole.
    fn take(
        &self,
        state: &mut State,
        page: Lent,
        length: u32,
    ) -> Result<Option<Packet<PacketPage>>, QueueError> {
        let page = page.take_back();
        let filled = usize::try_from(length).unwrap_or(usize::MAX);
        let mut gathered = match state.gathered.take() {
            Some(gathered) => gathered,
            None => self.begin(&page, filled).ok_or(QueueError::Length(length))??,
        };
        gathered.left -= 1;
        match self.pages.clone().buffer() {
            Some(fresh) => {
                self.lend(state, fresh);
                gathered.pages.push((page, filled));
            }
            None => {
                self.lend(state, page);
                gathered.is_lost = true;
            }
        }
        if gathered.left > 0 {
            state.gathered = Some(gathered);
            return Ok(None);
        }
        if gathered.is_lost {
            state.counted.dropped += 1;
            return Ok(None);
        }
        let packet = self.assemble(gathered);
        state.counted.wrong += u64::from(packet.is_none());
        Ok(packet)
    }

    /// Begins with a packet. `None` without a whole header.
    fn begin(&self, page: &PacketPage, filled: usize) -> Option<Result<Gathered, QueueError>> {
        if filled < self.header {
            return None;
        }
        let place = if self.merges { 0 } else { APART };
        let header = Header::read(page.bytes().get(place..)?)?;
        let left = if self.merges { header.buffers } else { 1 };
        if left == 0 || usize::from(left) >= MOST_PARTS {
            return Some(Err(QueueError::Buffers(left)));
        }
        Some(Ok(Gathered { header, left, pages: Vec::new(), is_lost: false }))
    }

    /// Makes a packet of what has come. `None` if it cannot be one.
    fn assemble(&self, gathered: Gathered) -> Option<Packet<PacketPage>> {
        let Gathered { header, mut pages, .. } = gathered;
        let total: usize = pages.iter().map(|(_, filled)| filled).sum();
        let total = total.checked_sub(self.header)?;
        if !(SHORTEST..=LONGEST).contains(&total) {
            return None;
        }
        let start = if self.merges { self.header } else { 0 };
        let mut packet = if pages.len() == 1 {
            let (mut page, _) = pages.pop()?;
            // Where packets begin, and a packet of one page is short.
            page.bytes_mut().copy_within(start..start + total, 0);
            Packet::from_pages([page], total)?
        } else {
            let mut packet = Packet::new(total, &mut self.pages.clone())?;
            let (mut at, mut from) = (0, start);
            for (page, filled) in &pages {
                let part = page.bytes().get(from..*filled)?;
                packet.write(at, part);
                (at, from) = (at + part.len(), 0);
            }
            packet
        };
        header.describe(&mut packet).then_some(packet)
    }

    /// Stops a card that does not keep to the rules.
    fn give_up(&self, state: &mut State, error: QueueError) {
        state.broken = Some(error);
        state.gathered = None;
        let _even_if_it_does_not_stop = transport::reset(&*self.transport);
        self.leak(state);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    fn leak(&self, state: &State) {
        state.rx.leak();
        state.tx.leak();
        self.headers.leak();
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let mut state = self.state.borrow_mut();
        let has_stopped = transport::reset(&*self.transport).is_ok();
        if !has_stopped || state.broken.is_some() {
            return self.leak(&state);
        }
        state.rx.take_all().for_each(|page| drop(page.take_back()));
        state.tx.take_all().for_each(|flight| drop(ManuallyDrop::into_inner(flight.packet)));
    }
}

/// Makes a queue, and tells the card.
fn queue<T>(transport: &dyn Transport, number: u16) -> Result<Queue<T>, TransportError> {
    let offered = transport.queue_size(number);
    let size = if transport.is_legacy() { offered } else { offered.min(DESCRIPTORS) };
    if !size.is_power_of_two() || usize::from(size) < MOST_PARTS {
        return Err(TransportError::Queue(number));
    }
    let queue = Queue::new(size)?;
    transport.set_queue(number, size, queue.places())?;
    Ok(queue)
}

#[cfg(test)]
mod tests;
