//! A back end that does what none may do: the card's use ends with an error that says so, or goes on.

use core::pin::Pin;
use core::sync::atomic::Ordering;
use std::boxed::Box;
use std::format;
use std::string::ToString;
use std::vec::Vec;

use hypercall_abi::netif::{self as abi, RxResponse, TxResponse};
use zerocopy::{FromBytes, IntoBytes};

use super::super::{Breach, Card, Checksum, NetError, Note, Options};
use super::{
    BACK, FRONT, Frame, PLAIN, RICH, ReceiveLie, SendLie, World, gso, noise, packet, states,
};
use crate::event::Signal;
use crate::xenbus::State;
use crate::xenstore::tests::{drive, join};

/// Changes an answer for a page.
fn change(answer: &mut [u8; 8], how: impl FnOnce(&mut RxResponse)) {
    let mut it = RxResponse::read_from_bytes(answer).unwrap();
    how(&mut it);
    answer.copy_from_slice(it.as_bytes());
}

/// The card is of no use for this reason, says so whatever is asked of it, and can be opened anew.
fn is_broken(world: &mut World, card: Card<'static, &'static super::Shared>, breach: Breach) {
    let error = NetError::Broken(breach);
    assert_eq!(world.run(card.receive(&mut [0; 1514])), Err(error.clone()), "{breach}");
    assert_eq!(world.run(card.send(&packet(60), Note::default())), Err(error.clone()));
    assert_eq!(card.broken(), Some(error));
    (world.send_lie, world.receive_lie) = (None, None);
    world.comes.clear();
    let device = world.run(card.close()).unwrap();
    assert!(world.is_clean());
    let card = world.open(device).unwrap();
    world.comes.push_back(Frame(packet(60), Note::default()));
    assert_eq!(world.run(card.receive(&mut [0; 60])), Ok((60, Note::default())));
}

#[test]
fn answers_to_packets_that_cannot_be() {
    let lies: [(SendLie, Breach); 9] = [
        (|it, _| it.id = 64, Breach::Answer(64)),
        (|it, _| it.id = u16::MAX, Breach::Answer(u16::MAX)),
        (|it, _| it.id = 1, Breach::Answer(1)),
        (|it, _| it.status = 2, Breach::Status(2)),
        (|it, _| it.status = -3, Breach::Status(-3)),
        (|it, _| it.status = abi::STATUS_NULL, Breach::Status(1)),
        (|_, put| *put += 1, Breach::Indices),
        (|_, put| *put = put.wrapping_sub(2), Breach::Indices),
        (|_, put| *put ^= 1 << 31, Breach::Indices),
    ];
    for (lie, breach) in lies {
        let (mut world, card) = World::up(RICH);
        world.run(card.send(&packet(60), Note::default())).unwrap();
        while world.step() {}
        let _looked_at = card.counts();
        world.send_lie = Some(lie);
        world.run(card.send(&packet(60), Note::default())).unwrap();
        while world.step() {}
        let _looked_at = card.counts();
        let error = Err(NetError::Broken(breach));
        assert_eq!(world.run(card.send(&packet(60), Note::default())), error);
        is_broken(&mut world, card, breach);
    }
}

#[test]
fn a_packet_is_answered_once_and_an_extra_info_too() {
    let (mut world, card) = World::up(RICH);
    world.run(card.send(&packet(60), Note::default())).unwrap();
    world.holds = true;
    world.step();
    world.held.push(TxResponse { id: 0, status: 0 });
    // There is a place for it, since another packet is under way.
    world.run(card.send(&packet(60), Note::default())).unwrap();
    world.step();
    world.held.truncate(2);
    world.holds = false;
    while world.step() {}
    let _looked_at = card.counts();
    let error = Err(NetError::Broken(Breach::Answer(0)));
    assert_eq!(world.run(card.send(&packet(60), Note::default())), error);
    let (mut world, card) = World::up(RICH);
    let note = Note { checksum: Checksum::Blank, segment: core::num::NonZeroU16::new(9) };
    world.send_lie = Some(|it, _| *it = TxResponse { id: 0, status: abi::STATUS_NULL });
    world.run(card.send(&packet(60), note)).unwrap();
    while world.step() {}
    let _looked_at = card.counts();
    let breach = Breach::Status(abi::STATUS_NULL);
    let sent = world.run(card.send(&packet(60), Note::default()));
    assert_eq!(sent, Err(NetError::Broken(breach)));
    is_broken(&mut world, card, breach);
}

