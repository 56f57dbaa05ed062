//! Front ends that do what none should.

use std::sync::atomic::Ordering;

use hypercall_abi::netif::{
    self as abi, ExtraInfo, GSO_TCPV4, GSO_TCPV6, STATUS_DROPPED, STATUS_ERROR, STATUS_OKAY,
    TX_CSUM_BLANK, TX_EXTRA_INFO, TX_MORE_DATA,
};
use netback::{Limits, Rules};

use crate::front::{Frame, PAGES, gso};
use crate::packets::{Kind, long, packet};
use crate::rig::{LINUX, PLAIN, Rig, mac};
use crate::traffic::greet;
use crate::world::Random;

fn frame(length: usize) -> Frame {
    let mut bytes = [mac(2).0, mac(1).0].concat();
    bytes.resize(length, 0x77);
    Frame::plain(bytes)
}

/// Two domains, of which the second knows a packet that comes.
fn pair() -> Rig {
    let mut rig = Rig::pair(LINUX, LINUX);
    greet(&mut rig);
    rig
}

/// Shows what was put. All of it is answered with this; nothing goes to the other domain; and the
/// device goes on as if nothing had been.
fn refused(rig: &mut Rig, status: i16) {
    refused_but(rig, status, 0);
}

/// The same, when so many packets go to the other domain.
fn refused_but(rig: &mut Rig, status: i16, passed: usize) {
    rig.front(0).show();
    rig.run();
    let answers = rig.front(0).reap();
    assert!(!answers.is_empty() && answers.iter().all(|it| it.1 == status), "{answers:?}");
    assert!(rig.front(0).is_done());
    assert_eq!(rig.receive(1).len(), passed);
    rig.send(0, &[frame(600)], STATUS_OKAY);
    assert_eq!(rig.receive(1), [frame(600)]);
    assert_eq!(rig.used.get(), 0);
}

/// Puts a slot of a page with the right addresses.
fn slot(rig: &mut Rig, offset: u16, size: u16, flags: u16) {
    let page = rig.front(0).grant(&frame(4096).bytes, 0, true);
    rig.front(0).slot(page, offset, size, flags);
}

#[test]
fn sizes_and_offsets_that_cannot_be() {
    for (offset, size) in [
        (0, 0),
        (0, 13),
        (0, 4097),
        (1, 4096),
        (4095, 20),
        (4096, 14),
        (0xFFFF, 0xFFFF),
        (0xF000, 0x1000),
        (0, 0xFFFF),
    ] {
        let mut rig = pair();
        slot(&mut rig, offset, size, 0);
        refused(&mut rig, STATUS_ERROR);
        assert_eq!(rig.counters(0).from.errors, 1);
    }
    // The pieces are longer than the whole; or leave too much to the first.
    for (whole, pieces) in
        [(100, [101, 0]), (100, [60, 41]), (0xFFFF, [1, 1]), (5000, [200, 0xFFFF])]
    {
        let mut rig = pair();
        slot(&mut rig, 0, whole, TX_MORE_DATA);
        slot(&mut rig, 0, pieces[0], TX_MORE_DATA);
        slot(&mut rig, 0, pieces[1], 0);
        refused(&mut rig, STATUS_ERROR);
    }
    // Pieces of no bytes are odd, and that is all.
    let mut rig = pair();
    slot(&mut rig, 0, 100, TX_MORE_DATA);
    slot(&mut rig, 0, 100, TX_MORE_DATA);
    slot(&mut rig, 4096, 0, 0);
    refused_but(&mut rig, STATUS_OKAY, 1);
}

#[test]
fn packets_of_too_many_pieces() {
    for (count, status) in [
        (18, STATUS_OKAY),
        (20, STATUS_OKAY),
        (21, STATUS_ERROR),
        (40, STATUS_ERROR),
        (255, STATUS_ERROR),
    ] {
        let mut rig = pair();
        slot(&mut rig, 0, 1000, TX_MORE_DATA);
        for left in (0..count - 1).rev() {
            slot(&mut rig, 0, 2, if left > 0 { TX_MORE_DATA } else { 0 });
        }
        refused_but(&mut rig, status, usize::from(status == STATUS_OKAY));
    }
    // One that never ends does not keep the ring.
    let mut rig = pair();
    for _ in 0..5 {
        for _ in 0..200 {
            slot(&mut rig, 0, 2, TX_MORE_DATA);
        }
        rig.front(0).show();
        rig.run();
        assert!(rig.front(0).reap().len() >= 180);
    }
    slot(&mut rig, 0, 2, 0);
    refused(&mut rig, STATUS_ERROR);
}

