//! The store: all keys in memory, and how changes get to the disk.

use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::Future;

use crate::batch::{Batch, Change};
use crate::error::{Refusal, StoreError};
use crate::format::{CHANGE, Header, KEY, PAYLOAD, Place, SECTOR, SLOT, VALUE};
use crate::table::{Room, Table};

/// A disk. Sectors are counted in [`SECTOR`] bytes, and data has whole ones.
///
/// What was written before [`Disk::flush`] was called is there for good when that returns. Of what was
/// written since, any part may be there after a failure.
pub trait Disk {
    /// What it says when something goes wrong.
    type Error;

    /// How many sectors it has.
    fn sectors(&self) -> u64;

    /// What it reads and writes at once. Unit: bytes; a power of two from 512.
    fn sector_size(&self) -> u64;

    /// Reads from a sector on.
    fn read(&self, sector: u64, data: &mut [u8]) -> impl Future<Output = Result<(), Self::Error>>;

    /// Writes from a sector on.
    fn write(&self, sector: u64, data: &[u8]) -> impl Future<Output = Result<(), Self::Error>>;

    /// Makes what was written stay.
    fn flush(&self) -> impl Future<Output = Result<(), Self::Error>>;
}

/// How much a store has done since it was opened, and has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Batches that were committed.
    pub commits: u64,
    /// How often the log was begun anew.
    pub compactions: u64,
    /// Keys there are.
    pub keys: usize,
    /// Keys, values and what goes with them. Unit: bytes.
    pub bytes: usize,
    /// How much of the area is used. Unit: bytes.
    pub log: u64,
    /// How much there is. Unit: bytes.
    pub area: u64,
    /// The generation of the log.
    pub generation: u64,
}

/// A log: its header, and where its next record goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Log {
    pub(crate) header: Header,
    pub(crate) place: Place,
}

/// Keys and values on a disk.
pub struct Store<D> {
    pub(crate) disk: D,
    pub(crate) table: RefCell<Table>,
    pub(crate) log: Cell<Log>,
    pub(crate) room: Room,
    /// Where salts come from.
    pub(crate) random: Cell<u64>,
    /// The log may not be as it should: a commit is under way, or has not ended well.
    pub(crate) busy: Cell<bool>,
    pub(crate) counts: Cell<(u64, u64)>,
}

/// The next of a sequence of numbers, none of which comes twice (splitmix64).
pub(crate) const fn next(state: u64) -> (u64, u64) {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = state;
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (state, word ^ word >> 31)
}

