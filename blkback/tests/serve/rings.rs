//! The ring's indices, notifications, and limits.

use std::sync::atomic::Ordering;

use blkback::{Limits, Ring, RingError, Words};
use hypercall_abi::blkif::{READ, Request, Response, STATUS_OKAY, Segment, WRITE};
use zerocopy::IntoBytes;

use crate::rig::{Front, Rig, geometry, indirect, request, segment};

fn attach(front: &Front) -> Result<Ring<crate::world::Page>, RingError> {
    Ring::attach(front.pages.clone())
}

fn response(id: u64, operation: u8, status: i16) -> Response {
    Response { id, operation, status, ..Response::default() }
}

#[test]
fn every_slot_of_every_ring_is_used_and_indices_wrap() {
    for order in 0..=4 {
        let mut front = Front::new(order);
        // Just before the wrap of 32 bits.
        front.prod = u32::MAX - 700;
        front.cons = front.prod;
        for (word, value) in [(0, front.prod), (2, front.prod), (1, front.prod + 1)] {
            front.word(word).store(value, Ordering::SeqCst);
        }
        let mut ring = attach(&front).unwrap();
        assert_eq!(ring.slots(), front.slots());
        let mut id = 0;
        for _ in 0..1500 / ring.slots() + 1 {
            for n in 0..u64::from(ring.slots()) {
                front.put(&Request { id: id + n, ..request(WRITE, n, &[segment(3, 1, 2); 11]) });
            }
            for n in 0..u64::from(ring.slots()) {
                let taken = ring.take().unwrap().unwrap();
                let sent = Request { id: id + n, ..request(WRITE, n, &[segment(3, 1, 2); 11]) };
                assert_eq!(taken, sent);
            }
            assert_eq!(ring.take(), Ok(None));
            assert_eq!(ring.in_flight(), ring.slots());
            for n in 0..u64::from(ring.slots()) {
                ring.respond(&response(id + n, WRITE, -1));
            }
            assert!(front.responses().is_empty(), "shown too early");
            let _ = ring.push();
            let responses = front.responses();
            assert!(responses.iter().map(|it| it.id).eq(id..id + u64::from(ring.slots())));
            assert!(responses.iter().all(|it| (it.operation, it.status) == (WRITE, -1)));
            assert!(responses.iter().all(|it| (it.pad, it.pad1) == (0, 0)));
            id += u64::from(ring.slots());
        }
        // One response too many is none.
        ring.respond(&response(0, 0, 0));
        assert!(!ring.push());
    }
}

#[test]
fn each_end_is_told_when_it_asked() {
    let mut front = Front::new(0);
    let mut ring = attach(&front).unwrap();
    // Nobody was asked yet, so the first request is to be told of, and no other before it is taken.
    assert!(front.put(&request(READ, 0, &[])));
    assert!(!front.put(&request(READ, 1, &[])));
    assert_eq!(ring.is_more(), Ok(true));
    assert!(!front.put(&request(READ, 2, &[])));
    while ring.take().unwrap().is_some() {}
    assert!(!front.put(&request(READ, 3, &[])), "not asleep yet");
    assert!(ring.take().unwrap().is_some());
    assert_eq!(ring.is_more(), Ok(false));
    assert!(front.put(&request(READ, 4, &[])));
    assert!(ring.take().unwrap().is_some());
    // The front end wants to hear of the first response; then of the third that follows.
    ring.respond(&response(0, READ, 0));
    assert!(ring.push());
    assert!(!ring.push(), "nothing is new");
    front.word(3).store(4, Ordering::SeqCst);
    ring.respond(&response(1, READ, 0));
    ring.respond(&response(2, READ, 0));
    assert!(!ring.push());
    ring.respond(&response(3, READ, 0));
    ring.respond(&response(4, READ, 0));
    assert!(ring.push(), "that of which it wants to hear is among these");
}

#[test]
fn a_ring_of_a_wrong_size_is_none() {
    let page = Front::new(0).pages.remove(0);
    for count in [0, 3, 5, 17, 32] {
        let pages = vec![page.clone(); count];
        assert_eq!(Ring::attach(pages).map(|_| ()), Err(RingError::Pages), "{count}");
    }
    assert_eq!(page.words().len(), 1024);
}

#[test]
fn indices_that_cannot_be_end_the_connection() {
    for (order, produced) in
        [(0, 33), (0, u32::MAX), (0, 1 << 31), (4, 513), (4, u32::MAX - 511), (0, u32::MAX - 31)]
    {
        let mut rig = Rig::connected();
        rig.connect_again(order);
        rig.front.word(0).store(produced, Ordering::SeqCst);
        rig.run();
        assert_eq!(rig.states[rig.states.len() - 2..], ["5", "6"], "{produced:#x}");
        assert_eq!(rig.reports.len(), 1);
        assert!(rig.disk.borrow().log.is_empty());
        rig.assert_clean();
        // As long as the front end does not notice, nothing else happens.
        rig.front_state("4");
        assert_eq!(rig.back("state"), "6");
        rig.front_state("1");
        assert_eq!(rig.back("state"), "2");
        rig.connect(0, false);
        assert_eq!(rig.ask(&request(READ, 0, &[segment(20, 0, 7)])), STATUS_OKAY);
    }
    // A ring that is broken before it is served.
    let mut rig = Rig::new(geometry(), false, Limits::default());
    rig.announce(0, false);
    rig.front.word(0).store(33, Ordering::SeqCst);
    rig.front_state("3");
    assert_eq!((rig.back("state"), rig.reports.len()), ("6", 1));
    rig.assert_clean();
}

