//! The store: the tree by which domains and tools tell each other what there is.
//!
//! `connect` makes a [`Store`] of the ring that the loader left. All requests are futures, several
//! may be under way at a time, and blocking is `block_on(store.read(..))`. Paths that do not begin
//! with `/` are below the domain's own place. No request needs a heap: the caller brings the buffer
//! for the answer, which has at most 4096 bytes.
//!
//! ```no_run
//! # use pv_guest_sdk::xenstore::{Store, StoreError};
//! // On the machine: `let store = xenstore::connect(boot)?;`
//! async fn example(store: Store<'static>) -> Result<(), StoreError> {
//!     let mut buffer = [0; 64];
//!     let name = store.read_str("name", &mut buffer).await?;
//!     let visit = async |store: Store<'static>| {
//!         let visits = store.read_number("data/visits").await?;
//!         store.write_number("data/visits", visits + 1).await
//!     };
//!     store.transact(visit).await?;
//!     let watch = store.watch("control/shutdown").await?;
//!     loop {
//!         let path = watch.next().await?;
//!         let value = store.read_str(&path, &mut buffer).await?;
//! #       if !value.is_empty() { break Ok(()) }
//!     }
//! }
//! ```
//!
//! The server is not trusted: an answer that nobody asked for, a message that is too long, indices
//! that cannot be, and whatever else it writes ends in a [`StoreError`], with
//! [`Cause::Broken`]. [`Store::reconnect`] makes the connection anew.

mod client;
mod error;
mod permission;
mod ring;
mod state;
#[cfg(test)]
pub(crate) mod tests;
mod watches;

use core::fmt::Write;

use heapless::String;
use hypercall_abi::errno::Errno;
use hypercall_abi::types::DomId;
use hypercall_abi::xenstore as abi;

#[cfg(target_os = "none")]
use crate::boot::BootInfo;
use client::Exchange;
pub use client::{Client, Watch};
pub use error::{Cause, Fault, StoreError};
pub use permission::{Permission, Rights};
pub use watches::{WATCH_PATH, WatchedPath};

/// How often a transaction is tried.
const ATTEMPTS: usize = 32;

/// Connects to the store, by the ring that the start-of-day page names. Again, it is the same
/// connection. `Vcpu::start_events` must have been called for anything to be waited for.
///
/// # Errors
/// [`Cause::NotConnected`] if the loader left no ring, [`Cause::NoPort`] if its port is not open.
#[cfg(target_os = "none")]
pub fn connect(boot: &BootInfo<'static>) -> Result<Store<'static>, StoreError> {
    use crate::event::Channel;
    use hypercall_abi::types::VcpuId;

    static CLIENT: Client = Client::new();
    static CHANNEL: spin::Once<Channel> = spin::Once::new();
    let start = boot.start_info();
    let failed = |cause| StoreError::new("connect", "", cause);
    let page = crate::raw::loaded::shared_page(boot, start.store_mfn);
    let page = page.ok_or(failed(Cause::NotConnected))?;
    let adopt = || Channel::adopt(start.store_evtchn, VcpuId(0));
    let channel = CHANNEL.try_call_once(adopt).map_err(|_| failed(Cause::NoPort))?;
    channel.handle(&|_| CLIENT.pump());
    Ok(CLIENT.connect(page, channel))
}

/// The store, or the view of it that a transaction has. A copy is the same.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{abi::types::DomId, xenstore::{Permission, Rights, Store, StoreError}, println};
/// # async fn example(store: Store<'static>) -> Result<(), StoreError> {
/// store.mkdir("data/list").await?;
/// store.write("data/list/first", b"one").await?;
/// store.write_number("data/count", 1).await?;
/// let mut bytes = [0; 4096];
/// println!("{:x?}", store.read("data/list/first", &mut bytes).await?);
/// println!("{}", store.read_str("name", &mut bytes).await?);
/// println!("{}", store.read_number("data/count").await?);
/// for name in store.directory("data/list", &mut bytes).await? {
///     println!("{name}");
/// }
/// let mine = Permission { domain: DomId(1), rights: Rights::None };
/// store.set_permissions("data/list", &[mine]).await?;
/// println!("{}", store.permissions("data/list", &mut bytes).await?.count());
/// println!("{}", store.domain_path(DomId(1), &mut bytes).await?);
/// let watch = store.watch("data").await?;
/// store
///     .transact(async |store| {
///         let count = store.read_number("data/count").await?;
///         store.write_number("data/count", count + 1).await?;
///         Ok::<_, StoreError>(())
///     })
///     .await?;
/// store.rm("data/list").await?;
/// store.reconnect().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Store<'a> {
    client: &'a Client,
    /// 0: none.
    transaction: u32,
}

impl<'a> Store<'a> {
    const fn of(client: &'a Client) -> Self {
        Self { client, transaction: 0 }
    }

