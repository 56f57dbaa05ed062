//! Many requests at the same time, compared with a model of the disk; and a front end that writes
//! anything anywhere.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use blkback::Limits;
use hypercall_abi::blkif::{
    FLUSH, READ, Request, STATUS_ERROR, STATUS_OKAY, Segment, WRITE, WRITE_BARRIER,
};
use zerocopy::IntoBytes;

use crate::rig::{PAGES, Rig, SECTORS, discard, geometry, indirect, request, segment};
use crate::world::Random;

/// A request that was sent, and what must come of it.
struct Sent {
    operation: u8,
    status: i16,
    sector: u64,
    /// One byte for each sector, which fills it: to be read, or written.
    sectors: Vec<u8>,
    segments: Vec<Segment>,
    /// Pages that no other request may use meanwhile.
    pages: Vec<u32>,
}

struct Model {
    random: Random,
    rig: Rig,
    disk: Vec<u8>,
    free_pages: Vec<u32>,
    /// Which sectors requests in flight use.
    busy: Vec<bool>,
    sent: BTreeMap<u64, Sent>,
    next: u64,
    most: u16,
}

impl Model {
    fn new(seed: u64, resident: bool, order: u32, persistent: bool, limits: Limits) -> Self {
        let mut rig = Rig::new(geometry(), resident, limits);
        rig.connect(order, persistent);
        Self {
            random: Random(seed),
            rig,
            disk: vec![0; SECTORS as usize],
            free_pages: (100..PAGES as u32).collect(),
            busy: vec![false; SECTORS as usize],
            sent: BTreeMap::new(),
            next: 1,
            most: limits.indirect,
        }
    }

    fn page(&mut self) -> Option<u32> {
        let count = self.free_pages.len();
        (count > 0).then(|| self.free_pages.swap_remove(self.random.below(count)))
    }

    /// Segments in free pages, at random places.
    fn segments(&mut self, most: u64) -> Vec<Segment> {
        let count = 1 + self.random.below(most);
        let place = |random: &mut Random| {
            let first = random.below(8);
            (first, first + random.below(8 - first))
        };
        (0..count)
            .map_while(|_| {
                let (first, last) = place(&mut self.random);
                Some(segment(self.page()?, first, last))
            })
            .collect()
    }

    /// Sends a transfer to sectors that nobody else uses; or to where the disk is not.
    fn transfer(&mut self, operation: u8, through_list: bool) {
        let list = if through_list { self.page() } else { None };
        let most = if list.is_some() { u64::from(self.most).min(40) } else { 11 };
        let segments = self.segments(most);
        let count: u64 =
            segments.iter().map(|it| u64::from(it.last_sect - it.first_sect) + 1).sum();
        let outside = self.random.below(20) == 0;
        let sector = if outside {
            SECTORS + 1 - count.max(1) + self.random.below(1 << 40)
        } else {
            self.random.below(SECTORS - count)
        };
        let range = if outside { 0..0 } else { sector as usize..(sector + count) as usize };
        let mut pages: Vec<u32> = segments.iter().map(|it| it.gref.0).chain(list).collect();
        if segments.is_empty() || self.busy[range.clone()].contains(&true) {
            self.free_pages.append(&mut pages);
            return;
        }
        self.busy[range.clone()].fill(true);
        let id = self.next;
        self.next += 1;
        let mut sectors = self.disk[range.clone()].to_vec();
        if operation != READ {
            sectors = (0..count).map(|_| self.random.next() as u8).collect();
            if !outside {
                self.disk[range].copy_from_slice(&sectors);
            }
            let mut world = self.rig.world.borrow_mut();
            for (place, value) in places(&segments).zip(&sectors) {
                world.guest[place.0].data[place.1..place.1 + 512].fill(*value);
            }
        }
        let mut request = match list {
            Some(page) => {
                let bytes = segments.as_bytes();
                self.rig.world.borrow_mut().guest[page as usize].data[..bytes.len()]
                    .copy_from_slice(bytes);
                indirect(operation, sector, page, segments.len() as u16)
            }
            None => request(operation, sector, &segments),
        };
        request.id = id;
        let status = if outside { STATUS_ERROR } else { STATUS_OKAY };
        let read = if operation == WRITE { Vec::new() } else { segments.clone() };
        let segments = if status == STATUS_OKAY { read } else { Vec::new() };
        self.sent.insert(id, Sent { operation, status, sector, sectors, segments, pages });
        self.rig.front.put(&request);
    }

