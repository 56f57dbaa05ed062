//! A disk whose power fails.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use kv_store::Disk;

/// Unit: bytes.
const SECTOR: usize = 512;

/// Which flush does nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Missing {
    Nothing,
    /// All of them.
    All,
    /// One after something else than a header, when something else than a header follows.
    BehindRecord,
    /// The one before a header is written.
    BeforeHeader,
    /// The one after a header was written.
    BehindHeader,
}

/// Random numbers, the same for the same seed (xorshift64).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % limit
    }
}

/// What is on the disk, and what only the disk's own memory has.
#[derive(Clone)]
struct Inner {
    durable: Vec<u8>,
    /// Sectors, in the order in which they were written.
    cached: Vec<(usize, [u8; SECTOR])>,
    /// What is done before power fails: writes and flushes.
    left: u64,
    missing: Missing,
    /// A flush was asked for, and is done before the next operation, if at all.
    flushing: bool,
    header_last: bool,
    sector: u64,
}

/// A disk; a clone is the same disk.
#[derive(Clone)]
pub(crate) struct FailingDisk(Rc<RefCell<Inner>>);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct PowerFailure;

impl FailingDisk {
    pub(crate) fn new(bytes: u64, sector: u64, missing: Missing) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            durable: vec![0; usize::try_from(bytes).unwrap()],
            cached: Vec::new(),
            left: u64::MAX,
            missing,
            flushing: false,
            header_last: false,
            sector,
        })))
    }

    /// The same contents on a disk of its own.
    pub(crate) fn copy(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    /// Power fails after so many writes and flushes.
    pub(crate) fn fail_after(&self, operations: u64) {
        self.0.borrow_mut().left = operations;
    }

    /// How many writes and flushes are left.
    pub(crate) fn left(&self) -> u64 {
        self.0.borrow().left
    }

    /// Power fails and comes back: of what was not flushed each sector is there, or not, or its
    /// beginning is.
    pub(crate) fn fail(&self, random: &mut Random) {
        let mut inner = self.0.borrow_mut();
        inner.settle(false);
        for (sector, data) in std::mem::take(&mut inner.cached) {
            let length = match random.below(8) {
                0..3 => 0,
                // The first bytes of a header are what tells a disk with a store from others.
                3 if sector >= 16 => usize::try_from(random.below(512)).unwrap(),
                _ => SECTOR,
            };
            let at = sector * SECTOR;
            inner.durable[at..at + length].copy_from_slice(&data[..length]);
        }
        inner.left = u64::MAX;
        inner.header_last = false;
    }

    /// Changes a byte for good.
    pub(crate) fn damage(&self, at: usize) {
        let mut inner = self.0.borrow_mut();
        inner.settle(false);
        inner.durable[at] ^= 0x10;
    }
}

impl Inner {
    /// Does the flush that was asked for, or not.
    fn settle(&mut self, header_follows: bool) {
        let does = match self.missing {
            Missing::Nothing => true,
            Missing::All => false,
            Missing::BehindRecord => self.header_last || header_follows,
            Missing::BeforeHeader => !header_follows,
            Missing::BehindHeader => !self.header_last,
        };
        if std::mem::take(&mut self.flushing) && does {
            for (sector, data) in self.cached.drain(..) {
                let at = sector * SECTOR;
                self.durable[at..at + SECTOR].copy_from_slice(&data);
            }
        }
    }

    fn operation(&mut self) -> Result<(), PowerFailure> {
        self.left = self.left.checked_sub(1).ok_or(PowerFailure)?;
        Ok(())
    }
}

impl Disk for FailingDisk {
    type Error = PowerFailure;

    fn sectors(&self) -> u64 {
        (self.0.borrow().durable.len() / SECTOR) as u64
    }

    fn sector_size(&self) -> u64 {
        self.0.borrow().sector
    }

    async fn read(&self, sector: u64, data: &mut [u8]) -> Result<(), PowerFailure> {
        let inner = self.0.borrow();
        let first = usize::try_from(sector).unwrap();
        data.copy_from_slice(&inner.durable[first * SECTOR..][..data.len()]);
        for (at, cached) in &inner.cached {
            if let Some(place) = at.checked_sub(first).and_then(|at| data.get_mut(at * SECTOR..))
                && let Some(place) = place.get_mut(..SECTOR)
            {
                place.copy_from_slice(cached);
            }
        }
        Ok(())
    }

    async fn write(&self, sector: u64, data: &[u8]) -> Result<(), PowerFailure> {
        let mut inner = self.0.borrow_mut();
        inner.operation()?;
        let size = usize::try_from(inner.sector).unwrap();
        let first = usize::try_from(sector).unwrap();
        assert!(data.len().is_multiple_of(size) && (first * SECTOR).is_multiple_of(size));
        assert!(first * SECTOR + data.len() <= inner.durable.len(), "behind the end");
        let header = sector < 16 && data.iter().any(|&byte| byte != 0);
        inner.settle(header);
        inner.header_last = header;
        for (at, data) in (first..).zip(data.chunks_exact(SECTOR)) {
            inner.cached.push((at, data.try_into().unwrap()));
        }
        Ok(())
    }

    async fn flush(&self) -> Result<(), PowerFailure> {
        let mut inner = self.0.borrow_mut();
        inner.operation()?;
        inner.settle(false);
        inner.flushing = true;
        Ok(())
    }
}

/// The result of a future that never waits.
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}
