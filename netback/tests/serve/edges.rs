//! Where rules begin and end: each test is of values on both sides of such a place.

use std::slice::from_ref;

use hypercall_abi::netif::{
    self as abi, ExtraInfo, GSO_TCPV4, STATUS_ERROR, STATUS_OKAY, TX_CSUM_BLANK, TX_EXTRA_INFO,
    TX_MORE_DATA,
};
use netback::{Limits, Mac, Packet, Rules, Takes};

use crate::front::{Frame, gso};
use crate::packets::{Kind, blank, long, packet, set_checksum, sum};
use crate::rig::{LINUX, PLAIN, Rig, mac};
use crate::switching::{OPEN, Ports};
use crate::traffic::greet;
use crate::world::Random;

/// From domain 0 to domain 1.
const WAY: (Mac, Mac) = (mac(2), mac(1));

fn pair() -> Rig {
    let mut rig = Rig::pair(LINUX, LINUX);
    greet(&mut rig);
    rig
}

/// What comes of a packet: with which status it was answered, and whether it came.
fn fate(frame: &Frame) -> (i16, bool) {
    let mut rig = pair();
    rig.nodes[0].front.put(frame, &mut Random(4));
    rig.front(0).show();
    rig.run();
    let answers = rig.front(0).reap();
    (answers[0].1, rig.receive(1).len() == 1)
}

const FINE: (i16, bool) = (STATUS_OKAY, true);
const WRONG: (i16, bool) = (STATUS_ERROR, false);

#[test]
fn segments_are_as_many_and_as_long_as_they_may_be() {
    let right = packet(Kind::TCP4, WAY, 256, &mut Random(1));
    // Nothing else is wrong with these.
    assert_eq!(fate(&long(right.clone(), Kind::TCP4, 0)), WRONG);
    assert_eq!(fate(&long(right, Kind::TCP4, 1)), FINE);
    let right = packet(Kind::TCP4, WAY, 257, &mut Random(1));
    assert_eq!(fate(&long(right, Kind::TCP4, 1)), WRONG);
}

#[test]
fn a_later_slot_says_nothing_of_extra_infos_or_checksums() {
    let mut rig = pair();
    let right = packet(Kind::TCP4, WAY, 500, &mut Random(2));
    let first = rig.front(0).grant(&right[..300], 0, true);
    let second = rig.front(0).grant(&right[300..], 0, true);
    rig.front(0).slot(first, 0, right.len() as u16, TX_MORE_DATA);
    let rest = right.len() as u16 - 300;
    rig.front(0).slot(second, 0, rest, TX_EXTRA_INFO | TX_CSUM_BLANK);
    rig.front(0).show();
    rig.run();
    assert_eq!(rig.front(0).reap().len(), 2);
    assert_eq!(rig.receive(1), [Frame::plain(right)]);
    // The next packet is one of its own.
    rig.send(0, &[Frame::plain([&mac(2).0[..], &mac(1).0, &[3; 60]].concat())], STATUS_OKAY);
    assert_eq!(rig.receive(1).len(), 1);
}

#[test]
fn what_is_said_of_a_packet_is_not_said_of_the_next() {
    let mut rig = pair();
    let mut random = Random(3);
    let uncut = long(packet(Kind::TCP4, WAY, 3000, &mut random), Kind::TCP4, 1000);
    let plain = Frame::plain(packet(Kind::TCP4, WAY, 3000, &mut random));
    for frames in [[uncut.clone(), plain.clone()], [plain, uncut]] {
        rig.send(0, &frames, STATUS_OKAY);
        assert_eq!(rig.receive(1), frames);
    }
    // An extra info of another kind takes nothing back.
    let page = rig.front(0).grant(&packet(Kind::TCP4, WAY, 900, &mut random), 0, true);
    rig.front(0).slot(page, 0, 954, TX_CSUM_BLANK | TX_EXTRA_INFO);
    rig.front(0).extra(ExtraInfo { flags: abi::EXTRA_MORE, ..gso(GSO_TCPV4, 500) });
    rig.front(0).extra(ExtraInfo { kind: abi::EXTRA_HASH, ..ExtraInfo::default() });
    rig.front(0).show();
    rig.run();
    assert_eq!(rig.receive(1)[0].gso, Some((GSO_TCPV4, 500)));
}