    fn other(&mut self) {
        let (id, flush) = (self.next, self.random.below(2) == 0);
        let sector = self.random.below(SECTORS - 20);
        let range = sector as usize..sector as usize + 20;
        if !flush && self.busy[range.clone()].contains(&true) {
            return;
        }
        self.next += 1;
        let mut sectors = Vec::new();
        let request = if flush {
            Request { id, ..request(FLUSH, 0, &[]) }
        } else {
            self.busy[range.clone()].fill(true);
            self.disk[range].fill(0);
            sectors = vec![0; 20];
            Request { id, ..discard(sector, 20, 0) }
        };
        let (operation, status) = (request.operation, STATUS_OKAY);
        let (segments, pages) = (Vec::new(), Vec::new());
        self.sent.insert(id, Sent { operation, status, sector, sectors, segments, pages });
        self.rig.front.put(&request);
    }

    fn send(&mut self) {
        match self.random.below(20) {
            0..6 => self.transfer(READ, false),
            6..9 => self.transfer(READ, true),
            9..14 => self.transfer(WRITE, false),
            14..17 => self.transfer(WRITE, true),
            17 => self.transfer(WRITE_BARRIER, false),
            _ => self.other(),
        }
    }

    fn receive(&mut self) {
        for response in self.rig.front.responses() {
            let sent = self.sent.remove(&response.id).expect("a response to no request");
            assert_eq!((response.operation, response.status), (sent.operation, sent.status));
            let world = self.rig.world.borrow();
            for (place, value) in places(&sent.segments).zip(&sent.sectors) {
                assert_eq!(world.guest[place.0].data[place.1..place.1 + 512], [*value; 512]);
            }
            if sent.status == STATUS_OKAY {
                let range = sent.sector as usize..sent.sector as usize + sent.sectors.len();
                self.busy[range].fill(false);
            }
            self.free_pages.extend(sent.pages);
        }
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            let in_flight = self.rig.front.prod.wrapping_sub(self.rig.front.cons);
            if in_flight < self.rig.front.slots() {
                self.send();
            }
            match self.random.below(8) {
                0 => self.rig.disk.borrow_mut().stalled = true,
                1 => self.rig.disk.borrow_mut().go_on(),
                2 => self.rig.disk.borrow_mut().capacity = 1 + self.random.below(9),
                3 => self.rig.run(),
                4 => drop(self.rig.turn()),
                5 => self.receive(),
                _ => {}
            }
        }
        self.rig.disk.borrow_mut().go_on();
        self.rig.run();
        self.receive();
        let left: Vec<_> = self.sent.values().map(|it| (it.operation, it.segments.len())).collect();
        assert_eq!(left, [], "{:?}", self.rig.disk.borrow().log.last());
        let mut world = self.rig.world.borrow_mut();
        for (sector, value) in self.disk.iter().enumerate() {
            assert_eq!(world.disk(sector as u64), [*value; 512], "sector {sector}");
        }
    }
}

/// Where sectors are in the front end's pages.
fn places(segments: &[Segment]) -> impl Iterator<Item = (usize, usize)> {
    segments.iter().flat_map(|it| {
        let sectors = it.first_sect..=it.last_sect;
        sectors.map(|sector| (it.gref.0 as usize, usize::from(sector) * 512))
    })
}