#[test]
fn packets_that_cannot_be() {
    let lies: [(ReceiveLie, Breach); 17] = [
        (|all, _| change(&mut all[0], |it| it.id = 5), Breach::Answer(5)),
        (|all, _| change(&mut all[0], |it| it.id = 128), Breach::Answer(128)),
        (|all, _| change(&mut all[1], |it| it.id -= 1), Breach::Answer(0)),
        (|all, _| change(&mut all[0], |it| it.offset = 1), Breach::Piece(1, 4096)),
        (|all, _| change(&mut all[0], |it| it.status = 4097), Breach::Piece(0, 4097)),
        (|all, _| change(&mut all[0], |it| it.status = i16::MAX), Breach::Piece(0, 32_767)),
        (|all, _| change(&mut all[0], |it| it.offset = u16::MAX), Breach::Piece(u16::MAX, 4096)),
        (|all, _| all[2] = gso(0), Breach::Answer(1)),
        (|all, _| (change(&mut all[0], |it| it.flags = 8), all[1] = gso(0)).1, Breach::Extra(1)),
        (|all, _| (change(&mut all[0], |it| it.flags = 8), all[1] = [0; 8]).1, Breach::Extra(0)),
        (|all, _| (change(&mut all[0], |it| it.flags = 8), all[1] = [4; 8]).1, Breach::Extra(4)),
        // Of IPv6, which was not asked for.
        (
            |all, _| {
                change(&mut all[0], |it| it.flags = abi::RX_EXTRA_INFO);
                all[1] = gso(99);
                all[1][4] = abi::GSO_TCPV6;
            },
            Breach::Extra(1),
        ),
        // Another follows each.
        (
            |all, _| {
                change(&mut all[0], |it| it.flags = abi::RX_EXTRA_INFO | abi::RX_MORE_DATA);
                all[1..].fill(gso(99));
                all[1..].iter_mut().for_each(|extra| extra[1] = abi::EXTRA_MORE);
            },
            Breach::Endless,
        ),
        (
            |all, _| {
                for answer in all {
                    change(answer, |it| it.flags = abi::RX_MORE_DATA);
                }
            },
            Breach::Endless,
        ),
        (|_, put| *put += 200, Breach::Indices),
        (|_, put| *put = put.wrapping_sub(100), Breach::Indices),
        (|_, put| *put ^= 1 << 31, Breach::Indices),
    ];
    for (lie, breach) in lies {
        let (mut world, card) = World::up(RICH);
        world.receive_lie = Some(lie);
        for _ in 0..3 {
            world.comes.push_back(Frame(packet(65_535), Note::default()));
        }
        let mut into = std::vec![0; 65_535];
        assert_eq!(world.run(card.receive(&mut into)), Err(NetError::Broken(breach)), "{breach}");
        is_broken(&mut world, card, breach);
    }
}

#[test]
fn a_packet_of_which_a_piece_is_missing_is_dropped_alone() {
    let lies: [ReceiveLie; 4] = [
        |all, _| change(&mut all[0], |it| it.status = -1),
        |all, _| change(&mut all[2], |it| it.status = i16::MIN),
        |all, _| all.iter_mut().for_each(|answer| change(answer, |it| it.status = -2)),
        // Offsets of what is missing say nothing.
        |all, _| change(&mut all[1], |it| (it.offset, it.status) = (u16::MAX, -1)),
    ];
    for lie in lies {
        let (mut world, card) = World::up(RICH);
        for _ in 0..30 {
            world.receive_lie = Some(lie);
            world.comes.push_back(Frame(packet(10_000), Note::default()));
            while world.step() {}
            world.receive_lie = None;
            world.comes.push_back(Frame(packet(700), Note::default()));
            let mut into = [0; 10_000];
            let came = world.run(card.receive(&mut into)).unwrap();
            assert!((&into[..700], came.0) == (&*packet(700), 700));
        }
        assert_eq!((card.counts().faulty, card.counts().received), (30, 30));
    }
}

