//! A front end whose nodes say whatever they are told to.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use hypercall_abi::blkif::PROTOCOL;
use hypercall_abi::types::DomId;
use pv_guest_sdk::event::Channel;
use pv_guest_sdk::grant::{Grant, Grants};
use pv_guest_sdk::paging::{Access, Frame};
use pv_guest_sdk::xenbus::{Device, State};
use pv_guest_sdk::xenstore::Watch;

use crate::link::Link;
use crate::{Outcome, ensure, same};

/// What the back end says of a disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Info {
    /// Unit: 512 bytes.
    pub(crate) sectors: u64,
    pub(crate) flush: bool,
    pub(crate) discard: bool,
    pub(crate) read_only: bool,
}

/// The nodes of a connection, by name; those without a value are removed.
pub(crate) type Said = Vec<(&'static str, Option<Vec<u8>>)>;

/// A device, of which all is under this guest's control that is a front end's.
pub(crate) struct Front {
    device: Device<'static>,
    watch: Watch<'static>,
    grants: Grants,
}

impl Front {
    pub(crate) async fn new(device: Device<'static>, grants: Grants) -> Outcome<Self> {
        let watch = device.watch_backend().await?;
        Ok(Self { device, watch, grants })
    }

    /// A zeroed page that the back end may use.
    pub(crate) fn page(&self, access: Access) -> Outcome<Grant> {
        self.page_for(self.device.backend_domain(), access)
    }

    /// A zeroed page that another domain may use.
    pub(crate) fn page_for(&self, domain: DomId, access: Access) -> Outcome<Grant> {
        Ok(self.grants.share(Frame::new()?, domain, access)?)
    }

    /// Writes a node.
    pub(crate) async fn say(&self, name: &str, value: &[u8]) -> Outcome {
        let path = format!("{}/{name}", self.device.path());
        Ok(self.device.store().write(&path, value).await?)
    }

    /// Removes a node.
    pub(crate) async fn unsay(&self, name: &str) -> Outcome {
        Ok(self.device.store().rm(&format!("{}/{name}", self.device.path())).await?)
    }

    /// Waits until the back end is in one of some states.
    pub(crate) async fn back(&self, states: &[State]) -> Outcome<State> {
        Ok(self.device.wait_for(&self.watch, states).await?)
    }

    /// From wherever both ends are to where a connection begins; then no page is in use any more.
    pub(crate) async fn reset(&self) -> Outcome {
        self.say("state", b"6").await?;
        self.back(&[State::Closed]).await?;
        self.say("state", b"1").await?;
        self.back(&[State::InitWait]).await?;
        same("pages that the back end has kept", self.grants.reclaim(), 0)
    }

    /// What a right connection says of a ring.
    pub(crate) fn right(&self, ring: &Grant, channel: &Channel, keeps: bool) -> Said {
        let number = |number: u32| Some(number.to_string().into_bytes());
        Vec::from([
            ("ring-page-order", None),
            ("num-ring-pages", None),
            ("ring-ref0", None),
            ("ring-ref", number(ring.reference().0)),
            ("event-channel", number(channel.port().0)),
            ("protocol", Some(PROTOCOL.as_bytes().into())),
            ("feature-persistent", number(keeps.into())),
        ])
    }

    /// Sets nodes, and the state at last.
    pub(crate) async fn publish(&self, said: &Said, state: State) -> Outcome {
        for (name, value) in said {
            match value {
                Some(value) => self.say(name, value).await?,
                // Not there is as good.
                None => drop(self.unsay(name).await),
            }
        }
        self.say("state", (state as u32).to_string().as_bytes()).await
    }

    /// A ring and a port of which nothing was said yet.
    pub(crate) fn ring(&self) -> Outcome<(Grant, Channel)> {
        let ring = self.page(Access::WRITE)?;
        Ok((ring, Channel::unbound(self.device.backend_domain())?))
    }

    /// Connects, from where a connection begins. Pages may stay mapped if `keeps`.
    pub(crate) async fn connect(&self, keeps: bool) -> Outcome<Link> {
        let (ring, channel) = self.ring()?;
        self.publish(&self.right(&ring, &channel, keeps), State::Initialised).await?;
        let state = self.back(&[State::Connected, State::Closed]).await?;
        ensure(state == State::Connected, || "a right front end was refused".into())?;
        self.say("state", b"4").await?;
        Ok(Link::new(ring, channel))
    }

    pub(crate) async fn info(&self) -> Outcome<Info> {
        let number = async |name| self.device.backend_number(name).await;
        Ok(Info {
            sectors: number("sectors").await?.ok_or("there is no sectors")?,
            flush: number("feature-flush-cache").await? == Some(1),
            discard: number("feature-discard").await? == Some(1),
            read_only: number("info").await?.is_some_and(|info| info & 4 != 0),
        })
    }

    /// Whether the device's back end lets pages stay mapped.
    pub(crate) async fn can_keep(&self) -> Outcome<bool> {
        Ok(self.device.backend_number("feature-persistent").await? == Some(1))
    }

    /// Where the nodes are.
    pub(crate) fn path(&self) -> String {
        self.device.path().to_string()
    }

    /// Removes all nodes of the front end, for ever.
    pub(crate) async fn vanish(&self) -> Outcome {
        Ok(self.device.store().rm(&self.path()).await?)
    }
}
