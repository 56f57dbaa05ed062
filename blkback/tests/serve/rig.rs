//! A front end as the protocol wants it, or not, and a device with all it needs.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use backend_rig::Owner;
use blkback::{Attachment, Device, Discard, Geometry, Limits, Parameters};
use hypercall_abi::blkif::{self as abi, RING_SLOTS, Request, Response, Segment};
use hypercall_abi::types::{GrantRef, Port};
use zerocopy::{FromBytes, IntoBytes};

use crate::world::{DiskState, FakeDisk, FakeGuest, Page, Shared, World};

pub(crate) const PAGES: usize = 600;
pub(crate) const SECTORS: u64 = 4000;

pub(crate) fn geometry() -> Geometry {
    Geometry {
        sectors: SECTORS,
        sector_size: 512,
        physical_sector_size: 4096,
        read_only: false,
        flush: true,
        discard: Some(Discard { granularity: 4096, alignment: 0 }),
    }
}

/// A front end's ring.
pub(crate) struct Front {
    pub(crate) pages: Vec<Page>,
    pub(crate) prod: u32,
    pub(crate) cons: u32,
}

impl Front {
    pub(crate) fn new(order: u32) -> Self {
        let pages = (0..1 << order).map(|_| Page::zeroed()).collect();
        let front = Self { pages, prod: 0, cons: 0 };
        front.word(1).store(1, Ordering::Relaxed);
        front.word(3).store(1, Ordering::Relaxed);
        front
    }

    pub(crate) fn slots(&self) -> u32 {
        RING_SLOTS[self.pages.len().ilog2() as usize]
    }

    pub(crate) fn word(&self, index: usize) -> &AtomicU32 {
        &self.pages[index / 1024].0[index % 1024]
    }

    fn slot(&self, index: u32) -> impl Iterator<Item = &AtomicU32> {
        let first = 16 + 28 * (index % self.slots()) as usize;
        (first..first + 28).map(|index| self.word(index))
    }

    /// Puts a request and shows it. Returns whether the back end wants to be told.
    pub(crate) fn put(&mut self, request: &Request) -> bool {
        let words: [u32; 28] = zerocopy::transmute!(*request);
        for (word, value) in self.slot(self.prod).zip(words) {
            word.store(value, Ordering::Relaxed);
        }
        let old = self.prod;
        self.prod = old.wrapping_add(1);
        self.word(0).store(self.prod, Ordering::SeqCst);
        let wish = self.word(1).load(Ordering::SeqCst);
        self.prod.wrapping_sub(wish) < self.prod.wrapping_sub(old)
    }

    /// Takes the responses, and asks to be told of the next.
    pub(crate) fn responses(&mut self) -> Vec<Response> {
        let mut all = Vec::new();
        let new = self.word(2).load(Ordering::SeqCst).wrapping_sub(self.cons);
        // No more than were sent: a test may have written to the index.
        for _ in 0..new.min(self.prod.wrapping_sub(self.cons)) {
            let words: Vec<u32> =
                self.slot(self.cons).map(|word| word.load(Ordering::Relaxed)).collect();
            let (response, _) = Response::read_from_prefix(words.as_bytes()).expect("long enough");
            all.push(response);
            self.cons = self.cons.wrapping_add(1);
        }
        self.word(3).store(self.cons.wrapping_add(1), Ordering::SeqCst);
        all
    }
}

pub(crate) struct Rig {
    pub(crate) world: Shared,
    pub(crate) disk: Rc<RefCell<DiskState>>,
    pub(crate) front: Front,
    pub(crate) device: Device<FakeGuest, FakeDisk>,
    owner: Owner<Parameters>,
}

impl Deref for Rig {
    type Target = Owner<Parameters>;

    fn deref(&self) -> &Owner<Parameters> {
        &self.owner
    }
}

impl DerefMut for Rig {
    fn deref_mut(&mut self) -> &mut Owner<Parameters> {
        &mut self.owner
    }
}

impl Rig {
    pub(crate) fn new(geometry: Geometry, resident: bool, limits: Limits) -> Self {
        let world = World::new(PAGES, SECTORS);
        let disk = DiskState::new(geometry, resident);
        let device = Device::new(FakeDisk(disk.clone(), world.clone()), limits, true);
        let mut rig = Self { world, disk, front: Front::new(0), device, owner: Owner::default() };
        rig.front_state("1");
        rig
    }

    /// A plain disk, connected by a ring of one page.
    pub(crate) fn connected() -> Self {
        let mut rig = Self::new(geometry(), false, Limits::default());
        rig.connect(0, false);
        rig
    }

