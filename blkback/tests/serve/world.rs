//! Memory, grants, a disk and an event channel, without a machine. What must not happen panics: a
//! transfer to a page that was given back, a copy that leaves a page.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

pub(crate) use backend_rig::{Page, Random};
use blkback::{Admission, Command, Direction, Disk, DiskError, Geometry, Guest, PageCopy, Ticket};
use hypercall_abi::types::GrantRef;

/// Where in the machine's address space the front end's pages are, by grant reference.
const GUEST_BASE: u64 = 1 << 40;
/// Where a disk lies in memory.
const DISK_BASE: u64 = 1 << 32;

pub(crate) struct GuestPage {
    pub(crate) data: [u8; 4096],
    pub(crate) granted: bool,
    pub(crate) read_only: bool,
    pub(crate) mapped: usize,
}

/// Everything that both ends share.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) guest: Vec<GuestPage>,
    pub(crate) own: BTreeMap<u64, [u8; 4096]>,
    next: u64,
    pub(crate) buffers: usize,
    pub(crate) mappings: usize,
    pub(crate) most_mappings: usize,
    pub(crate) guests: usize,
    pub(crate) notified: usize,
    pub(crate) copied: usize,
    pub(crate) out_of_pages: bool,
}

pub(crate) type Shared = Rc<RefCell<World>>;

impl World {
    pub(crate) fn new(pages: usize, sectors: u64) -> Shared {
        let page = || GuestPage { data: [0; 4096], granted: true, read_only: false, mapped: 0 };
        let own = (0..sectors.div_ceil(8)).map(|page| (DISK_BASE + page * 4096, [0; 4096]));
        let (guest, own) = ((0..pages).map(|_| page()).collect(), own.collect());
        Rc::new(RefCell::new(Self { guest, own, next: 4096, ..Self::default() }))
    }

    /// The bytes at a machine address.
    fn at(&mut self, machine: u64, length: usize) -> &mut [u8] {
        let (page, offset) = (machine & !4095, (machine % 4096) as usize);
        let page = if page >= GUEST_BASE {
            let page = &mut self.guest[((page - GUEST_BASE) / 4096) as usize];
            assert!(page.mapped > 0, "a device used a page that is not mapped");
            &mut page.data
        } else {
            self.own.get_mut(&page).expect("a page was used after it was given back")
        };
        &mut page[offset..offset + length]
    }

    pub(crate) fn disk(&mut self, sector: u64) -> &mut [u8] {
        self.at(DISK_BASE + sector * 512, 512)
    }

    fn copy_one(&mut self, copy: &PageCopy<Piece>) -> bool {
        let machine = copy.own.machine;
        assert!(copy.length > 0 && copy.offset + copy.length <= 4096);
        assert!(machine % 4096 + u64::from(copy.length) <= 4096);
        assert_eq!(copy.own.length, copy.length);
        self.copied += 1;
        let range = usize::from(copy.offset)..usize::from(copy.offset + copy.length);
        let Some(page) = self.guest.get_mut(copy.gref.0 as usize).filter(|page| page.granted)
        else {
            return false;
        };
        match copy.direction {
            Direction::ToGuest if page.read_only => return false,
            Direction::ToGuest => {
                let data = self.at(machine, range.len()).to_vec();
                self.guest[copy.gref.0 as usize].data[range].copy_from_slice(&data);
            }
            Direction::FromGuest => {
                let data = page.data[range].to_vec();
                self.at(machine, data.len()).copy_from_slice(&data);
            }
        }
        true
    }
}

pub(crate) struct FakeGuest(Shared);

impl FakeGuest {
    pub(crate) fn new(world: &Shared) -> Self {
        world.borrow_mut().guests += 1;
        Self(world.clone())
    }
}

impl Drop for FakeGuest {
    fn drop(&mut self) {
        self.0.borrow_mut().guests -= 1;
    }
}

/// A part of a page, which it keeps.
#[derive(Clone)]
pub(crate) struct Piece {
    machine: u64,
    length: u16,
    _keep: Option<Rc<dyn Any>>,
}

impl Piece {
    fn new(page: u64, offset: u16, length: u16, keep: Option<Rc<dyn Any>>) -> Self {
        assert!(offset + length <= 4096);
        Self { machine: page + u64::from(offset), length, _keep: keep }
    }
}

pub(crate) struct Own(u64, Shared);

impl Drop for Own {
    fn drop(&mut self) {
        let mut world = self.1.borrow_mut();
        world.own.remove(&self.0);
        world.buffers -= 1;
    }
}

pub(crate) struct Mapped(u32, Shared);

impl Drop for Mapped {
    fn drop(&mut self) {
        let mut world = self.1.borrow_mut();
        world.guest[self.0 as usize].mapped -= 1;
        world.mappings -= 1;
    }
}

impl Guest for FakeGuest {
    type Page = Page;
    type Buffer = Rc<Own>;
    type Mapping = Rc<Mapped>;
    type Piece = Piece;

    fn copy(&mut self, copies: &mut [PageCopy<Piece>]) {
        let mut world = self.0.borrow_mut();
        for copy in copies {
            assert!(!copy.done);
            copy.done = world.copy_one(copy);
        }
    }

    fn buffer(&mut self) -> Option<Rc<Own>> {
        let mut world = self.0.borrow_mut();
        if world.out_of_pages {
            return None;
        }
        let frame = world.next;
        world.next += 4096;
        world.own.insert(frame, [0xEE; 4096]);
        world.buffers += 1;
        Some(Rc::new(Own(frame, self.0.clone())))
    }

    fn part_of_buffer(&self, buffer: &Rc<Own>, offset: u16, length: u16) -> Piece {
        Piece::new(buffer.0, offset, length, Some(buffer.clone()))
    }

