//! Packets from one domain to the other come as they went, whatever both can.

use std::slice::from_ref;

use netback::{Rules, Takes};

use crate::front::Frame;
use crate::packets::{Kind, assemble, blank, is_right, long, packet};
use crate::rig::{LINUX, PLAIN, Rig, mac};
use crate::world::Random;

/// From domain 0 to domain 1.
const WAY: (netback::Mac, netback::Mac) = (mac(2), mac(1));

/// The address of domain 1 is learned.
pub(crate) fn greet(rig: &mut Rig) {
    let mut hello = mac(1).0.to_vec();
    hello.extend(mac(2).0);
    hello.resize(60, 0);
    rig.send(1, &[Frame::plain(hello.clone())], 0);
    assert_eq!(rig.receive(0), [Frame::plain(hello)]);
}

fn bytes(frames: Vec<Frame>) -> Vec<Vec<u8>> {
    frames.into_iter().map(|frame| frame.bytes).collect()
}

#[test]
fn random_bytes_come_as_they_went() {
    for nodes in [LINUX, PLAIN] {
        let mut rig = Rig::pair(LINUX, nodes);
        greet(&mut rig);
        let most = if nodes == LINUX { 65_535 } else { 4096 };
        for _ in 0..60 {
            let frames: Vec<Frame> = (0..1 + rig.random.below(12))
                .map(|_| {
                    let length = match rig.random.below(3) {
                        0 => 14 + rig.random.below(200),
                        1 => 14 + rig.random.below(1500),
                        _ => 14 + rig.random.below(most - 13),
                    };
                    let mut it = WAY.0.0.to_vec();
                    it.extend(WAY.1.0);
                    let rest = rig.random.bytes(length - 12);
                    it.extend(rest);
                    let validated = rig.random.flip();
                    Frame { validated, ..Frame::plain(it) }
                })
                .collect();
            rig.send(0, &frames, 0);
            assert_eq!(rig.receive(1), frames);
        }
        let (from, to) = (rig.counters(0).from, rig.counters(1).to);
        assert_eq!(from, to);
        assert_eq!((from.dropped, from.errors), (0, 0));
        assert!(from.packets > 60 && from.bytes > 60_000);
        assert_eq!(rig.used.get(), 0);
    }
}

#[test]
fn blank_checksums_stay_blank_where_they_may_and_are_right_where_not() {
    let mut rig = Rig::new();
    let plain = rig.add(PLAIN, Rules::default());
    let linux = rig.add(LINUX, Rules::default());
    let mut v4_only = LINUX.to_vec();
    v4_only.retain(|(name, _)| *name != "feature-ipv6-csum-offload");
    let half = rig.add(&v4_only, Rules::default());
    let mut random = Random(11);
    for round in 0..300 {
        let kind = Kind::random(&mut random);
        let length = random.below(1400);
        let right = packet(kind, (netback::Mac([0xff; 6]), mac(9)), length, &mut random);
        assert!(is_right(kind, &right), "the test's own");
        let sent = blank(right.clone(), kind);
        let sender = [linux, half][round % 2];
        rig.send(sender, from_ref(&sent), 0);
        let filled = Frame { validated: true, ..Frame::plain(right) };
        assert_eq!(rig.receive(plain), *from_ref(&filled), "{kind:?} {length}");
        let other = linux + half - sender;
        let as_it_was = other == linux || !kind.v6;
        assert_eq!(rig.receive(other), [if as_it_was { sent } else { filled }]);
    }
}

#[test]
fn long_packets_stay_whole_or_are_cut() {
    let mut rig = Rig::new();
    let sender = rig.add(LINUX, Rules::default());
    let linux = rig.add(LINUX, Rules::default());
    let plain = rig.add(PLAIN, Rules::default());
    let mut no_gso = LINUX.to_vec();
    no_gso.retain(|(name, _)| !name.starts_with("feature-gso"));
    let no_gso = rig.add(&no_gso, Rules::default());
    let mut random = Random(5);
    for round in 0..80 {
        let kind = Kind { tcp: true, ..Kind::random(&mut random) };
        let size = 200 + random.below(1300);
        let most = (65_535 - kind.headers()).min(size * 200);
        let length = size + 1 + random.below(most - size);
        let right = packet(kind, (netback::Mac([0xff; 6]), mac(9)), length, &mut random);
        let mut sent = long(right.clone(), kind, size as u16);
        if round % 5 == 0 {
            // Linux is known to forget it; its segments' checksums are blank in any case.
            sent.blank = false;
            sent.bytes.clone_from(&right);
        }
        rig.send(sender, from_ref(&sent), 0);
        let whole = long(right.clone(), kind, size as u16);
        assert_eq!(rig.receive(linux), [whole]);
        for (port, is_blank) in [(plain, false), (no_gso, true)] {
            let mut segments = rig.receive(port);
            assert!(segments.iter().all(|it| it.blank == is_blank && it.validated));
            assert!(segments.iter().all(|it| it.gso.is_none()));
            if is_blank {
                for segment in &mut segments {
                    let filled = segment.bytes.clone();
                    assert_eq!(blank(filled, kind).bytes, segment.bytes);
                    crate::packets::set_checksum(kind, &mut segment.bytes, false);
                }
            }
            let segments = bytes(segments);
            assert!(segments.iter().all(|it| is_right(kind, it)), "{kind:?}");
            assert_eq!(segments.len(), length.div_ceil(size));
            let whole = assemble(kind, &right, size, &segments);
            assert!(whole == right, "{kind:?} {length} {size}");
        }
    }
    assert_eq!(rig.used.get(), 0);
}

