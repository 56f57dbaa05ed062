//! Single requests, good and bad.

use blkback::{DiskError, Geometry, Limits};
use hypercall_abi::blkif::{
    self as abi, DISCARD_SECURE, FLUSH, READ, Request, STATUS_ERROR, STATUS_NOT_SUPPORTED,
    STATUS_OKAY, Segment, WRITE, WRITE_BARRIER,
};
use hypercall_abi::types::GrantRef;
use zerocopy::IntoBytes;

use crate::rig::{Rig, SECTORS, discard, geometry, indirect, request, segment};

/// The ways of data.
fn ways() -> [Rig; 4] {
    let ways = [(true, false), (true, true), (false, false), (false, true)];
    ways.map(|(resident, persistent)| {
        let mut rig = Rig::new(geometry(), resident, Limits::default());
        rig.connect(0, persistent);
        rig
    })
}

fn fill(rig: &Rig, page: usize, value: u8) {
    rig.world.borrow_mut().guest[page].data.fill(value);
}

#[test]
fn what_is_written_is_read() {
    for mut rig in ways() {
        fill(&rig, 20, 0x11);
        fill(&rig, 21, 0x22);
        let written = [segment(20, 2, 7), segment(21, 0, 0)];
        assert_eq!(rig.ask(&request(WRITE, 101, &written)), STATUS_OKAY);
        for (sector, value) in [(100, 0), (101, 0x11), (106, 0x11), (107, 0x22), (108, 0)] {
            assert_eq!(rig.world.borrow_mut().disk(sector), [value; 512], "{sector}");
        }
        assert_eq!(rig.ask(&request(READ, 105, &[segment(30, 1, 3)])), STATUS_OKAY);
        let world = rig.world.borrow();
        let page: Vec<u8> = world.guest[30].data.chunks(512).map(|sector| sector[511]).collect();
        assert_eq!(page, [0, 0x11, 0x11, 0x22, 0, 0, 0, 0]);
    }
}

#[test]
fn indirect_requests_reach_as_far_as_was_said() {
    for mut rig in ways() {
        let list: Vec<Segment> = (0..256).map(|n| segment(100 + n, 0, 7)).collect();
        rig.world.borrow_mut().guest[50].data[..2048].copy_from_slice(list.as_bytes());
        for page in 100..356 {
            fill(&rig, page, page as u8);
        }
        assert_eq!(rig.ask(&indirect(WRITE, 16, 50, 256)), STATUS_OKAY);
        for page in 0..256 {
            assert_eq!(rig.world.borrow_mut().disk(16 + 8 * page), [(100 + page) as u8; 512]);
        }
        for page in 100..356 {
            fill(&rig, page, 0);
        }
        assert_eq!(rig.ask(&indirect(READ, 24, 50, 255)), STATUS_OKAY);
        assert_eq!(rig.world.borrow().guest[100].data, [101; 4096]);
        assert_eq!(rig.world.borrow().guest[354].data, [355_u16 as u8; 4096]);
        assert_eq!(rig.world.borrow().guest[355].data, [0; 4096]);
        for count in [0, 257, 512, 513, u16::MAX] {
            assert_eq!(rig.ask(&indirect(READ, 0, 50, count)), STATUS_ERROR, "{count}");
        }
        for operation in [FLUSH, WRITE_BARRIER, abi::DISCARD, abi::INDIRECT, 255] {
            assert_eq!(rig.ask(&indirect(operation, 0, 50, 1)), STATUS_ERROR, "{operation}");
        }
        // A list that is not granted, and one with a bad segment at its end.
        rig.world.borrow_mut().guest[50].granted = false;
        assert_eq!(rig.ask(&indirect(READ, 0, 50, 1)), STATUS_ERROR);
        rig.world.borrow_mut().guest[50].granted = true;
        rig.world.borrow_mut().guest[50].data[2045] = 8;
        assert_eq!(rig.ask(&indirect(READ, 0, 50, 256)), STATUS_ERROR);
        assert_eq!(rig.ask(&indirect(READ, 0, 50, 255)), STATUS_OKAY);
        assert_eq!(rig.ask(&indirect(READ, SECTORS - 8, 50, 2)), STATUS_ERROR);
    }
}