#[test]
fn what_fits_one_segment_is_none_whatever_is_behind_its_end() {
    let mut rig = pair();
    let right = packet(Kind::TCP4, WAY, 1000, &mut Random(5));
    for (padding, size, stays) in [(0, 1000, false), (6, 1000, false), (0, 999, true)] {
        let mut frame = long(right.clone(), Kind::TCP4, size);
        frame.bytes.extend(vec![0xAB; padding]);
        rig.send(0, from_ref(&frame), STATUS_OKAY);
        let got = rig.receive(1).remove(0);
        assert_eq!((got.bytes == frame.bytes, got.blank), (true, true));
        assert_eq!(got.gso.is_some(), stays, "{padding} {size}");
    }
}

#[test]
fn a_packet_waits_for_just_as_many_places_as_it_takes() {
    let mut random = Random(6);
    let whole = packet(Kind::TCP4, WAY, 20_000, &mut random);
    let uncut = long(whole, Kind::TCP4, 1448);
    let plain = Frame::plain([&mac(2).0[..], &mac(1).0, &vec![9; 8180]].concat());
    for (frame, places) in [(uncut, 6), (plain, 2)] {
        let mut rig = Rig::pair(LINUX, LINUX);
        greet(&mut rig);
        rig.nodes[1].connect_again(LINUX);
        rig.front(1).post(places - 1);
        rig.run();
        rig.send(0, from_ref(&frame), STATUS_OKAY);
        assert!(rig.front(1).receive().is_empty());
        assert_eq!(rig.nodes[1].back("state"), "4");
        rig.front(1).post(1);
        rig.run();
        assert_eq!(rig.front(1).receive(), [Ok(frame)], "the last place is enough, and is told of");
    }
}

#[test]
fn a_turn_to_a_front_end_is_limited() {
    let frame = |length: usize| {
        let mut bytes = [mac(2).0, mac(1).0].concat();
        bytes.resize(length, 0x77);
        Frame::plain(bytes)
    };
    for (limits, length, most) in [
        (Limits { slots: 4, bytes: 1 << 20 }, 60, 4),
        (Limits { slots: 4, bytes: 1 << 20 }, 9000, 2),
        (Limits { slots: 200, bytes: 10_000 }, 6000, 2),
    ] {
        let mut rig = Rig::new();
        rig.limits = limits;
        rig.add(LINUX, Rules::default());
        rig.add(LINUX, Rules::default());
        greet(&mut rig);
        rig.nodes[1].connect_again(LINUX);
        rig.run();
        rig.send(0, &vec![frame(length); 11], STATUS_OKAY);
        rig.front(1).post(200);
        let mut came = Vec::new();
        while rig.turn(1) {
            came.push(rig.front(1).receive().len());
        }
        assert!(came.iter().all(|it| *it <= most) && came.contains(&most), "{came:?}");
        assert_eq!(came.iter().sum::<usize>(), 11);
    }
}

#[test]
fn a_turn_from_a_front_end_is_limited_by_bytes() {
    let mut rig = Rig::new();
    rig.limits = Limits { slots: 200, bytes: 10_000 };
    rig.add(LINUX, Rules::default());
    rig.add(LINUX, Rules::default());
    greet(&mut rig);
    for _ in 0..9 {
        let bytes = [&mac(2).0[..], &mac(1).0, &[5; 3000]].concat();
        let page = rig.front(0).grant(&bytes, 0, true);
        rig.front(0).slot(page, 0, 3012, 0);
    }
    rig.front(0).show();
    let mut answered = Vec::new();
    while rig.turn(0) {
        answered.push(rig.front(0).reap().len());
    }
    answered.retain(|it| *it > 0);
    assert_eq!(answered, [4, 4, 1]);
}

