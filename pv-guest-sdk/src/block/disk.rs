//! A disk: how it is brought up and taken down, and its operations.

use heapless::{Deque, String, Vec};
use hypercall_abi::blkif::{self as abi, DIRECT_SEGMENTS, SECTOR_SIZE};
use hypercall_abi::types::{PAGE_SIZE, Port};

use super::error::DiskError;
use super::queue::{PAGES, Queue, Ticket};
use crate::ring::{RING_PAGES, Ring, Sharing};
use crate::xenbus::{Device, Opened, State};
use crate::xenstore::decimal;

/// How many requests one transfer has under way.
const WINDOW: usize = 16;

/// How a disk is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The most pages of the ring, as a power of two, 0 to 4; the back end may allow fewer.
    pub ring_order: u32,
    /// How many pages data goes through, 12 to 64: the most that is under way at a time.
    pub pages: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { ring_order: 1, pages: 64 }
    }
}

/// What the back end has said of the disk.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{block::Info};
/// # fn example(info: Info) -> u64 {
/// // What it holds. Unit: bytes.
/// let Info { sectors, .. } = info;
/// sectors * 512
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Info {
    /// Unit: 512 bytes, whatever the disk's sectors are.
    pub sectors: u64,
    /// The disk's own sectors, of which each transfer has a whole number. Unit: bytes, 512 to 4096.
    pub sector_size: u32,
    /// Whether it can be written.
    pub read_only: bool,
    /// Whether [`Disk::flush`] has something to do; if not, what was written is safe.
    pub flush: bool,
    /// Whether it takes [`Disk::discard`].
    pub discard: bool,
    /// The most pages of one request.
    pub segments: usize,
}

/// A disk that is in use. Dropping it takes the device down without waiting for the back end, whose
/// pages go to quarantine; [`Disk::close`] waits.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{block::{Disk, DiskError}, ring::Sharing, println};
/// # async fn example(disk: Disk<'_, impl Sharing>) -> Result<(), DiskError> {
/// let info = disk.info();
/// println!("{} sectors of 512 bytes on {}", info.sectors, disk.device().path());
/// let mut sector = [0; 512];
/// disk.read(0, &mut sector).await?;
/// disk.write(1, &sector).await?;
/// disk.flush().await?;
/// if info.discard {
///     disk.discard(8, 8).await?;
/// }
/// disk.closing().await?; // the back end wants it back
/// disk.close().await?;
/// # Ok(())
/// # }
/// ```
pub struct Disk<'a, S: Sharing> {
    opened: Opened<'a>,
    pub(super) queue: Queue<S::Page, S::Signal>,
    info: Info,
}

