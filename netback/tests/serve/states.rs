//! Both ends' states in xenstore.

use std::slice::from_ref;

use hypercall_abi::types::{GrantRef, Port};
use netback::{Parameters, Ports, Rules, Takes};

use crate::front::Frame;
use crate::rig::{LINUX, PLAIN, Rig, mac};
use crate::traffic::greet;
use crate::world::Random;

fn fresh() -> Rig {
    let mut rig = Rig::new();
    rig.add_fresh(Rules::default());
    rig
}

#[test]
fn linux_connects() {
    let mut rig = fresh();
    let node = &mut rig.nodes[0];
    assert_eq!(node.states, ["2"]);
    for (name, value) in [
        ("feature-rx-copy", "1"),
        ("feature-rx-flip", "0"),
        ("feature-sg", "1"),
        ("feature-gso-tcpv4", "1"),
        ("feature-gso-tcpv6", "1"),
        ("feature-ipv6-csum-offload", "1"),
        ("feature-split-event-channels", "1"),
        ("multi-queue-max-queues", "1"),
        ("hotplug-status", "connected"),
    ] {
        assert_eq!(node.back(name), value, "{name}");
    }
    node.announce(LINUX);
    node.front_state("1");
    assert!(node.attached.is_empty());
    node.front_state("4");
    assert_eq!(node.states, ["2", "4"]);
    let takes =
        Takes { checksum_v4: true, checksum_v6: true, gso_v4: true, gso_v6: true, longest: 65_535 };
    let ports = Ports::Two { tx: Port(16), rx: Port(17) };
    let (tx, rx) = (GrantRef(522), GrantRef(523));
    let expected = Parameters { tx, rx, ports, notifies: true, scatters: true, takes };
    assert_eq!(node.attached, [expected]);
    node.changed();
    assert_eq!(node.attached.len(), 1);
}

#[test]
fn a_front_end_that_can_nothing_connects() {
    let mut rig = fresh();
    let node = &mut rig.nodes[0];
    let mut nodes = PLAIN.to_vec();
    // Without pages that scatter it gets nothing long.
    nodes.extend([("feature-gso-tcpv4", "1"), ("feature-gso-tcpv6", "1"), ("mtu", "1500")]);
    node.connect(&nodes);
    assert_eq!(node.back("state"), "4");
    let takes = Takes { longest: 1518, ..Takes::default() };
    let (tx, rx, ports) = (GrantRef(8), GrantRef(9), Ports::One(Port(15)));
    let expected = Parameters { tx, rx, ports, notifies: true, scatters: false, takes };
    assert_eq!(node.attached, [expected]);
}

#[test]
fn malformed_nodes_are_an_error() {
    for (name, value) in [
        ("request-rx-copy", "0"),
        ("request-rx-copy", ""),
        ("tx-ring-ref", "-1"),
        ("rx-ring-ref", "4294967296"),
        ("event-channel-tx", "0x10"),
        ("multi-queue-num-queues", "2"),
        ("multi-queue-num-queues", "0"),
        ("feature-sg", "yes\u{1b}[2J"),
        ("mtu", "many"),
        ("feature-rx-notify", " 1"),
    ] {
        let mut rig = fresh();
        let node = &mut rig.nodes[0];
        node.announce(LINUX);
        node.set(name, value);
        node.front_state("4");
        assert_eq!(node.states, ["2", "5", "6"], "{name}");
        assert_eq!(node.reports.len(), 1, "{name}");
        assert!(
            node.reports[0].contains(name) && node.reports[0].is_ascii(),
            "{}",
            node.reports[0]
        );
        // It stays so until the front end begins anew.
        node.changed();
        assert!(node.attached.is_empty());
        node.front_state("1");
        assert_eq!(node.states, ["2", "5", "6", "2"]);
        node.connect(LINUX);
        assert_eq!(node.back("state"), "4", "{name}");
    }
    for missing in ["tx-ring-ref", "rx-ring-ref", "event-channel-tx", "request-rx-copy"] {
        let mut rig = fresh();
        let nodes: Vec<_> = LINUX.iter().copied().filter(|(name, _)| *name != missing).collect();
        rig.nodes[0].connect(&nodes);
        assert_eq!(rig.nodes[0].states, ["2", "5", "6"], "{missing}");
    }
}

#[test]
fn rings_that_cannot_be_mapped_are_an_error() {
    let mut rig = fresh();
    let node = &mut rig.nodes[0];
    node.refuse = Some("not granted".to_owned());
    node.connect(LINUX);
    assert_eq!((node.states.join(""), node.reports.join("")), ("256".into(), "not granted".into()));
    node.front_state("6");
    node.connect_again(LINUX);
    assert_eq!(node.states.join(""), "25624");
    rig.run();
    rig.nodes[0].device.remove();
    rig.nodes[0].apply();
    rig.assert_clean();
}