#[test]
fn nothing_stays_for_one_that_does_not_tell_even_at_the_end_of_a_turn() {
    let mut nodes = PLAIN.to_vec();
    nodes.retain(|(name, _)| *name != "feature-rx-notify");
    let mut rig = Rig::new();
    rig.limits = Limits { slots: 4, bytes: 1 << 20 };
    rig.add(LINUX, Rules::default());
    rig.add(&nodes, Rules::default());
    greet(&mut rig);
    rig.nodes[1].connect_again(&nodes);
    rig.front(1).post(4);
    rig.run();
    // All wait before its turn, which ends with the last place.
    let port = rig.plain_port(Rules::default(), OPEN);
    for _ in 0..10 {
        let bytes = [&mac(2).0[..], &mac(7).0, &[1; 60]].concat();
        let packet = Packet::of(&bytes, rig.switch.pool()).expect("enough pages");
        rig.switch.send(port, packet);
    }
    rig.run();
    assert_eq!((rig.used.get(), rig.counters(1).to.dropped), (0, 6));
}

#[test]
fn a_checksum_of_zero_is_written_as_the_protocol_has_it() {
    for tcp in [true, false] {
        for v6 in [true, false] {
            let kind = Kind { v6, tcp, ..Kind::TCP4 };
            let mut right = packet(kind, (mac(2), mac(1)), 40, &mut Random(7));
            // With what is missing to all ones in the data, the sum is none.
            let last = right.len() - 2;
            right[last..].fill(0);
            set_checksum(kind, &mut right, false);
            let place = kind.transport() + if tcp { 16 } else { 6 };
            let [high, low] = [right[place], right[place + 1]];
            right[last..].copy_from_slice(&[high, low]);
            set_checksum(kind, &mut right, false);
            let wanted = if tcp { [0, 0] } else { [0xff, 0xff] };
            assert_eq!(right[place..place + 2], wanted, "the test's own");
            let mut rig = Rig::pair(LINUX, PLAIN);
            greet(&mut rig);
            rig.send(0, &[blank(right.clone(), kind)], STATUS_OKAY);
            assert_eq!(rig.receive(1)[0].bytes, right, "{kind:?}");
        }
    }
}

#[test]
fn segments_have_the_flags_numbers_and_header_checksums_of_their_own() {
    let mut rig = Rig::pair(LINUX, PLAIN);
    greet(&mut rig);
    for flags in [0xff_u8, 0x10, 0x99] {
        let mut whole = packet(Kind::TCP4, WAY, 3000, &mut Random(8));
        whole[47] = flags;
        whole[18..20].copy_from_slice(&[0xff, 0xff]);
        // What was there of IP's checksum does not count.
        whole[24..26].copy_from_slice(&[0x12, 0x34]);
        rig.send(0, &[long(whole, Kind::TCP4, 1000)], STATUS_OKAY);
        let got = rig.receive(1);
        let [first, middle, last] = &got[..] else { panic!("{} segments", got.len()) };
        let seen = [first, middle, last].map(|it| it.bytes[47]);
        // FIN and PSH are the last one's, CWR is the first one's.
        assert_eq!(seen, [flags & !0x09, flags & !0x89, flags & !0x80]);
        let numbers = [first, middle, last].map(|it| [it.bytes[18], it.bytes[19]]);
        assert_eq!(numbers, [[0xff, 0xff], [0, 0], [0, 1]]);
        assert!(got.iter().all(|it| sum(&it.bytes[14..34]) == 0xffff));
    }
}

