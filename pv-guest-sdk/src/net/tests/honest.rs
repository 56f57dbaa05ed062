//! A back end that keeps to the protocol.

use core::num::NonZeroU16;
use core::pin::Pin;
use core::sync::atomic::Ordering;
use std::boxed::Box;
use std::vec::Vec;

use super::super::{Card, Checksum, Info, NetError, Note, Options};
use super::{BACK, Frame, PLAIN, RICH, World, noise, packet};
use crate::xenbus::State;
use crate::xenstore::tests::{drive, join};

const fn long(size: u16) -> Note {
    Note { checksum: Checksum::Blank, segment: NonZeroU16::new(size) }
}

const fn of(checksum: Checksum) -> Note {
    Note { checksum, segment: None }
}

#[test]
fn packets_come_as_they_went_both_ways() {
    for features in [PLAIN, RICH] {
        let (mut world, card) = World::up(features);
        let mut frames: Vec<_> = [14, 15, 60, 1000, 1514, 1518]
            .map(|length| Frame(packet(length), Note::default()))
            .into();
        frames.push(Frame(packet(99), of(Checksum::Validated)));
        frames.push(Frame(packet(999), of(Checksum::Blank)));
        if features == RICH {
            let lengths = [1515, 4096, 4097, 8191, 40_000, 65_534, 65_535];
            frames.extend(lengths.map(|length| Frame(packet(length), long(1448))));
        }
        for Frame(bytes, note) in &frames {
            world.run(card.send(bytes, *note)).unwrap();
        }
        while world.step() {}
        assert!(world.got == frames);
        let mut sum = 0;
        for offset in [0, 2, 99] {
            world.offset = offset;
            for frame in &frames {
                world.comes.push_back(frame.clone());
                let mut into = std::vec![0; 65_535];
                let (length, note) = world.run(card.receive(&mut into)).unwrap();
                assert!((&into[..length], note) == (&*frame.0, frame.1), "{length} at {offset}");
                sum += length as u64;
            }
        }
        let (counts, all) = (card.counts(), frames.len() as u64);
        assert_eq!((counts.sent, counts.received), (all, 3 * all));
        assert_eq!((3 * counts.sent_bytes, counts.received_bytes), (sum, sum));
        assert_eq!((counts.refused, counts.faulty), (0, 0));
        world.run(card.close()).unwrap();
        assert!(world.is_clean());
    }
}

#[test]
fn what_the_back_end_does_not_take_is_not_sent() {
    let (mut world, card) = World::up(PLAIN);
    let mut send = |length, note| world.run(card.send(&packet(length), note));
    for length in [0, 13, 1519, 4096, 65_535] {
        assert_eq!(send(length, Note::default()), Err(NetError::Length(length)));
    }
    assert_eq!(send(4000, long(1000)), Err(NetError::Unsupported));
    assert_eq!(send(4097, long(1000)), Err(NetError::Length(4097)));
    let (mut world, card) = World::up(RICH);
    let mut send = |length, note| world.run(card.send(&packet(length), note));
    assert_eq!(send(65_536, long(1000)), Err(NetError::Length(65_536)));
    assert_eq!(send(1519, Note::default()), Err(NetError::Length(1519)));
    let complete = Note { checksum: Checksum::Complete, ..long(1000) };
    assert_eq!(send(2000, complete), Err(NetError::Unsupported));
    let mut none = RICH.to_vec();
    none.push(("feature-no-csum-offload", "1"));
    let (mut world, card) = World::up(&none);
    let mut send = |length, note| world.run(card.send(&packet(length), note));
    assert_eq!(send(60, of(Checksum::Blank)), Err(NetError::Unsupported));
    assert_eq!(send(60, of(Checksum::Validated)), Ok(()));
    let Info { scatter, checksum, segment, split, .. } = card.info();
    assert_eq!((scatter, checksum, segment, split), (true, false, false, true));
}

#[test]
fn the_nodes_say_what_this_end_takes() {
    for (offload, takes) in [(true, 1), (false, 0)] {
        let (mut world, device) = World::new(RICH);
        world.server.set("device/vif/0/multi-queue-num-queues", "4");
        world.server.set("device/vif/0/event-channel", "99");
        world.server.set("device/vif/0/mtu", "9000");
        let (shared, options) = (world.shared, Options { offload, ..Options::default() });
        let card = world.run(Card::open(device, shared, options)).unwrap();
        let nodes = ["feature-gso-tcpv4", "feature-no-csum-offload", "feature-sg"];
        assert_eq!(nodes.map(|key| world.front(key)), [Some(takes), Some(1 - takes), Some(1)]);
        assert_eq!(world.front("multi-queue-num-queues"), None);
        assert_eq!((card.info().mtu, card.info().checksum), (9000, offload));
        world.run(card.send(&packet(9014), Note::default())).unwrap();
    }
}

#[test]
fn rings_and_their_indices_wrap() {
    for index in [0, u32::MAX - 90] {
        let (mut world, card) = World::up(RICH);
        card.queue.start_at(index);
        (world.taken, world.put) = ([index, index], [index, index]);
        let mut next = noise(index.into());
        let mut into = std::vec![0; 65_535];
        for _ in 0..300 {
            let length = 14 + next() as usize % 20_000;
            let frame = Frame(packet(length), long(1 + next() as u16 % 1460));
            world.run(card.send(&frame.0, frame.1)).unwrap();
            world.comes.push_back(frame.clone());
            let (length, note) = world.run(card.receive(&mut into)).unwrap();
            assert!((&into[..length], note) == (&*frame.0, frame.1));
            while world.step() {}
            assert!(world.got.pop() == Some(frame));
        }
    }
}