#[test]
fn pieces_of_no_bytes_are_odd_and_that_is_all() {
    let (mut world, card) = World::up(RICH);
    world.receive_lie = Some(|all, _| change(&mut all[0], |it| (it.offset, it.status) = (4096, 0)));
    world.comes.push_back(Frame(packet(5000), Note::default()));
    let mut into = [0; 10_000];
    assert_eq!(world.run(card.receive(&mut into)).unwrap().0, 904);
    assert_eq!(into[..904], packet(5000)[4096..]);
    world.comes.push_back(Frame(packet(100), Note::default()));
    assert_eq!(world.run(card.receive(&mut into)).unwrap().0, 0);
}

#[test]
fn a_back_end_that_does_not_answer_stops_who_waits_and_nobody_else() {
    let (mut world, card) = World::up(RICH);
    world.holds = true;
    let send = |_| -> Pin<Box<dyn Future<Output = bool> + '_>> {
        Box::pin(async { card.send(&packet(60), Note::default()).await.is_ok() })
    };
    assert!(drive(join((0..200).map(send).collect()), || world.step()).is_none());
    assert_eq!((card.counts().sent, world.got.len()), (64, 64));
    world.comes.push_back(Frame(packet(60), Note::default()));
    assert_eq!(world.run(card.receive(&mut [0; 60])), Ok((60, Note::default())));
    // Dropped without waiting, it leaves nothing.
    let device = card.device().clone();
    drop(card);
    assert!(world.is_clean());
    world.holds = false;
    world.open(device).unwrap();
}

#[test]
fn packets_under_way_fail_when_the_back_end_closes() {
    let (mut world, card) = World::up(RICH);
    world.holds = true;
    let one = |index: usize| -> Pin<Box<dyn Future<Output = Result<(), NetError>> + '_>> {
        let card = &card;
        Box::pin(async move {
            match index {
                0 => card.receive(&mut [0; 60]).await.map(drop),
                1 => card.closing().await.map(drop),
                _ => card.send(&packet(60), Note::default()).await,
            }
        })
    };
    let mut closes = true;
    let all = drive(join((0..80).map(one).collect()), || {
        let moved = world.step();
        if !moved && core::mem::take(&mut closes) {
            world.switch(5);
            return true;
        }
        moved
    });
    let all = all.expect("nobody waits any more");
    assert_eq!((&all[0], &all[1]), (&Err(NetError::Gone), &Ok(())));
    let failed = all.iter().filter(|it| **it == Err(NetError::Gone)).count();
    assert_eq!(failed, 1 + 78 - 64);
    world.run(card.close()).unwrap();
    assert!(world.is_clean());
}

#[test]
fn states_in_an_order_that_there_is_not() {
    // Who closes in the middle of connecting is refused; what it says before that is not believed.
    for (state, seen) in [(5, State::Closing), (6, State::Closed), (0, State::Unknown)] {
        let (mut world, device) = World::new(RICH);
        world.next = match state {
            5 => |front, back| states(front, back).map(|next| if next == 4 { 5 } else { next }),
            6 => |front, back| states(front, back).map(|next| if next == 4 { 6 } else { next }),
            _ => |front, back| states(front, back).map(|next| if next == 4 { 77 } else { next }),
        };
        assert_eq!(world.open(device.clone()).err(), Some(NetError::Refused(seen)));
        assert!(world.is_clean());
        while world.step() {}
        assert_eq!(world.front("state"), Some(6));
        world.switch(6);
        world.next = states;
        world.open(device).unwrap();
    }
    // One that is connected before anybody came: the front end waits, and shares nothing.
    let (mut world, device) = World::new(RICH);
    world.next = |_, back| (back != 4).then_some(4);
    world.rings = None;
    let shared = world.shared;
    assert!(
        drive(Card::open(device, shared, Options::default()), || world.server.step()).is_none()
    );
    assert!(world.is_clean());
    // Through all states, again and again.
    for seed in 0..60 {
        let (mut world, device) = World::new(RICH);
        world.next = |_, _| None;
        let mut next = noise(seed);
        let mut left = 200;
        let work = async {
            let card = Card::open(device, world.shared, Options::default()).await?;
            card.closing().await?;
            card.close().await.map(drop)
        };
        let _any = drive(work, || {
            left -= 1;
            if !world.server.step() {
                let state = (next() % 9).to_string();
                world.server.set(&format!("{BACK}/state"), &state);
            }
            left > 0
        });
        assert!(world.is_clean(), "{seed}");
    }
}

