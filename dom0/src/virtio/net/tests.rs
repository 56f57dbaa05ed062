#![expect(clippy::cast_possible_truncation, reason = "numbers in tests are small")]

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use core::task::{Context, Waker};
use std::vec;
use std::vec::Vec;

use netback::{Checksum, Family, Packet, Pool, Segmentation};

use super::super::queue::Places;
use super::super::queue::tests::Random;
use super::super::transport::{Transport, TransportError, VERSION_1};
use super::{Counted, Net, PAGES, QueueError};
use crate::hw::PacketPages;
use crate::hw::model::{peek, poke};

/// A part of a buffer: its machine address, its length, and whether the card may write it.
type Given = (u64, u32, bool);

/// What the card says of a buffer that it has filled.
#[derive(Clone, Copy, Debug, Default)]
struct Lie {
    /// That it was another chain.
    chain: Option<u32>,
    /// That it wrote so much.
    wrote: Option<u32>,
    /// That the packet is in so many buffers.
    buffers: Option<u16>,
}

/// A queue as the card sees it.
#[derive(Default)]
struct Ring {
    places: Cell<Option<Places>>,
    done: Cell<u16>,
}

impl Ring {
    /// The next chain: its first descriptor, and its parts.
    fn next(&self) -> Option<(u16, Vec<Given>)> {
        let (places, number) = (self.places.get()?, self.done.get());
        if u16::from_le_bytes(peek(places.driver + 2)) == number {
            return None;
        }
        let place = u64::from(number % SIZE);
        let head = u16::from_le_bytes(peek(places.driver + 4 + 2 * place));
        let (mut index, mut parts) = (head, Vec::new());
        loop {
            let bytes: [u8; 16] = peek(places.descriptors + 16 * u64::from(index));
            let flags = u16::from_le_bytes([bytes[12], bytes[13]]);
            let address = u64::from_le_bytes(bytes[..8].try_into().unwrap());
            let length = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
            parts.push((address, length, flags & 2 != 0));
            if flags & 1 == 0 {
                return Some((head, parts));
            }
            index = u16::from_le_bytes([bytes[14], bytes[15]]);
        }
    }

    fn finish(&self, head: u32, wrote: u32) {
        let (places, number) = (self.places.get().unwrap(), self.done.get());
        let place = u64::from(number % SIZE);
        poke(places.device + 4 + 8 * place, &head.to_le_bytes());
        poke(places.device + 8 + 8 * place, &wrote.to_le_bytes());
        self.done.set(number.wrapping_add(1));
        poke(places.device + 2, &self.done.get().to_le_bytes());
    }
}

/// Descriptors of each queue.
const SIZE: u16 = 256;

/// A card in this process.
#[derive(Default)]
struct Model {
    features: u64,
    is_legacy: bool,
    is_stuck: Cell<bool>,
    status: Cell<u8>,
    accepted: Cell<u64>,
    rings: [Ring; 2],
    lie: Cell<Lie>,
    /// What was sent: header and packet.
    sent: RefCell<Vec<(Vec<u8>, Vec<u8>)>>,
}

impl Model {
    fn merges(&self) -> bool {
        self.accepted.get() & super::MRG_RXBUF != 0
    }

    fn header(&self) -> usize {
        if self.is_legacy && !self.merges() { 10 } else { 12 }
    }

    /// Puts a packet into buffers. Returns whether there were enough.
    fn give(&self, header: [u8; 10], packet: &[u8]) -> bool {
        let count = (packet.len() + self.header()).div_ceil(4096) as u16;
        let lie = self.lie.get();
        let mut bytes = header.to_vec();
        bytes.extend(lie.buffers.unwrap_or(count).to_le_bytes());
        bytes.truncate(self.header());
        bytes.extend(packet);
        let ring = &self.rings[0];
        while !bytes.is_empty() {
            let Some((head, parts)) = ring.next() else { return false };
            let mut wrote = 0;
            for (address, length, writes) in parts {
                assert!(writes);
                let part: Vec<u8> = bytes.drain(..bytes.len().min(length as usize)).collect();
                poke(address, &part);
                wrote += part.len() as u32;
            }
            ring.finish(lie.chain.unwrap_or(head.into()), lie.wrote.unwrap_or(wrote));
        }
        true
    }

    /// Sends what there is.
    fn send(&self) {
        while let Some((head, parts)) = self.rings[1].next() {
            let mut bytes = Vec::new();
            for (address, length, writes) in parts {
                assert!(!writes);
                bytes.extend((0..u64::from(length)).map(|at| peek::<1>(address + at)[0]));
            }
            let packet = bytes.split_off(self.header());
            self.sent.borrow_mut().push((bytes, packet));
            self.rings[1].finish(head.into(), 0);
        }
    }
}

impl Transport for Rc<Model> {
    fn status(&self) -> u8 {
        self.status.get()
    }

    fn set_status(&self, status: u8) {
        if status != 0 || !self.is_stuck.get() {
            self.status.set(status);
        }
    }

