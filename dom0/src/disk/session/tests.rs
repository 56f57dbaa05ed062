use alloc::rc::Rc;
use core::task::{Context, Poll, Waker};
use std::collections::BTreeMap;
use std::vec::Vec;

use super::{Command, Full, Session};
use crate::disk::{Disk, DiskError, Operation};
use crate::hw::{Buffer, Piece};
use crate::virtio::block::tests::{Manner, Model, started};

fn piece(buffer: &Buffer, sector: u64, sectors: u32) -> Piece {
    buffer.piece(512 * sector, 512 * sectors).unwrap()
}

/// Takes all answers, with the device serving whenever there is none.
fn answers(
    session: &mut Session,
    device: Option<(&Model, &Rc<crate::virtio::Block>)>,
) -> BTreeMap<u32, Result<(), DiskError>> {
    let mut taken = BTreeMap::new();
    loop {
        match session.poll(&Context::from_waker(Waker::noop())) {
            Poll::Ready((number, answer)) => assert!(taken.insert(number, answer).is_none()),
            Poll::Pending => match device {
                Some((model, block)) if model.serve() => drop(block.on_interrupt()),
                _ => return taken,
            },
        }
    }
}

#[test]
fn each_request_is_answered_once_whatever_becomes_of_it() {
    let (model, block, disk) = started();
    let buffer = Buffer::new(1 << 16, 0).unwrap();
    let mut session = Session::new(disk.region(8, 1000).unwrap());
    let list = [piece(&buffer, 0, 1)];
    // Three descriptors each, of 16.
    let mut given = 0;
    while session.submit(given, Command::Transfer(Operation::Read, 0, &list)).is_ok() {
        given += 1;
    }
    assert_eq!(given, 5);
    let done = answers(&mut session, Some((&model, &block)));
    assert_eq!(done, (0..given).map(|number| (number, Ok(()))).collect());
    // Seven parts, and whatever the disk itself refuses.
    let long = [piece(&buffer, 0, 11), piece(&buffer, 11, 1)];
    session.submit(1, Command::Transfer(Operation::Read, 5, &long)).unwrap();
    session.submit(2, Command::Discard(0, 10)).unwrap();
    assert_eq!(session.submit(3, Command::Flush), Err(Full), "parts wait");
    let done = answers(&mut session, Some((&model, &block)));
    assert_eq!(done, [(1, Ok(())), (2, Ok(()))].into());
    session.submit(3, Command::Flush).unwrap();
    session.submit(4, Command::Transfer(Operation::Write, 1000, &list)).unwrap();
    let done = answers(&mut session, Some((&model, &block)));
    assert_eq!(done, [(3, Ok(())), (4, Err(DiskError::Range))].into());
    assert_eq!(model.log.take()[given as usize..], [0, 0, 0, 11, 11, 11, 4]);
    let mut words = [0; 768];
    buffer.read(0, &mut words);
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(bytes, model.bytes.borrow()[13 * 512..25 * 512]);
}

#[test]
fn a_session_without_requests_has_room_though_others_fill_the_device() {
    let (model, block, disk) = started();
    let buffer = Buffer::new(4096, 0).unwrap();
    let list = [piece(&buffer, 0, 1)];
    let (mut hog, mut other) = (Session::new(disk.clone()), Session::new(disk));
    let read = || Command::Transfer(Operation::Read, 0, &list);
    let count = (0..).take_while(|&number| hog.submit(number, read()).is_ok()).count();
    assert_eq!(other.submit(7, read()), Ok(()));
    assert_eq!(other.submit(8, read()), Err(Full));
    assert!(other.poll(&Context::from_waker(Waker::noop())).is_pending());
    assert!(model.serve());
    block.on_interrupt();
    assert_eq!(answers(&mut other, Some((&model, &block))), [(7, Ok(()))].into());
    assert_eq!(answers(&mut hog, None).len(), count);
}

#[test]
fn who_waits_for_room_gets_it_though_another_takes_every_bit_of_it_first() {
    let (model, block, disk) = started();
    let buffer = Buffer::new(1 << 14, 0).unwrap();
    // Three descriptors, and five: as many are never free at once while the other one is served.
    let (small, large) = ([piece(&buffer, 0, 1)], [0, 2, 4].map(|at| piece(&buffer, at, 1)));
    for wanted in [&small[..], &large[..]] {
        let (mut hog, mut other) = (Session::new(disk.clone()), Session::new(disk.clone()));
        let mut next = 100;
        let mut take_all = |hog: &mut Session| {
            while hog.submit(next, Command::Transfer(Operation::Read, 0, &small)).is_ok() {
                next += 1;
            }
        };
        take_all(&mut hog);
        let mut answered = false;
        for round in 0..2 {
            other.submit(round, Command::Transfer(Operation::Read, 0, wanted)).unwrap();
            assert!(other.poll(&Context::from_waker(Waker::noop())).is_pending());
            for _ in 0..20 {
                assert!(model.serve());
                block.on_interrupt();
                while hog.poll(&Context::from_waker(Waker::noop())).is_ready() {}
                take_all(&mut hog);
                answered = other.poll(&Context::from_waker(Waker::noop())).is_ready();
                if answered {
                    break;
                }
            }
            assert!(answered, "{} pieces, round {round}", wanted.len());
        }
        while model.serve() {
            block.on_interrupt();
            while hog.poll(&Context::from_waker(Waker::noop())).is_ready() {}
        }
    }
}

#[test]
fn a_discard_has_no_more_parts_than_are_kept_gladly() {
    let (model, block, disk) = started();
    let mut session = Session::new(disk);
    // The device discards four sectors at once: these are 500 parts.
    session.submit(1, Command::Discard(0, 2000)).unwrap();
    let done = answers(&mut session, Some((&model, &block)));
    assert_eq!(done, [(1, Ok(()))].into());
    assert_eq!(*model.log.borrow(), [11; 64], "it discards as much as it likes");
}

#[test]
fn parts_that_fail_fail_the_request() {
    let (model, block, disk) = started();
    let buffer = Buffer::new(1 << 14, 0).unwrap();
    let mut session = Session::new(disk);
    session.submit(1, Command::Transfer(Operation::Read, 0, &[piece(&buffer, 0, 20)])).unwrap();
    assert!(session.poll(&Context::from_waker(Waker::noop())).is_pending());
    model.manner.set(Manner::Status(1));
    assert!(model.serve());
    block.on_interrupt();
    model.manner.set(Manner::Right);
    let done = answers(&mut session, Some((&model, &block)));
    assert_eq!(done, [(1, Err(DiskError::Failed))].into());
}

#[test]
fn a_ram_disk_answers_at_once() {
    let mut session = Session::new(Disk::ram(4).unwrap());
    let buffer = Buffer::new(4096, 0).unwrap();
    buffer.write(0, &[5]);
    session.submit(9, Command::Transfer(Operation::Write, 8, &[piece(&buffer, 0, 8)])).unwrap();
    session.submit(8, Command::Flush).unwrap();
    session.submit(7, Command::Discard(9, 1)).unwrap();
    session.submit(6, Command::Discard(32, 1)).unwrap();
    let expected = [(9, Ok(())), (8, Ok(())), (7, Ok(())), (6, Err(DiskError::Range))];
    assert_eq!(answers(&mut session, None), expected.into());
}
