//! A front end whose rate is limited sends that much, and waits for the time of the rest.

use netback::Rules;

use crate::front::Frame;
use crate::rig::{LINUX, Rig, mac};
use crate::traffic::greet;

/// Bytes of a packet; so many are within what an interval brings, and one more is a debt.
const PACKET: usize = 1000;
const WITHIN: usize = 10;
/// Unit: nanoseconds.
const INTERVAL: u64 = 1_000_000;

fn limited() -> Rig {
    let mut rig = Rig::new();
    let first = rig.add_fresh(Rules::default());
    let rate = (WITHIN * PACKET - 1, INTERVAL / 1000);
    rig.nodes[first].store.back.insert("rate".into(), format!("{},{}", rate.0, rate.1));
    rig.nodes[first].connect(LINUX);
    rig.nodes[first].front.post(256);
    rig.add(LINUX, Rules::default());
    rig.run();
    greet(&mut rig);
    rig
}

/// Puts packets to the other on the ring.
fn put(rig: &mut Rig, count: usize) {
    let mut bytes = mac(2).0.to_vec();
    bytes.extend(mac(1).0);
    bytes.resize(PACKET, 0);
    for _ in 0..count {
        rig.nodes[0].front.put(&Frame::plain(bytes.clone()), &mut rig.random);
    }
    rig.front(0).show();
}

/// How many have come once it is so late, and all devices sleep.
fn come(rig: &mut Rig, now: u64) -> usize {
    rig.front(0).memory.borrow_mut().now = now;
    rig.nodes[0].changed();
    rig.run();
    rig.receive(1).len()
}

#[test]
fn what_is_beyond_the_rate_comes_later() {
    let mut rig = limited();
    put(&mut rig, 2 * WITHIN + 3);
    assert_eq!(come(&mut rig, 0), WITHIN);
    assert_eq!(rig.nodes[0].device.pause(), Some(INTERVAL));
    assert_eq!(come(&mut rig, INTERVAL - 1), 0);
    // The debt of one byte is paid first.
    assert_eq!(come(&mut rig, INTERVAL), WITHIN);
    assert_eq!(come(&mut rig, 5 * INTERVAL), 3);
    assert_eq!(rig.nodes[0].device.pause(), None);
    rig.front(0).reap();
    assert!(rig.front(0).is_done());
}

#[test]
fn who_connects_again_gets_no_more() {
    let mut rig = limited();
    put(&mut rig, 2 * WITHIN);
    assert_eq!(come(&mut rig, 0), WITHIN);
    rig.nodes[0].connect_again(LINUX);
    put(&mut rig, WITHIN);
    assert_eq!(come(&mut rig, INTERVAL / 2), 0);
    assert_eq!(come(&mut rig, INTERVAL), WITHIN);
}

#[test]
fn a_rate_that_changes_counts_at_the_next_look() {
    let mut rig = limited();
    put(&mut rig, 3 * WITHIN);
    assert_eq!(come(&mut rig, 0), WITHIN);
    rig.nodes[0].store.back.remove("rate");
    assert_eq!(come(&mut rig, 1), 2 * WITHIN);
    rig.nodes[0].store.back.insert("rate".into(), format!("{PACKET},1000000"));
    put(&mut rig, 3);
    assert_eq!(come(&mut rig, 2), 1);
}
