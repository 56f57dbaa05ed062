//! The front end against a back end in the same process, which keeps to the protocol or does not.
#![expect(
    clippy::cast_possible_truncation,
    reason = "the numbers of tests are small, or may be any"
)]

use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicU32, Ordering};
use std::boxed::Box;
use std::collections::BTreeMap;
use std::format;
use std::string::{String, ToString};
use std::sync::Mutex;
use std::vec::Vec;

use hypercall_abi::blkif::{
    self as abi, DiscardRequest, IndirectRequest, RING_SLOTS, Request, Response, Segment,
};
use hypercall_abi::types::{DomId, GrantRef, Port};
use zerocopy::{FromBytes, IntoBytes};

use super::{Breach, Disk, DiskError, Options};
use crate::console::ring::Words;
use crate::error::HypercallError;
use crate::event::Signal;
use crate::grant::GrantError;
use crate::paging::Access;
use crate::ring::{Page, Sharing};
use crate::xenbus::{Device, State};
use crate::xenstore::tests::{Line, Server, drive, join, leak};

const BACK: &str = "/local/domain/0/backend/vbd/7/51712";

/// What a front end shares.
#[derive(Default)]
struct Shared {
    pages: Mutex<BTreeMap<u32, &'static Words>>,
    /// How many there have been.
    count: AtomicU32,
    line: Line,
}

struct Granted(GrantRef, &'static Words, &'static Shared);

impl Page for Granted {
    fn reference(&self) -> GrantRef {
        self.0
    }

    fn words(&self) -> &Words {
        self.1
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        self.2.pages.lock().unwrap().remove(&self.0.0);
    }
}

impl Sharing for &'static Shared {
    type Page = Granted;
    type Strip = Vec<Granted>;
    type Signal = &'static Line;

    fn strip(&self, to: DomId, pages: usize, _: Access) -> Result<Vec<Granted>, GrantError> {
        (0..pages).map(|_| self.page(to)).collect()
    }

    fn page(&self, to: DomId) -> Result<Granted, GrantError> {
        assert_eq!(to, DomId(3));
        let mut pages = self.pages.lock().unwrap();
        let reference = 8 + self.count.fetch_add(1, Ordering::SeqCst);
        let words: &'static Words = leak([const { AtomicU32::new(0) }; 1024]);
        pages.insert(reference, words);
        Ok(Granted(GrantRef(reference), words, self))
    }

    fn signal(&self, _to: DomId) -> Result<(Port, &'static Line), HypercallError> {
        Ok((Port(5), &self.line))
    }
}

/// Changes an answer, and where the next one goes.
type Lie = fn(&mut Response, &mut u32);

