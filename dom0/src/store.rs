//! The store, as a service: rings of domains, and the tasks here that read, write and watch.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::error::Error;

use embassy_futures::select::select;
use embassy_futures::yield_now;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;
use hypercall_abi::types::{DomId, Mfn, Port};
use pv_guest_sdk::control::Domain;
use pv_guest_sdk::event::Channel;
use toolstack::nodes::Node;
use xenstore::ring::Server;
use xenstore::{Access, Client, Event, Perms, Quotas, Store};

use crate::complaints::Complaints;
use crate::screen::Screen;
use crate::window::Window;

/// Wakes a task that has something to read.
type Wake = Signal<NoopRawMutex, ()>;

/// The store and those who wait for it.
pub(crate) struct Service {
    store: RefCell<Store>,
    listeners: RefCell<Vec<(Client, Rc<Wake>)>>,
    /// As whom this program writes.
    me: Client,
    /// Where to say what goes wrong.
    pub(crate) screen: Rc<Screen>,
}

impl Service {
    /// An empty store, but for this domain's own place.
    pub(crate) fn new(screen: Rc<Screen>) -> Self {
        let mut store = Store::new(Quotas::default());
        let me = store.local();
        let service =
            Self { store: RefCell::new(store), listeners: RefCell::default(), me, screen };
        for path in ["/tool/xenstored", "/vm", "/local/domain/0/backend"] {
            service.write(path, "");
        }
        service.write("/local/domain/0/name", "Domain-0");
        service.write("/local/domain/0/domid", "0");
        service
    }

    /// Changes the store, and wakes those who are to hear of it.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Store, Client) -> T) -> T {
        let result = change(&mut self.store.borrow_mut(), self.me);
        self.tell();
        result
    }

    /// What is in the store, and how many wait for it.
    pub(crate) fn counts(&self) -> (xenstore::Counts, usize) {
        (self.store.borrow().counts(), self.listeners.borrow().len())
    }

    fn tell(&self) {
        let store = self.store.borrow();
        for (client, wake) in &*self.listeners.borrow() {
            if store.has_output(*client) {
                wake.signal(());
            }
        }
    }

    /// Sets a node's value; this program may do so anywhere.
    pub(crate) fn write(&self, path: &str, value: &str) {
        if let Err(error) = self.change(|store, me| store.write(me, path, value.as_bytes())) {
            self.screen.line(format_args!("store: {path}: {error:?}"));
        }
    }

    /// A node's value as text.
    pub(crate) fn read(&self, path: &str) -> Option<String> {
        let value = self.change(|store, me| store.read(me, path)).ok()?;
        // What is no text is nothing of what is looked for, but there.
        Some(String::from_utf8_lossy(&value).into_owned())
    }

    /// Removes a node with all below it.
    pub(crate) fn remove(&self, path: &str) {
        let _was_there = self.change(|store, me| store.rm(me, path));
    }

    /// Makes nodes, with their rights.
    pub(crate) fn make(&self, nodes: &[Node]) {
        self.change(|store, me| {
            for Node { path, value, rights } in nodes {
                let mut perms = Perms::new(rights.owner.0, Access::NONE);
                if let Some(reader) = rights.reader {
                    perms = perms.with(reader.0, Access::READ);
                }
                let made = store.write(me, path, value.as_bytes());
                if let Err(error) = made.and_then(|()| store.set_perms(me, path, &perms)) {
                    self.screen.line(format_args!("store: {path}: {error:?}"));
                }
            }
        });
    }

    /// Watches a path.
    pub(crate) fn watch(self: &Rc<Self>, path: &str) -> Watch {
        let client = self.change(|store, _| {
            let client = store.local();
            if let Err(error) = store.watch(client, path, b"") {
                self.screen.line(format_args!("store: watch {path}: {error:?}"));
            }
            client
        });
        let wake = self.listen(client);
        self.tell();
        Watch { service: self.clone(), client, wake }
    }

    fn listen(&self, client: Client) -> Rc<Wake> {
        let wake = Rc::new(Signal::new());
        self.listeners.borrow_mut().push((client, wake.clone()));
        wake
    }

    fn forget(&self, client: Client) {
        self.listeners.borrow_mut().retain(|(other, _)| *other != client);
    }

    /// Says that a domain has ended; it still has its connection.
    pub(crate) fn ended(&self, id: DomId) {
        self.change(|store, _| store.shut_down(id.0));
    }

    /// Forgets a domain.
    pub(crate) fn gone(&self, id: DomId) {
        self.change(|store, _| store.gone(id.0));
    }
}

/// A watch of this program's. Dropping it ends it.
pub(crate) struct Watch {
    service: Rc<Service>,
    client: Client,
    wake: Rc<Wake>,
}

impl Watch {
    /// What has changed since the last time, once something has.
    pub(crate) async fn changed(&self) -> Vec<Event> {
        loop {
            let events = self.service.change(|store, _| store.take_events(self.client));
            if !events.is_empty() {
                return events;
            }
            self.wake.wait().await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.service.forget(self.client);
        self.service.change(|store, _| store.disconnect(self.client));
    }
}

/// Serves a domain's ring for ever.
///
/// # Errors
/// If the hypervisor refuses the ring or its port.
pub(crate) async fn serve(
    service: &Rc<Service>,
    domain: &Domain,
    (frame, port): (Mfn, Port),
    window: Window,
) -> Result<(), Box<dyn Error>> {
    let ring = domain.map(window.page(), frame)?;
    let channel = Channel::connect(domain.id(), port)?;
    let id = domain.id().0;
    let introduced = service.change(|store, me| {
        let introduced = store.introduce(me, id, frame.0, port.0);
        store.take_notices();
        introduced
    });
    introduced.map_err(|error| alloc::format!("the store can't introduce it: {error:?}"))?;
    let mut server = service.change(|store, _| Server::new(store, id, ring.bytes(), ring.words()));
    let wake = service.listen(server.client());
    let _listening = Listening { service, client: server.client() };
    let complaints = Complaints::new(alloc::format!("domain {id}"), service);
    let mut is_broken = false;
    loop {
        let served = service.change(|store, _| server.serve(store));
        if served.notify {
            // One that is gone is not told.
            let _is_gone = channel.send();
        }
        if let Some(fault) = served.fault.filter(|_| !is_broken) {
            complaints.say(&alloc::format!("its store connection is broken: {fault:?}"));
        }
        is_broken = served.fault.is_some();
        // Once more behind the event, as xenstored looks: Linux reads the ring's other index without
        // waiting for its own to be seen, and may tell of nothing.
        if !served.again && !server.has_work(&service.store.borrow()) {
            // What waits for room in the ring is no reason to look again: the domain tells of room.
            wake.reset();
            select(channel.notified(), wake.wait()).await;
        }
        // Also then, as a domain may tell of something faster than this looks.
        yield_now().await;
    }
}

/// Ends a connection's being listened to.
struct Listening<'a> {
    service: &'a Service,
    client: Client,
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.service.forget(self.client);
    }
}
