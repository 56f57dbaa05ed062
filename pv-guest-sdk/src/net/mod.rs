//! Network cards: the front end of a network device, whose back end is another domain's.
//!
//! [`Card::open`] brings a device up, [`Card::send`] and [`Card::receive`] are futures, of which
//! several may be under way, and [`Card::close`] takes the device down so that it can be brought up
//! again. With the feature `smoltcp`, `Port` is a card as that crate wants it, and `Stack` runs TCP/IP
//! over it.
//!
//! ```no_run
//! # use pv_guest_sdk::net::{Card, NetError, Note, Options};
//! # use pv_guest_sdk::ring::Sharing;
//! # use pv_guest_sdk::{xenbus::Device, xenstore::Store};
//! # async fn example<S: Sharing>(store: Store<'static>, grants: S) -> Result<(), NetError> {
//! let device = Device::find(store, "vif", 0).await?;
//! let card = Card::open(device, grants, Options::default()).await?;
//! let mut packet = [0; 1514];
//! let (length, _note) = card.receive(&mut packet).await?;
//! card.send(&packet[..length], Note::default()).await?;
//! card.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The caller's memory is never shared: packets go through pages that are granted when the card is
//! opened, and with `Port` are written and read there as long as the back end can't write them. The back end, which is not trusted, sees and changes nothing but these; what it says of
//! them is checked, and an answer that cannot be right ends the card's use with
//! [`NetError::Broken`].

mod bytes;
mod card;
#[cfg(feature = "smoltcp")]
mod checksum;
mod error;
mod packet;
#[cfg(feature = "smoltcp")]
mod port;
mod queue;
#[cfg(all(feature = "smoltcp", target_os = "none"))]
mod stack;
#[cfg(test)]
mod tests;

pub use card::{Card, Info, Options};
pub use error::{Breach, NetError};
pub use packet::{Checksum, Note};
#[cfg(feature = "smoltcp")]
pub use port::Port;
pub use queue::Counts;
#[cfg(feature = "smoltcp")]
pub use smoltcp;
#[cfg(all(feature = "smoltcp", target_os = "none"))]
pub use stack::{Address, Configuration, Connection, ConnectionError, Stack};