/// A back end, and all around it.
struct World {
    server: Server,
    shared: &'static Shared,
    disk: Vec<u8>,
    features: Vec<(&'static str, String)>,
    /// The ring's pages, as long as it is connected.
    ring: Vec<&'static Words>,
    taken: u32,
    put: u32,
    /// Takes requests only if so many wait, and answers the last one first.
    patience: u32,
    status: i16,
    /// Makes answers what they are not.
    lie: Option<Lie>,
    /// Operation and number of segments of every request.
    log: Vec<(u8, usize)>,
}

impl World {
    fn new(features: &[(&'static str, u64)]) -> (Self, Device<'static>) {
        let (mut server, store) = Server::new(0);
        server.set("device/vbd/51712/backend", BACK);
        server.set("device/vbd/51712/backend-id", "3");
        server.set("device/vbd/51712/state", "1");
        server.set(&format!("{BACK}/state"), "1");
        let mut world = Self {
            server,
            shared: leak(Shared::default()),
            disk: (0..400_u32 << 10).map(|index| (index / 512 + index % 512) as u8).collect(),
            features: features.iter().map(|&(key, value)| (key, value.to_string())).collect(),
            ring: Vec::new(),
            taken: 0,
            put: 0,
            patience: 1,
            status: 0,
            lie: None,
            log: Vec::new(),
        };
        let device = world.run(Device::find(store, "vbd", 51712)).unwrap();
        (world, device)
    }

    fn run<T>(&mut self, future: impl Future<Output = T>) -> T {
        drive(future, || self.step()).expect("it waits for nothing")
    }

    fn open(
        &mut self,
        device: Device<'static>,
    ) -> Result<Disk<'static, &'static Shared>, DiskError> {
        let shared = self.shared;
        self.run(Disk::open(device, shared, Options { ring_order: 2, pages: 40 }))
    }

    fn node(&self, path: &str) -> u32 {
        let text = self.server.tree.get(path).map(|value| String::from_utf8_lossy(value));
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn front(&self, key: &str) -> u32 {
        self.node(&format!("device/vbd/51712/{key}"))
    }

    fn switch(&mut self, state: u32) {
        self.server.set(&format!("{BACK}/state"), &state.to_string());
    }

    fn step(&mut self) -> bool {
        let mut moved = self.server.step();
        let states = (self.front("state"), self.node(&format!("{BACK}/state")));
        let next = match states {
            (1, 1 | 6) => Some(2),
            (3, 2) => Some(4),
            (5, 2..=4) => Some(5),
            (6, 2..=5) => Some(6),
            _ => None,
        };
        if let Some(state) = next {
            match state {
                2 => self.publish(&["max-ring-page-order"]),
                4 => self.connect(),
                6 => self.ring.clear(),
                _ => {}
            }
            self.switch(state);
            moved = true;
        }
        moved | self.serve()
    }

    fn publish(&mut self, only: &[&str]) {
        for (key, value) in self.features.clone() {
            if only.is_empty() || only.contains(&key) {
                self.server.set(&format!("{BACK}/{key}"), &value);
            }
        }
    }

    fn connect(&mut self) {
        self.publish(&[]);
        let order = self.front("ring-page-order");
        let pages = self.shared.pages.lock().unwrap();
        // As Linux does: the numbered form comes first, whatever the order is.
        let numbered = self.front("ring-ref0") != 0;
        assert!(numbered || order == 0);
        let key = |page| if numbered { format!("ring-ref{page}") } else { "ring-ref".into() };
        self.ring = (0..1 << order).map(|page| pages[&self.front(&key(page))]).collect();
        drop(pages);
        self.taken = self.word(0).load(Ordering::SeqCst);
        self.put = self.taken;
        assert_eq!(self.front("event-channel"), 5);
    }

    fn word(&self, index: usize) -> &'static AtomicU32 {
        &self.ring[index / 1024][index % 1024]
    }

    fn slot(&self, index: u32) -> usize {
        16 + 28 * (index % RING_SLOTS[self.ring.len().ilog2() as usize]) as usize
    }

    fn serve(&mut self) -> bool {
        if self.ring.is_empty() {
            return false;
        }
        let waiting = self.word(0).load(Ordering::SeqCst).wrapping_sub(self.taken);
        if waiting < self.patience || waiting == 0 {
            self.word(1).store(self.taken.wrapping_add(1), Ordering::SeqCst);
            return false;
        }
        let mut requests = Vec::new();
        for _ in 0..waiting {
            let start = self.slot(self.taken);
            let words = (0..28).map(|word| self.word(start + word).load(Ordering::SeqCst));
            let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
            self.taken = self.taken.wrapping_add(1);
            requests.push(bytes);
        }
        let old = self.put;
        for bytes in requests.iter().rev() {
            let (id, operation) = self.carry_out(bytes);
            let mut answer = Response { id, operation, status: self.status, ..Response::default() };
            if let Some(lie) = self.lie {
                lie(&mut answer, &mut self.put);
            }
            let start = self.slot(self.put);
            for (index, word) in answer.as_bytes().chunks_exact(4).enumerate() {
                let word = u32::from_le_bytes(word.try_into().unwrap());
                self.word(start + index).store(word, Ordering::SeqCst);
            }
            self.put = self.put.wrapping_add(1);
        }
        self.word(2).store(self.put, Ordering::SeqCst);
        let event = self.word(3).load(Ordering::SeqCst);
        if self.put.wrapping_sub(event) < self.put.wrapping_sub(old) {
            (&&self.shared.line).wake();
        }
        true
    }

    fn carry_out(&mut self, bytes: &[u8]) -> (u64, u8) {
        let request = Request::read_from_bytes(bytes).unwrap();
        let pages = self.shared.pages.lock().unwrap();
        let (operation, segments) = match request.operation {
            abi::INDIRECT => {
                let indirect = IndirectRequest::read_from_prefix(bytes).unwrap().0;
                assert_eq!(indirect.sector_number, request.sector_number);
                let list = pages[&indirect.indirect_grefs[0].0];
                let words = list.iter().map(|word| word.load(Ordering::SeqCst));
                let list: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
                let segments = list.chunks_exact(8).take(indirect.nr_segments.into());
                let segments = segments.map(|it| Segment::read_from_bytes(it).unwrap()).collect();
                (indirect.indirect_op, segments)
            }
            abi::DISCARD => {
                let discard = DiscardRequest::read_from_prefix(bytes).unwrap().0;
                let range = discard.sector_number as usize * 512..;
                self.disk[range][..discard.nr_sectors as usize * 512].fill(0);
                (request.operation, Vec::new())
            }
            operation => (operation, request.seg[..request.nr_segments.into()].to_vec()),
        };
        self.log.push((request.operation, segments.len()));
        let mut at = request.sector_number as usize * 512;
        for segment in segments {
            let page = pages[&segment.gref.0];
            let words =
                usize::from(segment.first_sect) * 128..(usize::from(segment.last_sect) + 1) * 128;
            for word in &page[words] {
                let place = &mut self.disk[at..at + 4];
                if operation == abi::READ {
                    let value = u32::from_le_bytes(place.try_into().unwrap());
                    word.store(value, Ordering::SeqCst);
                } else {
                    place.copy_from_slice(&word.load(Ordering::SeqCst).to_le_bytes());
                }
                at += 4;
            }
        }
        (request.id, request.operation)
    }
}

const PLAIN: &[(&str, u64)] = &[("sectors", 800), ("sector-size", 512), ("info", 0)];
const RICH: &[(&str, u64)] = &[
    ("sectors", 800),
    ("sector-size", 512),
    ("info", 0),
    ("feature-flush-cache", 1),
    ("feature-discard", 1),
    ("feature-max-indirect-segments", 256),
    ("max-ring-page-order", 4),
];

#[test]
fn what_is_written_is_on_the_disk_and_what_is_on_the_disk_is_read() {
    for (features, segments, pages) in [(PLAIN, 11, 1), (RICH, 19, 4)] {
        let (mut world, device) = World::new(features);
        let disk = world.open(device).unwrap();
        assert_eq!(
            (disk.info().sectors, disk.info().segments, world.ring.len()),
            (800, segments, pages)
        );
        assert_eq!(world.front("state"), 4);
        for (sector, sectors) in [(0, 1), (799, 1), (3, 8), (5, 9), (0, 800), (17, 300)] {
            let mut data = std::vec![0; 512 * sectors];
            world.run(disk.read(sector, &mut data)).unwrap();
            let start = 512 * sector as usize;
            assert!(data == world.disk[start..start + data.len()], "{sector} {sectors}");
            data.iter_mut().for_each(|byte| *byte ^= 0x5a);
            world.run(disk.write(sector, &data)).unwrap();
            assert!(data == world.disk[start..start + data.len()], "{sector} {sectors}");
        }
        let most = world.log.iter().map(|&(_, segments)| segments).max();
        assert_eq!(most, Some(segments));
        assert_eq!(world.log.iter().any(|&(it, _)| it == abi::INDIRECT), segments > 11);
    }
}

#[test]
fn flush_and_discard_are_asked_for_where_the_disk_has_them() {
    let (mut world, device) = World::new(RICH);
    let disk = world.open(device).unwrap();
    world.run(disk.discard(8, 16)).unwrap();
    assert!(world.disk[4096..12288].iter().all(|&byte| byte == 0) && world.disk[12288] != 0);
    world.run(disk.flush()).unwrap();
    assert_eq!(world.log, [(abi::DISCARD, 0), (abi::FLUSH, 0)]);
    assert_eq!(world.run(disk.discard(799, 2)), Err(DiskError::Range));
    let (mut world, device) = World::new(PLAIN);
    let disk = world.open(device).unwrap();
    assert_eq!(world.run(disk.discard(8, 16)), Err(DiskError::Unsupported));
    world.run(disk.flush()).unwrap();
    assert_eq!(world.log, []);
}

#[test]
fn what_the_disk_does_not_have_is_not_asked_for() {
    let (mut world, device) = World::new(&[("sectors", 800), ("sector-size", 1024), ("info", 4)]);
    let disk = world.open(device).unwrap();
    let mut data = [0; 1024];
    let mut read = |sector, length| world.run(disk.read(sector, &mut data[..length]));
    assert_eq!(read(0, 0), Err(DiskError::Unaligned));
    assert_eq!(read(0, 512), Err(DiskError::Unaligned));
    assert_eq!(read(1, 1024), Err(DiskError::Unaligned));
    assert_eq!(read(0, 1000), Err(DiskError::Unaligned));
    assert_eq!(read(800, 1024), Err(DiskError::Range));
    assert_eq!(read(u64::MAX - 1, 1024), Err(DiskError::Range));
    assert_eq!(read(798, 1024), Ok(()));
    assert_eq!(world.run(disk.write(0, &data)), Err(DiskError::ReadOnly));
    world.status = -1;
    let failed = world.run(disk.read(2, &mut data)).unwrap_err();
    assert_eq!(failed.to_string(), "read at sector 2 = -1 (BLKIF_RSP_ERROR)");
    assert_eq!(world.log.len(), 2);
}

#[test]
fn many_requests_are_under_way_on_a_ring_whose_indices_wrap() {
    for index in [0, u32::MAX - 40] {
        let (mut world, device) = World::new(RICH);
        let disk = world.open(device).unwrap();
        disk.queue.start_at(index);
        (world.taken, world.put) = (index, index);
        world.patience = 5;
        for _ in 0..8 {
            let read = |sector| -> Pin<Box<dyn Future<Output = bool> + '_>> {
                let (disk, whole) = (&disk, world.disk.clone());
                Box::pin(async move {
                    let mut data = [0; 512];
                    disk.read(sector, &mut data).await.unwrap();
                    data == whole[512 * sector as usize..][..512]
                })
            };
            let all = join((0..65).map(|number| read(number * 7)).collect());
            assert!(world.run(all).into_iter().all(|same| same));
        }
    }
}

#[test]
fn two_that_need_all_pages_do_not_wait_for_each_other() {
    let (mut world, device) = World::new(RICH);
    let disk = world.open(device).unwrap();
    let read = |_| -> Pin<Box<dyn Future<Output = bool> + '_>> {
        Box::pin(async {
            let mut data = std::vec![0; 800 * 512];
            disk.read(0, &mut data).await.is_ok()
        })
    };
    let all = join((0..4).map(read).collect());
    assert_eq!(world.run(all), [true; 4]);
}

#[test]
fn a_request_that_nobody_waits_for_gives_its_pages_back_when_it_is_answered() {
    let (mut world, device) = World::new(PLAIN);
    let disk = world.open(device).unwrap();
    for _ in 0..30 {
        let mut data = std::vec![0; 800 * 512];
        let mut request = Box::pin(disk.read(0, &mut data));
        assert!(drive(request.as_mut(), || false).is_none());
        drop(request);
        world.run(disk.read(0, &mut data)).unwrap();
        assert!(data == world.disk);
    }
}

#[test]
fn a_disk_is_taken_down_and_brought_up_again() {
    let (mut world, device) = World::new(RICH);
    let mut data = [0; 512];
    let mut disk = world.open(device).unwrap();
    for _ in 0..3 {
        let device = world.run(disk.close()).unwrap();
        assert_eq!((world.front("state"), world.node(&format!("{BACK}/state"))), (6, 6));
        assert!(world.shared.pages.lock().unwrap().is_empty());
        disk = world.open(device).unwrap();
        world.run(disk.read(9, &mut data)).unwrap();
        let device = disk.device().clone();
        drop(disk);
        assert!(world.shared.pages.lock().unwrap().is_empty());
        // A ring of one page behind one of several, whose nodes are of no use any more.
        let shared = world.shared;
        let small = Options { ring_order: 0, pages: 12 };
        disk = world.run(Disk::open(device, shared, small)).unwrap();
        assert_eq!(world.ring.len(), 1);
        world.run(disk.read(9, &mut data)).unwrap();
    }
    let device = disk.device().clone();
    core::mem::forget(disk);
    let disk = world.open(device).unwrap();
    world.run(disk.read(9, &mut data)).unwrap();
}

#[test]
fn a_back_end_that_closes_or_goes_is_seen() {
    let (mut world, device) = World::new(RICH);
    let disk = world.open(device).unwrap();
    assert!(drive(disk.closing(), || world.step()).is_none());
    world.switch(5);
    assert_eq!(world.run(disk.closing()), Ok(State::Closing));
    let device = world.run(disk.close()).unwrap();
    let disk = world.open(device).unwrap();
    world.server.tree.remove(&format!("{BACK}/state"));
    world.server.set(&format!("{BACK}/state/"), "");
    assert_eq!(world.run(disk.closing()), Ok(State::Unknown));
    assert_eq!(world.run(disk.read(0, &mut [0; 512])), Err(DiskError::Gone));
    let device = disk.device().clone();
    drop(disk);
    assert_eq!(world.open(device).err(), Some(DiskError::Refused(State::Unknown)));
}

#[test]
fn a_back_end_that_describes_no_disk_is_refused() {
    for (features, error) in [
        (&[("info", 0)][..], DiskError::Form("sectors")),
        (&[("sectors", 8), ("sector-size", 0)][..], DiskError::Form("sector-size")),
        (&[("sectors", 8), ("sector-size", 1 << 20)][..], DiskError::Form("sector-size")),
    ] {
        let (mut world, device) = World::new(features);
        assert_eq!(world.open(device).err(), Some(error));
        assert!(world.shared.pages.lock().unwrap().is_empty());
        while world.step() {}
        assert_eq!(world.front("state"), 6);
    }
}

#[test]
fn what_no_back_end_may_answer_ends_the_disks_use() {
    let lies: [(Lie, Breach); 7] = [
        (|answer, _| answer.id = 77, Breach::Answer(77)),
        // The request before this one, which had the same slot.
        (|answer, _| answer.id -= 64, Breach::Answer(64)),
        (|answer, _| answer.id = 1, Breach::Answer(1)),
        (|answer, _| answer.operation = abi::FLUSH, Breach::Operation(abi::FLUSH)),
        (|answer, _| answer.status = 1, Breach::Status(1)),
        (|_, put| *put += 1, Breach::Indices),
        (|_, put| *put = put.wrapping_sub(2), Breach::Indices),
    ];
    for (lie, breach) in lies {
        let (mut world, device) = World::new(RICH);
        let disk = world.open(device).unwrap();
        let mut data = [0; 512];
        world.run(disk.read(0, &mut data)).unwrap();
        world.lie = Some(lie);
        assert_eq!(world.run(disk.read(0, &mut data)), Err(DiskError::Broken(breach)));
        world.lie = None;
        assert_eq!(world.run(disk.read(0, &mut data)), Err(DiskError::Broken(breach)));
        let device = world.run(disk.close()).unwrap();
        let disk = world.open(device).unwrap();
        world.run(disk.read(0, &mut data)).unwrap();
    }
}

#[test]
fn a_request_is_answered_once() {
    let (mut world, device) = World::new(RICH);
    let disk = world.open(device).unwrap();
    world.patience = 2;
    // The first of both.
    world.lie = Some(|answer, _| answer.id = 64);
    let read = |sector| -> Pin<Box<dyn Future<Output = Result<(), DiskError>> + '_>> {
        let disk = &disk;
        Box::pin(async move { disk.read(sector, &mut [0; 512]).await })
    };
    let results = world.run(join(std::vec![read(1), read(2)]));
    assert_eq!(
        results,
        [Err(DiskError::Broken(Breach::Answer(64))), Err(DiskError::Broken(Breach::Answer(64)))]
    );
}

#[test]
fn a_back_end_that_writes_anything_neither_stops_nor_breaks_the_front_end() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for _ in 0..200 {
        let (mut world, device) = World::new(RICH);
        let disk = world.open(device).unwrap();
        let mut turns = 0;
        let mut data = std::vec![0; 300 * 512];
        let work = async {
            for _ in 0..4 {
                disk.read(3, &mut data).await?;
                disk.write(3, &data).await?;
            }
            Ok::<_, DiskError>(())
        };
        let indices = next() % 2 == 0;
        let _any_result = drive(work, || {
            turns += 1;
            let words = if indices { 4 } else { 1024 };
            // The request's indices are this back end's own to believe.
            let word = 2 + (next() % (words - 2)) as usize;
            world.word(word).store(next() as u32, Ordering::SeqCst);
            (&&world.shared.line).wake();
            if next() % 8 == 0 {
                world.put = world.word(2).load(Ordering::SeqCst);
            }
            turns < 100
        });
    }
}
