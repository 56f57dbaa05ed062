//! Where packets go, and how many wait.

use netback::{Mac, Packet, Rules, Takes};

use crate::front::Frame;
use crate::rig::{LINUX, PLAIN, Rig, mac};
use crate::traffic::greet;

pub(crate) const OPEN: Takes =
    Takes { checksum_v4: true, checksum_v6: true, gso_v4: true, gso_v6: true, longest: 65_535 };

fn frame(to: Mac, from: Mac) -> Frame {
    Frame::plain([&to.0[..], &from.0, &[9; 50]].concat())
}

/// A rig with so many plain ports.
pub(crate) struct Ports(pub(crate) Rig, pub(crate) Vec<netback::PortId>);

impl Ports {
    pub(crate) fn new(rules: &[Rules]) -> Self {
        let mut rig = Rig::new();
        let ports = rules.iter().map(|rules| rig.plain_port(*rules, OPEN)).collect();
        Self(rig, ports)
    }

    /// Sends a packet, and tells which ports get it.
    pub(crate) fn send(&mut self, from: usize, to: Mac, sender: Mac) -> Vec<usize> {
        let packet =
            Packet::of(&frame(to, sender).bytes, self.0.switch.pool()).expect("enough pages");
        self.0.switch.send(self.1[from], packet);
        let mut all = Vec::new();
        for (index, port) in self.1.clone().into_iter().enumerate() {
            for packet in self.0.drain(port) {
                assert_eq!(packet.head(), frame(to, sender).bytes);
                all.push(index);
            }
        }
        assert_eq!(self.0.used.get(), 0);
        all
    }
}

#[test]
fn addresses_are_learned_and_move() {
    let mut it = Ports::new(&[Rules::default(); 4]);
    assert_eq!(it.send(0, mac(2), mac(1)), [1, 2, 3]);
    assert_eq!(it.send(2, mac(1), mac(2)), [0]);
    assert_eq!(it.send(0, mac(2), mac(1)), [2]);
    // To where it is already.
    assert_eq!(it.send(0, mac(1), mac(5)), [0; 0]);
    assert_eq!(it.send(3, mac(1), mac(2)), [0]);
    assert_eq!(it.send(0, mac(2), mac(1)), [3]);
    // To all, and to groups; but not to the switch's own.
    assert_eq!(it.send(1, Mac([0xff; 6]), mac(4)), [0, 2, 3]);
    assert_eq!(it.send(1, Mac([0x33, 0x33, 0, 0, 0, 1]), mac(4)), [0, 2, 3]);
    assert_eq!(it.send(1, Mac([0x01, 0x80, 0xc2, 0, 0, 0x0e]), mac(4)), [0; 0]);
    assert_eq!(it.send(1, Mac([0x01, 0x80, 0xc2, 0, 0, 0x10]), mac(4)), [0, 2, 3]);
    // From a group nothing comes.
    assert_eq!(it.send(1, mac(1), Mac([0xff; 6])), [0; 0]);
    // A port that is gone takes what was learned with it.
    it.0.switch.disconnect(it.1[3]);
    assert_eq!(it.send(0, mac(2), mac(1)), [1, 2]);
    it.0.switch.remove(it.1[2]);
    assert_eq!(it.send(0, mac(2), mac(1)), [1]);
}

#[test]
fn senders_addresses_are_checked_where_asked() {
    let strict = |number| Rules { address: Some(mac(number)), is_strict: true, ..Rules::default() };
    let mut it = Ports::new(&[strict(1), strict(2), Rules::default(), Rules::default()]);
    assert!(it.0.switch.add(strict(2)).is_none(), "two with the same address");
    assert_eq!(it.send(0, mac(2), mac(1)), [1]);
    assert_eq!(it.send(0, mac(2), mac(7)), [0; 0]);
    assert_eq!(it.send(0, Mac([0xff; 6]), mac(2)), [0; 0]);
    let counters = it.0.switch.counters(it.1[0]);
    assert_eq!((counters.spoofed, counters.from.dropped, counters.from.packets), (2, 2, 3));
    // From elsewhere nobody takes the address away.
    assert_eq!(it.send(2, mac(1), mac(2)), [0]);
    assert_eq!(it.send(0, mac(2), mac(1)), [1]);
    // What is known not to be behind a port does not go there.
    assert_eq!(it.send(0, mac(9), mac(1)), [2, 3]);
    assert_eq!(it.send(2, Mac([0xff; 6]), mac(8)), [0, 1, 3]);
    it.0.switch.remove(it.1[1]);
    assert!(it.0.switch.add(strict(2)).is_some());
}