#[test]
fn headers_end_within_the_first_bytes_and_within_what_ip_says() {
    // IP's length ends in the header of TCP, or just behind it.
    for (length, wanted) in [(39, WRONG), (40, FINE), (20, WRONG), (0, WRONG)] {
        let mut bytes = packet(Kind::TCP4, WAY, 100, &mut Random(9));
        bytes[16..18].copy_from_slice(&u16::to_be_bytes(length));
        assert_eq!(fate(&blank(bytes, Kind::TCP4)), wanted, "{length}");
    }
    // Options of IPv6 push the protocol's header to the last of the bytes that are looked at.
    for (options, tcp_options, wanted) in [(160, 20, FINE), (160, 24, WRONG), (152, 28, FINE)] {
        let kind = Kind { v6: true, options: (tcp_options, options), ..Kind::TCP4 };
        let bytes = packet(kind, WAY, 100, &mut Random(9));
        assert_eq!(kind.headers() <= 256, wanted == FINE, "the test's own");
        assert_eq!(fate(&blank(bytes, kind)), wanted, "{kind:?}");
    }
    let kind = |options| Kind { v6: true, tcp: false, options: (0, options), ..Kind::TCP4 };
    assert_eq!(fate(&blank(packet(kind(192), WAY, 9, &mut Random(9)), kind(192))), FINE);
    assert_eq!(fate(&blank(packet(kind(200), WAY, 9, &mut Random(9)), kind(200))), WRONG);
}

#[test]
fn options_of_ipv6_are_those_that_a_receiver_steps_over() {
    let kind = Kind { v6: true, options: (0, 16), ..Kind::TCP4 };
    for (option, wanted) in
        [(0, FINE), (43, FINE), (60, FINE), (44, WRONG), (51, WRONG), (59, WRONG)]
    {
        let mut bytes = packet(kind, WAY, 100, &mut Random(10));
        bytes[20] = option;
        assert_eq!(fate(&blank(bytes, kind)), wanted, "{option}");
    }
    // Fragments are told by an offset, and by more to come.
    for (field, wanted) in
        [([0x40, 0], FINE), ([0x20, 0], WRONG), ([0, 1], WRONG), ([0x10, 0], WRONG)]
    {
        let mut bytes = packet(Kind::TCP4, WAY, 100, &mut Random(10));
        bytes[20..22].copy_from_slice(&field);
        assert_eq!(fate(&blank(bytes, Kind::TCP4)), wanted, "{field:?}");
    }
}

#[test]
fn what_goes_to_switches_alone_has_sixteen_addresses() {
    let mut it = Ports::new(&[Rules::default(); 2]);
    for (last, goes) in [(0, false), (0x0f, false), (0x10, true)] {
        let to = Mac([0x01, 0x80, 0xc2, 0, 0, last]);
        assert_eq!(it.send(0, to, mac(1)), if goes { vec![1] } else { vec![] }, "{last:#x}");
    }
}

#[test]
fn a_packet_without_a_whole_header_goes_nowhere() {
    let mut it = Ports::new(&[Rules::default(); 2]);
    for length in [13, 14] {
        let bytes = [&mac(2).0[..], &mac(1).0, &[8, 0]].concat();
        let packet = Packet::of(&bytes[..length], it.0.switch.pool()).expect("enough pages");
        it.0.switch.send(it.1[0], packet);
        assert_eq!(it.0.drain(it.1[1]).len(), usize::from(length == 14));
    }
    assert_eq!(it.0.switch.counters(it.1[0]).from.dropped, 1);
}

#[test]
fn where_nobody_is_packets_are_dropped_and_counted_as_their_senders() {
    let rules = Rules { address: Some(mac(2)), ..Rules::default() };
    let mut it = Ports::new(&[Rules::default(), rules, Rules::default(), Rules::default()]);
    it.0.switch.disconnect(it.1[1]);
    assert_eq!(it.send(0, mac(2), mac(1)), [0; 0]);
    assert_eq!(it.0.switch.counters(it.1[0]).from.dropped, 1);
    it.0.switch.connect(it.1[1], OPEN);
    assert_eq!(it.send(0, mac(2), mac(1)), [1]);
    // What was learned of other ports stays when one goes.
    assert_eq!(it.send(2, mac(1), mac(7)), [0]);
    it.0.switch.disconnect(it.1[1]);
    assert_eq!(it.send(0, mac(7), mac(1)), [2]);
}