#[test]
fn many_requests_do_what_the_model_does() {
    let small = Limits { turn: 9, buffers: 40, mappings: 60, indirect: 40 };
    let mut seed = 1;
    for limits in [Limits::default(), small] {
        for (resident, persistent) in [(true, false), (true, true), (false, false), (false, true)] {
            for order in [0, 1, 4] {
                seed += 1;
                let mut model = Model::new(seed, resident, order, persistent, limits);
                model.run(1000);
                let (own, mapped) = model.rig.device.pages();
                assert!(own <= limits.buffers && mapped <= limits.mappings);
                assert_eq!(mapped > 0, persistent);
                model.rig.front_state("6");
                model.rig.assert_clean();
            }
        }
    }
}

/// Requests of any bytes, lists of any bytes, indices of any value, at any time: nothing panics,
/// nothing is used that was not granted, limits are kept, and closing ends it.
#[test]
fn anything_may_be_in_the_ring() {
    let limits = Limits { turn: 30, buffers: 40, mappings: 60, indirect: 40 };
    let mut random = Random(4711);
    let (mut answered, mut broken) = (0, 0);
    for round in 0..150 {
        let mut rig = Rig::new(geometry(), round % 3 == 0, limits);
        for page in (0..PAGES).step_by(3) {
            rig.world.borrow_mut().guest[page].granted = false;
            rig.world.borrow_mut().guest[page + 1].read_only = true;
        }
        rig.connect(round % 5, round % 3 == 1);
        for _ in 0..120 {
            let request = hostile_request(&mut random);
            match random.below(16) {
                0 => rig.disk.borrow_mut().stalled = true,
                1 => rig.disk.borrow_mut().go_on(),
                2 => {
                    // The ring's own indices are rarely meant, so that something happens before.
                    let words = rig.front.pages.len() as u64 * 1024;
                    let index = random.below(15) == 0;
                    let word = if index { random.below(4) } else { 4 + random.below(words - 4) };
                    rig.front.word(word as usize).store(random.next() as u32, Ordering::SeqCst);
                    if index {
                        rig.run();
                    }
                }
                3 => {
                    let page = random.below(PAGES);
                    hostile_list(&mut random, &mut rig.world.borrow_mut().guest[page].data);
                }
                4 => drop(rig.turn()),
                5 => rig.run(),
                _ if rig.front.prod.wrapping_sub(rig.front.cons) < rig.front.slots() => {
                    rig.front.put(&request);
                }
                _ => {}
            }
            if rig.back("state") == "4" {
                answered += rig.front.responses().len();
            }
            let (own, mapped) = rig.device.pages();
            assert!(own <= 40 && mapped <= 60);
        }
        broken += rig.reports.len();
        rig.disk.borrow_mut().go_on();
        rig.front_state("6");
        assert_eq!(rig.back("state"), "6");
        rig.assert_clean();
    }
    assert!(answered > 3000 && broken > 10, "{answered} answered, {broken} broken");
}

/// Any bytes, but often such that the first checks let them pass.
fn hostile_request(random: &mut Random) -> Request {
    let words: [u64; 14] = std::array::from_fn(|_| random.next());
    let mut request: Request = zerocopy::transmute!(words);
    if random.below(8) > 0 {
        request.operation = random.below(8);
        request.nr_segments = random.below(13);
        request.sector_number = random.below(SECTORS + 10);
        for segment in &mut request.seg {
            segment.gref.0 = random.below(PAGES as u64 + 2) as u32;
            (segment.first_sect, segment.last_sect) = (0, random.below(9));
        }
        if request.operation == hypercall_abi::blkif::INDIRECT {
            let page = random.below(PAGES as u64) as u32;
            let operation = random.below(3);
            request = indirect(operation, request.sector_number, page, random.below(42));
        }
    }
    request
}

fn hostile_list(random: &mut Random, page: &mut [u8; 4096]) {
    for entry in page.chunks_exact_mut(8).take(40) {
        let it = segment(random.below(PAGES as u64) as u32, 0, random.below(8));
        entry.copy_from_slice(it.as_bytes());
        if random.below(60) == 0 {
            entry[random.below(8)] = random.next() as u8;
        }
    }
}