    pub(crate) fn front_state(&mut self, state: &str) {
        self.set("state", state);
        self.changed();
    }

    pub(crate) fn changed(&mut self) {
        self.device.changed(&self.owner.store);
        self.run();
    }

    /// What a front end does to connect.
    pub(crate) fn connect(&mut self, order: u32, persistent: bool) {
        self.front = Front::new(order);
        self.announce(order, persistent);
        self.front_state("3");
        assert_eq!(self.back("state"), "4", "{:?}", self.reports);
        self.front_state("4");
    }

    /// Closes, and connects by another ring.
    pub(crate) fn connect_again(&mut self, order: u32) {
        self.front_state("6");
        self.front_state("1");
        self.connect(order, false);
    }

    pub(crate) fn announce(&mut self, order: u32, persistent: bool) {
        self.store.front.clear();
        if order == 0 {
            self.set("ring-ref", "8");
        } else {
            self.set("ring-page-order", &order.to_string());
            (0..1 << order).for_each(|n| self.set(&format!("ring-ref{n}"), &format!("{}", 8 + n)));
        }
        self.set("event-channel", "15");
        self.set("protocol", "x86_64-abi");
        self.set("feature-persistent", if persistent { "1" } else { "0" });
    }

    /// Runs the device until it sleeps.
    pub(crate) fn run(&mut self) {
        let rests = (0..10_000).any(|_| self.turn());
        assert!(rests, "the device does not come to rest");
    }

    /// One turn. Returns whether the device sleeps.
    pub(crate) fn turn(&mut self) -> bool {
        self.owner.rest();
        let ready = self.owner.poll(|cx| self.device.poll(cx)).is_ready();
        self.apply();
        !ready && !self.owner.is_awake()
    }

    fn apply(&mut self) {
        for effect in self.device.effects() {
            if let Some(attached) = self.owner.obey(effect) {
                assert_eq!(self.attached.last().map(|it| it.port), Some(Port(15)));
                self.device.attached(attached.map(|()| Attachment {
                    guest: FakeGuest::new(&self.world),
                    pages: self.front.pages.clone(),
                }));
            }
        }
    }

    /// Sends one request and returns the status of its response.
    pub(crate) fn ask(&mut self, request: &Request) -> i16 {
        assert!(self.front.put(request), "the back end sleeps and does not want to be told");
        let notified = self.world.borrow().notified;
        self.run();
        let responses = self.front.responses();
        assert_eq!(responses.len(), 1);
        assert_eq!(self.world.borrow().notified, notified + 1);
        // An indirect request is answered as what it does, by the place where it says so.
        let is_indirect = request.operation == abi::INDIRECT;
        let answered = if is_indirect { request.nr_segments } else { request.operation };
        assert_eq!((responses[0].id, responses[0].operation), (request.id, answered));
        responses[0].status
    }

    /// Nothing of the front end's is held, and no page of the back end's.
    pub(crate) fn assert_clean(&self) {
        let world = self.world.borrow();
        assert_eq!((world.buffers, world.mappings, world.guests), (0, 0, 0));
    }
}

/// Sectors of a page.
pub(crate) fn segment(page: u32, first: u8, last: u8) -> Segment {
    Segment { gref: GrantRef(page), first_sect: first, last_sect: last, pad: 0xA5A5 }
}

/// A read, write, barrier or flush.
pub(crate) fn request(operation: u8, sector: u64, segments: &[Segment]) -> Request {
    let mut request = Request {
        operation,
        nr_segments: segments.len() as u8,
        handle: 77,
        id: 0x1234_5678_9ABC_DEF0 ^ sector,
        sector_number: sector,
        ..Request::default()
    };
    request.seg[..segments.len()].copy_from_slice(segments);
    request
}

/// A request as another of its kinds.
pub(crate) fn as_request(bytes: &[u8]) -> Request {
    let mut request = Request::default();
    request.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
    request
}

/// An indirect request, whose list is in page `list`.
pub(crate) fn indirect(operation: u8, sector: u64, list: u32, count: u16) -> Request {
    let mut it = abi::IndirectRequest {
        operation: abi::INDIRECT,
        indirect_op: operation,
        nr_segments: count,
        id: sector + 1,
        sector_number: sector,
        ..abi::IndirectRequest::default()
    };
    it.indirect_grefs[0] = GrantRef(list);
    as_request(it.as_bytes())
}

pub(crate) fn discard(sector: u64, count: u64, flag: u8) -> Request {
    let it = abi::DiscardRequest {
        operation: abi::DISCARD,
        flag,
        sector_number: sector,
        nr_sectors: count,
        ..abi::DiscardRequest::default()
    };
    as_request(it.as_bytes())
}
