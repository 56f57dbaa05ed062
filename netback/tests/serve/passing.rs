//! Long packets that go from one front end's pages to the other's, and those that can't.

use std::slice::from_ref;
use std::sync::atomic::Ordering;

use hypercall_abi::netif::{STATUS_ERROR, STATUS_OKAY};
use netback::{Mac, Rules, Takes};

use crate::front::Frame;
use crate::packets::{Kind, long, packet};
use crate::rig::{LINUX, PLAIN, Rig, mac};
use crate::traffic::greet;
use crate::world::Random;

/// From domain 0 to domain 1.
const WAY: (Mac, Mac) = (mac(2), mac(1));

fn uncut(way: (Mac, Mac), length: usize, seed: u64) -> Frame {
    long(packet(Kind::TCP4, way, length, &mut Random(seed)), Kind::TCP4, 1448)
}

/// Two domains, of which the first has sent a long packet to the second.
fn pair() -> Rig {
    let mut rig = Rig::pair(LINUX, LINUX);
    greet(&mut rig);
    let first = uncut(WAY, 20_000, 1);
    rig.send(0, from_ref(&first), STATUS_OKAY);
    assert_eq!(rig.receive(1), [first]);
    rig
}

/// Copies with pages of a domain.
fn copies(rig: &Rig, index: usize) -> usize {
    rig.nodes[index].front.memory.borrow().copies
}

#[test]
fn what_is_behind_the_headers_is_copied_once() {
    let mut rig = pair();
    let before = [copies(&rig, 0), copies(&rig, 1)];
    let frame = uncut(WAY, 16_000, 2);
    let pages: Vec<u32> =
        frame.bytes.chunks(4096).map(|it| rig.front(0).grant(it, 0, true)).collect();
    for (index, &page) in pages.iter().enumerate() {
        let size = frame.bytes.len() - if index == 0 { 0 } else { 4096 * index };
        let more = if index + 1 < pages.len() { 4 } else { 0 };
        let first = if index == 0 { 1 | 2 | 8 } else { 0 };
        let size = if index == 0 { size } else { size.min(4096) };
        rig.front(0).slot(page, 0, size as u16, more | first);
        if index == 0 {
            rig.front(0).extra(crate::front::gso(1, 1448));
        }
    }
    rig.front(0).show();
    rig.run();
    assert!(rig.front(0).reap().iter().all(|it| it.1 == STATUS_OKAY));
    assert_eq!(rig.receive(1), [frame]);
    // Headers come and go, and with them what is left of their page.
    assert_eq!([copies(&rig, 0) - before[0], copies(&rig, 1) - before[1]], [1, 1 + pages.len()]);
    let (from, to) = (rig.counters(0).from, rig.counters(1).to);
    assert_eq!((from.packets, from.bytes), (to.packets, to.bytes));
}

#[test]
fn who_does_not_take_it_so_gets_it_as_before() {
    let mut rig = pair();
    let plain = rig.add(PLAIN, Rules::default());
    let takes = Takes { longest: 65_535, checksum_v4: true, gso_v4: true, ..Takes::default() };
    let card = rig.plain_port(Rules { address: Some(mac(8)), ..Rules::default() }, takes);
    let hello = |rig: &mut Rig, from: usize, number: u8| {
        let bytes = [&[0xff; 6][..], &mac(number).0, &[0; 60]].concat();
        rig.send(from, &[Frame::plain(bytes)], STATUS_OKAY);
    };
    hello(&mut rig, plain, 3);
    rig.receive(0);
    rig.receive(1);
    rig.drain(card);
    for seed in 0..20 {
        // One that is passed, and others that are cut, copied for several, or wait for a card.
        let frames = [mac(2), mac(3), mac(8), Mac([0xff; 6]), mac(2)]
            .map(|to| uncut((to, mac(1)), 9000 + 100 * seed as usize, seed + 5));
        let [one, cut, carded, all, last] = frames.clone();
        rig.send(0, &frames, STATUS_OKAY);
        assert_eq!(rig.receive(1), [one, all.clone(), last]);
        let lengths: Vec<_> = rig.drain(card).iter().map(|it| it.length()).collect();
        assert_eq!(lengths, [carded.bytes.len(), all.bytes.len()]);
        let segments = rig.receive(plain).len();
        assert_eq!(segments, 2 * (cut.bytes.len() - 54).div_ceil(1448));
    }
    assert_eq!(rig.used.get(), 0);
}