#[test]
fn a_front_end_closes_and_comes_again() {
    let mut rig = Rig::pair(LINUX, LINUX);
    greet(&mut rig);
    rig.nodes[1].front_state("5");
    rig.run();
    assert_eq!(rig.nodes[1].back("state"), "5");
    assert_eq!(rig.nodes[1].front.memory.borrow().guests, 1);
    rig.nodes[1].front_state("6");
    rig.run();
    assert_eq!(rig.nodes[1].back("state"), "6");
    assert_eq!(rig.nodes[1].front.memory.borrow().guests, 0);
    // Nobody is there now; what is sent is dropped, and not kept.
    let frame = Frame::plain([&mac(2).0[..], &mac(1).0, &[7; 90]].concat());
    rig.send(0, from_ref(&frame), 0);
    assert_eq!(rig.used.get(), 0);
    rig.nodes[1].connect_again(LINUX);
    rig.front(1).post(200);
    rig.run();
    assert_eq!(rig.nodes[1].states.join(""), "245624");
    assert!(rig.receive(1).is_empty());
    rig.send(0, from_ref(&frame), 0);
    assert_eq!(rig.receive(1), [frame]);
}

#[test]
fn the_next_kernel_connects() {
    let mut rig = Rig::pair(LINUX, LINUX);
    greet(&mut rig);
    // It has nothing of what the last one left.
    let old = rig.nodes[1].front.memory.clone();
    rig.nodes[1].front_state("1");
    assert_eq!(rig.nodes[1].states.join(""), "242");
    rig.run();
    assert_eq!(old.borrow().guests, 0);
    rig.nodes[1].connect(PLAIN);
    rig.front(1).post(10);
    rig.run();
    let frame = Frame::plain([&mac(2).0[..], &mac(1).0, &[7; 90]].concat());
    rig.send(0, from_ref(&frame), 0);
    assert_eq!(rig.receive(1), [frame]);
}

#[test]
fn the_toolstack_removes_the_device() {
    let mut rig = Rig::pair(LINUX, LINUX);
    let node = &mut rig.nodes[0];
    node.store.back.insert("online".to_owned(), "0".to_owned());
    node.changed();
    assert_eq!((node.back("state"), node.removed), ("5", false));
    node.front_state("6");
    node.apply();
    assert_eq!((node.back("state"), node.removed), ("6", true));
    // The other one is removed with its domain.
    rig.nodes[1].device.remove();
    rig.nodes[1].apply();
    assert!(rig.nodes[1].removed);
    for index in 0..2 {
        let port = rig.nodes[index].device.port();
        rig.switch.remove(port);
    }
    rig.assert_clean();
}

#[test]
fn closing_in_the_middle_leaves_nothing() {
    for state in ["1", "6"] {
        let mut rig = Rig::pair(LINUX, LINUX);
        greet(&mut rig);
        // Half a packet from one, and packets for the other that wait.
        rig.front(1).receive();
        let frame = Frame::plain([&mac(2).0[..], &mac(1).0, &[7; 9000]].concat());
        for _ in 0..10 {
            rig.nodes[0].front.put(&frame, &mut Random(4));
        }
        let page = rig.front(0).grant(&[], 0, true);
        rig.front(0).slot(page, 0, 3000, hypercall_abi::netif::TX_MORE_DATA);
        rig.nodes[1].connect_again(LINUX);
        rig.run();
        rig.front(0).show();
        rig.run();
        assert_eq!(rig.used.get(), 30);
        rig.nodes[0].front_state(state);
        rig.nodes[1].front_state(state);
        rig.run();
        rig.assert_clean();
    }
}

#[test]
fn any_order_of_states_is_survived() {
    let mut random = Random(99);
    for _ in 0..300 {
        let mut rig = Rig::new();
        rig.add_fresh(Rules::default());
        for _ in 0..30 {
            let node = &mut rig.nodes[0];
            let state = ["", "0", "1", "2", "3", "4", "5", "6", "7", "x"][random.below(10)];
            match random.below(6) {
                0 => node.connect(LINUX),
                1 => node.announce(&LINUX[random.below(8)..]),
                2 => node.refuse = Some("no".to_owned()),
                3 => {
                    let page = node.front.grant(&[], 0, true);
                    node.front.slot(page, 0, random.below(5000), random.below(16));
                    node.front.show();
                }
                _ => node.front_state(state),
            }
            if random.flip() {
                rig.run();
            }
            let up = rig.nodes[0].front.memory.borrow().guests;
            assert!(up <= 1);
        }
        // However it came there, it gets on.
        let node = &mut rig.nodes[0];
        node.refuse = None;
        node.front_state("6");
        node.connect_again(LINUX);
        node.apply();
        assert_eq!(node.back("state"), "4", "{:?}", node.reports);
        node.device.remove();
        node.apply();
        assert!(node.removed);
        rig.run();
        rig.assert_clean();
    }
}