    fn read(&self, buffer: &Rc<Own>, bytes: &mut [u8]) {
        bytes.copy_from_slice(self.0.borrow_mut().at(buffer.0, bytes.len()));
    }

    fn map(&mut self, pages: &[GrantRef], mappings: &mut Vec<Option<Rc<Mapped>>>) {
        for page in pages {
            let mut world = self.0.borrow_mut();
            let entry = world.guest.get_mut(page.0 as usize);
            let Some(entry) = entry.filter(|page| page.granted && !page.read_only) else {
                mappings.push(None);
                continue;
            };
            entry.mapped += 1;
            world.mappings += 1;
            world.most_mappings = world.most_mappings.max(world.mappings);
            mappings.push(Some(Rc::new(Mapped(page.0, self.0.clone()))));
        }
    }

    fn part_of_mapping(&self, mapping: &Rc<Mapped>, offset: u16, length: u16) -> Piece {
        let page = GUEST_BASE + u64::from(mapping.0) * 4096;
        Piece::new(page, offset, length, Some(mapping.clone()))
    }

    fn notify(&mut self) {
        self.0.borrow_mut().notified += 1;
    }

    fn listen(&mut self, _: &mut Context<'_>) {}
}

enum Job {
    Read(u64, Vec<Piece>),
    Write(u64, Vec<Piece>),
    Flush,
    Discard(u64, u64),
}

/// A disk that completes what it has in any order, when it is let.
pub(crate) struct DiskState {
    pub(crate) geometry: Geometry,
    pub(crate) resident: bool,
    pub(crate) capacity: usize,
    pub(crate) stalled: bool,
    pub(crate) fails: Option<DiskError>,
    /// The first sector whose memory cannot be found.
    pub(crate) hole: u64,
    jobs: Vec<(Ticket, Job)>,
    pub(crate) log: Vec<&'static str>,
    random: Random,
    waker: Option<Waker>,
}

impl DiskState {
    pub(crate) fn new(geometry: Geometry, resident: bool) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            geometry,
            resident,
            capacity: 1000,
            stalled: false,
            fails: None,
            hole: u64::MAX,
            jobs: Vec::new(),
            log: Vec::new(),
            random: Random(7),
            waker: None,
        }))
    }

    pub(crate) fn under_way(&self) -> usize {
        self.jobs.len()
    }

    pub(crate) fn go_on(&mut self) {
        self.stalled = false;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

pub(crate) struct FakeDisk(pub(crate) Rc<RefCell<DiskState>>, pub(crate) Shared);

impl Disk<Piece> for FakeDisk {
    fn geometry(&self) -> Geometry {
        self.0.borrow().geometry
    }

    fn resident(&self, sector: u64, most: u16) -> Option<(Piece, u16)> {
        let state = self.0.borrow();
        let count = most.min(8 - (sector % 8) as u16);
        let there =
            state.resident && sector + u64::from(count) <= state.hole.min(state.geometry.sectors);
        there.then(|| (Piece::new(DISK_BASE + sector * 512, 0, 512 * count, None), count))
    }

    fn submit(&mut self, ticket: Ticket, command: Command<'_, Piece>) -> Admission {
        let mut state = self.0.borrow_mut();
        if state.jobs.len() >= state.capacity {
            return Admission::Full;
        }
        assert!(state.jobs.iter().all(|job| job.0 != ticket), "a ticket is in use twice");
        let (name, job) = match command {
            Command::Read { sector, pieces } => ("read", Job::Read(sector, pieces.to_vec())),
            Command::Write { sector, pieces } => ("write", Job::Write(sector, pieces.to_vec())),
            Command::Flush => ("flush", Job::Flush),
            Command::Discard { sector, count } => ("discard", Job::Discard(sector, count)),
        };
        // What lies in memory is copied to and from, unless pages stay mapped.
        let copied = state.resident && self.1.borrow().mappings == 0;
        assert!(!copied || !matches!(job, Job::Read(..) | Job::Write(..)));
        state.log.push(name);
        state.jobs.push((ticket, job));
        Admission::Accepted
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Ticket, Result<(), DiskError>)> {
        let mut state = self.0.borrow_mut();
        let count = state.jobs.len();
        if state.stalled || count == 0 {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let index = state.random.below(count);
        let (ticket, job) = state.jobs.swap_remove(index);
        if let Some(error) = state.fails {
            return Poll::Ready((ticket, Err(error)));
        }
        let mut world = self.1.borrow_mut();
        let each = |sector: u64, pieces: &[Piece]| {
            let sectors = pieces.iter().flat_map(|piece| {
                assert!(piece.length > 0 && piece.length % 512 == 0 && piece.machine % 512 == 0);
                assert!(piece.machine % 4096 + u64::from(piece.length) <= 4096);
                (0..u64::from(piece.length / 512)).map(|index| piece.machine + index * 512)
            });
            sectors.zip(sector..).collect::<Vec<_>>()
        };
        match job {
            Job::Read(sector, pieces) => {
                for (machine, sector) in each(sector, &pieces) {
                    let data = world.disk(sector).to_vec();
                    world.at(machine, 512).copy_from_slice(&data);
                }
            }
            Job::Write(sector, pieces) => {
                for (machine, sector) in each(sector, &pieces) {
                    let data = world.at(machine, 512).to_vec();
                    world.disk(sector).copy_from_slice(&data);
                }
            }
            Job::Discard(sector, count) => {
                (sector..sector + count).for_each(|sector| world.disk(sector).fill(0));
            }
            Job::Flush => {}
        }
        Poll::Ready((ticket, Ok(())))
    }
}
