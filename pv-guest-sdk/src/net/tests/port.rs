//! The card as the crate `smoltcp` wants it.

use core::num::NonZeroU16;
use std::vec::Vec;

use smoltcp::phy::{self, Device, PacketMeta, RxToken, TxToken};
use smoltcp::time::Instant;

use super::super::{Checksum, Note, Port};
use super::{Frame, PLAIN, RICH, World, packet};

/// A packet of TCP over IPv4 with so many bytes and a checksum of 0.
fn tcp(length: usize) -> Vec<u8> {
    let mut bytes = packet(54 + length);
    bytes[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
    bytes[16..18].copy_from_slice(&(40 + length as u16).to_be_bytes());
    bytes[18..24].copy_from_slice(&[0, 0, 0x40, 0, 64, 6]);
    bytes[46] = 0x50;
    bytes[50..52].fill(0);
    bytes
}

/// The sum of 16-bit words, folded.
fn sum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|it| u64::from(it[0]) << 8 | it.get(1).map_or(0, |&low| low.into()));
    let sum = words.sum::<u64>();
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The same with this sum where the checksum is: that of the pseudo header, or all of it.
fn summed(mut bytes: Vec<u8>, is_blank: bool) -> Vec<u8> {
    let length = (bytes.len() - 34) as u16;
    let mut pseudo = bytes[26..34].to_vec();
    pseudo.extend([0, 6]);
    pseudo.extend(length.to_be_bytes());
    if !is_blank {
        pseudo.extend(&bytes[34..]);
    }
    let sum = if is_blank { sum(&pseudo) } else { !sum(&pseudo) };
    bytes[50..52].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn now() -> Instant {
    Instant::from_micros(0)
}

#[test]
fn checksums_are_left_to_the_other_end_where_it_fills_them_in() {
    for features in [PLAIN, RICH] {
        let (mut world, card) = World::up(features);
        let mut receive = std::vec![0; 65_535];
        let mut port = Port::new(card, &mut receive);
        let capabilities = port.capabilities();
        assert_eq!(capabilities.max_transmission_unit, 1514);
        assert!(matches!(capabilities.checksum.tcp, phy::Checksum::None));
        let most = capabilities.segmentation.tcpv4.map(usize::from);
        assert_eq!(most, (features == RICH).then_some(65_535));
        let mut put = |bytes: &[u8], size: Option<u16>| {
            let mut room = port.transmit(now()).unwrap();
            let mut meta = PacketMeta::default();
            meta.segmentation_offload_size = size.and_then(NonZeroU16::new);
            room.set_meta(meta);
            room.consume(bytes.len(), |into| into.copy_from_slice(bytes));
        };
        put(&tcp(301), None);
        put(&packet(100), None);
        let blank = Note { checksum: Checksum::Blank, segment: None };
        let mut wanted =
            Vec::from([Frame(summed(tcp(301), true), blank), Frame(packet(100), Note::default())]);
        if features == RICH {
            put(&tcp(30_001), Some(1460));
            let note = Note { segment: NonZeroU16::new(1460), ..blank };
            wanted.push(Frame(summed(tcp(30_001), true), note));
        }
        while world.step() {}
        assert!(world.got == wanted);
        assert!(!port.is_starved());
    }
}

#[test]
fn a_checksum_is_looked_at_unless_somebody_has_done_so() {
    let (mut world, card) = World::up(RICH);
    let mut receive = std::vec![0; 65_535];
    let mut port = Port::new(card, &mut receive);
    let right = summed(tcp(5001), false);
    let mut wrong = right.clone();
    wrong[3000] ^= 1;
    let note = |checksum| Note { checksum, segment: None };
    let mut came = |bytes: &Vec<u8>, checksum| {
        world.comes.push_back(Frame(bytes.clone(), note(checksum)));
        while world.step() {}
        let (token, _) = port.receive(now())?;
        Some(token.consume(<[u8]>::to_vec) == *bytes)
    };
    assert_eq!(came(&right, Checksum::Complete), Some(true));
    assert_eq!(came(&wrong, Checksum::Complete), None);
    assert_eq!(came(&wrong, Checksum::Validated), Some(true));
    assert_eq!(came(&wrong, Checksum::Blank), Some(true));
    assert_eq!(port.wrong(), 1);
}

#[test]
fn without_room_for_an_answer_nothing_is_received() {
    let (mut world, card) = World::up(RICH);
    let mut receive = std::vec![0; 65_535];
    let mut port = Port::new(card, &mut receive);
    world.holds = true;
    let mut sent = 0;
    while let Some(room) = port.transmit(now()) {
        room.consume(60, |into| into.fill(7));
        sent += 1;
    }
    assert!(sent >= 4 && port.is_starved(), "{sent}");
    world.comes.push_back(Frame(packet(60), Note::default()));
    while world.step() {}
    assert!(port.receive(now()).is_none());
    world.holds = false;
    while world.step() {}
    assert!(port.receive(now()).is_some() && !port.is_starved());
    assert_eq!(port.card().counts().received, 1);
}

#[test]
fn packets_of_any_length_are_received_wherever_they_are() {
    for offset in [0, 2] {
        let (mut world, card) = World::up(RICH);
        world.offset = offset;
        let mut receive = std::vec![0; 65_535];
        let mut port = Port::new(card, &mut receive);
        for round in 0..40 {
            for (length, size) in [
                (60, None),
                (2047, None),
                (4096 - usize::from(offset), None),
                (4097, NonZeroU16::new(1448)),
                (9000 + round, NonZeroU16::new(1448)),
                (65_535, NonZeroU16::new(1448)),
                (8192, None),
            ] {
                let note = Note { checksum: Checksum::Blank, segment: size };
                let frame = packet(length);
                world.comes.push_back(Frame(frame.clone(), note));
                while world.step() {}
                let (token, room) = port.receive(now()).expect("it has come");
                // The answer is sent while the packet is looked at.
                let is_right = token.consume(|bytes| {
                    room.consume(64, |into| {
                        into.copy_from_slice(&bytes[..into.len().min(60)].repeat(2)[..64])
                    });
                    bytes == frame
                });
                assert!(is_right, "{length} at {offset}");
                while world.step() {}
                let answer = frame[..60].repeat(2);
                assert!(world.got.pop().is_some_and(|it| it.0 == answer[..64]));
            }
        }
        assert_eq!(port.card().counts().faulty, 0);
    }
}
