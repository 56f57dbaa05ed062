//! The states of both ends.

use blkback::{Geometry, Limits};
use hypercall_abi::blkif::{READ, STATUS_OKAY, WRITE};

use crate::rig::{Front, Rig, SECTORS, geometry, request, segment};

fn fresh() -> Rig {
    Rig::new(geometry(), false, Limits::default())
}

fn page() -> [hypercall_abi::blkif::Segment; 1] {
    [segment(20, 0, 7)]
}

#[test]
fn a_front_end_connects_and_closes() {
    let mut rig = fresh();
    assert_eq!(rig.states, ["2"]);
    for (name, value) in [
        ("sectors", &*SECTORS.to_string()),
        ("info", "0"),
        ("sector-size", "512"),
        ("physical-sector-size", "4096"),
        ("feature-flush-cache", "1"),
        ("feature-barrier", "1"),
        ("feature-discard", "1"),
        ("discard-granularity", "4096"),
        ("discard-alignment", "0"),
        ("discard-secure", "0"),
        ("feature-persistent", "1"),
        ("feature-max-indirect-segments", "256"),
        ("max-ring-page-order", "4"),
        ("multi-queue-max-queues", ""),
    ] {
        assert_eq!(rig.back(name), value, "{name}");
    }
    rig.connect(0, false);
    assert_eq!(rig.states, ["2", "4"]);
    assert_eq!(rig.ask(&request(READ, 0, &page())), STATUS_OKAY);
    rig.front_state("5");
    assert_eq!(rig.states, ["2", "4", "5"]);
    // It may finish what it has.
    assert_eq!(rig.ask(&request(READ, 0, &page())), STATUS_OKAY);
    rig.front_state("6");
    assert_eq!(rig.states, ["2", "4", "5", "6"]);
    rig.assert_clean();
    assert!(!rig.removed && rig.reports.is_empty());
}

/// The toolstack may make the back end's directory first.
#[test]
fn the_front_ends_nodes_may_come_later() {
    let mut rig = fresh();
    rig.store.front.clear();
    rig.changed();
    assert_eq!(rig.states, ["2"]);
    rig.connect(0, false);
    // A driver that goes without having connected is agreed with.
    let mut rig = fresh();
    rig.front_state("6");
    assert_eq!(rig.states, ["2", "6"]);
}

#[test]
fn what_the_disk_has_not_is_not_offered() {
    let plain = Geometry { read_only: true, flush: false, discard: None, ..geometry() };
    let rig = Rig::new(plain, true, Limits::default());
    assert_eq!((rig.back("info"), rig.back("feature-flush-cache")), ("4", "0"));
    assert_eq!((rig.back("feature-barrier"), rig.back("feature-discard")), ("0", "0"));
    assert_eq!((rig.back("discard-granularity"), rig.back("feature-persistent")), ("", "1"));
    let mut rig = fresh();
    rig.store.back.insert("discard-enable".to_owned(), "0".to_owned());
    rig.connect(0, false);
    rig.front_state("6");
    rig.front_state("1");
    assert_eq!(rig.back("feature-discard"), "0");
}

/// A loader uses the disk, closes it and starts a kernel that uses it.
#[test]
fn the_next_kernel_connects() {
    let mut rig = fresh();
    for (order, persistent, closing) in
        [(0, false, false), (4, true, true), (0, true, false), (2, false, true)]
    {
        rig.connect(order, persistent);
        for n in 0..40 {
            assert_eq!(rig.ask(&request(WRITE, n, &page())), STATUS_OKAY);
        }
        assert_eq!(rig.world.borrow().mappings > 0, persistent);
        if closing {
            rig.front_state("5");
        }
        rig.front_state("6");
        assert_eq!(rig.back("state"), "6");
        rig.assert_clean();
        rig.front_state("1");
        assert_eq!(rig.back("state"), "2");
    }
    assert_eq!(rig.attached.len(), 4);
    assert_eq!(rig.attached[1].ring.len(), 16);
    // One that does not stop in state 1 is served too.
    rig.connect(0, false);
    rig.front_state("6");
    rig.connect(0, false);
    assert_eq!(rig.ask(&request(READ, 0, &page())), STATUS_OKAY);
}