    fn offered(&self) -> u64 {
        self.features | if self.is_legacy { 0 } else { VERSION_1 }
    }

    fn accept(&self, features: u64) {
        self.accepted.set(features);
    }

    fn is_legacy(&self) -> bool {
        self.is_legacy
    }

    fn queue_size(&self, queue: u16) -> u16 {
        if queue < 2 { SIZE } else { 0 }
    }

    fn set_queue(&self, queue: u16, _: u16, places: Places) -> Result<(), TransportError> {
        self.rings[usize::from(queue)].places.set(Some(places));
        Ok(())
    }

    fn notify(&self, _: u16) {}

    fn take_interrupt(&self) -> bool {
        true
    }

    fn config8(&self, offset: u64) -> u8 {
        [0x52, 0x54, 0, 1, 2, 3].get(offset as usize).copied().unwrap_or(0)
    }

    fn config32(&self, _: u64) -> u32 {
        0
    }

    fn generation(&self) -> u8 {
        0
    }
}

const ALL: u64 = super::CSUM
    | super::GUEST_CSUM
    | super::MAC
    | super::GUEST_TSO4
    | super::GUEST_TSO6
    | super::HOST_TSO4
    | super::HOST_TSO6
    | super::MRG_RXBUF;
/// Pages of all packets in tests.
const MOST: usize = 256;

fn start(features: u64, is_legacy: bool) -> (Rc<Model>, Net, PacketPages) {
    let model = Rc::new(Model { features, is_legacy, ..Model::default() });
    let pages = PacketPages::new(MOST);
    let net = Net::start(Box::new(model.clone()), pages.clone()).expect("a card");
    (model, net, pages)
}

/// A packet of TCP over IPv4, with so much data.
fn tcp(data: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..54 + data).map(|at| (at * 7) as u8).collect();
    bytes[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0]);
    bytes[16..18].copy_from_slice(&(40 + data as u16).to_be_bytes());
    bytes[20..24].copy_from_slice(&[0, 0, 64, 6]);
    bytes[46] = 0x50;
    bytes
}

fn bytes<B: netback::Buffer>(packet: &Packet<B>) -> Vec<u8> {
    packet.parts().flatten().copied().collect()
}

#[test]
fn packets_come_and_go_as_they_are_with_every_kind_of_card() {
    for (features, is_legacy) in [(ALL, false), (ALL, true), (0, false), (0, true)] {
        let (model, net, mut pages) = start(features, is_legacy);
        assert_eq!(net.mac(), (features != 0).then_some([0x52, 0x54, 0, 1, 2, 3]));
        let mut random = Random(5);
        for round in 0..1000 {
            let length = 14 + random.below(1500) as usize;
            let packet: Vec<u8> = (0..length).map(|at| (at * round) as u8).collect();
            assert!(model.give([0; 10], &packet));
            let came = net.receive().expect("a packet");
            assert_eq!(bytes(&came), packet);
            assert_eq!(came.checksum, Checksum::Unknown);
            assert!(net.receive().is_none());
            assert!(net.has_room());
            net.send(Packet::of(&packet, &mut pages).unwrap());
            net.tell();
            model.send();
            let (header, sent) = model.sent.borrow_mut().pop().unwrap();
            assert_eq!(sent, packet);
            assert!(header.iter().all(|byte| *byte == 0));
        }
        assert_eq!((net.counted(), net.fault()), (Counted::default(), None));
        assert!(net.has_room());
        assert_eq!(pages.free(), MOST - PAGES);
        drop(net);
        assert_eq!(pages.free(), MOST, "all pages are back");
    }
}

#[test]
fn what_is_to_be_cut_and_summed_is_left_to_who_can() {
    let (model, net, mut pages) = start(ALL, false);
    assert!(net.takes().gso_v4 && net.takes().gso_v6 && net.takes().checksum_v4);
    let long = tcp(30_000);
    let mut packet = Packet::of(&long, &mut pages).unwrap();
    packet.checksum = Checksum::Blank;
    packet.segmentation = Some(Segmentation { family: Family::V4, size: 1448 });
    net.send(packet);
    model.send();
    let (header, sent) = model.sent.borrow_mut().pop().unwrap();
    assert_eq!(header, [1, 1, 54, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0]);
    assert_eq!(sent, long);
    // And back, in eight buffers.
    assert!(model.give(header[..10].try_into().unwrap(), &long));
    let came = net.receive().expect("a packet");
    assert_eq!(bytes(&came), long);
    assert_eq!(came.checksum, Checksum::Blank);
    assert_eq!(came.segmentation, Some(Segmentation { family: Family::V4, size: 1448 }));
    // A card that merges no buffers gives no long packets.
    let (model, ..) = start(ALL & !super::MRG_RXBUF, false);
    assert_eq!(model.accepted.get() & (super::GUEST_TSO4 | super::GUEST_TSO6), 0);
    let (_, net, _) = start(ALL & !super::CSUM, false);
    assert!(!net.takes().gso_v4 && !net.takes().checksum_v4);
}

