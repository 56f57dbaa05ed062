//! A port: what may come from it, what it takes, and what waits for it.

use alloc::collections::VecDeque;
use alloc::rc::Weak;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ops::ControlFlow;
use core::task::{Context, Waker};

use super::exit::{Exit, Placed, Rest};
use super::{Mac, PortId};
use crate::headers::{Headers, family};
use crate::offload::{fill, segments};
use crate::packet::{Buffer, Checksum, Family, Packet, Pool};

/// What the owner of a switch says of a port.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The one address that is known to be behind it. Packets to it go nowhere else, whoever claims
    /// to have it.
    pub address: Option<Mac>,
    /// Whether packets from another address than that one are dropped, and packets to unknown
    /// addresses not given to it.
    pub is_strict: bool,
    /// How many other addresses may be learned there; there is place for 1024 of all ports.
    pub addresses: usize,
    /// How many packets may wait for it, 1 at least. Of these no port has more than are left for
    /// the others: one that floods leaves room.
    pub packets: usize,
    /// In how many pages, 20 at least; shared in the same way.
    pub pages: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self { address: None, is_strict: false, addresses: 256, packets: 1024, pages: 1024 }
    }
}

/// What packets a port takes as they are; the switch makes others so.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Takes {
    /// A blank checksum over IPv4.
    pub checksum_v4: bool,
    /// A blank checksum over IPv6.
    pub checksum_v6: bool,
    /// TCP over IPv4 that is still to be cut.
    pub gso_v4: bool,
    /// TCP over IPv6 that is still to be cut.
    pub gso_v6: bool,
    /// The longest packet, and the longest that one may be cut into. Unit: bytes.
    pub longest: usize,
}

impl Takes {
    const fn blank(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.checksum_v4,
            Family::V6 => self.checksum_v6,
        }
    }

    const fn uncut(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.gso_v4,
            Family::V6 => self.gso_v6,
        }
    }
}

/// What went one way.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Flow {
    /// Packets, as they were on the port: one that is cut later is one.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets that were right and went nowhere: no room, no page, not allowed.
    pub dropped: u64,
    /// Packets that were wrong, or whose pages could not be reached.
    pub errors: u64,
}

/// What went through a port.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// From it.
    pub from: Flow,
    /// To it.
    pub to: Flow,
    /// Packets from it that were dropped for their sender's address; among those of `from`.
    pub spoofed: u64,
}

/// What waits in a queue.
#[derive(Clone, Copy, Default)]
struct Waiting {
    packets: usize,
    pages: usize,
}

impl Waiting {
    const fn add(&mut self, pages: usize) {
        (self.packets, self.pages) = (self.packets + 1, self.pages + pages);
    }

    const fn remove(&mut self, pages: usize) {
        (self.packets, self.pages) = (self.packets - 1, self.pages - pages);
    }
}

pub(super) struct Port<B> {
    pub(super) rules: Rules,
    /// None while nobody is behind it.
    pub(super) takes: Option<Takes>,
    /// With the port that each came from.
    queue: VecDeque<(PortId, Packet<B>)>,
    /// All of the queue.
    all: Waiting,
    /// What came from each port, by its number.
    shares: Vec<Waiting>,
    waker: Option<Waker>,
    /// Where packets leave at once while none waits.
    pub(super) exit: Option<Weak<RefCell<dyn Exit<B>>>>,
    /// Packets have been given to it that are not copied yet.
    pub(super) has_placed: bool,
    /// The switch has noted that.
    pub(super) is_noted: bool,
    /// How many addresses were learned here.
    pub(super) learned: usize,
    pub(super) counters: Counters,
}