/// A kernel that crashed never said that it closes.
#[test]
fn a_front_end_starts_again_in_the_middle() {
    let mut rig = fresh();
    rig.connect(0, false);
    rig.disk.borrow_mut().stalled = true;
    rig.front.put(&request(READ, 0, &page()));
    rig.run();
    rig.front_state("1");
    assert_eq!(rig.back("state"), "4", "the disk still has a request");
    // It is even quicker than the disk.
    rig.front = Front::new(1);
    rig.announce(1, true);
    rig.front_state("3");
    assert_eq!(rig.attached.len(), 1);
    rig.disk.borrow_mut().go_on();
    rig.run();
    assert_eq!((rig.attached.len(), rig.back("state")), (2, "4"));
    assert_eq!(rig.front.responses().len(), 0, "the answer was the old ring's");
    assert_eq!(rig.ask(&request(READ, 0, &page())), STATUS_OKAY);
    assert_eq!(rig.world.borrow().guests, 1);
    rig.front_state("1");
    assert_eq!(rig.back("state"), "2");
    rig.assert_clean();
}

#[test]
fn closing_waits_for_the_disk() {
    for persistent in [false, true] {
        let mut rig = fresh();
        rig.connect(0, persistent);
        rig.disk.borrow_mut().stalled = true;
        rig.disk.borrow_mut().capacity = 2;
        for n in 0..5 {
            rig.front.put(&request(READ, n, &page()));
        }
        rig.run();
        rig.front_state("6");
        assert_eq!((rig.back("state"), rig.disk.borrow().under_way()), ("5", 2));
        assert_eq!(rig.world.borrow().guests, 1);
        rig.disk.borrow_mut().go_on();
        rig.run();
        assert_eq!(rig.back("state"), "6");
        assert_eq!(rig.disk.borrow().log.len(), 2, "the others were not begun");
        rig.assert_clean();
    }
}

/// A device that is dropped keeps what the disk may still write to.
#[test]
fn dropping_a_busy_device_frees_nothing_of_the_disks() {
    let mut rig = fresh();
    rig.connect(0, true);
    rig.disk.borrow_mut().stalled = true;
    rig.front.put(&request(READ, 0, &page()));
    rig.run();
    let Rig { device, world, disk, .. } = rig;
    drop(device);
    assert_eq!((world.borrow().mappings, disk.borrow().under_way()), (1, 1));
}

#[test]
fn the_toolstack_removes_the_device() {
    let mut rig = fresh();
    rig.connect(0, false);
    rig.store.back.insert("online".to_owned(), "0".to_owned());
    rig.changed();
    assert_eq!((rig.back("state"), rig.removed), ("5", false));
    rig.front_state("5");
    assert!(!rig.removed);
    rig.front_state("6");
    assert_eq!((rig.back("state"), rig.removed), ("6", true));
    rig.assert_clean();
    // Nothing follows.
    rig.front_state("1");
    assert_eq!(rig.back("state"), "6");
}

#[test]
fn a_device_without_front_end_is_removed_at_once() {
    for directory in [true, false] {
        let mut rig = fresh();
        if directory {
            rig.store.back.insert("online".to_owned(), "0".to_owned());
        } else {
            rig.store.back.clear();
        }
        rig.changed();
        assert!(rig.removed);
    }
}

#[test]
fn a_domain_that_is_gone_takes_its_device_along() {
    let mut rig = fresh();
    rig.connect(0, true);
    rig.disk.borrow_mut().stalled = true;
    rig.front.put(&request(READ, 0, &page()));
    rig.run();
    rig.device.remove();
    rig.run();
    assert!(!rig.removed);
    rig.disk.borrow_mut().go_on();
    rig.run();
    assert!(rig.removed);
    rig.assert_clean();
    // Its nodes are gone: without a toolstack's word the device waits for another kernel.
    let mut rig = fresh();
    rig.connect(0, false);
    rig.store.front.clear();
    rig.changed();
    assert_eq!((rig.back("state"), rig.removed), ("6", false));
    rig.assert_clean();
}