#[test]
fn extra_infos_that_nobody_knows_and_that_do_not_end() {
    let other = |kind, flags| ExtraInfo { kind, flags, ..ExtraInfo::default() };
    for (extras, status) in [
        (vec![other(abi::EXTRA_HASH, 0)], STATUS_OKAY),
        (vec![gso(0, 0)], STATUS_OKAY),
        (vec![other(0, 0)], STATUS_ERROR),
        (vec![other(5, 0)], STATUS_ERROR),
        (vec![other(255, 0)], STATUS_ERROR),
        (vec![other(abi::EXTRA_MCAST_ADD, 0)], STATUS_ERROR),
        (vec![other(abi::EXTRA_HASH, 1), other(abi::EXTRA_HASH, 0)], STATUS_OKAY),
        (vec![other(abi::EXTRA_HASH, 1); 8], STATUS_OKAY),
        (vec![other(abi::EXTRA_HASH, 1); 9], STATUS_ERROR),
        (vec![other(abi::EXTRA_HASH, 1); 200], STATUS_ERROR),
        (vec![gso(GSO_TCPV4, 0)], STATUS_ERROR),
        (vec![gso(3, 100)], STATUS_ERROR),
        // It is nothing of the kind.
        (vec![gso(GSO_TCPV4, 100)], STATUS_ERROR),
    ] {
        let mut rig = pair();
        slot(&mut rig, 0, 500, TX_EXTRA_INFO | TX_MORE_DATA);
        let count = extras.len();
        for (index, mut extra) in extras.into_iter().enumerate() {
            if index + 1 == count {
                extra.flags = 0;
            }
            rig.front(0).extra(extra);
        }
        slot(&mut rig, 0, 200, 0);
        refused_but(&mut rig, status, usize::from(status == STATUS_OKAY));
    }
}

#[test]
fn half_a_packet_waits_for_the_rest() {
    let mut rig = pair();
    slot(&mut rig, 0, 900, TX_MORE_DATA | TX_EXTRA_INFO);
    rig.front(0).show();
    rig.run();
    assert!(rig.front(0).reap().is_empty());
    rig.front(0).extra(gso(0, 0));
    rig.front(0).show();
    rig.run();
    slot(&mut rig, 0, 300, TX_MORE_DATA);
    rig.front(0).show();
    rig.run();
    assert!(rig.front(0).reap().is_empty());
    assert_eq!(rig.used.get(), 0, "no page is taken for what is not whole");
    slot(&mut rig, 0, 300, 0);
    rig.front(0).show();
    rig.run();
    assert_eq!(rig.front(0).reap().len(), 3);
    assert_eq!(rig.receive(1)[0].bytes.len(), 900);
}

#[test]
fn packets_that_are_not_what_they_say() {
    let mut random = Random(31);
    let right = packet(Kind::TCP4, (mac(2), mac(1)), 3000, &mut random);
    let good = long(right, Kind::TCP4, 1000);
    type Spoil = fn(&mut Frame);
    let spoil: [(&str, Spoil); 12] = [
        ("the other family", |it| it.gso = Some((GSO_TCPV6, 1000))),
        ("too many segments", |it| it.gso = Some((GSO_TCPV4, 1))),
        ("no protocol", |it| it.bytes[12..14].fill(0x42)),
        ("the other version", |it| it.bytes[14] = 0x65),
        ("no header", |it| it.bytes[14] = 0x44),
        ("a header that leaves it", |it| it.bytes.truncate(40)),
        ("a fragment", |it| it.bytes[20] = 0x20),
        ("a fragment, not the first", |it| it.bytes[21] = 1),
        ("UDP", |it| it.bytes[23] = 17),
        ("a protocol that has none", |it| it.bytes[23] = 1),
        ("a header of TCP of 16 bytes", |it| it.bytes[46] = 0x40),
        ("longer than it is", |it| it.bytes[16..18].copy_from_slice(&3041_u16.to_be_bytes())),
    ];
    for (name, spoil) in spoil {
        let mut rig = pair();
        let mut bad = good.clone();
        spoil(&mut bad);
        rig.nodes[0].front.put(&bad, &mut random);
        println!("{name}");
        refused(&mut rig, STATUS_ERROR);
    }
    // Nobody minds the same without anything to be done to it.
    let mut rig = pair();
    for (_, spoil) in spoil {
        let mut bad = Frame { blank: false, ..good.clone() };
        spoil(&mut bad);
        bad.gso = None;
        rig.send(0, &[bad.clone()], STATUS_OKAY);
        assert_eq!(rig.receive(1), [bad]);
    }
}