impl<B: Buffer> Port<B> {
    pub(super) fn new(rules: Rules) -> Self {
        let rules = Rules { packets: rules.packets.max(1), pages: rules.pages.max(20), ..rules };
        Self {
            rules,
            takes: None,
            queue: VecDeque::new(),
            all: Waiting::default(),
            shares: Vec::new(),
            waker: None,
            exit: None,
            has_placed: false,
            is_noted: false,
            learned: 0,
            counters: Counters::default(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.counters.to.dropped += self.queue.len() as u64;
        self.queue.clear();
        self.shares.clear();
        self.all = Waiting::default();
    }

    pub(super) fn front(&self) -> Option<&Packet<B>> {
        self.queue.front().map(|(_, packet)| packet)
    }

    pub(super) fn pop(&mut self) -> Option<Packet<B>> {
        let (from, packet) = self.queue.pop_front()?;
        let pages = packet.pages().len();
        self.all.remove(pages);
        if let Some(share) = self.shares.get_mut(usize::from(from.0)) {
            share.remove(pages);
        }
        self.count(packet.length());
        Some(packet)
    }

    const fn count(&mut self, length: usize) {
        self.counters.to.packets += 1;
        self.counters.to.bytes += length as u64;
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn listen(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// Whether a packet from a port may wait, while so many pages are left for all packets. A
    /// sender has at most as much as is left for the others, and a queue a quarter of what is left for
    /// the other queues: so neither who floods nor who takes nothing keeps them from being served, and
    /// several that fill their queues one after the other leave something too.
    pub(super) fn has_room(&self, from: PortId, left: usize) -> bool {
        let share = self.shares.get(usize::from(from.0)).copied().unwrap_or_default();
        self.all.packets + share.packets < self.rules.packets
            && self.all.pages + share.pages < self.rules.pages
            && self.all.pages.saturating_mul(4) <= left
    }

    /// Puts a packet in line, made as the port takes it; or drops it.
    pub(super) fn put(
        &mut self,
        from: PortId,
        mut packet: Packet<B>,
        pool: &mut impl Pool<Buffer = B>,
    ) {
        let Some(takes) = self.takes else { return };
        let put = match packet.segmentation {
            Some(plan) if !takes.uncut(plan.family) => {
                return self.put_cut(from, &packet, takes, pool);
            }
            Some(_) => fits_cut(&packet, &takes),
            None => packet.length() <= takes.longest && made_right(&mut packet, &takes),
        };
        if put {
            self.push(from, packet, pool.left());
        } else {
            self.counters.to.dropped += 1;
        }
    }

    /// Puts a packet's segments in line. What there is no room for is dropped as one.
    fn put_cut(
        &mut self,
        from: PortId,
        packet: &Packet<B>,
        takes: Takes,
        pool: &mut impl Pool<Buffer = B>,
    ) {
        let left = pool.left();
        let family = packet.segmentation.map(|plan| plan.family);
        let filled = !family.is_some_and(|family| takes.blank(family));
        let mut is_cut = fits_cut(packet, &takes);
        if is_cut {
            let done = segments(packet, filled, pool, |segment| {
                let is_put = self.push(from, segment, left);
                if is_put { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            is_cut = done.is_some();
        }
        if !is_cut {
            self.counters.to.dropped += 1;
        }
    }

    /// Gives a packet, which is as the port takes it, to who is behind the port. It comes back if
    /// others wait, or there are no places for it now.
    fn place(&mut self, packet: Packet<B>, rest: Option<Rest<'_>>) -> Option<Packet<B>> {
        let exit = self.exit.as_ref().filter(|_| self.queue.is_empty()).and_then(Weak::upgrade);
        let Some(exit) = exit else { return Some(packet) };
        let length = packet.length();
        let placed = exit.borrow_mut().place(packet, rest);
        match placed {
            Placed::Done => {
                self.count(length);
                self.has_placed = true;
            }
            Placed::Broken => {
                self.counters.to.dropped += 1;
                self.wake();
            }
            Placed::Full(packet) => return Some(packet),
        }
        None
    }

    /// Gives a packet of which the rest is in its sender's pages to who is behind the port. It comes
    /// back if it has to be here for that.
    pub(super) fn pass(&mut self, packet: Packet<B>, rest: Rest<'_>) -> Option<Packet<B>> {
        let as_it_is = self.takes.is_some_and(|takes| match packet.segmentation {
            Some(plan) => takes.uncut(plan.family) && fits_cut(&packet, &takes),
            None => packet.length() <= takes.longest && is_right(&packet, &takes),
        });
        if as_it_is { self.place(packet, Some(rest)) } else { Some(packet) }
    }

    /// Gives a packet to who is behind the port, or puts it in line if there is room, else drops it.
    fn push(&mut self, from: PortId, packet: Packet<B>, left: usize) -> bool {
        let Some(packet) = self.place(packet, None) else { return true };
        let room = self.has_room(from, left);
        if room {
            let (pages, place) = (packet.pages().len(), usize::from(from.0));
            self.shares.resize(self.shares.len().max(place + 1), Waiting::default());
            self.shares
                .get_mut(place)
                .into_iter()
                .chain([&mut self.all])
                .for_each(|it| it.add(pages));
            self.queue.push_back((from, packet));
            self.wake();
        } else {
            self.counters.to.dropped += 1;
        }
        room
    }
}

/// Whether what a packet would be cut into is short enough.
fn fits_cut<B: Buffer>(packet: &Packet<B>, takes: &Takes) -> bool {
    let size = packet.segmentation.map_or(0, |plan| usize::from(plan.size));
    Headers::of(packet).is_some_and(|headers| headers.data + size <= takes.longest)
}

/// Whether the checksum is as the port wants it.
fn is_right<B: Buffer>(packet: &Packet<B>, takes: &Takes) -> bool {
    packet.checksum != Checksum::Blank
        || takes.checksum_v4 && takes.checksum_v6
        || family(packet).is_some_and(|family| takes.blank(family))
}

/// Fills the checksum in if the port wants that. Returns whether it is as the port wants it.
fn made_right<B: Buffer>(packet: &mut Packet<B>, takes: &Takes) -> bool {
    is_right(packet, takes) || fill(packet)
}
