//! The disk as the store wants it.

use kv_store::Disk;
use pv_guest_sdk::block::{self, DiskError};
use pv_guest_sdk::grant::Grants;

/// Whether flushes are done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Flushes {
    Always,
    /// For the test that must find this.
    Never,
}

/// A disk of this domain's.
pub(crate) struct Sectors {
    pub(crate) disk: block::Disk<'static, Grants>,
    pub(crate) flushes: Flushes,
}

impl Disk for Sectors {
    type Error = DiskError;

    fn sectors(&self) -> u64 {
        self.disk.info().sectors
    }

    fn sector_size(&self) -> u64 {
        self.disk.info().sector_size.into()
    }

    async fn read(&self, sector: u64, data: &mut [u8]) -> Result<(), DiskError> {
        self.disk.read(sector, data).await
    }

    async fn write(&self, sector: u64, data: &[u8]) -> Result<(), DiskError> {
        self.disk.write(sector, data).await
    }

    async fn flush(&self) -> Result<(), DiskError> {
        match self.flushes {
            Flushes::Always => self.disk.flush().await,
            Flushes::Never => Ok(()),
        }
    }
}
