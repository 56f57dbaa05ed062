//! Memory, grants and event channels, without a machine. What must not happen panics: a copy that
//! leaves a page.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

pub(crate) use backend_rig::{Page, Random};
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
}

pub(crate) type Domain = Rc<RefCell<Memory>>;

impl Memory {
    pub(crate) fn new(pages: usize) -> Domain {
        let page = || GuestPage { data: [0; 4096], granted: false, read_only: false };
        let pages = (0..pages).map(|_| page()).collect();
        let (notified, copies, batches, guests, now, waker) = ([0; 2], 0, 0, 0, 0, None);
        Rc::new(RefCell::new(Self { pages, notified, copies, batches, guests, now, waker }))
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

    fn copy(&mut self, direction: Direction, copies: &mut [Copy], packets: &mut [Packet<Own>]) {
        let mut memory = self.0.borrow_mut();
        memory.batches += 1;
        memory.copies += copies.len();
        for copy in copies {
            assert!(!copy.done && copy.length > 0);
            assert!(copy.offset + copy.length <= 4096 && copy.at + copy.length <= 4096);
            let own = &mut packets[usize::from(copy.packet)].pages_mut()[usize::from(copy.page)];
            let own = &mut own.bytes_mut()[usize::from(copy.at)..][..usize::from(copy.length)];
            let page = memory.pages.get_mut(copy.gref.0 as usize).filter(|page| page.granted);
            let Some(page) = page else { continue };
            let theirs = &mut page.data[usize::from(copy.offset)..][..usize::from(copy.length)];
            match direction {
                Direction::FromGuest => own.copy_from_slice(theirs),
                Direction::ToGuest if page.read_only => continue,
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