/// The bytes of a transfer.
enum Data<'d> {
    Read(&'d mut [u8]),
    Write(&'d [u8]),
}

impl<'a, S: Sharing> Disk<'a, S> {
    /// Brings a device up, from whatever state an earlier driver left it in.
    ///
    /// # Errors
    /// [`DiskError::Refused`] if the back end is not there, or closes it; [`DiskError::Form`] if it
    /// describes no disk; [`DiskError::Store`], [`DiskError::Grant`] or [`DiskError::Hypercall`] if
    /// that is what fails.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use pv_guest_sdk::{block::{Disk, DiskError, Options}, ring::Sharing, xenbus::Device};
    /// # async fn example(device: Device<'static>, grants: impl Sharing) -> Result<(), DiskError> {
    /// let disk = Disk::open(device, grants, Options { pages: 64, ..Options::default() }).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn open(device: Device<'a>, sharing: S, options: Options) -> Result<Self, DiskError> {
        let opened = Opened::begin(device).await?.map_err(DiskError::Refused)?;
        let device = &opened.device;
        let order = device.backend_number("max-ring-page-order").await?.unwrap_or(0);
        let order = order.min(options.ring_order.min(abi::MAX_RING_ORDER).into());
        let peer = device.backend_domain();
        let ring = (0..1 << order).map(|_| sharing.page(peer)).collect::<Result<Vec<_, _>, _>>()?;
        let slots = abi::RING_SLOTS[ring.len().checked_ilog2().unwrap_or(0) as usize];
        let pages = options.pages.clamp(DIRECT_SEGMENTS as usize + 1, PAGES);
        let pages = (0..pages).map(|_| sharing.page(peer)).collect::<Result<Vec<_, _>, _>>()?;
        let room = pages.len();
        let (port, signal) = sharing.signal(peer)?;
        let queue = Queue::new(Ring::new(ring, slots, abi::SLOT_SIZE), pages, signal);
        let mut disk = Self { opened, queue, info: Info::default() };
        disk.connect(port).await?;
        disk.info = describe(disk.device(), room).await?;
        disk.device().switch(State::Connected).await?;
        Ok(disk)
    }

    /// Tells the back end where the ring and the port are, and waits for it to connect.
    async fn connect(&mut self, port: Port) -> Result<(), DiskError> {
        let references = self.queue.ring_references();
        let values = references.iter().map(|reference| decimal(reference.0.into()));
        let values: Vec<_, RING_PAGES> = values.collect();
        let single = values.len() == 1;
        let names = (0..values.len()).map(|index| {
            let mut name = String::<16>::try_from("ring-ref").unwrap_or_default();
            let _it_fits = if single { Ok(()) } else { name.push_str(&decimal(index as u64)) };
            name
        });
        let names: Vec<_, RING_PAGES> = names.collect();
        let (port, order) = (decimal(port.0.into()), decimal(values.len().ilog2().into()));
        let mut nodes: Vec<(&str, Option<&str>), { RING_PAGES + 6 }> = Vec::new();
        // What an earlier program has left of the other form would be believed.
        nodes.extend([("ring-ref", None), ("ring-ref0", None)]);
        nodes.extend(names.iter().zip(&values).map(|(name, value)| (&**name, Some(&**value))));
        nodes.extend([("event-channel", Some(&*port)), ("protocol", Some(abi::PROTOCOL))]);
        nodes.extend([("feature-persistent", Some("1"))]);
        nodes.extend([("ring-page-order", (!single).then_some(&*order))]);
        self.opened.connect(&nodes, State::Initialised).await?.map_err(DiskError::Refused)
    }

    /// What the back end has said of it.
    #[must_use]
    pub const fn info(&self) -> Info {
        self.info
    }

    /// Its device.
    #[must_use]
    pub const fn device(&self) -> &Device<'a> {
        &self.opened.device
    }

    /// Reads from `sector` on, which counts 512 bytes whatever the disk's sectors are.
    ///
    /// # Errors
    /// [`DiskError::Unaligned`] or [`DiskError::Range`] for what the disk does not have,
    /// [`DiskError::Failed`] if the back end could not, [`DiskError::Broken`] or [`DiskError::Gone`]
    /// if there is none any more. `data` may be filled in part.
    pub async fn read(&self, sector: u64, data: &mut [u8]) -> Result<(), DiskError> {
        self.transfer(sector, Data::Read(data)).await
    }

    /// Writes from `sector` on, which counts 512 bytes whatever the disk's sectors are. What was
    /// written survives a power cut after [`Disk::flush`].
    ///
    /// # Errors
    /// As of [`Disk::read`]; [`DiskError::ReadOnly`]. Part of it may be written.
    pub async fn write(&self, sector: u64, data: &[u8]) -> Result<(), DiskError> {
        if self.info.read_only {
            Err(DiskError::ReadOnly)
        } else {
            self.transfer(sector, Data::Write(data)).await
        }
    }

    /// Waits until what was written, by requests that are answered, survives a power cut.
    ///
    /// # Errors
    /// As of [`Disk::read`].
    pub async fn flush(&self) -> Result<(), DiskError> {
        if !self.info.flush {
            return Ok(());
        }
        let ticket = self.queue.reserve(0).await?;
        ticket.transfer(abi::FLUSH, 0, 0);
        done("flush", 0, ticket.answer().await?)
    }

    /// Tells the disk that sectors are not needed any more. What is read there afterwards is not
    /// determined.
    ///
    /// # Errors
    /// As of [`Disk::write`]; [`DiskError::Unsupported`].
    pub async fn discard(&self, sector: u64, sectors: u64) -> Result<(), DiskError> {
        match self.info {
            Info { read_only: true, .. } => return Err(DiskError::ReadOnly),
            Info { discard: false, .. } => return Err(DiskError::Unsupported),
            _ => self.check(sector, sectors)?,
        }
        let ticket = self.queue.reserve(0).await?;
        ticket.discard(sector, sectors);
        done("discard", sector, ticket.answer().await?)
    }

    /// Whether the disk has these sectors, of 512 bytes.
    fn check(&self, sector: u64, sectors: u64) -> Result<(), DiskError> {
        let unit = u64::from(self.info.sector_size / SECTOR_SIZE);
        if sectors == 0 || !sector.is_multiple_of(unit) || !sectors.is_multiple_of(unit) {
            return Err(DiskError::Unaligned);
        }
        let end = sector.checked_add(sectors).filter(|&end| end <= self.info.sectors);
        end.ok_or(DiskError::Range).map(drop)
    }

    async fn transfer(&self, sector: u64, mut data: Data<'_>) -> Result<(), DiskError> {
        const SECTOR: usize = SECTOR_SIZE as usize;
        let (length, operation, name) = match &data {
            Data::Read(data) => (data.len(), abi::READ, "read"),
            Data::Write(data) => (data.len(), abi::WRITE, "write"),
        };
        if !length.is_multiple_of(SECTOR) {
            return Err(DiskError::Unaligned);
        }
        self.check(sector, (length / SECTOR) as u64)?;
        let mut window: Deque<(Ticket<'_, _, _>, usize), WINDOW> = Deque::new();
        let mut next = 0;
        loop {
            while next < length {
                let chunk = next..length.min(next + self.info.segments * PAGE_SIZE);
                let pages = pages(chunk.len());
                let ticket = match self.queue.try_reserve(pages) {
                    _ if window.is_full() => break,
                    Some(ticket) => ticket,
                    None if window.is_empty() => self.queue.reserve(pages).await?,
                    None => break,
                };
                if let Data::Write(data) = &data {
                    ticket.fill(&data[chunk.clone()]);
                }
                ticket.transfer(operation, sector + (next / SECTOR) as u64, chunk.len());
                next = chunk.end;
                let _it_fits = window.push_back((ticket, chunk.start));
            }
            let Some((ticket, start)) = window.pop_front() else { return Ok(()) };
            done(name, sector + (start / SECTOR) as u64, ticket.answer().await?)?;
            if let Data::Read(data) = &mut data {
                let end = length.min(start + self.info.segments * PAGE_SIZE);
                ticket.drain(&mut data[start..end]);
            }
        }
    }

    /// Completes when the back end closes the disk, and says in which state it is. If that is
    /// [`State::Closing`], it still answers what is under way, and waits for [`Disk::close`]; else
    /// all that is under way fails.
    ///
    /// # Errors
    /// [`DiskError::Store`] if the store can't be read.
    pub async fn closing(&self) -> Result<State, DiskError> {
        let state = self.opened.closing().await?;
        if state != State::Closing {
            self.queue.end();
        }
        Ok(state)
    }

    /// Waits for what is under way, takes the device down, and returns it so that it can be opened
    /// again. It does not flush.
    ///
    /// # Errors
    /// [`DiskError::Store`] if the store can't be read or written.
    pub async fn close(mut self) -> Result<Device<'a>, DiskError> {
        // A back end that broke the protocol answers no more.
        let _answered = self.queue.settle().await;
        Ok(self.opened.close().await?)
    }
}