#[test]
fn packets_that_are_not_what_they_say_are_counted_and_go_nowhere() {
    let (model, net, mut pages) = start(ALL, false);
    let (right, wrong): ([u8; 10], Vec<[u8; 10]>) = (
        [1, 1, 54, 0, 0xa8, 5, 34, 0, 16, 0],
        vec![
            // Cut, but not to be summed; of another protocol; into nothing; of a place in the middle.
            [0, 1, 54, 0, 0xa8, 5, 34, 0, 16, 0],
            [1, 4, 54, 0, 0xa8, 5, 34, 0, 16, 0],
            [1, 3, 54, 0, 0xa8, 5, 34, 0, 16, 0],
            [1, 1, 54, 0, 0, 0, 34, 0, 16, 0],
            [1, 0, 0, 0, 0, 0, 35, 0, 16, 0],
            [1, 1, 54, 0, 0xa8, 5, 33, 0, 16, 0],
        ],
    );
    for header in &wrong {
        assert!(model.give(*header, &tcp(3000)));
        assert!(net.receive().is_none(), "{header:?}");
    }
    assert!(model.give(right, &[0; 100]), "no TCP");
    assert!(model.give([0; 10], &[0; 13]), "too short");
    assert!(model.give([0; 10], &vec![0; 69_000]), "too long");
    assert!(net.receive().is_none());
    assert_eq!(net.counted().wrong, wrong.len() as u64 + 3);
    let mut blank = Packet::of(&[0; 60], &mut pages).unwrap();
    blank.checksum = Checksum::Blank;
    net.send(blank);
    assert_eq!(net.counted().wrong, wrong.len() as u64 + 4);
    assert!(model.give(right, &tcp(3000)));
    assert_eq!(bytes(&net.receive().unwrap()), tcp(3000));
    assert_eq!((net.fault(), pages.free()), (None, MOST - PAGES));
}

#[test]
fn without_pages_packets_are_dropped_and_the_card_keeps_its_own() {
    let (model, net, mut pages) = start(ALL, false);
    let held: Vec<_> = core::iter::from_fn(|| pages.buffer()).collect();
    for _ in 0..1000 {
        assert!(model.give([0; 10], &[1; 5000]));
        assert!(net.receive().is_none());
    }
    assert_eq!(net.counted(), Counted { dropped: 1000, wrong: 0 });
    drop(held);
    assert!(model.give([0; 10], &[1; 5000]));
    assert_eq!(bytes(&net.receive().unwrap()), [1; 5000]);
}

#[test]
fn a_queue_that_is_full_has_room_again_when_the_card_is_done() {
    let (model, net, mut pages) = start(ALL, false);
    let mut count = 0;
    while net.has_room() {
        net.send(Packet::of(&[3; 60], &mut pages).unwrap());
        count += 1;
    }
    assert_eq!(count, (usize::from(SIZE) - super::MOST_PARTS) / 2 + 1);
    // Now it wants to hear of it.
    let flags = || u16::from_le_bytes(peek(model.rings[1].places.get().unwrap().driver));
    assert_eq!(flags(), 0);
    model.send();
    assert!(net.has_room());
    assert_eq!(model.sent.borrow().len(), count);
}

#[test]
fn a_card_that_breaks_the_rules_is_stopped_and_keeps_what_it_had() {
    let lies = [
        (Lie { chain: Some(300), ..Lie::default() }, QueueError::Chain(300)),
        (Lie { chain: Some(u32::MAX), ..Lie::default() }, QueueError::Chain(u32::MAX)),
        (Lie { wrote: Some(4097), ..Lie::default() }, QueueError::Length(4097)),
        (Lie { wrote: Some(11), ..Lie::default() }, QueueError::Length(11)),
        (Lie { buffers: Some(0), ..Lie::default() }, QueueError::Buffers(0)),
        (Lie { buffers: Some(18), ..Lie::default() }, QueueError::Buffers(18)),
        (Lie { buffers: Some(u16::MAX), ..Lie::default() }, QueueError::Buffers(u16::MAX)),
    ];
    for (number, (lie, error)) in lies.into_iter().enumerate() {
        let (model, net, mut pages) = start(ALL, false);
        model.is_stuck.set(number % 2 == 0);
        model.lie.set(lie);
        net.listen(&Context::from_waker(Waker::noop()));
        assert!(model.give([0; 10], &[0; 60]));
        assert!(net.receive().is_none());
        assert_eq!(net.fault(), Some(error));
        model.lie.set(Lie::default());
        assert!(net.receive().is_none() && !net.has_room());
        net.send(Packet::of(&[0; 60], &mut pages).unwrap());
        net.tell();
        drop(net);
        assert!(pages.free() <= MOST - PAGES + 1, "the card may still write its pages");
    }
    let (model, net, _) = start(ALL, false);
    net.send(Packet::of(&[0; 60], &mut PacketPages::new(1)).unwrap());
    model.rings[1].finish(99, 0);
    assert!(!net.has_room());
    assert_eq!(net.fault(), Some(QueueError::Chain(99)));
}