#[test]
fn a_port_has_as_many_addresses_as_it_may() {
    let rules = Rules { addresses: 1, ..Rules::default() };
    let none = Rules { addresses: 0, ..Rules::default() };
    let mut it = Ports::new(&[rules, Rules::default(), none]);
    it.send(0, mac(99), mac(1));
    assert_eq!(it.send(1, mac(1), mac(50)), [0]);
    // It moves away, so there is room for another; and one that may have none takes none away.
    it.send(1, mac(99), mac(1));
    it.send(2, mac(99), mac(1));
    assert_eq!(it.send(0, mac(1), mac(3)), [1]);
    assert_eq!(it.send(1, mac(3), mac(50)), [0]);
    // Of two that it shows one is known, or none where each has a place elsewhere.
    for number in 100..140 {
        it.send(0, mac(99), mac(number));
    }
    let known = (100..140).filter(|number| it.send(1, mac(*number), mac(50)) == [0]).count();
    assert!(known <= 1, "{known}");
}

#[test]
fn addresses_that_are_used_are_kept() {
    let mut it = Ports::new(&[Rules { addresses: 1024, ..Rules::default() }; 3]);
    it.send(1, mac(9), mac(1));
    for index in 0..3000_u32 {
        let [a, b, c, d] = index.to_be_bytes();
        it.send(0, mac(9), Mac([2, 0, a, b, c, d]));
        assert_eq!(it.send(2, mac(1), mac(9)), [1], "after {index}");
    }
}

#[test]
fn a_flood_counts_what_found_no_room() {
    let small = Rules { packets: 1, ..Rules::default() };
    let mut rig = Rig::new();
    let ports = [Rules::default(), small, small].map(|rules| rig.plain_port(rules, OPEN));
    let bytes = [&[0xff; 6][..], &mac(1).0, &[8, 0]].concat();
    for _ in 0..3 {
        let packet = Packet::of(&bytes, rig.switch.pool()).expect("enough pages");
        rig.switch.send(ports[0], packet);
    }
    let dropped = |rig: &Rig, port: usize| rig.switch.counters(ports[port]).to.dropped;
    assert_eq!([1, 2].map(|port| dropped(&rig, port)), [2, 2]);
    // What waits is dropped with who it was for; then there is room again.
    rig.switch.disconnect(ports[1]);
    assert_eq!((dropped(&rig, 1), rig.used.get()), (3, 1));
    rig.switch.connect(ports[1], OPEN);
    let packet = Packet::of(&bytes, rig.switch.pool()).expect("enough pages");
    rig.switch.send(ports[0], packet);
    assert_eq!(rig.drain(ports[1]).len(), 1);
}

#[test]
fn any_port_has_room_for_one_packet_of_any_length() {
    let rules = Rules { packets: 0, pages: 0, ..Rules::default() };
    let mut rig = Rig::new();
    let ports = [Rules::default(), rules].map(|rules| rig.plain_port(rules, OPEN));
    let mut bytes = [mac(2).0, mac(1).0].concat();
    bytes.resize(65_535, 7);
    for _ in 0..20 {
        let packet = Packet::of(&bytes, rig.switch.pool()).expect("enough pages");
        rig.switch.send(ports[0], packet);
        assert_eq!(rig.drain(ports[1]).len(), 1);
    }
    // Pages of who was there before do not count: ten of two pages, and again.
    let rules = Rules { pages: 40, ..Rules::default() };
    let port = rig.plain_port(rules, OPEN);
    rig.switch.disconnect(ports[1]);
    for _ in 0..3 {
        for _ in 0..11 {
            let packet = Packet::of(&bytes[..8000], rig.switch.pool()).expect("enough pages");
            rig.switch.send(ports[0], packet);
        }
        assert_eq!(rig.used.get(), 20);
        rig.switch.disconnect(port);
        rig.switch.connect(port, OPEN);
        assert_eq!(rig.used.get(), 0);
    }
}