#[test]
fn what_need_not_be_cut_is_not() {
    let mut rig = Rig::pair(LINUX, PLAIN);
    let mut random = Random(8);
    let kind = Kind::TCP4;
    for length in [0, 1, 999, 1000] {
        let right = packet(kind, WAY, length, &mut random);
        rig.send(0, &[long(right.clone(), kind, 1000)], 0);
        assert_eq!(bytes(rig.receive(1)), [right]);
    }
}

#[test]
fn a_packet_is_padded_behind_its_end() {
    // Of padding nothing is summed.
    let mut rig = Rig::pair(LINUX, PLAIN);
    let mut random = Random(9);
    let right = packet(Kind::TCP4, WAY, 1, &mut random);
    let mut sent = blank(right.clone(), Kind::TCP4);
    sent.bytes.extend([0xAB; 5]);
    rig.send(0, &[sent], 0);
    let got = bytes(rig.receive(1)).remove(0);
    assert_eq!(got[..right.len()], right);
    assert_eq!(got[right.len()..], [0xAB; 5]);
}

#[test]
fn a_turn_makes_its_copies_in_one_call() {
    let mut rig = Rig::pair(LINUX, LINUX);
    greet(&mut rig);
    let frame = Frame::plain([&mac(2).0[..], &mac(1).0, &[0; 1500]].concat());
    for _ in 0..32 {
        let page = rig.front(0).grant(&frame.bytes, 100, true);
        rig.front(0).slot(page, 100, 1512, 0);
    }
    let before = |rig: &Rig, index: usize| {
        let memory = rig.nodes[index].front.memory.borrow();
        (memory.batches, memory.copies, memory.notified)
    };
    let (sender, receiver) = (before(&rig, 0), before(&rig, 1));
    rig.front(0).show();
    rig.run();
    let (sent, received) = (before(&rig, 0), before(&rig, 1));
    assert_eq!((sent.0 - sender.0, sent.1 - sender.1), (1, 32));
    assert_eq!((received.0 - receiver.0, received.1 - receiver.1), (1, 32));
    // Each was told once, on the right channel.
    assert_eq!(
        (sent.2, received.2),
        ([sender.2[0] + 1, sender.2[1]], [receiver.2[0], receiver.2[1] + 1])
    );
    assert_eq!(rig.receive(1).len(), 32);
}

#[test]
fn a_card_gets_what_it_takes() {
    let mut rig = Rig::new();
    let sender = rig.add(LINUX, Rules::default());
    let takes = Takes { longest: 1514, checksum_v4: true, ..Takes::default() };
    let card = rig.plain_port(Rules::default(), takes);
    let mut random = Random(21);
    let kind = Kind::TCP4;
    let right = packet(kind, WAY, 5000, &mut random);
    rig.send(sender, &[long(right.clone(), kind, 1460)], 0);
    let got = rig.drain(card);
    assert_eq!(
        got.iter().map(netback::Packet::length).collect::<Vec<_>>(),
        [1514, 1514, 1514, 674]
    );
    assert!(got.iter().all(|it| it.checksum == netback::Checksum::Blank));
    // Cut as told, they would still be too long.
    rig.send(sender, &[long(right, kind, 1461)], 0);
    // As is this one.
    let right = packet(kind, WAY, 1461, &mut random);
    rig.send(sender, &[Frame::plain(right)], 0);
    assert!(rig.drain(card).is_empty());
    assert_eq!(rig.switch.counters(card).to.dropped, 2);
    // Back from the card: it has found the checksum right.
    let reply = packet(kind, (mac(1), mac(7)), 100, &mut random);
    let mut packet = netback::Packet::of(&reply, rig.switch.pool()).unwrap();
    packet.checksum = netback::Checksum::Right;
    rig.switch.send(card, packet);
    rig.run();
    assert_eq!(rig.receive(sender), [Frame { validated: true, ..Frame::plain(reply) }]);
}
