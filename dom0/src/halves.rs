//! Both halves of a device: their nodes in the store, and how a back end reaches the front end's
//! pages and events.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::future::Future;
use core::pin::pin;
use core::sync::atomic::AtomicU32;
use core::task::Context;

use backend::{Effect, Nodes};
use devices::hw::grant::Mapped;
use embassy_futures::select::select;
use hypercall_abi::types::{DomId, GrantRef, Port};
use pv_guest_sdk::event::Channel;
use pv_guest_sdk::grant::{Grants, Peer};
use pv_guest_sdk::paging::Access;
use shared_ring::Words;

use crate::complaints::Complaints;
use crate::store::{Service, Watch};
use crate::window::{Window, Windows};

/// Both halves of a device in the store.
pub(crate) struct Halves<'a> {
    store: &'a Service,
    front: &'a str,
    back: &'a str,
    /// Of the front end's state, and of whether the toolstack wants the device.
    watches: [Watch; 2],
    complaints: Complaints,
}

impl<'a> Halves<'a> {
    /// By their places in the store, which are watched from now on.
    pub(crate) fn new(store: &'a Rc<Service>, front: &'a str, back: &'a str) -> Self {
        let nodes = [format!("{front}/state"), format!("{back}/online")];
        let watches = nodes.map(|node| store.watch(&node));
        Self { store, front, back, watches, complaints: Complaints::new(back.to_string(), store) }
    }

    /// Completes when a node has changed that a device is to know of.
    pub(crate) async fn changed(&self) {
        let [state, online] = &self.watches;
        select(state.changed(), online.changed()).await;
    }

    /// Does what a device asks for, and attaches rings by `attach`. Returns whether the device is
    /// gone.
    pub(crate) fn carry_out<P>(&self, effects: Vec<Effect<P>>, mut attach: impl FnMut(P)) -> bool {
        let Self { store, back, complaints, .. } = self;
        for effect in effects {
            match effect {
                Effect::Write(name, value) => store.write(&format!("{back}/{name}"), &value),
                Effect::Report(error) => complaints.report(store, &error),
                Effect::Attach(parameters) => attach(parameters),
                Effect::Remove => {
                    store.remove(back);
                    return true;
                }
            }
        }
        false
    }
}

impl Nodes for Halves<'_> {
    fn front(&self, name: &str) -> Option<String> {
        self.store.read(&format!("{}/{name}", self.front))
    }

    fn back(&self, name: &str) -> Option<String> {
        self.store.read(&format!("{}/{name}", self.back))
    }
}

/// A mapped page of a front end's.
pub(crate) struct Page(pub(crate) Rc<Mapped<Window>>);

impl Words for Page {
    fn words(&self) -> &[AtomicU32; 1024] {
        // All are mapped for writing.
        self.0.words().expect("pages of rings are writable")
    }
}

/// Maps a page that a domain has granted.
pub(crate) fn map(
    domain: DomId,
    grants: Grants,
    windows: &Rc<Windows>,
    reference: GrantRef,
) -> Option<Rc<Mapped<Window>>> {
    let window = windows.take()?;
    let mapping = grants.map(window.page(), Peer { domain, reference }, Access::WRITE).ok()?;
    Some(Rc::new(Mapped::new(mapping, window)))
}

/// Connects to a port of a front end's.
pub(crate) fn connect(domain: DomId, port: Port) -> Result<Channel, String> {
    Channel::connect(domain, port).map_err(|error| error.to_string())
}

/// Tells a front end. One that is gone is not told.
pub(crate) fn notify(channel: &Channel) {
    let _is_gone = channel.send();
}

/// From now on the caller's task is woken by the next event of the front end's, as back ends want it.
pub(crate) fn listen(channel: &Channel, cx: &mut Context<'_>) {
    // What came before is forgotten by the first look; what comes now wakes the task.
    for _ in 0..2 {
        if pin!(channel.notified()).poll(cx).is_pending() {
            return;
        }
    }
    cx.waker().wake_by_ref();
}
