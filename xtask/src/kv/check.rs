//! What a power failure leaves of the guest's disk, at any time of its log.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::task::{Context as Wakes, Poll, Waker};

use anyhow::{Context, Result, ensure};
use kv_store::{Disk, Format, Options, Store};

use super::client::{Change, Model, Random};
use super::log::{Operation, SECTOR};

/// Below this no sector is torn: a disk whose very first header was not written whole is refused, and
/// nothing is lost by that.
const HEADERS: usize = 16;

/// Lets power fail after each operation of a log, several times with other sectors that are lost or
/// torn, and opens what is left. Every change that was acknowledged until then must be there, and
/// nothing else but what was sent: none is said to be wrong, or what is.
///
/// # Errors
///
/// When the log is none of a disk of so many bytes.
pub(super) fn check(
    log: &[Operation],
    bytes: usize,
    clients: &[Vec<Change>],
    times: u64,
) -> Result<Option<String>> {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut durable = vec![0; bytes];
    // What the disk may have or not, by sectors, in the order in which it was written.
    let mut cached: Vec<(usize, &[u8])> = Vec::new();
    for done in 0..=log.len() {
        for _ in 0..if cached.is_empty() { 1 } else { times } {
            let mut image = durable.clone();
            for (sector, data) in &cached {
                let length = match random.below(8) {
                    0..3 => 0,
                    3 if *sector >= HEADERS => usize::try_from(random.below(SECTOR as u64))?,
                    _ => SECTOR,
                };
                let at = sector * SECTOR;
                image[at..at + length].copy_from_slice(&data[..length]);
            }
            if let Some(wrong) = recover(image, clients, done) {
                return Ok(Some(format!("after {done} of {} operations: {wrong}", log.len())));
            }
        }
        match log.get(done) {
            None => {}
            Some(Operation::Flush) => cached.drain(..).for_each(|(sector, data)| {
                durable[sector * SECTOR..(sector + 1) * SECTOR].copy_from_slice(data);
            }),
            Some(Operation::Write(sector, data)) => {
                let end = (sector * SECTOR).checked_add(data.len());
                ensure!(end.context("a sector")? <= bytes, "a write behind the end of the disk");
                cached.extend((*sector..).zip(data.chunks_exact(SECTOR)));
            }
        }
    }
    Ok(None)
}

/// What is on a disk that has a store.
///
/// # Errors
///
/// When it has none, or a damaged one.
pub(crate) fn contents(image: Vec<u8>) -> Result<Model> {
    open(image, Format::Never).map_err(anyhow::Error::msg)
}

fn open(image: Vec<u8>, format: Format) -> Result<Model, String> {
    let options = Options { format, salt: 1, memory: 64 << 20 };
    let opened = now(Store::open(Image(RefCell::new(image)), options));
    let (store, _) = opened.map_err(|error| format!("the store is refused: {error}"))?;
    let mut model = Model::new();
    store.each(|key, value| {
        model.insert(key.into(), value.into());
    });
    Ok(model)
}

/// Opens what is left, and says what is wrong.
fn recover(image: Vec<u8>, clients: &[Vec<Change>], done: usize) -> Option<String> {
    let mut left = match open(image, Format::Blank) {
        Ok(left) => left,
        Err(error) => return Some(error),
    };
    for (number, changes) in clients.iter().enumerate() {
        let prefix = format!("{number}:").into_bytes();
        let mut theirs = Model::new();
        left.retain(|key, value| {
            let keep = !key.starts_with(&prefix);
            if !keep {
                theirs.insert(key.clone(), std::mem::take(value));
            }
            keep
        });
        let acknowledged = changes.iter().take_while(|it| it.acknowledged <= done);
        let count = acknowledged.clone().count();
        let mut expected = Model::new();
        acknowledged.for_each(|change| change.apply(&mut expected));
        let is_there = theirs == expected;
        // What was sent and not acknowledged may be there or not.
        let next = changes.get(count).filter(|change| change.sent <= done);
        if let Some(change) = next {
            change.apply(&mut expected);
        }
        if !is_there && (next.is_none() || theirs != expected) {
            return Some(format!(
                "of client {number}, {count} changes were acknowledged, and {} keys are there: not the right ones",
                theirs.len()
            ));
        }
    }
    (!left.is_empty()).then(|| "there are keys that nobody has set".into())
}

/// A disk in memory.
struct Image(RefCell<Vec<u8>>);

impl Disk for Image {
    type Error = Infallible;

    fn sectors(&self) -> u64 {
        (self.0.borrow().len() / SECTOR) as u64
    }

    fn sector_size(&self) -> u64 {
        SECTOR as u64
    }

    async fn read(&self, sector: u64, data: &mut [u8]) -> Result<(), Infallible> {
        let at = usize::try_from(sector).unwrap_or(usize::MAX) * SECTOR;
        data.copy_from_slice(&self.0.borrow()[at..at + data.len()]);
        Ok(())
    }

    async fn write(&self, sector: u64, data: &[u8]) -> Result<(), Infallible> {
        let at = usize::try_from(sector).unwrap_or(usize::MAX) * SECTOR;
        self.0.borrow_mut()[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }

    async fn flush(&self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// The result of a future that never waits.
fn now<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Wakes::from_waker(Waker::noop())) {
            return output;
        }
    }
}
