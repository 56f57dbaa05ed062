//! Disks: whole devices, partitions, regions and RAM disks, all with one interface.
//!
//! Sectors are of 512 bytes in all numbers here; a disk whose own are larger takes multiples of
//! those alone ([`Limits::sector_size`]). Nothing is cached: what was written is in the device, and
//! after [`Disk::flush`] stays there.

mod error;
pub mod gpt;
mod session;

use alloc::rc::Rc;

use crate::hw::{Piece, Ram};
use crate::virtio::Block;
use crate::virtio::block::{Kind, Order};

pub use error::DiskError;
pub(crate) use session::Completions;
pub use session::{Command, Full, Session};

/// What to do with sectors.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// From the disk to memory.
    Read,
    /// From memory to the disk.
    Write,
}

/// What a disk is like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// How long it is. Unit: 512 bytes.
    pub sectors: u64,
    /// The least that is read or written. Unit: bytes; a power of two, 512 or more.
    pub sector_size: u32,
    /// The least that is written without reading first. Unit: bytes.
    pub physical_size: u32,
    /// Whether writing is refused.
    pub read_only: bool,
    /// Whether what was written must be flushed to stay.
    pub can_flush: bool,
    /// What it discards as a whole, if it can be told that sectors are not needed. Unit: bytes.
    pub discard: Option<u32>,
}

/// What is behind a disk.
#[derive(Clone)]
enum Device {
    Virtio(Rc<Block>),
    Ram(Rc<Ram>),
}

/// A disk, or a part of one. A clone is the same disk.
#[derive(Clone)]
pub struct Disk {
    device: Device,
    /// Its first sector on the device.
    first: u64,
    limits: Limits,
}

impl Disk {
    /// A whole device.
    #[must_use]
    pub fn virtio(block: Rc<Block>) -> Self {
        Self { first: 0, limits: block.limits(), device: Device::Virtio(block) }
    }

    /// A disk of zeros in memory. Unit: pages.
    ///
    /// # Errors
    /// [`DiskError::Transport`] if there are not so many.
    pub fn ram(pages: usize) -> Result<Self, DiskError> {
        let ram = Ram::new(pages)?;
        let limits = Limits {
            sectors: ram.length() / 512,
            sector_size: 512,
            physical_size: 512,
            read_only: false,
            can_flush: false,
            discard: Some(512),
        };
        Ok(Self { device: Device::Ram(Rc::new(ram)), first: 0, limits })
    }

    /// What it is like.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// How long it is. Unit: 512 bytes.
    #[must_use]
    pub const fn sectors(&self) -> u64 {
        self.limits.sectors
    }

    /// A part of it as a disk. `None` if it is not within, or not of whole sectors.
    #[must_use]
    pub fn region(&self, first: u64, sectors: u64) -> Option<Self> {
        self.check(first, sectors).ok()?;
        let limits = Limits { sectors, ..self.limits };
        Some(Self { device: self.device.clone(), first: self.first + first, limits })
    }

    /// The same disk, not to be written.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.limits.read_only = true;
        self
    }

    /// Reads or writes sectors from `sector` on, as many as the pieces have room for. If this is
    /// dropped before it is done, the device may still do it, with the pieces kept for it.
    ///
    /// # Errors
    /// [`DiskError::Range`] behind the end, [`DiskError::Unaligned`] if a piece is not of whole
    /// sectors, [`DiskError::ReadOnly`], or what the device says; some sectors may be done then.
    pub async fn transfer(
        &self,
        operation: Operation,
        sector: u64,
        list: &[Piece],
    ) -> Result<(), DiskError> {
        let order = self.order(Command::Transfer(operation, sector, list))?;
        match &self.device {
            Device::Virtio(block) => block.transfer(operation, order.sector, list).await,
            Device::Ram(ram) => carry_out(ram, &order),
        }
    }

    /// The memory of sectors from `sector` on, `most` or as many of them as lie in one page, if the
    /// disk is in this domain's memory. What is written there is on the disk.
    #[must_use]
    pub fn resident(&self, sector: u64, most: u32) -> Option<Piece> {
        let Device::Ram(ram) = &self.device else { return None };
        let left = u32::try_from(self.limits.sectors.checked_sub(sector)?).unwrap_or(u32::MAX);
        let sectors = most.min(left).min(8);
        Some(ram.piece(512 * (self.first + sector), 512 * sectors)?).filter(|_| sectors > 0)
    }

    /// Has the device write down all that was written before.
    ///
    /// # Errors
    /// What the device says.
    pub async fn flush(&self) -> Result<(), DiskError> {
        match &self.device {
            Device::Virtio(block) => block.flush().await,
            Device::Ram(_) => Ok(()),
        }
    }

    /// Says that sectors are not needed: what is read there next is anything.
    ///
    /// # Errors
    /// [`DiskError::Unsupported`] if the device does not care, and as of [`Disk::transfer`].
    pub async fn discard(&self, sector: u64, sectors: u64) -> Result<(), DiskError> {
        let order = self.order(Command::Discard(sector, sectors))?;
        match &self.device {
            Device::Virtio(block) => block.discard(order.sector, sectors).await,
            Device::Ram(ram) => carry_out(ram, &order),
        }
    }

    /// What the device is to do for a command, if the disk may do it.
    fn order<'a>(&self, command: Command<'a>) -> Result<Order<'a>, DiskError> {
        let (kind, sector, list, count): (_, _, &[Piece], _) = match command {
            Command::Flush => (Kind::Flush, 0, &[], 0),
            Command::Discard(sector, count) => (Kind::Discard, sector, &[], count),
            Command::Transfer(operation, sector, list) => {
                (operation.into(), sector, list, self.sectors_of(list)?)
            }
        };
        self.check(sector, count)?;
        if self.limits.read_only && matches!(kind, Kind::Write | Kind::Discard) {
            return Err(DiskError::ReadOnly);
        }
        if kind == Kind::Discard && self.limits.discard.is_none() {
            return Err(DiskError::Unsupported);
        }
        Ok(Order { kind, sector: self.first + sector, list, count })
    }

    /// How many sectors pieces have room for, which must be whole ones each.
    fn sectors_of(&self, list: &[Piece]) -> Result<u64, DiskError> {
        let own = self.limits.sector_size;
        let whole = |piece: &Piece| piece.length() != 0 && piece.length().is_multiple_of(own);
        if list.is_empty() || !list.iter().all(whole) {
            return Err(DiskError::Unaligned);
        }
        Ok(list.iter().map(|piece| u64::from(piece.length())).sum::<u64>() / 512)
    }

    /// Whether sectors are the disk's, and whole ones of its own size.
    fn check(&self, sector: u64, sectors: u64) -> Result<(), DiskError> {
        let own = u64::from(self.limits.sector_size / 512);
        let end = sector.checked_add(sectors).ok_or(DiskError::Range)?;
        if end > self.limits.sectors {
            return Err(DiskError::Range);
        }
        let whole = sector.is_multiple_of(own) && sectors.is_multiple_of(own);
        if whole { Ok(()) } else { Err(DiskError::Unaligned) }
    }
}

/// Does to a RAM disk what a device would do. To discard is nothing: its pages stay its own, and to
/// clear them would take time that the turns of back ends do not count.
fn carry_out(ram: &Ram, order: &Order<'_>) -> Result<(), DiskError> {
    let mut offset = 512 * order.sector;
    for piece in order.list {
        let done = if order.kind == Kind::Read {
            ram.read(offset, piece)
        } else {
            ram.write(offset, piece)
        };
        done.ok_or(DiskError::Range)?;
        offset += u64::from(piece.length());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
