//! The xenstore server: the tree by which domains and tools tell each other what there is, with
//! permissions, transactions, watches and quotas.
//!
//! A pure state machine. [`Store`] is all that the server knows; who asks is a [`Client`]. Tasks of
//! the program around it call the store directly, as the privileged domain. Domains come as a
//! [`Connection`], bytes in and bytes out, or as a [`ring::Server`], which is a connection over a
//! shared page. Nothing here waits, maps or sends an event: the program does that.
//!
//! Behaviour that clients can see is xenstored's of Xen 4.17: which error, in which order of
//! checks, which events in which order, what conflicts.
//!
//! ```
//! use core::sync::atomic::{AtomicU8, AtomicU32};
//! use xenstore::{Access, Error, Notice, Perms, Quotas, Store, ring::Server};
//!
//! let mut store = Store::new(Quotas::default());
//! let me = store.local();
//!
//! // The toolstack describes a domain, all at once.
//! store.transact(me, |store, change| {
//!     store.mkdir(change, "/local/domain/5")?;
//!     let perms = Perms::new(0, Access::NONE).with(5, Access::READ);
//!     store.set_perms(change, "/local/domain/5", &perms)?;
//!     store.write(change, "/local/domain/5/name", b"guest")
//! })?;
//! // A back end watches; the first event comes at once.
//! store.watch(me, "/local/domain/5/device", b"blk")?;
//! assert_eq!(store.take_events(me)[0].path, "/local/domain/5/device");
//!
//! // The domain's ring: in truth a page of the domain, seen as bytes and as words.
//! let bytes = [const { AtomicU8::new(0) }; 4096];
//! let words = [const { AtomicU32::new(0) }; 1024];
//! store.introduce(me, 5, 0x1234, 1)?;
//! assert_eq!(store.take_notices(), [Notice::Introduced { domid: 5, frame: 0x1234, port: 1 }]);
//! let mut server = Server::new(&mut store, 5, &bytes, &words);
//! loop {
//!     let served = server.serve(&mut store);
//!     // if served.notify: send the event; if served.fault: say so
//!     if !served.again {
//!         break; // until the domain's event, or `server.has_work(&store)`
//!     }
//! }
//! store.gone(5);
//! # Ok::<(), Error>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod client;
mod connection;
mod domains;
mod dump;
mod error;
mod nodes;
mod path;
mod perms;
mod quota;
pub mod ring;
mod store;
mod transaction;
mod tree;
mod watch;
mod wire;

pub use client::{Client, Scope};
pub use connection::{Connection, Fault};
pub use domains::Notice;
pub use error::Error;
pub use path::home;
pub use perms::{Access, PRIVILEGED, Permission, Perms};
pub use quota::Quotas;
pub use store::{Counts, Store};
pub use watch::Event;