#[test]
fn who_finds_no_room_waits_for_answers() {
    for (length, most) in [(60, 64), (4097, 32), (65_535, 4)] {
        let (mut world, card) = World::up(RICH);
        world.holds = true;
        let bytes = packet(length);
        let mut sent = 0;
        while drive(card.send(&bytes, long(1000)), || world.step()).is_some() {
            sent += 1;
        }
        assert_eq!(sent, most, "{length}");
        let send = |_| -> Pin<Box<dyn Future<Output = bool> + '_>> {
            Box::pin(async { card.send(&bytes, long(1000)).await.is_ok() })
        };
        let waiting = join((0..3 * most).map(send).collect());
        let mut rounds = 0;
        let done = drive(waiting, || {
            rounds += 1;
            world.holds = rounds % 3 != 0;
            world.step() || rounds < 300
        });
        assert!(done.unwrap().into_iter().all(|it| it));
        world.holds = false;
        while world.step() {}
        assert_eq!(world.got.len(), 4 * most);
    }
}

#[test]
fn packets_that_are_refused_or_too_long_are_counted_and_hinder_nobody() {
    let (mut world, card) = World::up(RICH);
    for status in [-1, -2] {
        world.status = status;
        world.run(card.send(&packet(5000), long(100))).unwrap();
        while world.step() {}
    }
    world.status = 0;
    assert_eq!(card.counts().refused, 4);
    for length in [2000, 1999, 60_000, 100] {
        world.comes.push_back(Frame(packet(length), Note::default()));
    }
    let mut into = [0; 1999];
    assert_eq!(world.run(card.receive(&mut into)), Ok((1999, Note::default())));
    assert_eq!(world.run(card.receive(&mut into)), Ok((100, Note::default())));
    assert_eq!(card.counts().faulty, 2);
}

#[test]
fn each_end_is_told_no_more_than_it_wants() {
    let (mut world, card) = World::up(RICH);
    let told =
        |world: &World, line: usize| world.shared.lines[line].notified.load(Ordering::SeqCst);
    let before = told(&world, 0);
    (0..32)
        .for_each(|_| drive(card.send(&packet(60), Note::default()), || false).unwrap().unwrap());
    assert_eq!(told(&world, 0), before + 1, "while it has not looked");
    for _ in 0..200 {
        world.run(card.send(&packet(60), Note::default())).unwrap();
        while world.step() {}
    }
    assert_eq!(world.told[0], 1, "of the first alone: nobody waits for room");
    let before = told(&world, 1);
    for _ in 0..100 {
        world.comes.push_back(Frame(packet(60), Note::default()));
        world.run(card.receive(&mut [0; 60])).unwrap();
    }
    assert_eq!(told(&world, 1), before, "there were enough pages all the time");
    world.holds = true;
    while drive(card.send(&packet(60), Note::default()), || world.step()).is_some() {}
    world.holds = false;
    world.run(card.send(&packet(60), Note::default())).unwrap();
    assert_eq!(world.told[0], 2, "one waited");
}

#[test]
fn a_card_is_taken_down_and_brought_up_again() {
    let (mut world, mut card) = World::up(RICH);
    for round in 0..4 {
        let bytes = packet(600 + round);
        world.run(card.send(&bytes, Note::default())).unwrap();
        world.comes.push_back(Frame(bytes.clone(), Note::default()));
        let mut into = [0; 1514];
        let (length, _) = world.run(card.receive(&mut into)).unwrap();
        assert_eq!(into[..length], bytes);
        card = match round {
            0 => {
                // What was sent last is there before it is closed.
                world.run(card.send(&packet(77), Note::default())).unwrap();
                let device = world.run(card.close()).unwrap();
                assert_eq!(world.got.last().unwrap().0, packet(77));
                assert_eq!((world.front("state"), world.back_state()), (Some(6), 6));
                assert!(world.is_clean());
                world.open(device).unwrap()
            }
            1 => {
                let device = card.device().clone();
                drop(card);
                assert!(world.is_clean());
                world.open(device).unwrap()
            }
            _ => {
                // An earlier program went without a word.
                let device = card.device().clone();
                core::mem::forget(card);
                world.open(device).unwrap()
            }
        };
    }
}

#[test]
fn a_back_end_that_closes_or_goes_is_seen() {
    let (mut world, card) = World::up(RICH);
    assert!(drive(card.closing(), || world.step()).is_none());
    world.switch(5);
    assert_eq!(world.run(card.closing()), Ok(State::Closing));
    assert_eq!(world.run(card.send(&packet(60), Note::default())), Err(NetError::Gone));
    assert_eq!(world.run(card.receive(&mut [0; 60])), Err(NetError::Gone));
    let device = world.run(card.close()).unwrap();
    let card = world.open(device).unwrap();
    world.server.tree.remove(&std::format!("{BACK}/state"));
    world.server.set(&std::format!("{BACK}/state/"), "");
    assert_eq!(world.run(card.closing()), Ok(State::Unknown));
    let device = card.device().clone();
    drop(card);
    assert_eq!(world.open(device).err(), Some(NetError::Refused(State::Unknown)));
    assert!(world.is_clean());
}