#[test]
fn it_waits_for_places_and_in_line() {
    let mut rig = pair();
    rig.nodes[1].connect_again(LINUX);
    rig.front(1).post(3);
    rig.run();
    let frames: Vec<_> = (0..4).map(|seed| uncut(WAY, 10_000, seed + 40)).collect();
    let small = Frame::plain([&mac(2).0[..], &mac(1).0, &[7; 60]].concat());
    // The small one has a place, but the others were there before.
    let all = [frames.clone(), vec![small]].concat();
    rig.send(0, &all, STATUS_OKAY);
    assert!(rig.front(1).receive().is_empty());
    let mut came = Vec::new();
    for _ in 0..20 {
        rig.front(1).post(1);
        rig.run();
        came.extend(rig.front(1).receive().into_iter().map(|it| it.expect("all is granted")));
    }
    assert_eq!(came, all);
    assert_eq!(rig.used.get(), 0);
}

#[test]
fn a_page_that_is_not_granted_is_its_owners_fault() {
    for bad in [1, 2] {
        let mut rig = pair();
        let frame = uncut(WAY, 10_000, 3);
        for (index, part) in frame.bytes.chunks(4096).enumerate() {
            let page = rig.front(0).grant(part, 0, true);
            let size = if index == 0 { frame.bytes.len() } else { part.len() };
            let more = if index < 2 { 4 } else { 0 };
            rig.front(0).slot(page, 0, size as u16, more);
            if index == bad {
                rig.front(0).memory.borrow_mut().pages[page as usize].granted = false;
            }
        }
        rig.front(0).show();
        rig.run();
        assert!(rig.front(0).reap().iter().all(|it| it.1 == STATUS_ERROR));
        assert_eq!(rig.counters(0).from.errors, 1);
        assert_eq!(rig.front(1).receive(), [Err(STATUS_ERROR)]);
        rig.send(0, from_ref(&frame), STATUS_OKAY);
        assert_eq!(rig.receive(1), [frame]);
    }
    // Of the receiver's pages the sender hears nothing.
    let mut rig = pair();
    rig.nodes[1].connect_again(LINUX);
    // The second is the extra info's.
    rig.front(1).post(2);
    rig.front(1).post_page(u32::MAX);
    rig.front(1).post(20);
    rig.run();
    let frame = uncut(WAY, 10_000, 4);
    rig.send(0, &[frame.clone(), frame.clone()], STATUS_OKAY);
    assert_eq!(rig.front(1).receive(), [Err(STATUS_ERROR), Ok(frame)]);
    assert_eq!((rig.counters(0).from.errors, rig.counters(1).to.errors), (0, 1));
}

#[test]
fn without_pages_it_is_dropped() {
    let mut rig = pair();
    rig.nodes[1].connect_again(LINUX);
    rig.run();
    rig.switch.pool().most = 2;
    // There is a page for its headers, and no place for it.
    rig.send(0, &[uncut(WAY, 10_000, 6)], hypercall_abi::netif::STATUS_DROPPED);
    assert_eq!((rig.used.get(), rig.counters(0).from.dropped), (0, 1));
}

#[test]
fn a_ring_that_breaks_in_anothers_turn_ends_with_its_owners() {
    for length in [100, 9000] {
        let mut rig = pair();
        let end = &rig.nodes[1].front.rx;
        end.word(0).store(end.cons.wrapping_add(900), Ordering::SeqCst);
        rig.send(0, &[uncut(WAY, length, 7)], STATUS_OKAY);
        assert_eq!(rig.nodes[1].states.join(""), "2456");
        assert!(rig.nodes[1].reports[0].contains("indices"));
        assert_eq!((rig.used.get(), rig.nodes[1].front.memory.borrow().guests), (0, 0));
        assert_eq!(rig.nodes[0].back("state"), "4");
    }
}

#[test]
fn who_has_closed_gets_nothing_before_the_switch_knows() {
    let mut rig = pair();
    // The device is not polled after this.
    let node = &mut rig.nodes[1];
    node.set("state", "6");
    node.device.changed(&node.owner.store);
    assert_eq!(rig.nodes[1].front.memory.borrow().guests, 0);
    rig.send(0, &[uncut(WAY, 9000, 8), uncut(WAY, 9000, 9)], STATUS_OKAY);
    assert!(rig.front(1).receive().is_empty());
}