    async fn ask(
        self,
        (kind, operation): (u32, &'static str),
        path: &str,
        parts: &[&[u8]],
        into: &mut [u8],
    ) -> Result<usize, StoreError> {
        let failed = |cause| StoreError::new(operation, path, cause);
        if path.contains('\0') {
            return Err(failed(Cause::Path));
        }
        Exchange::new(self.client, kind, self.transaction, parts, into).await.map_err(failed)
    }

    /// A request that is answered with `OK`.
    async fn order(
        self,
        what: (u32, &'static str),
        path: &str,
        rest: &[u8],
    ) -> Result<(), StoreError> {
        let parts = [path.as_bytes(), b"\0", rest];
        self.ask(what, path, &parts, &mut [0; 16]).await.map(drop)
    }

    async fn fetch<'b>(
        self,
        what: (u32, &'static str),
        path: &str,
        into: &'b mut [u8],
    ) -> Result<&'b [u8], StoreError> {
        let length = self.ask(what, path, &[path.as_bytes(), b"\0"], into).await?;
        Ok(into.get(..length).unwrap_or_default())
    }

    /// Reads a node's value into a buffer, and returns the part that was filled.
    ///
    /// # Errors
    /// ENOENT (2) if there is no such node, EACCES (13) if this domain may not read it;
    /// [`Cause::NoRoom`] if the buffer is too short.
    pub async fn read<'b>(self, path: &str, into: &'b mut [u8]) -> Result<&'b [u8], StoreError> {
        self.fetch((abi::READ, "read"), path, into).await
    }

    /// Reads a node's value as text.
    ///
    /// # Errors
    /// As of [`Store::read`]; [`Cause::Form`] if it is not UTF-8.
    pub async fn read_str<'b>(self, path: &str, into: &'b mut [u8]) -> Result<&'b str, StoreError> {
        let text = core::str::from_utf8(self.read(path, into).await?);
        text.map_err(|_| StoreError::new("read", path, Cause::Form))
    }

    /// Reads a node's value as a decimal number.
    ///
    /// # Errors
    /// As of [`Store::read`]; [`Cause::Form`] if it is not a number.
    pub async fn read_number(self, path: &str) -> Result<u64, StoreError> {
        let mut buffer = [0; 32];
        let text = self.read_str(path, &mut buffer).await?;
        text.trim().parse().map_err(|_| StoreError::new("read", path, Cause::Form))
    }

    /// Sets a node's value. The node, and those above it, are made if they are not there.
    ///
    /// # Errors
    /// EACCES (13) if this domain may not write it, ENOSPC (28) if it has too many nodes or the value
    /// is too long for this domain (2048 bytes with Xen's server as it comes); [`Cause::TooLong`] if
    /// path and value have more than 4095 bytes.
    pub async fn write(self, path: &str, value: &[u8]) -> Result<(), StoreError> {
        self.order((abi::WRITE, "write"), path, value).await
    }

    /// Sets a node's value to a decimal number.
    ///
    /// # Errors
    /// As of [`Store::write`].
    pub async fn write_number(self, path: &str, value: u64) -> Result<(), StoreError> {
        self.write(path, decimal(value).as_bytes()).await
    }

    /// Sets a node's value some time, without an answer, and without waiting: for what is dropped.
    pub(crate) fn post_write(self, path: &str, value: &[u8]) {
        let parts = [path.as_bytes(), b"\0", value];
        self.client.post(abi::WRITE, self.transaction, &parts);
    }

    /// Makes a node without a value, if it is not there.
    ///
    /// # Errors
    /// As of [`Store::write`].
    pub async fn mkdir(self, path: &str) -> Result<(), StoreError> {
        self.order((abi::MKDIR, "mkdir"), path, &[]).await
    }

    /// Removes a node and all below it.
    ///
    /// # Errors
    /// EACCES (13) if this domain may not, also where nodes above it are not there. That the node
    /// alone is not there is no error.
    pub async fn rm(self, path: &str) -> Result<(), StoreError> {
        self.order((abi::RM, "rm"), path, &[]).await
    }

    /// The names of a node's children.
    ///
    /// # Errors
    /// ENOENT (2) if there is no such node, EACCES (13) if this domain may not read it, E2BIG (7) if
    /// there are more than one message can tell.
    pub async fn directory<'b>(
        self,
        path: &str,
        into: &'b mut [u8],
    ) -> Result<impl Iterator<Item = &'b str> + use<'b>, StoreError> {
        let names = self.fetch((abi::DIRECTORY, "directory"), path, into).await?;
        let names = core::str::from_utf8(names);
        let names = names.map_err(|_| StoreError::new("directory", path, Cause::Form))?;
        Ok(names.split_terminator('\0'))
    }

    /// Who may do what with a node: the owner first, whose rights are everybody else's.
    ///
    /// # Errors
    /// As of [`Store::read`]; [`Cause::Form`] if they are none.
    pub async fn permissions<'b>(
        self,
        path: &str,
        into: &'b mut [u8],
    ) -> Result<impl Iterator<Item = Permission> + use<'b>, StoreError> {
        let body = self.fetch((abi::GET_PERMS, "get_perms"), path, into).await?;
        let parse = Permission::parse_all;
        parse(body).ok_or_else(|| StoreError::new("get_perms", path, Cause::Form))
    }

    /// Sets who may do what with a node.
    ///
    /// # Errors
    /// EACCES (13) or EPERM (1) if this domain may not; [`Cause::TooLong`] for more than 16.
    pub async fn set_permissions(
        self,
        path: &str,
        permissions: &[Permission],
    ) -> Result<(), StoreError> {
        let mut body = String::<128>::new();
        let written = permissions.iter().try_for_each(|one| write!(body, "{one}\0"));
        written.map_err(|_| StoreError::new("set_perms", path, Cause::TooLong))?;
        self.order((abi::SET_PERMS, "set_perms"), path, body.as_bytes()).await
    }

    /// A domain's own place in the tree.
    ///
    /// # Errors
    /// [`StoreError`] if the server refuses.
    pub async fn domain_path(self, domain: DomId, into: &mut [u8]) -> Result<&str, StoreError> {
        let number = decimal(domain.0.into());
        let what = (abi::GET_DOMAIN_PATH, "get_domain_path");
        Ok(crate::boot::text(self.fetch(what, &number, into).await?))
    }

    /// Watches a node and all below it.
    ///
    /// # Errors
    /// [`Cause::TooLong`] if the path has more than [`WATCH_PATH`] bytes, [`Cause::NoPlace`] if 16
    /// are watched; EINVAL (22) for what is no path, E2BIG (7) or ENOSPC (28) if the server allows
    /// no more.
    pub async fn watch(self, path: &str) -> Result<Watch<'a>, StoreError> {
        let watch = Watch::new(self.client, path).await;
        watch.map_err(|cause| StoreError::new("watch", path, cause))
    }

    /// Does several things as one: others see all of them or none. If somebody else has changed
    /// what `body` has seen, it is done again from the beginning, at most 32 times. If `body` fails,
    /// nothing is changed.
    ///
    /// # Errors
    /// What `body` returns; EAGAIN (11) if others have changed it each time, ENOSPC (28) if this
    /// domain has too many transactions.
    pub async fn transact<T, E: From<StoreError>>(
        self,
        mut body: impl AsyncFnMut(Store<'a>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut conflict = StoreError::new("transaction", "", Cause::Refused(Errno::EAGAIN));
        for _ in 0..ATTEMPTS {
            let open = Transaction::start(self.client).await?;
            let value = body(open.0).await?;
            match open.commit().await {
                Err(error) if error.errno() == Some(Errno::EAGAIN) => conflict = error,
                Err(error) => return Err(error.into()),
                Ok(()) => return Ok(value),
            }
        }
        Err(conflict.into())
    }

    /// Makes the connection anew: after an error with [`Cause::Broken`], or to be rid of all that is
    /// under way. Requests that wait fail with [`Cause::Reconnected`], as do watches.
    ///
    /// If the server cannot start again, this end goes on where the ring is; that helps only if it
    /// is between two messages.
    ///
    /// # Errors
    /// [`StoreError`] if it is broken again.
    pub async fn reconnect(self) -> Result<(), StoreError> {
        let done = self.client.reconnect().await;
        done.map_err(|cause| StoreError::new("reconnect", "", cause))
    }
}

/// An open transaction. Dropping it forgets what was done in it.
struct Transaction<'a>(Store<'a>);

impl<'a> Transaction<'a> {
    async fn start(client: &'a Client) -> Result<Self, StoreError> {
        let (store, mut buffer) = (Store::of(client), [0; 32]);
        let what = (abi::TRANSACTION_START, "transaction");
        let number = store.fetch(what, "", &mut buffer).await?;
        let number = crate::boot::text(number).parse().ok().filter(|&number| number != 0);
        let transaction = number.ok_or_else(|| StoreError::new("transaction", "", Cause::Form))?;
        Ok(Self(Store { client, transaction }))
    }

    async fn commit(self) -> Result<(), StoreError> {
        let store = core::mem::ManuallyDrop::new(self).0;
        let what = (abi::TRANSACTION_END, "transaction");
        store.ask(what, "", &[b"T\0"], &mut [0; 16]).await.map(drop)
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        self.0.client.post(abi::TRANSACTION_END, self.0.transaction, &[b"F\0"]);
    }
}

/// A number as decimal text.
pub(crate) fn decimal(number: u64) -> String<20> {
    let mut text = String::new();
    let _it_fits = write!(text, "{number}");
    text
}