#[test]
fn who_comes_next_gets_nothing_of_who_was_there() {
    let mut rig = pair();
    rig.nodes[1].connect_again(LINUX);
    rig.run();
    let frame = Frame::plain([&mac(2).0[..], &mac(1).0, &[1; 60]].concat());
    rig.send(0, &vec![frame; 5], STATUS_OKAY);
    assert_eq!(rig.used.get(), 5);
    // It goes and comes before the device has a turn.
    rig.nodes[1].connect_again(PLAIN);
    rig.front(1).post(100);
    rig.run();
    assert!(rig.front(1).receive().is_empty());
    assert_eq!((rig.used.get(), rig.counters(1).to.dropped), (0, 5));
}

#[test]
fn what_a_front_end_takes_follows_from_all_it_says() {
    let all =
        Takes { checksum_v4: true, checksum_v6: true, gso_v4: true, gso_v6: true, longest: 65_535 };
    let without = |name: &str| {
        let mut nodes = LINUX.to_vec();
        nodes.retain(|it| it.0 != name);
        nodes
    };
    let with = |name, value| [LINUX, &[(name, value)]].concat();
    let one_page = Takes { gso_v4: false, gso_v6: false, longest: 4096, ..all };
    for (nodes, takes) in [
        (LINUX.to_vec(), all),
        (without("feature-sg"), one_page),
        (without("feature-gso-tcpv4"), Takes { gso_v4: false, ..all }),
        (without("feature-gso-tcpv6"), Takes { gso_v6: false, ..all }),
        (without("feature-ipv6-csum-offload"), Takes { checksum_v6: false, gso_v6: false, ..all }),
        (with("feature-no-csum-offload", "1"), Takes { checksum_v4: false, gso_v4: false, ..all }),
        (with("feature-no-csum-offload", "0"), all),
        (with("mtu", "1400"), Takes { longest: 1418, ..all }),
        (with("mtu", "4294967295"), all),
    ] {
        let mut rig = Rig::new();
        rig.add_fresh(Rules::default());
        rig.nodes[0].connect(&nodes);
        assert_eq!(rig.nodes[0].attached[0].takes, takes, "{nodes:?}");
    }
}

#[test]
fn a_front_end_that_closes_before_it_connects_is_followed() {
    let mut rig = Rig::new();
    rig.add_fresh(Rules::default());
    rig.nodes[0].front_state("5");
    assert_eq!(rig.nodes[0].back("state"), "5");
    rig.nodes[0].front_state("6");
    assert_eq!(rig.nodes[0].back("state"), "6");
}

#[test]
fn a_packet_has_the_pages_of_its_length_and_nothing_behind_it() {
    let mut rig = Rig::new();
    let pool = rig.switch.pool();
    let mut pages = |count| -> Vec<_> {
        (0..count).map(|_| netback::Pool::buffer(pool).expect("enough pages")).collect()
    };
    for (count, length, fits) in
        [(1, 4096, true), (1, 4097, false), (2, 4097, true), (2, 4096, false), (0, 0, true)]
    {
        assert_eq!(Packet::from_pages(pages(count), length).is_some(), fits, "{count} {length}");
    }
    let mut packet = Packet::from_pages(pages(2), 4100).expect("two pages");
    packet.write(4094, &[1, 2, 3, 4, 5, 6, 7, 8]);
    packet.write(4100, &[9; 8]);
    packet.write(9000, &[9; 8]);
    let parts: Vec<_> = packet.parts().map(<[u8]>::len).collect();
    assert_eq!(parts, [4096, 4]);
    let second = netback::Buffer::bytes(&packet.pages()[1]);
    assert_eq!(second[..6], [3, 4, 5, 6, 0xEE, 0xEE]);
    assert!(packet.parts().all(|part| part.iter().all(|byte| *byte != 9)));
}