#[test]
fn bad_requests_are_answered_and_move_nothing() {
    let good = segment(20, 0, 7);
    let mut too_many = request(READ, 0, &[good; 11]);
    too_many.nr_segments = 12;
    let mut most = too_many;
    most.nr_segments = 255;
    let bad = [
        (request(READ, 0, &[]), STATUS_ERROR),
        (request(WRITE, 0, &[]), STATUS_ERROR),
        (too_many, STATUS_ERROR),
        (most, STATUS_ERROR),
        (request(READ, 0, &[segment(20, 1, 0)]), STATUS_ERROR),
        (request(READ, 0, &[segment(20, 0, 8)]), STATUS_ERROR),
        (request(READ, 0, &[segment(20, 255, 255)]), STATUS_ERROR),
        (request(WRITE, 0, &[good, segment(21, 0, 255)]), STATUS_ERROR),
        (request(READ, SECTORS, &[segment(20, 0, 0)]), STATUS_ERROR),
        (request(WRITE, SECTORS - 7, &[good]), STATUS_ERROR),
        (request(WRITE, u64::MAX, &[segment(20, 0, 0)]), STATUS_ERROR),
        (request(WRITE, u64::MAX - 7, &[good]), STATUS_ERROR),
        (request(WRITE, 1 << 55, &[good]), STATUS_ERROR),
        (request(WRITE_BARRIER, SECTORS, &[good]), STATUS_ERROR),
        (request(FLUSH, 0, &[good]), STATUS_ERROR),
        (request(abi::RESERVED, 0, &[good]), STATUS_NOT_SUPPORTED),
        (request(7, 0, &[good]), STATUS_NOT_SUPPORTED),
        (request(255, 0, &[good]), STATUS_NOT_SUPPORTED),
        (discard(0, 0, 0), STATUS_ERROR),
        (discard(SECTORS, 1, 0), STATUS_ERROR),
        (discard(1, u64::MAX, 0), STATUS_ERROR),
        (discard(0, 8, DISCARD_SECURE), STATUS_NOT_SUPPORTED),
        (discard(0, 8, 255), STATUS_NOT_SUPPORTED),
    ];
    for mut rig in ways() {
        for (request, status) in &bad {
            assert_eq!(rig.ask(request), *status, "{request:?}");
        }
        assert!(rig.disk.borrow().log.is_empty());
        assert_eq!(rig.world.borrow().copied, 0);
        // The last sector and the first are there.
        assert_eq!(rig.ask(&request(READ, SECTORS - 8, &[good])), STATUS_OKAY);
        assert_eq!(rig.ask(&request(WRITE, 0, &[good])), STATUS_OKAY);
        assert_eq!(rig.ask(&discard(0, SECTORS, 0)), STATUS_OKAY);
        assert_eq!(rig.ask(&request(FLUSH, 99, &[])), STATUS_OKAY);
    }
}

#[test]
fn what_the_disk_cannot_is_refused() {
    let good = segment(20, 0, 7);
    let ask = |geometry: Geometry, request: &Request| {
        let mut rig = Rig::new(geometry, false, Limits { indirect: 0, ..Limits::default() });
        rig.connect(0, false);
        assert_eq!(rig.back("feature-max-indirect-segments"), "");
        rig.ask(request)
    };
    let read_only = Geometry { read_only: true, ..geometry() };
    assert_eq!(ask(read_only, &request(READ, 0, &[good])), STATUS_OKAY);
    assert_eq!(ask(read_only, &request(WRITE, 0, &[good])), STATUS_ERROR);
    assert_eq!(ask(read_only, &request(WRITE_BARRIER, 0, &[good])), STATUS_ERROR);
    assert_eq!(ask(read_only, &request(WRITE_BARRIER, 0, &[])), STATUS_ERROR);
    assert_eq!(ask(read_only, &discard(0, 8, 0)), STATUS_ERROR);
    let plain = Geometry { flush: false, discard: None, ..geometry() };
    assert_eq!(ask(plain, &request(FLUSH, 0, &[])), STATUS_NOT_SUPPORTED);
    assert_eq!(ask(plain, &request(WRITE_BARRIER, 0, &[good])), STATUS_NOT_SUPPORTED);
    assert_eq!(ask(plain, &discard(0, 8, 0)), STATUS_NOT_SUPPORTED);
    assert_eq!(ask(geometry(), &indirect(READ, 0, 50, 1)), STATUS_ERROR);
    let large = Geometry { sector_size: 4096, ..geometry() };
    assert_eq!(ask(large, &request(READ, 8, &[good])), STATUS_OKAY);
    assert_eq!(ask(large, &request(READ, 4, &[good])), STATUS_ERROR);
    assert_eq!(
        ask(large, &request(READ, 8, &[segment(20, 0, 3), segment(21, 4, 7)])),
        STATUS_ERROR
    );
    assert_eq!(ask(large, &discard(8, 4, 0)), STATUS_ERROR);
}

#[test]
fn a_page_that_is_not_granted_fails_its_request_alone() {
    for mut rig in ways() {
        fill(&rig, 23, 1);
        rig.world.borrow_mut().guest[21].granted = false;
        rig.world.borrow_mut().guest[22].read_only = true;
        let bad = [segment(20, 0, 7), segment(21, 0, 7)];
        rig.front.put(&request(WRITE, 0, &bad));
        rig.front.put(&request(READ, 64, &bad));
        rig.front.put(&request(READ, 64, &[segment(22, 0, 7)]));
        rig.front.put(&request(READ, 64, &[segment(99_999, 0, 7)]));
        rig.front.put(&request(READ, 64, &[Segment { gref: GrantRef(u32::MAX), ..bad[0] }]));
        rig.front.put(&request(WRITE, 128, &[segment(23, 0, 7)]));
        rig.run();
        let responses = rig.front.responses();
        assert_eq!(responses.len(), 6);
        for response in responses {
            let good = response.id == request(WRITE, 128, &[]).id;
            assert_eq!(response.status, if good { STATUS_OKAY } else { STATUS_ERROR });
        }
        assert_eq!(rig.world.borrow_mut().disk(128), [1; 512]);
        // Nothing is left of the failed ones.
        rig.front_state("6");
        assert_eq!(rig.back("state"), "6");
        rig.assert_clean();
    }
}