impl<D: Disk> Store<D> {
    /// The value of a key, if all that made it so was committed.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.table.borrow().get(key).map(<[u8]>::to_vec)
    }

    /// Whether there is a key.
    #[must_use]
    pub fn has(&self, key: &[u8]) -> bool {
        self.table.borrow().get(key).is_some()
    }

    /// Calls for each key and its value, in the order of keys. It must not use the store.
    pub fn each(&self, with: impl FnMut(&[u8], &[u8])) {
        self.table.borrow().each(with);
    }

    /// What there is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let (table, log, (commits, compactions)) =
            (self.table.borrow(), self.log.get(), self.counts.get());
        Counts {
            commits,
            compactions,
            keys: table.len(),
            bytes: table.bytes(),
            log: log.place.offset,
            area: log.header.area,
            generation: log.header.generation,
        }
    }

    /// Adds a change to a batch, and says whether its key is there before it is made. Between the
    /// first one and the commit of the batch there must be no other commit.
    ///
    /// # Errors
    /// As [`Refusal`] says; the batch is as it was.
    pub fn add(&self, batch: &mut Batch, change: Change<'_>) -> Result<bool, Refusal> {
        let key = change.key();
        if key.is_empty() || key.len() > KEY {
            return Err(Refusal::Key);
        }
        let table = self.table.borrow();
        let planned = batch.lengths.get(key).copied();
        let old = planned.unwrap_or_else(|| table.get(key).map(<[u8]>::len));
        let new = match change {
            Change::Set(_, value) if value.len() > VALUE => return Err(Refusal::Value),
            Change::Set(_, value) => Some(value.len()),
            Change::Delete(_) if old.is_none() => return Ok(false),
            Change::Delete(_) => None,
        };
        if batch.payload.len() >= PAYLOAD {
            return Err(Refusal::Later);
        }
        let size = |length: Option<usize>| {
            length.map_or(0, |it| isize::try_from(CHANGE + key.len() + it).unwrap_or(isize::MAX))
        };
        let mut growth = batch.growth;
        growth.bytes += size(new) - size(old);
        growth.keys += isize::from(new.is_some()) - isize::from(old.is_some());
        // What makes nothing longer always has room.
        if size(new) > size(old) && !table.fits(&self.room, growth) {
            return Err(Refusal::Full);
        }
        batch.growth = growth;
        batch.lengths.insert(key.into(), new);
        change.encode(&mut batch.payload);
        Ok(old.is_some())
    }

    /// Makes the changes of a batch: all of them, and for good, when it returns.
    ///
    /// # Errors
    /// [`StoreError::Disk`]: after a failure all or nothing of the batch may be there.
    /// [`StoreError::Failed`] after that, or after a commit that was dropped, or during one.
    pub async fn commit(&self, batch: Batch) -> Result<(), StoreError<D::Error>> {
        if self.busy.replace(true) {
            return Err(StoreError::Failed);
        }
        if !batch.is_empty() {
            let mut log = self.log.get();
            let (mut record, mut next) = log.place.seal(&batch.payload, log.header.sector);
            if next.offset > log.header.area {
                log = self.rewrite(log).await?;
                (record, next) = log.place.seal(&batch.payload, log.header.sector);
            }
            if next.offset > log.header.area {
                return Err(StoreError::Small);
            }
            self.write(log.header.start() + log.place.offset, &record).await?;
            self.disk.flush().await?;
            self.log.set(Log { place: next, ..log });
            let _it_was_made_by_add = self.table.borrow_mut().apply(&batch.payload);
            let (commits, compactions) = self.counts.get();
            self.counts.set((commits + 1, compactions));
        }
        self.busy.set(false);
        Ok(())
    }

    /// Begins the log anew, without what is not of use any more.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn compact(&self) -> Result<(), StoreError<D::Error>> {
        if self.busy.replace(true) {
            return Err(StoreError::Failed);
        }
        self.rewrite(self.log.get()).await?;
        self.busy.set(false);
        Ok(())
    }

    /// Writes the next generation: its records, then its header, which makes it the one that counts.
    async fn rewrite(&self, old: Log) -> Result<Log, StoreError<D::Error>> {
        let (state, salt) = next(self.random.get());
        self.random.set(state);
        let mut header = Header { generation: old.header.generation + 1, salt, ..old.header };
        let mut place = Place::first(salt);
        let mut after: Option<Vec<u8>> = None;
        loop {
            let piece = self.table.borrow().piece(after.as_deref());
            let Some((payload, last)) = piece else { break };
            let (record, next) = place.seal(&payload, header.sector);
            self.write(header.start() + place.offset, &record).await?;
            (place, after) = (next, Some(last));
        }
        header.least = place.offset;
        self.disk.flush().await?;
        self.begin(&header).await?;
        let log = Log { header, place };
        self.log.set(log);
        let (commits, compactions) = self.counts.get();
        self.counts.set((commits, compactions + 1));
        Ok(log)
    }

    /// Makes a header the one that counts.
    pub(crate) async fn begin(&self, header: &Header) -> Result<(), StoreError<D::Error>> {
        self.write(header.slot(), &header.encode()).await?;
        self.disk.flush().await?;
        // The other is of no use any more. If it were believed after this one was damaged, what came
        // since would be lost and nobody told.
        self.write(SLOT as u64 - header.slot(), &[0; SLOT]).await
    }

    /// Writes at a byte.
    async fn write(&self, at: u64, data: &[u8]) -> Result<(), StoreError<D::Error>> {
        Ok(self.disk.write(at / SECTOR, data).await?)
    }
}