#[test]
fn one_that_claims_many_addresses_does_not_take_those_of_others() {
    let mut it = Ports::new(&[Rules::default(); 3]);
    let address = |index: u32| {
        let [a, b, c, d] = index.to_be_bytes();
        Mac([2, 0, a, b, c, d])
    };
    for number in 0..100 {
        it.send(1, mac(0), mac(number));
    }
    for index in 0..20_000 {
        it.send(0, mac(0), address(index));
    }
    // All of 256 could go to any of 1024 places; 100 others are there.
    let known = (0..100).filter(|number| it.send(2, mac(*number), address(1 << 30)) == [1]).count();
    assert!(known >= 95, "{known}");
    let newest = (19_000..20_000).filter(|index| it.send(2, address(*index), mac(200)) == [0]);
    assert!((1..=256).contains(&newest.count()));
}

#[test]
fn a_queue_that_is_full_drops() {
    let mut rig = Rig::new();
    // Half of it for one sender.
    let rules = Rules { packets: 80, pages: 120, ..Rules::default() };
    rig.add(LINUX, Rules::default());
    rig.add(LINUX, rules);
    greet(&mut rig);
    // The front end of the second puts nothing more.
    rig.nodes[1].front_state("6");
    rig.nodes[1].connect_again(LINUX);
    rig.run();
    let numbered = |number: u8, length: usize| {
        let mut bytes = [&mac(2).0[..], &mac(1).0, &[number]].concat();
        bytes.resize(length, number);
        Frame::plain(bytes)
    };
    for number in 0..50 {
        rig.send(0, &[numbered(number, 100)], 0);
    }
    assert_eq!((rig.used.get(), rig.counters(1).to.dropped), (40, 10));
    // It gets them, the oldest first, as soon as it has places; in portions.
    let mut got = Vec::new();
    for _ in 0..8 {
        rig.front(1).post(5);
        rig.run();
        got.extend(rig.front(1).receive().into_iter().flatten());
    }
    assert!(got.iter().eq((0..40).map(|number| numbered(number, 100)).collect::<Vec<_>>().iter()));
    assert_eq!(rig.used.get(), 0);
    // By pages: 3 each.
    for number in 0..30 {
        rig.send(0, &[numbered(number, 12_000)], 0);
    }
    assert_eq!(rig.used.get(), 60);
    // One place is too few, three are enough; the back end wants to hear of the third alone.
    let turns = rig.run();
    rig.front(1).post(1);
    rig.front(1).post(1);
    assert_eq!((turns, rig.run()), (0, 0));
    rig.front(1).post(1);
    assert_ne!(rig.run(), 0);
    assert_eq!(rig.front(1).receive(), [Ok(numbered(0, 12_000))]);
}

#[test]
fn who_floods_leaves_room_for_others() {
    let mut it = Ports::new(&[Rules::default(); 4]);
    // Where all are; the last hears everything too.
    (0..4).for_each(|port| drop(it.send(port, Mac([0xff; 6]), mac(port as u8))));
    let send = |it: &mut Ports, from: usize, to: Mac, count: usize| {
        for _ in 0..count {
            let bytes = frame(to, mac(from as u8)).bytes;
            let packet = Packet::of(&bytes, it.0.switch.pool()).expect("enough pages");
            it.0.switch.send(it.1[from], packet);
        }
    };
    for to in [mac(2), Mac([0xff; 6])] {
        let before = it.0.switch.counters(it.1[2]).to.dropped;
        // As much as is left; then the second as much as is left then.
        send(&mut it, 0, to, 2000);
        send(&mut it, 1, mac(2), 256);
        assert_eq!(it.0.switch.counters(it.1[2]).to.dropped - before, 2000 - 512);
        let got = it.0.drain(it.1[2]);
        let is_second = |packet: &&Packet<_>| packet.head().get(6..12) == Some(&mac(1).0[..]);
        assert_eq!((got.len(), got.iter().filter(is_second).count()), (512 + 256, 256));
        drop(got);
        // What waits when a port is given to another sender.
        send(&mut it, 0, mac(2), 3);
        it.0.switch.remove(it.1[0]);
        it.1[0] = it.0.plain_port(Rules::default(), OPEN);
        send(&mut it, 0, mac(2), 3);
        assert_eq!(it.0.drain(it.1[2]).len(), 6);
        [1, 3].into_iter().for_each(|port| drop(it.0.drain(it.1[port])));
        assert_eq!(it.0.used.get(), 0);
    }
}