#[test]
fn errors_of_the_disk_are_answered() {
    for (error, status) in
        [(DiskError::Failed, STATUS_ERROR), (DiskError::Unsupported, STATUS_NOT_SUPPORTED)]
    {
        let mut rig = Rig::connected();
        fill(&rig, 20, 0x55);
        rig.disk.borrow_mut().fails = Some(error);
        let good = [segment(20, 0, 7)];
        for request in [
            request(READ, 0, &good),
            request(WRITE, 0, &good),
            request(WRITE_BARRIER, 0, &good),
            request(FLUSH, 0, &[]),
            discard(0, 8, 0),
        ] {
            assert_eq!(rig.ask(&request), status);
        }
        // A read that failed shows nothing of this domain's memory.
        assert_eq!(rig.world.borrow().guest[20].data, [0x55; 4096]);
        rig.disk.borrow_mut().fails = None;
        assert_eq!(rig.ask(&request(READ, 0, &good)), STATUS_OKAY);
    }
}

#[test]
fn a_barrier_passes_nothing_and_nothing_passes_it() {
    for mut rig in ways() {
        let good = [segment(20, 0, 7)];
        rig.front.put(&request(WRITE, 0, &good));
        rig.front.put(&request(FLUSH, 0, &[]));
        rig.front.put(&request(WRITE_BARRIER, 8, &good));
        rig.front.put(&request(WRITE_BARRIER, 0, &[]));
        rig.front.put(&request(FLUSH, 16, &[]));
        rig.run();
        let responses = rig.front.responses();
        assert!(responses.iter().all(|it| it.status == STATUS_OKAY));
        let order: Vec<u8> = responses.iter().map(|it| it.operation).skip(2).collect();
        assert_eq!(order, [WRITE_BARRIER, WRITE_BARRIER, FLUSH]);
        let log = rig.disk.borrow().log.clone();
        let flushes_at_last = if log.contains(&"write") { 4 } else { 5 };
        assert_eq!(log.iter().filter(|it| **it == "flush").count(), 5);
        assert!(log.iter().rev().take(flushes_at_last - 1).all(|it| *it == "flush"), "{log:?}");
    }
}

/// Of a disk that completes in any order.
#[test]
fn a_barrier_waits_and_is_waited_for() {
    let mut rig = Rig::connected();
    let good = [segment(20, 0, 7)];
    rig.disk.borrow_mut().stalled = true;
    rig.front.put(&request(WRITE, 0, &good));
    rig.front.put(&request(READ, 0, &good));
    rig.front.put(&request(WRITE_BARRIER, 8, &good));
    rig.front.put(&request(WRITE, 16, &good));
    rig.run();
    assert_eq!(rig.disk.borrow().log, ["write", "read"]);
    rig.disk.borrow_mut().go_on();
    rig.run();
    let log = rig.disk.borrow().log.clone();
    assert_eq!(log, ["write", "read", "flush", "write", "flush", "write"]);
    let order: Vec<u8> = rig.front.responses().iter().map(|it| it.operation).skip(2).collect();
    assert_eq!(order, [WRITE_BARRIER, WRITE]);
}

/// A disk in memory that does not find its memory has failed.
#[test]
fn a_disk_with_a_hole_fails() {
    let mut rig = Rig::new(geometry(), true, Limits::default());
    rig.connect(0, false);
    rig.disk.borrow_mut().hole = 16;
    let list = [segment(20, 0, 7), segment(21, 0, 7)];
    rig.world.borrow_mut().guest[50].data[..16].copy_from_slice(list.as_bytes());
    assert_eq!(rig.ask(&indirect(READ, 0, 50, 2)), STATUS_OKAY);
    assert_eq!(rig.ask(&indirect(READ, 8, 50, 2)), STATUS_ERROR);
    assert_eq!(rig.ask(&request(WRITE, 12, &list[..1])), STATUS_ERROR);
}

#[test]
fn without_memory_requests_fail_and_do_not_hang() {
    let mut rig = Rig::connected();
    rig.world.borrow_mut().out_of_pages = true;
    assert_eq!(rig.ask(&request(READ, 0, &[segment(20, 0, 7)])), STATUS_ERROR);
    rig.world.borrow_mut().out_of_pages = false;
    assert_eq!(rig.ask(&request(READ, 0, &[segment(20, 0, 7)])), STATUS_OKAY);
}
