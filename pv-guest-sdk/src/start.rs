//! How a guest with devices begins: everything they need, in one step.

use core::error::Error;
use core::fmt;

use crate::grant::{GrantError, Grants};
use crate::paging::{Memory, MemoryError};
use crate::shutdown::Reason;
use crate::task::block_on;
use crate::vcpu::Vcpu;
use crate::xenbus::Device;
use crate::xenstore::{Store, StoreError};
use crate::{BootInfo, HypercallError, xenstore};

/// What a guest has when it has begun.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{BootInfo, block::{Disk, Options}, shutdown::shutdown, start::{Start, StartError}, task::block_on, println};
/// # fn example(boot: &BootInfo<'static>) -> Result<(), StartError> {
/// let start = Start::new(boot, 2)?;
/// let device = start.first("vbd")?;
/// if let Ok(disk) = block_on(Disk::open(device, start.grants, Options::default())) {
///     println!("{} sectors", disk.info().sectors);
/// }
/// // Until the tools want the domain to end.
/// shutdown(block_on(start.told_to_end())?)
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct Start {
    /// The first virtual CPU; events come to it.
    pub vcpu: &'static Vcpu,
    /// What other domains may be lent.
    pub grants: Grants,
    /// The store.
    pub store: Store<'static>,
}

impl Start {
    /// Begins: memory, events, a grant table of `frames` frames (512 entries each), the store.
    ///
    /// # Errors
    /// [`StartError`] with the part that can't be had.
    pub fn new(boot: &BootInfo<'static>, frames: usize) -> Result<Self, StartError> {
        let vcpu = Vcpu::start(boot)?;
        Memory::start(boot)?;
        vcpu.start_events()?;
        let grants = Grants::start(frames)?;
        Ok(Self { vcpu, grants, store: xenstore::connect(boot)? })
    }

    /// The device of class `class` (`vbd` for disks, `vif` for network cards) with the lowest number.
    ///
    /// # Errors
    /// [`StartError::NoDevice`] if there is none, else [`StartError::Store`].
    #[inline(never)]
    pub fn first(&self, class: &'static str) -> Result<Device<'static>, StartError> {
        let mut names = [0; 4096];
        let number = block_on(Device::numbers(self.store, class, &mut names))?.min();
        let number = number.ok_or(StartError::NoDevice(class))?;
        Ok(block_on(Device::find(self.store, class, number))?)
    }

    /// Completes when the tools tell this domain to end, with how it is to end; they are answered.
    ///
    /// # Errors
    /// If the store can't be read or written.
    pub async fn told_to_end(&self) -> Result<Reason, StoreError> {
        const NODE: &str = "control/shutdown";
        let watch = self.store.watch(NODE).await?;
        let reason = loop {
            let mut word = [0; 64];
            match self.store.read_str(NODE, &mut word).await {
                Ok("poweroff" | "halt") => break Reason::Poweroff,
                Ok("reboot") => break Reason::Reboot,
                _ => watch.next().await?,
            };
        };
        self.store.write(NODE, b"").await?;
        Ok(reason)
    }
}

/// Why a guest can't begin.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{start::{Start, StartError}, println};
/// # fn example(start: &Start) {
/// if let Err(StartError::NoDevice(class)) = start.first("vif") {
///     println!("no {class}: it works without");
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub enum StartError {
    /// The hypervisor refused something that events need.
    Events(HypercallError),
    /// Page tables.
    Memory(MemoryError),
    /// Grants.
    Grants(GrantError),
    /// The store: this domain has none, or it refused.
    Store(StoreError),
    /// There is no device of this class.
    NoDevice(&'static str),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Events(error) => error.fmt(f),
            Self::Memory(error) => error.fmt(f),
            Self::Grants(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::NoDevice("vbd") => f.write_str("this domain has no disk: give it one"),
            Self::NoDevice("vif") => f.write_str("this domain has no network card: give it one"),
            Self::NoDevice(class) => write!(f, "this domain has no device of class {class}"),
        }
    }
}

impl Error for StartError {}

impl From<HypercallError> for StartError {
    fn from(error: HypercallError) -> Self {
        Self::Events(error)
    }
}

impl From<MemoryError> for StartError {
    fn from(error: MemoryError) -> Self {
        Self::Memory(error)
    }
}

impl From<GrantError> for StartError {
    fn from(error: GrantError) -> Self {
        Self::Grants(error)
    }
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