/// How many pages a request of so many bytes needs, with the one that names them.
const fn pages(bytes: usize) -> usize {
    let count = bytes.div_ceil(PAGE_SIZE);
    if count > DIRECT_SEGMENTS as usize { count + 1 } else { count }
}

/// What the status of an answer says.
const fn done(operation: &'static str, sector: u64, status: i16) -> Result<(), DiskError> {
    if status == abi::STATUS_OKAY {
        Ok(())
    } else {
        Err(DiskError::Failed(operation, sector, status))
    }
}

/// Reads what the back end has published. Data has so many pages.
async fn describe(device: &Device<'_>, room: usize) -> Result<Info, DiskError> {
    let sectors = device.backend_number("sectors").await?.ok_or(DiskError::Form("sectors"))?;
    let sector_size = device.backend_number("sector-size").await?.unwrap_or(SECTOR_SIZE.into());
    let valid = |size: &u32| size.is_power_of_two() && (512..=4096).contains(size);
    let sector_size = u32::try_from(sector_size).ok().filter(valid);
    let info = device.backend_number("info").await?.unwrap_or(0);
    let has = async |key| Ok::<_, DiskError>(device.backend_number(key).await? == Some(1));
    let indirect = device.backend_number("feature-max-indirect-segments").await?.unwrap_or(0);
    // Two such requests have room at a time, with the pages that name their segments.
    let indirect = usize::try_from(indirect).unwrap_or(usize::MAX).min(room / 2 - 1);
    Ok(Info {
        sectors,
        sector_size: sector_size.ok_or(DiskError::Form("sector-size"))?,
        read_only: info & u64::from(abi::INFO_READONLY) != 0,
        flush: has("feature-flush-cache").await?,
        discard: has("feature-discard").await?,
        segments: indirect.max(DIRECT_SEGMENTS as usize),
    })
}