#[test]
fn a_back_end_that_describes_no_card_is_refused() {
    let form = |node| NetError::Form(node);
    for (path, value, error) in [
        (format!("{FRONT}/mac"), "", form("mac")),
        (format!("{FRONT}/mac"), "01:16:3e:00:00:07", form("mac")),
        (format!("{FRONT}/mtu"), "67", form("mtu")),
        (format!("{FRONT}/mtu"), "65001", form("mtu")),
        (format!("{FRONT}/mtu"), "18446744073709551615", form("mtu")),
        (format!("{BACK}/feature-rx-copy"), "0", form("feature-rx-copy")),
        (format!("{BACK}/feature-rx-copy"), "2", form("feature-rx-copy")),
    ] {
        let (mut world, device) = World::new(PLAIN);
        world.server.set(&path, value);
        assert_eq!(world.open(device).err(), Some(error), "{path} {value}");
        assert!(world.is_clean());
    }
    let (mut world, device) = World::new(PLAIN);
    world.server.tree.remove(&format!("{FRONT}/mac"));
    assert_eq!(world.open(device).err(), Some(form("mac")));
    for (path, value) in
        [(format!("{FRONT}/mac"), "a".repeat(200)), (format!("{BACK}/feature-sg"), "x".into())]
    {
        let (mut world, device) = World::new(PLAIN);
        world.server.set(&path, &value);
        assert!(matches!(world.open(device).err(), Some(NetError::Store(_))), "{path} {value}");
        assert!(world.is_clean());
    }
}

#[test]
fn a_back_end_that_writes_anything_neither_stops_nor_breaks_the_front_end() {
    let mut next = noise(7);
    let (mut broken, mut through) = (0, 0);
    for round in 0..120 {
        let (mut world, card) = World::up(RICH);
        let mut turns = 0;
        let work = async {
            let mut into = std::vec![0; 65_535];
            for length in [60, 9000, 1514, 65_535, 60, 60] {
                let note =
                    Note { checksum: Checksum::Blank, segment: core::num::NonZeroU16::new(1448) };
                card.send(&packet(length), note).await?;
                card.receive(&mut into).await?;
            }
            Ok::<_, NetError>(())
        };
        let result = drive(work, || {
            turns += 1;
            world.comes.push_back(Frame(packet(1 + next() as usize % 9000), Note::default()));
            world.server.step();
            world.serve_receive();
            world.serve_send();
            for _ in 0..round % 3 {
                // The requests' indices are this back end's own to believe.
                let (ring, word) = ((next() % 2) as usize, 2 + next() as usize % 500);
                let value = if next().is_multiple_of(2) {
                    next() as u32
                } else {
                    next() as u32 & 0x000f_000f
                };
                let word = if next().is_multiple_of(16) { 2 } else { word };
                if word != 3 {
                    world.word(ring, word).store(value, Ordering::SeqCst);
                }
            }
            world.shared.lines.iter().for_each(|line| line.wake());
            turns < 200
        });
        broken += usize::from(matches!(result, Some(Err(NetError::Broken(_)))));
        through += usize::from(result == Some(Ok(())));
        let _any_result: Vec<_> = result.into_iter().collect();
        drop(card);
        assert!(world.is_clean());
    }
    assert!(broken > 20 && through > 30, "{broken} {through}");
}