#[test]
fn malformed_nodes_are_an_error() {
    for (name, value) in [
        ("ring-ref", ""),
        ("ring-ref", "-1"),
        ("ring-ref", "8 "),
        ("ring-ref", "0x8"),
        ("ring-ref", "4294967296"),
        ("ring-ref", "99999999999999999999999999"),
        ("event-channel", "x"),
        ("event-channel", "+1"),
        ("protocol", "x86_32-abi"),
        ("protocol", ""),
        ("protocol", "\u{1b}[2J\n and much more text than anybody wants to read in a log"),
        ("feature-persistent", "yes"),
        ("ring-page-order", "5"),
        ("ring-page-order", "32"),
        ("ring-page-order", "4294967295"),
        ("ring-page-order", "1"),
        ("num-ring-pages", "0"),
        ("num-ring-pages", "3"),
        ("num-ring-pages", "32"),
        ("num-ring-pages", "2"),
    ] {
        let mut rig = fresh();
        rig.announce(0, false);
        rig.set(name, value);
        rig.front_state("3");
        assert_eq!(rig.states, ["2", "5", "6"], "{name} {value}");
        assert_eq!((rig.reports.len(), rig.attached.len()), (1, 0), "{name} {value}");
        assert!(rig.reports[0].len() < 100 && !rig.reports[0].contains(char::is_control));
        // The front end notices, puts it right and comes again.
        rig.front_state("6");
        rig.front_state("1");
        rig.connect(0, false);
    }
    for name in ["ring-ref", "event-channel"] {
        let mut rig = fresh();
        rig.announce(0, false);
        rig.store.front.remove(name);
        rig.front_state("3");
        assert_eq!((rig.back("state"), rig.attached.len()), ("6", 0), "{name}");
    }
}

#[test]
fn rings_are_named_in_three_ways() {
    let connect = |nodes: &[(&str, &str)]| {
        let mut rig = fresh();
        rig.front = Front::new(if nodes.len() > 2 { 1 } else { 0 });
        rig.announce(0, false);
        rig.store.front.remove("ring-ref");
        nodes.iter().for_each(|(name, value)| rig.set(name, value));
        rig.front_state("3");
        assert_eq!(rig.back("state"), "4", "{nodes:?} {:?}", rig.reports);
        rig.attached[0].ring.iter().map(|it| it.0).collect::<Vec<_>>()
    };
    assert_eq!(connect(&[("ring-page-order", "0"), ("ring-ref0", "7")]), [7]);
    assert_eq!(connect(&[("ring-ref", "7"), ("num-ring-pages", "1")]), [7]);
    let both = [("ring-ref1", "9"), ("ring-ref0", "7"), ("ring-page-order", "1")];
    assert_eq!(connect(&both), [7, 9]);
    let old = [("ring-ref1", "9"), ("ring-ref0", "7"), ("num-ring-pages", "2")];
    assert_eq!(connect(&old), [7, 9]);
}

#[test]
fn a_ring_that_cannot_be_mapped_is_an_error() {
    let mut rig = fresh();
    rig.refuse = Some("the page is not granted".to_owned());
    rig.announce(0, false);
    rig.front_state("3");
    assert_eq!(rig.states, ["2", "5", "6"]);
    assert_eq!(rig.reports, ["the page is not granted"]);
    rig.front_state("1");
    rig.connect(0, false);
}

/// Whatever states a front end shows in whatever order, the back end rests, holds nothing when it
/// is closed, and serves the next kernel that behaves.
#[test]
fn any_order_of_states_is_survived() {
    let mut random = crate::world::Random(99);
    for _ in 0..300 {
        let mut rig = fresh();
        for _ in 0..12 {
            rig.disk.borrow_mut().stalled = random.below(3) == 0;
            match random.below(12) {
                0 => drop(rig.store.front.remove("ring-ref")),
                1 => rig.announce(0, random.below(2) == 0),
                2 => rig.front = Front::new(0),
                3 => rig.disk.borrow_mut().go_on(),
                4 => drop(rig.front.put(&request(READ, 0, &page()))),
                5 => rig.refuse = Some("no".to_owned()),
                6 => rig.front_state("junk"),
                _ => rig.front_state(&random.below(9).to_string()),
            }
            rig.run();
            if matches!(rig.back("state"), "2" | "6") {
                rig.assert_clean();
            }
        }
        rig.disk.borrow_mut().go_on();
        rig.refuse = None;
        rig.front_state("6");
        rig.front_state("1");
        assert_eq!(rig.back("state"), "2");
        rig.connect(0, false);
        assert_eq!(rig.ask(&request(READ, 0, &page())), STATUS_OKAY);
    }
}
