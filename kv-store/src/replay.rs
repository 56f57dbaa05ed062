//! How a store is opened: which header counts, and what its log says.

use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use crate::batch::Growth;
use crate::error::StoreError;
use crate::format::{AREAS, Header, LEAST, Place, RECORD, SECTOR, SLOT, open};
use crate::store::{Disk, Log, Store, next};
use crate::table::{Room, Table};

/// What is done with a disk that has no store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// It gets one if its first 8192 bytes are 0.
    Blank,
    /// It gets a fresh one, whatever was there before.
    Always,
    /// It stays as it is.
    Never,
}

/// How a store is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What is done with a disk that has no store.
    pub format: Format,
    /// A number that no earlier start had, such as a clock's.
    pub salt: u64,
    /// How much memory keys and values may take. Unit: bytes.
    pub memory: usize,
}

/// What was found on a disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Recovery {
    /// There was no store, and there is one now.
    pub formatted: bool,
    /// Keys there are.
    pub keys: usize,
    /// Records the log has.
    pub records: u64,
    /// How long it is. Unit: bytes.
    pub bytes: u64,
    /// A record at its end was not complete, and is gone: it was never acknowledged. Unit: bytes.
    pub torn: usize,
    /// A generation was begun and not completed, and is gone: nothing is lost by that.
    pub unfinished: bool,
}

/// A piece of the disk in memory.
struct Window<'d, D> {
    disk: &'d D,
    /// Where it begins, and where it must end. Unit: bytes.
    start: u64,
    end: u64,
    bytes: Vec<u8>,
}

/// How much is read at once. Unit: bytes.
const WINDOW: u64 = 2 * RECORD as u64;

impl<D: Disk> Window<'_, D> {
    /// So many bytes of the disk, or none if that is behind the end.
    async fn get(&mut self, at: u64, length: usize) -> Result<Option<&[u8]>, StoreError<D::Error>> {
        let end = at + length as u64;
        if end > self.end {
            return Ok(None);
        }
        if at < self.start || end > self.start + self.bytes.len() as u64 {
            let size = WINDOW.min(self.end - at);
            self.bytes.resize(usize::try_from(size).unwrap_or(0), 0);
            self.start = at;
            self.disk.read(at / SECTOR, &mut self.bytes).await?;
        }
        let from = usize::try_from(at - self.start).unwrap_or(usize::MAX);
        Ok(self.bytes.get(from..from + length))
    }
}

impl<D: Disk> Store<D> {
    /// Opens the store on a disk, and says what was found. All of it is there for good.
    ///
    /// # Errors
    /// As [`StoreError`] says; but with [`StoreError::Disk`] nothing was written.
    pub async fn open(disk: D, options: Options) -> Result<(Self, Recovery), StoreError<D::Error>> {
        if disk.sectors() < LEAST / SECTOR {
            return Err(StoreError::Small);
        }
        if disk.sector_size() > SLOT as u64 {
            return Err(StoreError::Sectors);
        }
        let mut slots = [[0; SLOT]; 2];
        for (slot, sector) in slots.iter_mut().zip([0, SLOT as u64 / SECTOR]) {
            disk.read(sector, slot).await?;
        }
        let headers = slots.each_ref().map(|slot| Header::decode(slot));
        let newest = headers.into_iter().flatten().max_by_key(|header| header.generation);
        let blank = slots.iter().flatten().all(|&byte| byte == 0);
        let fresh = match options.format {
            Format::Always => true,
            Format::Blank => newest.is_none() && blank,
            Format::Never => false,
        };
        if fresh {
            return Self::format(disk, options, newest.map_or(0, |it| it.generation)).await;
        }
        let Some(header) = newest else {
            let torn = slots.iter().any(|slot| Header::is_torn(slot));
            return Err(if torn { StoreError::Damaged(0) } else { StoreError::Foreign });
        };
        if disk.sector_size() > header.sector {
            return Err(StoreError::Sectors);
        }
        let end = header.area.checked_mul(2).and_then(|areas| areas.checked_add(AREAS));
        if end.is_none_or(|end| end / SECTOR > disk.sectors()) {
            return Err(StoreError::Small);
        }
        let (store, mut recovery) = Self::replay(disk, options, header).await?;
        recovery.unfinished = slots.iter().any(|slot| Header::is_torn(slot));
        // What was found may not have been there for good.
        store.disk.flush().await?;
        Ok((store, recovery))
    }

    async fn format(
        disk: D,
        options: Options,
        last: u64,
    ) -> Result<(Self, Recovery), StoreError<D::Error>> {
        let sector = disk.sector_size();
        let area = (disk.sectors() * SECTOR - AREAS) / 2 / SLOT as u64 * SLOT as u64;
        let header = Header { sector, area, generation: last + 1, salt: 0, least: 0 };
        let store = Self::new(disk, options, header);
        let (state, salt) = next(store.random.get());
        store.random.set(state);
        let header = Header { salt, ..header };
        store.log.set(Log { header, place: Place::first(salt) });
        store.begin(&header).await?;
        Ok((store, Recovery { formatted: true, ..Recovery::default() }))
    }

    fn new(disk: D, options: Options, header: Header) -> Self {
        let room = Room { area: header.area, sector: header.sector, memory: options.memory };
        Self {
            disk,
            table: RefCell::new(Table::default()),
            log: Cell::new(Log { header, place: Place::first(header.salt) }),
            room,
            random: Cell::new(options.salt),
            busy: Cell::new(false),
            counts: Cell::default(),
        }
    }

    /// Does what the log says.
    async fn replay(
        disk: D,
        options: Options,
        header: Header,
    ) -> Result<(Self, Recovery), StoreError<D::Error>> {
        let store = Self::new(disk, options, header);
        let mut recovery = Recovery::default();
        let start = header.start();
        let end = start + header.area;
        let mut window = Window { disk: &store.disk, start, end, bytes: Vec::new() };
        let mut place = Place::first(header.salt);
        let sector = usize::try_from(header.sector).unwrap_or(SLOT);
        loop {
            let at = start + place.offset;
            let head = window.get(at, sector).await?;
            let Some(length) = head.and_then(|it| place.length(it, 0, header.sector)) else {
                break;
            };
            let Some(payload) = window.get(at, length).await?.and_then(open) else {
                recovery.torn = length;
                break;
            };
            let mut table = store.table.borrow_mut();
            if !table.apply(payload) {
                return Err(StoreError::Damaged(at));
            }
            if !table.fits(&store.room, Growth::default()) {
                return Err(StoreError::Memory);
            }
            place = place.behind(length);
            recovery.records += 1;
        }
        // The first keys are all there, and a record that another one follows was complete.
        let mut damaged = place.offset < header.least;
        let mut at = start + place.offset + header.sector;
        while !damaged && at < start + place.offset + RECORD as u64 {
            let head = window.get(at, sector).await?;
            if let Some(length) = head.and_then(|it| place.length(it, 1, header.sector)) {
                damaged = window.get(at, length).await?.and_then(open).is_some();
            }
            at += header.sector;
        }
        if damaged {
            return Err(StoreError::Damaged(start + place.offset));
        }
        (recovery.keys, recovery.bytes) = (store.table.borrow().len(), place.offset);
        store.log.set(Log { header, place });
        Ok((store, recovery))
    }
}
