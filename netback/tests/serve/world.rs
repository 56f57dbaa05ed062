//! Memory, grants and event channels, without a machine. What must not happen panics: a copy that
//! leaves a page.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Waker};

pub(crate) use backend_rig::{Page, Random};
use hypercall_abi::types::{DomId, GrantRef};
use netback::{Buffer, Copy, Direction, Guest, Packet, Pool, Side};

pub(crate) struct GuestPage {
    pub(crate) data: [u8; 4096],
    pub(crate) granted: bool,
    pub(crate) read_only: bool,
}

/// A domain's memory: a page's number is its grant reference.
pub(crate) struct Memory {
    pub(crate) pages: Vec<GuestPage>,
    /// Events of each ring that the domain got.
    pub(crate) notified: [usize; 2],
    /// Copies, and calls that made some.
    pub(crate) copies: usize,
    pub(crate) batches: usize,
    /// Back ends that have it.
    pub(crate) guests: usize,
    /// The time.
    pub(crate) now: u64,
    waker: Option<Waker>,
    id: DomId,
}

pub(crate) type Domain = Rc<RefCell<Memory>>;

thread_local! {
    /// All domains of a test that are left, by their numbers.
    static DOMAINS: RefCell<Vec<Weak<RefCell<Memory>>>> = const { RefCell::new(Vec::new()) };
}

impl Memory {
    pub(crate) fn new(pages: usize) -> Domain {
        let page = || GuestPage { data: [0; 4096], granted: false, read_only: false };
        let pages = (0..pages).map(|_| page()).collect();
        let (notified, copies, batches, guests, now, waker) = ([0; 2], 0, 0, 0, 0, None);
        DOMAINS.with_borrow_mut(|domains| {
            let id = DomId(u16::try_from(domains.len()).expect("few domains"));
            let memory = Self { pages, notified, copies, batches, guests, now, waker, id };
            let domain = Rc::new(RefCell::new(memory));
            domains.push(Rc::downgrade(&domain));
            domain
        })
    }

    /// A part of a page that is granted.
    fn part(&mut self, gref: GrantRef, offset: u16, length: u16) -> Option<&mut [u8]> {
        let page = self.pages.get_mut(gref.0 as usize).filter(|page| page.granted)?;
        Some(&mut page.data[usize::from(offset)..][..usize::from(length)])
    }

    /// An event for the back end.
    pub(crate) fn event(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

pub(crate) struct FakeGuest(Domain);

impl FakeGuest {
    pub(crate) fn new(domain: &Domain) -> Self {
        domain.borrow_mut().guests += 1;
        Self(domain.clone())
    }
}

impl Drop for FakeGuest {
    fn drop(&mut self) {
        let mut memory = self.0.borrow_mut();
        memory.guests -= 1;
        memory.waker = None;
    }
}

impl Guest for FakeGuest {
    type Page = Page;
    type Buffer = Own;

    fn domain(&self) -> DomId {
        self.0.borrow().id
    }

    fn copy(&mut self, direction: Direction, copies: &mut [Copy], packets: &mut [Packet<Own>]) {
        let mut memory = self.0.borrow_mut();
        memory.batches += 1;
        memory.copies += copies.len();
        for copy in copies {
            assert!(!copy.done && copy.length > 0);
            assert!(copy.offset + copy.length <= 4096 && copy.at + copy.length <= 4096);
            let own = &mut packets[usize::from(copy.packet)].pages_mut()[usize::from(copy.page)];
            let own = &mut own.bytes_mut()[usize::from(copy.at)..][..usize::from(copy.length)];
            if let Some((domain, gref, offset)) = copy.source {
                assert!(direction == Direction::ToGuest && offset + copy.length <= 4096);
                let other = DOMAINS.with_borrow(|it| it[usize::from(domain.0)].upgrade());
                let other = other.expect("its rings are served");
                let mut other = other.borrow_mut();
                let Some(theirs) = other.part(gref, offset, copy.length) else { continue };
                // Nobody else has the packet, or reads that page of it.
                own.copy_from_slice(theirs);
            }
            let is_read_only =
                memory.pages.get(copy.gref.0 as usize).is_some_and(|it| it.read_only);
            let Some(theirs) = memory.part(copy.gref, copy.offset, copy.length) else { continue };
            match direction {
                Direction::FromGuest => own.copy_from_slice(theirs),
                Direction::ToGuest if is_read_only => continue,
                Direction::ToGuest => theirs.copy_from_slice(own),
            }
            copy.done = true;
        }
    }

    fn notify(&mut self, side: Side) {
        self.0.borrow_mut().notified[side as usize] += 1;
    }

    fn now(&self) -> u64 {
        self.0.borrow().now
    }

    fn listen(&mut self, cx: &mut Context<'_>) {
        self.0.borrow_mut().waker = Some(cx.waker().clone());
    }
}

/// A page of the back end's.
#[derive(Debug)]
pub(crate) struct Own(Box<[u8; 4096]>, Rc<Cell<usize>>);

impl Buffer for Own {
    fn bytes(&self) -> &[u8; 4096] {
        &self.0
    }

    fn bytes_mut(&mut self) -> &mut [u8; 4096] {
        &mut self.0
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.1.set(self.1.get() - 1);
    }
}

/// Pages, up to a limit.
pub(crate) struct FakePool {
    pub(crate) used: Rc<Cell<usize>>,
    pub(crate) most: usize,
}

impl FakePool {
    pub(crate) fn new() -> Self {
        Self { used: Rc::default(), most: 100_000 }
    }
}

impl Pool for FakePool {
    type Buffer = Own;

    fn buffer(&mut self) -> Option<Own> {
        let used = self.used.get();
        (used < self.most).then(|| {
            self.used.set(used + 1);
            Own(Box::new([0xEE; 4096]), self.used.clone())
        })
    }

    fn left(&self) -> usize {
        self.most - self.used.get()
    }
}