#[test]
fn headers_of_any_bytes_are_survived() {
    let mut random = Random(77);
    let mut rig = Rig::pair(LINUX, PLAIN);
    greet(&mut rig);
    let mut passed = 0;
    for _ in 0..6000 {
        let kind = Kind::random(&mut random);
        let length = random.below(3000);
        let mut bytes = packet(kind, (mac(2), mac(1)), length, &mut random);
        for _ in 0..1 + random.below(3) {
            let at = 12 + random.below(bytes.len().min(130) - 12);
            bytes[at] = random.next() as u8;
        }
        bytes.truncate(14 + random.below(4 * bytes.len()).min(bytes.len() - 14));
        let gso = random.flip().then(|| kind.gso(random.below(1600)));
        let frame = Frame { bytes, blank: random.flip(), validated: true, gso };
        rig.nodes[0].front.put(&frame, &mut random);
        rig.front(0).show();
        rig.run();
        let answers = rig.front(0).reap();
        assert!(rig.front(0).is_done());
        passed += usize::from(answers[0].1 == STATUS_OKAY);
        assert!(rig.receive(1).iter().all(|it| !it.blank && it.gso.is_none()));
    }
    assert!(passed > 500 && passed < 5500, "{passed}");
    assert_eq!(rig.used.get(), 0);
}

#[test]
fn pages_that_are_not_granted() {
    // From it: not at all, or no such page; in the middle of a batch.
    for bad in [0, PAGES as u32, u32::MAX] {
        let mut rig = pair();
        rig.nodes[0].front.put(&frame(3000), &mut Random(1));
        rig.front(0).slot(bad, 0, 60, 0);
        rig.nodes[0].front.put(&frame(3000), &mut Random(2));
        rig.front(0).show();
        rig.run();
        let errors = |answers: &[(u16, i16)]| answers.iter().filter(|it| it.1 < 0).count();
        // One slot of a page that is free; it must not be given back twice.
        let mut answers = Vec::new();
        if bad != 0 {
            answers = rig.front(0).reap();
            assert_eq!(errors(&answers), 1);
        }
        drop(answers);
        assert_eq!(rig.receive(1), [frame(3000), frame(3000)]);
        assert_eq!(rig.counters(0).from.errors, 1);
    }
    // To it: the packet is lost, those around it are not.
    for read_only in [true, false] {
        let mut rig = Rig::pair(LINUX, LINUX);
        greet(&mut rig);
        let node = &mut rig.nodes[1];
        node.connect_again(LINUX);
        node.front.post(3);
        let page = if read_only { node.front.grant(&[], 0, true) } else { u32::MAX };
        node.front.post_page(page);
        node.front.post(100);
        rig.run();
        rig.send(0, &[frame(8000), frame(8000), frame(5000)], STATUS_OKAY);
        let got = rig.front(1).receive();
        assert_eq!(got, [Ok(frame(8000)), Err(STATUS_ERROR), Ok(frame(5000))]);
        assert_eq!(rig.counters(1).to.errors, 1);
    }
}

#[test]
fn a_long_packet_to_pages_that_are_not_granted() {
    let mut rig = Rig::pair(LINUX, LINUX);
    greet(&mut rig);
    let node = &mut rig.nodes[1];
    node.connect_again(LINUX);
    node.front.post(2);
    node.front.post_page(u32::MAX);
    node.front.post(100);
    rig.run();
    let right = packet(Kind::TCP4, (mac(2), mac(1)), 20_000, &mut Random(3));
    let sent = long(right, Kind::TCP4, 1448);
    rig.send(0, &[sent.clone(), sent.clone()], STATUS_OKAY);
    // The extra info is still one.
    assert_eq!(rig.front(1).receive(), [Err(STATUS_ERROR), Ok(sent)]);
}

#[test]
fn indices_that_cannot_be_end_the_connection() {
    for (is_tx, produced) in
        [(true, 257), (true, u32::MAX), (true, 1 << 31), (false, 513), (false, 255), (false, 0)]
    {
        let mut rig = pair();
        let node = &mut rig.nodes[0];
        node.front.memory.borrow_mut().notified = [0; 2];
        let end = if is_tx { &node.front.tx } else { &node.front.rx };
        let base = if is_tx { end.put } else { end.cons };
        // Places for packets are looked at when there is one.
        end.word(0).store(base.wrapping_add(produced), Ordering::SeqCst);
        if !is_tx && produced == 255 {
            end.word(0).store(base.wrapping_sub(1), Ordering::SeqCst);
        }
        if !is_tx && produced == 0 {
            end.word(0).store(base.wrapping_sub(300), Ordering::SeqCst);
        }
        node.front.memory.borrow_mut().event();
        if !is_tx {
            let back = Frame::plain([&mac(1).0[..], &mac(2).0, &[1; 60]].concat());
            rig.send(1, &[back], STATUS_OKAY);
        }
        rig.run();
        assert_eq!(rig.nodes[0].states.join(""), "2456", "{is_tx} {produced}");
        assert_eq!(rig.nodes[0].front.memory.borrow().guests, 0);
        assert_eq!(rig.used.get(), 0);
        assert!(rig.nodes[0].reports[0].contains("indices"));
        // The other one does not notice; and this one may come again.
        rig.nodes[0].connect_again(LINUX);
        rig.front(0).post(256);
        rig.run();
        rig.send(0, &[frame(60)], STATUS_OKAY);
        assert_eq!(rig.receive(1), [frame(60)]);
    }
}

