//! Disks: the front end of a block device, whose back end is another domain's.
//!
//! [`Disk::open`] brings a device up, [`Disk::read`], [`Disk::write`], [`Disk::flush`] and
//! [`Disk::discard`] are futures of which several may be under way, and [`Disk::close`] takes the
//! device down so that it can be brought up again. Blocking is `block_on(disk.read(..))`.
//!
//! ```no_run
//! # use pv_guest_sdk::block::{Disk, DiskError, Options};
//! # use pv_guest_sdk::ring::Sharing;
//! # use pv_guest_sdk::{xenbus::Device, xenstore::Store};
//! # async fn example<S: Sharing>(store: Store<'static>, grants: S) -> Result<(), DiskError> {
//! let device = Device::find(store, "vbd", 51712).await?;
//! let disk = Disk::open(device, grants, Options::default()).await?;
//! let mut sector = [0; 512];
//! disk.read(0, &mut sector).await?;
//! disk.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The caller's memory is never shared: data goes through pages that are granted when the disk is
//! opened. So a request whose future is dropped may go on without harm, and the back end, which is
//! not trusted, sees and changes nothing but what it is given. An answer that cannot be right ends
//! the disk's use with [`DiskError::Broken`].

mod disk;
mod error;
mod queue;
#[cfg(test)]
mod tests;

pub use disk::{Disk, Info, Options};
pub use error::{Breach, DiskError};
