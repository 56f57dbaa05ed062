//! Devices of two halves, as their nodes in the store show them: this domain's front end, and the
//! back end of another domain.
//!
//! Each half tells its [`State`] in a node, and reads the other's. [`Device`] finds a front end's
//! nodes, waits for the back end, and changes its own state in a transaction, so that a device that
//! was removed meanwhile does not come into being again. What goes over the device's ring is its
//! driver's, for example [`crate::block`].

use core::fmt;

use heapless::String;
use hypercall_abi::errno::Errno;
use hypercall_abi::types::DomId;
use hypercall_abi::xenstore as abi;

use crate::xenstore::{Cause, Store, StoreError, WATCH_PATH, Watch, decimal};

/// What one half of a device says of itself.
///
/// # Examples
///
/// ```ignore-none
/// # use pv_guest_sdk::{xenbus::State};
/// assert_eq!(State::from_number(4), State::Connected);
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum State {
    /// There is no such half, or it says nothing that is a state.
    Unknown = abi::STATE_UNKNOWN,
    /// It starts.
    Initialising = abi::STATE_INITIALISING,
    /// It has said what it can do, and waits for the other half.
    InitWait = abi::STATE_INIT_WAIT,
    /// It has said where its ring is, and waits for the other half to connect.
    Initialised = abi::STATE_INITIALISED,
    /// It is in use.
    Connected = abi::STATE_CONNECTED,
    /// It is being closed.
    Closing = abi::STATE_CLOSING,
    /// It is closed.
    Closed = abi::STATE_CLOSED,
    /// It is being changed.
    Reconfiguring = abi::STATE_RECONFIGURING,
    /// It has been changed.
    Reconfigured = abi::STATE_RECONFIGURED,
}

impl State {
    const ALL: [Self; 9] = [
        Self::Unknown,
        Self::Initialising,
        Self::InitWait,
        Self::Initialised,
        Self::Connected,
        Self::Closing,
        Self::Closed,
        Self::Reconfiguring,
        Self::Reconfigured,
    ];

    /// The state that a node's number means.
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        let known = Self::ALL.into_iter().find(|state| u64::from(*state as u32) == number);
        known.unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} ({})", *self as u32)
    }
}

type Path = String<WATCH_PATH>;

/// A device's front end.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{xenbus::{Device, State}, xenstore::{Store, StoreError}, println};
/// # async fn example(store: Store<'static>) -> Result<(), StoreError> {
/// let mut names = [0; 4096];
/// for number in Device::numbers(store, "vif", &mut names).await? {
///     println!("a network card, {number}");
/// }
/// let device = Device::find(store, "vif", 0).await?;
/// println!("{} and {}", device.path(), device.backend_path());
/// let watch = device.watch_backend().await?;
/// device.begin(&watch).await?;
/// println!("{:?}", device.number("handle").await?);
/// println!("{:?}", device.text::<32>("mac").await?);
/// println!("{:?}", device.backend_number("feature-sg").await?);
/// device.publish(&[("event-channel", Some("5"))], State::Initialised).await?;
/// device.wait_for(&watch, &[State::Connected]).await?;
/// device.switch(State::Connected).await?;
/// println!("{:?}, {:?}", device.state().await?, device.backend_state().await?);
/// println!("its back end is in domain {}", device.backend_domain().0);
/// device.store().write("data/seen", b"1").await?;
/// device.close(&watch).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Device<'a> {
    store: Store<'a>,
    path: String<48>,
    backend: String<128>,
    domain: DomId,
}