#[test]
fn who_takes_nothing_leaves_pages_for_others() {
    let mut it = Ports::new(&[Rules::default(); 10]);
    (0..10).for_each(|port| drop(it.send(port, Mac([0xff; 6]), mac(port as u8))));
    it.0.switch.pool().most = 400;
    // Eight take none of what is for all, and have room for more than there is.
    for _ in 0..1000 {
        let bytes = frame(Mac([0xff; 6]), mac(0)).bytes;
        let packet = Packet::of(&bytes, it.0.switch.pool()).expect("a page is left");
        it.0.switch.send(it.1[0], packet);
        drop(it.0.drain(it.1[1]));
    }
    assert!(it.0.used.get() <= 400 - 400 / 10, "{} pages", it.0.used.get());
    let bytes = frame(mac(1), mac(0)).bytes;
    let packet = Packet::of(&bytes, it.0.switch.pool()).expect("a page is left");
    it.0.switch.send(it.1[0], packet);
    assert_eq!(it.0.drain(it.1[1]).len(), 1);
}

#[test]
fn who_take_nothing_one_after_the_other_leave_pages_for_others() {
    let mut it = Ports::new(&[Rules::default(); 10]);
    (0..10).for_each(|port| drop(it.send(port, Mac([0xff; 6]), mac(port as u8))));
    it.0.switch.pool().most = 400;
    // Each has as much as it can get, and eight of them that share evenly leave less than 45.
    for port in 2..10 {
        for _ in 0..400 {
            let bytes = frame(mac(port), mac(0)).bytes;
            let packet = Packet::of(&bytes, it.0.switch.pool()).expect("a page is left");
            it.0.switch.send(it.1[0], packet);
        }
    }
    assert!(it.0.used.get() <= 400 - 400 / 8, "{} pages", it.0.used.get());
    assert!(it.0.drain(it.1[2]).len() >= 400 / 8, "who is alone has enough");
}

#[test]
fn packets_do_not_wait_for_one_that_does_not_tell() {
    let mut nodes = PLAIN.to_vec();
    nodes.retain(|(name, _)| *name != "feature-rx-notify");
    let mut rig = Rig::pair(LINUX, &nodes);
    greet(&mut rig);
    rig.nodes[1].connect_again(&nodes);
    rig.front(1).post(3);
    rig.run();
    rig.send(0, &vec![frame(mac(2), mac(1)); 10], 0);
    assert_eq!(rig.front(1).receive().len(), 3);
    assert_eq!((rig.used.get(), rig.counters(1).to.dropped), (0, 7));
    rig.front(1).post(3);
    rig.send(0, &[frame(mac(2), mac(1))], 0);
    assert_eq!(rig.front(1).receive().len(), 1);
}

#[test]
fn one_channel_tells_of_both_rings() {
    let mut rig = Rig::pair(LINUX, PLAIN);
    greet(&mut rig);
    let before = rig.nodes[1].front.memory.borrow().notified;
    rig.send(0, &[frame(mac(2), mac(1))], 0);
    let after = rig.nodes[1].front.memory.borrow().notified;
    assert_eq!(after, [before[0] + 1, 0]);
}

#[test]
fn addresses_are_read() {
    assert_eq!(Mac::parse("00:16:3e:00:00:01"), Some(mac(1)));
    assert_eq!(Mac::parse("AA:bb:Cc:00:00:01"), Some(Mac([0xaa, 0xbb, 0xcc, 0, 0, 1])));
    for wrong in
        ["", "00:16:3e:00:00", "00:16:3e:00:00:01:02", "00:16:3e:00:00:1", "+0:16:3e:00:00:01"]
    {
        assert_eq!(Mac::parse(wrong), None, "{wrong}");
    }
}
