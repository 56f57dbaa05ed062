//! Devices of domains at one switch, with all they need.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use backend_rig::Owner;
use netback::{
    Attachment, Counters, Device, Limits, Mac, Packet, Parameters, PortId, Rules, Switch, Takes,
};

use crate::front::{Frame, Front};
use crate::world::{FakeGuest, FakePool, Own, Random};

/// What Linux says of itself.
pub(crate) const LINUX: &[(&str, &str)] = &[
    ("xdp-headroom", "0"),
    ("multi-queue-num-queues", "1"),
    ("tx-ring-ref", "522"),
    ("rx-ring-ref", "523"),
    ("event-channel-tx", "16"),
    ("event-channel-rx", "17"),
    ("request-rx-copy", "1"),
    ("feature-rx-notify", "1"),
    ("feature-sg", "1"),
    ("feature-gso-tcpv4", "1"),
    ("feature-gso-tcpv6", "1"),
    ("feature-ipv6-csum-offload", "1"),
];

/// What the simplest front end says of itself.
pub(crate) const PLAIN: &[(&str, &str)] = &[
    ("tx-ring-ref", "8"),
    ("rx-ring-ref", "9"),
    ("event-channel", "15"),
    ("request-rx-copy", "1"),
    ("feature-rx-notify", "1"),
    ("feature-no-csum-offload", "1"),
];

/// A domain with its device.
pub(crate) struct Node {
    pub(crate) front: Front,
    pub(crate) device: Device<FakeGuest>,
    pub(crate) owner: Owner<Parameters>,
}

impl Deref for Node {
    type Target = Owner<Parameters>;

    fn deref(&self) -> &Owner<Parameters> {
        &self.owner
    }
}

impl DerefMut for Node {
    fn deref_mut(&mut self) -> &mut Owner<Parameters> {
        &mut self.owner
    }
}

impl Node {
    /// Writes all of a front end's nodes, but its state.
    pub(crate) fn announce(&mut self, nodes: &[(&str, &str)]) {
        self.store.front.clear();
        nodes.iter().for_each(|(name, value)| self.set(name, value));
    }

    pub(crate) fn changed(&mut self) {
        self.device.changed(&self.owner.store);
        // Attaching brings more.
        self.apply();
        self.apply();
        // The loop around the device polls it after each change.
        self.owner.wake();
    }

    pub(crate) fn front_state(&mut self, state: &str) {
        self.set("state", state);
        self.changed();
    }

    pub(crate) fn apply(&mut self) {
        for effect in self.device.effects() {
            if let Some(attached) = self.owner.obey(effect) {
                self.device.attached(attached.map(|()| Attachment {
                    guest: FakeGuest::new(&self.front.memory),
                    tx: self.front.tx.page.clone(),
                    rx: self.front.rx.page.clone(),
                }));
            }
        }
    }

    /// One turn.
    pub(crate) fn turn(&mut self, switch: &mut Switch<FakePool>) {
        self.owner.rest();
        while self.owner.poll(|cx| self.device.poll(switch, cx)).is_ready() {
            self.apply();
        }
    }

    /// The next kernel begins, and connects.
    pub(crate) fn connect_again(&mut self, nodes: &[(&str, &str)]) {
        self.front_state("1");
        self.connect(nodes);
    }

    /// What a front end does to connect, with rings of its own.
    pub(crate) fn connect(&mut self, nodes: &[(&str, &str)]) {
        self.front = Front::new();
        self.announce(nodes);
        self.front_state("4");
    }
}

pub(crate) struct Rig {
    pub(crate) switch: Switch<FakePool>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) used: Rc<Cell<usize>>,
    pub(crate) limits: Limits,
    pub(crate) random: Random,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let pool = FakePool::new();
        let (used, limits) = (pool.used.clone(), Limits::default());
        Self { switch: Switch::new(pool), nodes: Vec::new(), used, limits, random: Random(3) }
    }

    /// Two domains that are connected, with addresses 1 and 2.
    pub(crate) fn pair(one: &[(&str, &str)], other: &[(&str, &str)]) -> Self {
        let mut rig = Self::new();
        rig.add(one, Rules::default());
        rig.add(other, Rules::default());
        rig
    }

    /// Adds a domain in state 1.
    pub(crate) fn add_fresh(&mut self, rules: Rules) -> usize {
        let port = self.switch.add(rules).expect("a free address");
        let mut node = Node {
            front: Front::new(),
            device: Device::new(port, self.limits),
            owner: Owner::default(),
        };
        node.front_state("1");
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Adds a domain that connects, with all places for packets to it.
    pub(crate) fn add(&mut self, nodes: &[(&str, &str)], rules: Rules) -> usize {
        let index = self.add_fresh(rules);
        self.nodes[index].connect(nodes);
        assert_eq!(self.nodes[index].back("state"), "4", "{:?}", self.nodes[index].reports);
        self.nodes[index].front.post(256);
        self.run();
        index
    }

    /// Runs each device that was woken, until all sleep. Returns how many rounds it took.
    pub(crate) fn run(&mut self) -> usize {
        let mut turns = 0;
        while self.nodes.iter().any(|it| it.is_awake()) {
            assert!(turns < 20_000, "the devices do not come to rest");
            for node in self.nodes.iter_mut().filter(|it| it.is_awake()) {
                node.turn(&mut self.switch);
            }
            turns += 1;
        }
        turns
    }

    /// One turn of a device that was woken. Returns whether it was.
    pub(crate) fn turn(&mut self, index: usize) -> bool {
        let node = &mut self.nodes[index];
        let awake = node.is_awake();
        if awake {
            node.turn(&mut self.switch);
        }
        awake
    }

    pub(crate) fn front(&mut self, index: usize) -> &mut Front {
        &mut self.nodes[index].front
    }

    /// Sends packets from a domain, and takes the answers; all must be this.
    pub(crate) fn send(&mut self, from: usize, frames: &[Frame], status: i16) {
        for frame in frames {
            self.nodes[from].front.put(frame, &mut self.random);
        }
        self.front(from).show();
        self.run();
        let answers = self.front(from).reap();
        assert!(answers.iter().all(|it| it.1 == status), "{answers:?}, not {status}");
        assert!(self.front(from).is_done());
    }

    /// What came to a domain, which puts new pages for it.
    pub(crate) fn receive(&mut self, to: usize) -> Vec<Frame> {
        let frames = self.front(to).receive();
        let room = self.front(to).rx_room();
        self.front(to).post(room);
        self.run();
        frames.into_iter().map(|frame| frame.expect("no errors")).collect()
    }

    pub(crate) fn counters(&self, index: usize) -> Counters {
        self.switch.counters(self.nodes[index].device.port())
    }

    /// Nothing of the front ends' is held, and no page of the back end's.
    pub(crate) fn assert_clean(&self) {
        assert_eq!(self.used.get(), 0);
        assert!(self.nodes.iter().all(|node| node.front.memory.borrow().guests == 0));
    }

    /// A port that is no device's, as this domain's own stack has one.
    pub(crate) fn plain_port(&mut self, rules: Rules, takes: Takes) -> PortId {
        let port = self.switch.add(rules).expect("a free address");
        self.switch.connect(port, takes);
        port
    }

    /// What waits at such a port.
    pub(crate) fn drain(&mut self, port: PortId) -> Vec<Packet<Own>> {
        let mut all = Vec::new();
        let cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(packet) = self.switch.poll_take(port, &cx) {
            all.push(packet);
        }
        all
    }
}

/// A domain's address.
pub(crate) const fn mac(number: u8) -> Mac {
    Mac([0x00, 0x16, 0x3e, 0, 0, number])
}