#[test]
fn rings_of_any_bytes_are_survived() {
    let mut random = Random(123);
    let mut ended = 0;
    for round in 0..150 {
        let mut rig = pair();
        for _ in 0..40 {
            let front = &mut rig.nodes[0].front;
            for page in 0..20 {
                front.memory.borrow_mut().pages[page].granted = true;
            }
            for _ in 0..random.below(100) {
                let mut slot = [0_u8; 12];
                slot.iter_mut().for_each(|byte| *byte = random.next() as u8);
                // Some of it is nearly right.
                if random.below(4) > 0 {
                    slot[..4].copy_from_slice(&random.below(22_u32).to_le_bytes());
                    slot[5] &= 0x0f;
                    slot[6] &= 0x0f;
                    slot[11] &= 0x0f;
                }
                front.tx.put(&slot);
                front.tx.cons = front.tx.put;
                front.rx.put(&[0_u32, random.below(22)]);
            }
            let is_wrong = round % 2 == 0 && random.below(30) == 0;
            if is_wrong {
                front.tx.word(0).store(random.next() as u32, Ordering::SeqCst);
            } else {
                let put = front.tx.put.min(front.tx.word(2).load(Ordering::SeqCst) + 256);
                front.tx.word(0).store(put, Ordering::SeqCst);
                front.tx.put = put;
                let shown = front.rx.put.min(front.rx.word(2).load(Ordering::SeqCst) + 256);
                front.rx.word(0).store(shown, Ordering::SeqCst);
                front.rx.put = shown;
            }
            front.memory.borrow_mut().event();
            rig.run();
            rig.receive(1);
        }
        ended += usize::from(rig.nodes[0].back("state") == "6");
        rig.send(1, &[Frame::plain([&mac(9).0[..], &mac(2).0, &[1; 60]].concat())], STATUS_OKAY);
    }
    assert!(ended > 10 && ended < 80, "{ended}");
}

#[test]
fn a_turn_is_limited() {
    let mut rig = Rig::new();
    rig.limits = Limits { slots: 16, bytes: 100_000 };
    rig.add(LINUX, Rules::default());
    rig.add(LINUX, Rules::default());
    greet(&mut rig);
    for _ in 0..200 {
        let page = rig.front(0).grant(&frame(60).bytes, 0, true);
        rig.front(0).slot(page, 0, 60, 0);
    }
    rig.front(0).show();
    let mut counts = Vec::new();
    while rig.turn(0) {
        counts.push(rig.front(0).reap().len());
    }
    assert!(counts.iter().all(|it| *it <= 16), "{counts:?}");
    assert_eq!(counts.iter().sum::<usize>(), 200);
    // By bytes as well.
    rig.run();
    rig.receive(1);
    for _ in 0..10 {
        let mut random = Random(3);
        rig.nodes[0].front.put(&frame(40_000), &mut random);
    }
    rig.front(0).show();
    let before = rig.counters(0).from.bytes;
    assert!(rig.turn(0));
    assert!(rig.counters(0).from.bytes - before <= 140_000);
}

#[test]
fn without_pages_packets_are_dropped() {
    let mut rig = pair();
    rig.switch.pool().most = 3;
    rig.nodes[0].front.put(&frame(9000), &mut Random(1));
    rig.nodes[0].front.put(&frame(9000), &mut Random(1));
    rig.front(0).show();
    rig.run();
    let answers = rig.front(0).reap();
    assert!(answers.iter().any(|it| it.1 == STATUS_OKAY));
    assert!(answers.iter().any(|it| it.1 == STATUS_DROPPED));
    assert_eq!(rig.counters(0).from.dropped, 1);
    assert_eq!(rig.receive(1), [frame(9000)]);
    rig.switch.pool().most = 100;
    rig.send(0, &[frame(9000)], STATUS_OKAY);
    assert_eq!(rig.receive(1), [frame(9000)]);
    // Blank checksums of what is no protocol of the kind.
    slot(&mut rig, 0, 600, TX_CSUM_BLANK);
    refused(&mut rig, STATUS_ERROR);
}
