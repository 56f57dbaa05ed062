//! A connection, and what waits on it.

use core::fmt;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::{Context, Poll};

use hypercall_abi::xenstore as abi;
use spin::Once;

use super::Store;
use super::error::{Cause, StoreError};
use super::ring::Ring;
use super::state::{Server, State};
use super::watches::{Key, WatchedPath};
use crate::console::ring::{Bytes, Words};
use crate::event::Signal;
use crate::lock::Held;

/// A connection to the store. [`Store`] is how it is used. Large: it is for a `static` or a heap.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{console::ring::{Bytes, Words}, event::Signal, xenstore::{Client, Store}};
/// # fn example(page: (&'static Bytes, &'static Words), signal: &'static (dyn Signal + Sync)) {
/// static CLIENT: Client = Client::new();
///
/// let store: Store<'_> = CLIENT.connect(page, signal);
/// CLIENT.pump(); // after each event
/// # }
/// ```
pub struct Client {
    state: Held<State>,
    signal: Once<&'static (dyn Signal + Sync)>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    /// A client without a connection.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: Held::new(State::new()), signal: Once::new() }
    }

    /// Connects by the ring in a page, of which both are views. A second time changes nothing.
    pub fn connect(
        &self,
        (bytes, words): (&'static Bytes, &'static Words),
        signal: &'static (dyn Signal + Sync),
    ) -> Store<'_> {
        self.state.lock().begin(|| Ring::new(bytes, words));
        self.signal.call_once(|| signal);
        self.pump();
        Store::of(self)
    }

    /// Moves what can be moved, when an event has come.
    pub fn pump(&self) {
        if let Some(&signal) = self.signal.get() {
            self.state.lock().pump(signal);
        }
    }

    pub(super) fn post(&self, kind: u32, transaction: u32, parts: &[&[u8]]) {
        self.state.lock().post(kind, transaction, parts);
        self.pump();
    }

    /// Registers for events, moves what can be moved, and asks `look` for what is waited for.
    fn poll<T>(
        &self,
        context: &Context<'_>,
        look: impl FnOnce(&mut State) -> Result<Option<T>, Cause>,
    ) -> Poll<Result<T, Cause>> {
        let Some(&signal) = self.signal.get() else { return Poll::Ready(Err(Cause::NotConnected)) };
        signal.listen(context.waker());
        let mut state = self.state.lock();
        state.pump(signal);
        let looked = state.check().and_then(|()| look(&mut state));
        // What was asked goes out, and who waits for the place of what was answered is told.
        state.pump(signal);
        match looked {
            Ok(None) => Poll::Pending,
            Ok(Some(value)) => Poll::Ready(Ok(value)),
            Err(cause) => Poll::Ready(Err(cause)),
        }
    }

    /// Makes the connection anew; see [`super::Store::reconnect`].
    pub(super) async fn reconnect(&self) -> Result<(), Cause> {
        let &signal = self.signal.get().ok_or(Cause::NotConnected)?;
        let server = {
            let mut state = self.state.lock();
            let ring = state.ring().ok_or(Cause::NotConnected)?;
            let server = if ring.ask_to_reconnect() { Server::Restarts } else { Server::GoesOn };
            state.forget(server);
            server
        };
        signal.wake();
        if server == Server::Restarts {
            signal.notify();
            poll_fn(|context| {
                signal.listen(context.waker());
                let mut state = self.state.lock();
                let connected = state.ring().is_none_or(|ring| ring.is_connected());
                if !connected {
                    return Poll::Pending;
                }
                state.forget(Server::Restarted);
                Poll::Ready(())
            })
            .await;
        } else {
            let none: &[&[u8]] = &[b"\0"];
            Exchange::new(self, abi::RESET_WATCHES, 0, none, &mut [0; 16]).await?;
        }
        Ok(())
    }
}

/// A request and its answer. Dropped before its end, it is carried out all the same.
pub(super) struct Exchange<'a> {
    client: &'a Client,
    kind: u32,
    transaction: u32,
    parts: &'a [&'a [u8]],
    into: &'a mut [u8],
    id: Option<u32>,
}

impl<'a> Exchange<'a> {
    pub(super) const fn new(
        client: &'a Client,
        kind: u32,
        transaction: u32,
        parts: &'a [&'a [u8]],
        into: &'a mut [u8],
    ) -> Self {
        Self { client, kind, transaction, parts, into, id: None }
    }
}

impl Future for Exchange<'_> {
    type Output = Result<usize, Cause>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let client = this.client;
        client.poll(context, |state| {
            if this.id.is_none() {
                this.id = state.ask(this.kind, this.transaction, this.parts)?;
            }
            this.id.and_then(|id| state.answer(id, this.into)).transpose()
        })
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.client.state.lock().abandon(id);
            // Somebody may wait for its place.
            self.client.pump();
        }
    }
}

/// A watch on a node and all below it. Dropping it ends it.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{xenstore::{Store, StoreError}, println};
/// # async fn example(store: Store<'_>) -> Result<(), StoreError> {
/// let watch = store.watch("control/shutdown").await?;
/// println!("{} may have changed", watch.next().await?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Watch<'a> {
    client: &'a Client,
    key: Key,
}

impl<'a> Watch<'a> {
    pub(super) async fn new(client: &'a Client, path: &str) -> Result<Self, Cause> {
        let key = client.state.lock().watches.add(path)?;
        // From here on it is ended when it is dropped, for which there is no harm in asking.
        let watch = Self { client, key };
        let token = key.token();
        let parts: &[&[u8]] = &[path.as_bytes(), b"\0", token.as_bytes(), b"\0"];
        Exchange::new(client, abi::WATCH, 0, parts, &mut [0; 16]).await?;
        Ok(watch)
    }

    /// Completes when something was changed since the last time: the node, one below it, or one
    /// above it that was removed; the first time at once. Returns the path that changed, or the one
    /// that is watched if several did. The node may be as it was by now, or not there.
    ///
    /// # Errors
    /// [`StoreError`] if the connection is broken or was made anew.
    pub async fn next(&self) -> Result<WatchedPath, StoreError> {
        let taken =
            poll_fn(|context| self.client.poll(context, |state| state.watches.take(self.key)));
        taken.await.map_err(|cause| StoreError::new("watch", "", cause))
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let mut state = self.client.state.lock();
        let path = state.watches.remove(self.key).and_then(|path| WatchedPath::try_from(path).ok());
        drop(state);
        if let Some(path) = path {
            let token = self.key.token();
            let parts: &[&[u8]] = &[path.as_bytes(), b"\0", token.as_bytes(), b"\0"];
            self.client.post(abi::UNWATCH, 0, parts);
        }
    }
}