impl<'a> Device<'a> {
    /// The numbers of this domain's devices of a class, for example `vbd`; none if there is no such
    /// class.
    ///
    /// # Errors
    /// [`StoreError`] if the store can't be read.
    pub async fn numbers<'b>(
        store: Store<'a>,
        class: &str,
        into: &'b mut [u8],
    ) -> Result<impl Iterator<Item = u32> + use<'b>, StoreError> {
        let names = store.directory(&join("device", class)?, into).await;
        let names = absent(names)?.into_iter().flatten();
        Ok(names.filter_map(|name| name.parse().ok()))
    }

    /// The device of a class with a number.
    ///
    /// # Errors
    /// ENOENT (2) if there is none; [`StoreError`] if its nodes do not name a back end.
    pub async fn find(store: Store<'a>, class: &str, number: u32) -> Result<Self, StoreError> {
        let path = join(&join("device", class)?, &decimal(number.into()))?;
        let (backend, domain) = (join(&path, "backend")?, join(&path, "backend-id")?);
        let form = |key| StoreError::new("read", key, Cause::Form);
        let mut buffer = [0; 256];
        let place = store.read_str(&backend, &mut buffer).await?;
        let place = String::try_from(place).map_err(|_| form(&backend))?;
        let path = String::try_from(&*path).map_err(|_| form(&path))?;
        let number = u16::try_from(store.read_number(&domain).await?);
        let (backend, domain) = (place, DomId(number.map_err(|_| form(&domain))?));
        Ok(Self { store, path, backend, domain })
    }

    /// Where the front end's nodes are.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where the back end's nodes are.
    #[must_use]
    pub fn backend_path(&self) -> &str {
        &self.backend
    }

    /// The back end's domain.
    #[must_use]
    pub const fn backend_domain(&self) -> DomId {
        self.domain
    }

    /// The store in which its nodes are.
    #[must_use]
    pub const fn store(&self) -> Store<'a> {
        self.store
    }

    /// The front end's state.
    ///
    /// # Errors
    /// [`StoreError`] if the store can't be read.
    pub async fn state(&self) -> Result<State, StoreError> {
        state_at(self.store, &self.path).await
    }

    /// The back end's state.
    ///
    /// # Errors
    /// [`StoreError`] if the store can't be read.
    pub async fn backend_state(&self) -> Result<State, StoreError> {
        state_at(self.store, &self.backend).await
    }

    /// A number among the front end's nodes, if it is there.
    ///
    /// # Errors
    /// [`StoreError`] if the store can't be read, or the node is no number.
    pub async fn number(&self, key: &str) -> Result<Option<u64>, StoreError> {
        absent(self.store.read_number(&join(&self.path, key)?).await)
    }

    /// A text among the front end's nodes, if it is there.
    ///
    /// # Errors
    /// [`StoreError`] if the store can't be read, or the node is too long or no text.
    pub async fn text<const N: usize>(&self, key: &str) -> Result<Option<String<N>>, StoreError> {
        let (path, mut buffer) = (join(&self.path, key)?, [0; N]);
        let text = absent(self.store.read_str(&path, &mut buffer).await)?;
        let owned = text.map(String::try_from).transpose();
        owned.map_err(|_| StoreError::new("read", &path, Cause::TooLong))
    }

    /// A number that the back end has published, if it has.
    ///
    /// # Errors
    /// [`StoreError`] if the store can't be read, or the node is no number.
    pub async fn backend_number(&self, key: &str) -> Result<Option<u64>, StoreError> {
        absent(self.store.read_number(&join(&self.backend, key)?).await)
    }

    /// Changes the front end's state.
    ///
    /// # Errors
    /// ENOENT (2) if the device was removed; [`StoreError`] if the store can't be written.
    pub async fn switch(&self, state: State) -> Result<(), StoreError> {
        self.publish(&[], state).await
    }

    /// Sets nodes of the front end, removes those without a value, and sets its state, all at once.
    ///
    /// # Errors
    /// As of [`Device::switch`].
    pub async fn publish(
        &self,
        nodes: &[(&str, Option<&str>)],
        state: State,
    ) -> Result<(), StoreError> {
        let key = join(&self.path, "state")?;
        self.store
            .transact(async |store: Store<'a>| {
                let before = store.read_number(&key).await?;
                for &(name, value) in nodes {
                    let key = join(&self.path, name)?;
                    match value {
                        Some(value) => store.write(&key, value.as_bytes()).await?,
                        None => absent(store.rm(&key).await)?.unwrap_or(()),
                    }
                }
                if before != u64::from(state as u32) {
                    store.write_number(&key, (state as u32).into()).await?;
                }
                Ok(())
            })
            .await
    }

    /// Leaves the front end as closed, some time, without waiting: for what is dropped.
    pub(crate) fn leave(&self) {
        if let Ok(key) = join(&self.path, "state") {
            self.store.post_write(&key, decimal(abi::STATE_CLOSED.into()).as_bytes());
        }
    }

    /// Watches the back end's state.
    ///
    /// # Errors
    /// As of [`Store::watch`].
    pub async fn watch_backend(&self) -> Result<Watch<'a>, StoreError> {
        self.store.watch(&join(&self.backend, "state")?).await
    }

    /// Waits until the back end is in one of the states, and says in which. `watch` is of
    /// [`Device::watch_backend`]. A back end that is not there is [`State::Unknown`].
    ///
    /// # Errors
    /// [`StoreError`] if the store can't be read.
    pub async fn wait_for(&self, watch: &Watch<'a>, states: &[State]) -> Result<State, StoreError> {
        loop {
            let state = self.backend_state().await?;
            if states.contains(&state) {
                return Ok(state);
            }
            watch.next().await?;
        }
    }

    /// Takes the front end out of use, if it is in use, and waits until the back end has let go of
    /// what was shared.
    ///
    /// # Errors
    /// [`StoreError`] if the store can't be read or written.
    pub async fn close(&self, watch: &Watch<'a>) -> Result<(), StoreError> {
        use State::{Closed, Closing, InitWait, Initialising, Unknown};
        if self.state().await? != Closed {
            self.switch(Closing).await?;
            let let_go = [Closing, Closed, InitWait, Initialising, Unknown];
            self.wait_for(watch, &let_go).await?;
            self.switch(Closed).await?;
        }
        self.wait_for(watch, &[Closed, InitWait, Initialising, Unknown]).await.map(drop)
    }

    /// Brings the front end to its beginning, out of whatever state an earlier driver left it in,
    /// and waits for the back end to say what it can do.
    ///
    /// # Errors
    /// [`StoreError`] if the store can't be read or written.
    pub async fn begin(&self, watch: &Watch<'a>) -> Result<State, StoreError> {
        if self.state().await? != State::Initialising {
            self.close(watch).await?;
            self.switch(State::Initialising).await?;
        }
        self.wait_for(watch, &[State::InitWait, State::Unknown]).await
    }
}