#[test]
fn requests_cannot_be_taken_back() {
    let mut rig = Rig::connected();
    rig.disk.borrow_mut().stalled = true;
    for sector in 0..4 {
        rig.front.put(&request(READ, sector, &[segment(20, 0, 0)]));
    }
    rig.run();
    assert_eq!(rig.disk.borrow().under_way(), 4);
    rig.front.word(0).store(3, Ordering::SeqCst);
    rig.run();
    assert_eq!((rig.back("state"), rig.reports.len()), ("5", 1));
    assert_eq!(rig.world.borrow().buffers, 4, "the disk may still write there");
    rig.disk.borrow_mut().go_on();
    rig.run();
    assert_eq!(rig.back("state"), "6");
    rig.assert_clean();
}

#[test]
fn a_full_ring_that_is_overfilled_later_breaks() {
    let mut rig = Rig::connected();
    rig.disk.borrow_mut().stalled = true;
    for sector in 0..32 {
        rig.front.put(&request(READ, sector, &[segment(20, 0, 0)]));
    }
    rig.run();
    assert_eq!(rig.disk.borrow().under_way(), 32);
    rig.front.put(&request(READ, 0, &[segment(20, 0, 0)]));
    rig.run();
    assert_eq!((rig.back("state"), rig.disk.borrow().under_way()), ("5", 32));
}

#[test]
fn one_turn_does_no_more_than_its_limit() {
    for resident in [false, true] {
        let limits = Limits { turn: 40, ..Limits::default() };
        let mut rig = Rig::new(geometry(), resident, limits);
        rig.connect(4, false);
        for n in 0..512 {
            rig.front.put(&request(READ, n % 100, &[segment(100 + n as u32 % 400, 0, 7)]));
        }
        let mut turns = 0;
        loop {
            let before = rig.world.borrow().copied;
            let rests = rig.turn();
            turns += 1;
            // A request counts 2; the sectors of one page lie in two of the disk's.
            assert!(rig.world.borrow().copied - before <= 40);
            if rests {
                break;
            }
        }
        assert!((26..30).contains(&turns), "{turns}");
        assert_eq!(rig.front.responses().len(), 512);
    }
}

/// Requests wait for the pages of others, and none is lost.
#[test]
fn pages_are_limited() {
    for persistent in [false, true] {
        let limits = Limits { buffers: 16, mappings: 20, indirect: 16, ..Limits::default() };
        let mut rig = Rig::new(geometry(), false, limits);
        rig.connect(2, persistent);
        let list: Vec<Segment> = (0..16).map(|n| segment(300 + n, 0, 7)).collect();
        rig.world.borrow_mut().guest[50].data[..128].copy_from_slice(list.as_bytes());
        for round in 0..8 {
            rig.disk.borrow_mut().stalled = true;
            for n in 0..32 {
                let pages = [0, 1, 2].map(|k| segment(100 + (round * 32 + n) % 190 + k, 0, 7));
                rig.front.put(&request(WRITE, 24 * u64::from(n), &pages));
                rig.front.put(&indirect(READ, 800, 50, 16));
            }
            rig.run();
            let (own, mapped) = rig.device.pages();
            assert!(own <= 16 && mapped <= 20 && rig.disk.borrow().under_way() > 0);
            rig.disk.borrow_mut().go_on();
            rig.run();
            let responses = rig.front.responses();
            assert_eq!(responses.len(), 64);
            assert!(responses.iter().all(|it| it.status == STATUS_OKAY));
        }
        let most = rig.world.borrow().most_mappings;
        assert!(most <= 20 && rig.world.borrow().buffers <= 16);
        assert_eq!(most > 16, persistent);
        rig.front_state("6");
        rig.assert_clean();
    }
}

/// The pages that were not used for the longest time are unmapped first.
#[test]
fn pages_in_use_stay_mapped() {
    let limits = Limits { mappings: 16, indirect: 0, ..Limits::default() };
    let mut rig = Rig::new(geometry(), false, limits);
    rig.connect(0, true);
    for page in 0..16 {
        rig.ask(&request(READ, 0, &[segment(100 + page, 0, 7)]));
        rig.ask(&request(READ, 0, &[segment(100, 0, 7)]));
    }
    assert_eq!(rig.device.pages().1, 16);
    rig.ask(&request(READ, 0, &[segment(200, 0, 7)]));
    let mapped = |page: usize| rig.world.borrow().guest[page].mapped;
    assert_eq!((rig.device.pages().1, rig.world.borrow().mappings), (15, 15));
    assert_eq!([100, 101, 102, 103, 115, 200].map(mapped), [1, 0, 0, 1, 1, 1]);
}

#[test]
fn a_disk_with_little_room_gets_everything_in_the_end() {
    for capacity in [1, 3] {
        let mut rig = Rig::new(geometry(), false, Limits::default());
        rig.connect(1, false);
        rig.disk.borrow_mut().capacity = capacity;
        for n in 0..64 {
            rig.front.put(&request(READ, n, &[segment(100 + n as u32, 0, 7)]));
        }
        rig.run();
        assert_eq!(rig.front.responses().len(), 64);
    }
}