/// A device that a driver opens, has in use and closes. Dropping it while it is in use takes the
/// front end down without waiting.
pub(crate) struct Opened<'a> {
    pub(crate) device: Device<'a>,
    watch: Watch<'a>,
    /// Something of this end's has been published.
    in_use: bool,
}

impl<'a> Opened<'a> {
    /// As [`Device::begin`]. If the back end offers nothing, the inner error is its state.
    pub(crate) async fn begin(device: Device<'a>) -> Result<Result<Self, State>, StoreError> {
        let watch = device.watch_backend().await?;
        let state = device.begin(&watch).await?;
        let opened = Self { device, watch, in_use: false };
        Ok(if state == State::InitWait { Ok(opened) } else { Err(state) })
    }

    /// As [`Device::publish`], and waits until the back end is connected. If it will not be, the
    /// inner error is its state.
    pub(crate) async fn connect(
        &mut self,
        nodes: &[(&str, Option<&str>)],
        state: State,
    ) -> Result<Result<(), State>, StoreError> {
        self.in_use = true;
        self.device.publish(nodes, state).await?;
        let outcomes = [State::Connected, State::Closing, State::Closed, State::Unknown];
        let state = self.device.wait_for(&self.watch, &outcomes).await?;
        Ok(if state == State::Connected { Ok(()) } else { Err(state) })
    }

    /// Completes when the back end closes the device, and says in which state it is.
    pub(crate) async fn closing(&self) -> Result<State, StoreError> {
        let states = [State::Closing, State::Closed, State::Unknown];
        self.device.wait_for(&self.watch, &states).await
    }

    /// As [`Device::close`], and returns the device so that it can be opened again.
    pub(crate) async fn close(&mut self) -> Result<Device<'a>, StoreError> {
        self.device.close(&self.watch).await?;
        self.in_use = false;
        Ok(self.device.clone())
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        if self.in_use {
            self.device.leave();
        }
    }
}

async fn state_at(store: Store<'_>, path: &str) -> Result<State, StoreError> {
    match absent(store.read_number(&join(path, "state")?).await) {
        Ok(number) => Ok(State::from_number(number.unwrap_or(0))),
        Err(error) if error.cause() == Cause::Form => Ok(State::Unknown),
        Err(error) => Err(error),
    }
}

/// None for a node that is not there.
fn absent<T>(result: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match result {
        Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(None),
        result => result.map(Some),
    }
}

/// A node below another.
fn join(path: &str, name: &str) -> Result<Path, StoreError> {
    let mut whole = Path::new();
    let written = core::fmt::write(&mut whole, format_args!("{path}/{name}"));
    written.map_err(|_| StoreError::new("name", path, Cause::TooLong)).map(|()| whole)
}
