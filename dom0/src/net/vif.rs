//! Network interfaces for domains: `netback` connected to grants, event channels, the store and the
//! switch.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use core::future::{Future, pending, poll_fn};
use core::pin::pin;
use core::task::Context;

use devices::hw::PacketPage;
use devices::hw::grant::copy_packets;
use embassy_futures::select::{Either3, select3};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;
use hypercall_abi::types::{DomId, GrantRef};
use netback::{
    Attachment, Copy, Device, Direction, Effect, Guest, Limits, Mac, Packet, Parameters, Ports,
    Side,
};
use pv_guest_sdk::event::Channel;
use pv_guest_sdk::grant::Grants;
use pv_guest_sdk::time::{Instant, sleep_until};

use super::Attached;
use crate::block::{Halves, Page, map};
use crate::complaints::Complaints;
use crate::window::Windows;
use crate::world::World;

/// A front end's pages and its event channels.
struct Front {
    domain: DomId,
    /// For packets from it, and for both rings if there is one channel.
    tx: Channel,
    rx: Option<Channel>,
}

impl Guest for Front {
    type Page = Page;
    type Buffer = PacketPage;

    fn domain(&self) -> DomId {
        self.domain
    }

    fn copy(
        &mut self,
        direction: Direction,
        copies: &mut [Copy],
        packets: &mut [Packet<PacketPage>],
    ) {
        copy_packets(self.domain, direction, copies, packets);
    }

    fn now(&self) -> u64 {
        Instant::now().nanoseconds()
    }

    fn notify(&mut self, side: Side) {
        let channel = match side {
            Side::Tx => &self.tx,
            Side::Rx => self.rx.as_ref().unwrap_or(&self.tx),
        };
        // One that is gone is not told.
        let _is_gone = channel.send();
    }

    fn listen(&mut self, cx: &mut Context<'_>) {
        for channel in [Some(&self.tx), self.rx.as_ref()].into_iter().flatten() {
            // What came before is forgotten by the first look; what comes now wakes the task.
            if pin!(channel.notified()).poll(cx).is_ready()
                && pin!(channel.notified()).poll(cx).is_ready()
            {
                cx.waker().wake_by_ref();
            }
        }
    }
}

/// What an interface is of, and how it is reached.
pub(crate) struct Served {
    /// Whose it is.
    pub(crate) domain: DomId,
    /// Its number there.
    pub(crate) number: u32,
    /// The name of its switch.
    pub(crate) bridge: String,
    /// Its address.
    pub(crate) mac: Mac,
    /// The places of its halves in the store.
    pub(crate) front: String,
    /// The back end's.
    pub(crate) back: String,
}

/// Serves an interface until its front end and the toolstack have closed it, or `stop` says that its
/// domain is gone.
pub(crate) async fn serve(world: &World, served: Served, stop: &Signal<NoopRawMutex, ()>) {
    let network = &world.network;
    let attached = network.attach(&served);
    let Served { domain, front, back, .. } = served;
    let Some(attached) = attached else {
        Complaints::new(back, &world.store)
            .report(&world.store, "another interface has this address");
        return stop.wait().await;
    };
    work(world, domain, &attached, (&front, &back), stop).await;
    let counters = network.detach(attached);
    let (from, to) = (counters.from, counters.to);
    world.screen.line(format_args!(
        "{back}: {} packets from it, {} to it, {} dropped, {} wrong, {} of another's address",
        from.packets,
        to.packets,
        from.dropped + to.dropped,
        from.errors + to.errors,
        counters.spoofed
    ));
}

async fn work(
    world: &World,
    domain: DomId,
    attached: &Attached,
    (front, back): (&str, &str),
    stop: &Signal<NoopRawMutex, ()>,
) {
    let store = &world.store;
    let nodes = Halves { store, front, back };
    let watches = [store.watch(&format!("{front}/state")), store.watch(&format!("{back}/online"))];
    let complaints = Complaints::new(back.to_string(), &world.store);
    let mut device = Device::<Front>::new(attached.port, Limits::default());
    device.changed(&nodes);
    loop {
        for effect in device.effects() {
            match effect {
                Effect::Write(name, value) => store.write(&format!("{back}/{name}"), &value),
                Effect::Report(error) => complaints.report(&world.store, &error),
                Effect::Attach(parameters) => {
                    device.attached(attach(domain, &parameters, world.grants, &world.windows));
                }
                Effect::Remove => {
                    store.remove(back);
                    return;
                }
            }
        }
        let changed = select3(watches[0].changed(), watches[1].changed(), stop.wait());
        let pause = device.pause().map(Instant::from_nanoseconds);
        let paused = async move {
            match pause {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            }
        };
        let polled = poll_fn(|cx| device.poll(&mut attached.switch.borrow_mut(), cx));
        match select3(polled, changed, paused).await {
            Either3::First(()) | Either3::Third(()) => {}
            Either3::Second(Either3::Third(())) => device.remove(),
            Either3::Second(_) => device.changed(&nodes),
        }
    }
}

/// Maps a front end's rings and connects to its ports.
fn attach(
    domain: DomId,
    parameters: &Parameters,
    grants: Grants,
    windows: &Rc<Windows>,
) -> Result<Attachment<Front>, String> {
    let connect = |port| Channel::connect(domain, port).map_err(|error| error.to_string());
    let (tx, rx) = match parameters.ports {
        Ports::One(port) => (connect(port)?, None),
        Ports::Two { tx, rx } => (connect(tx)?, Some(connect(rx)?)),
    };
    let page = |reference: GrantRef| {
        let page = map(domain, grants, windows, reference).map(Page);
        page.ok_or_else(|| format!("page {} of the rings is not granted", reference.0))
    };
    let pages = (page(parameters.tx)?, page(parameters.rx)?);
    Ok(Attachment { guest: Front { domain, tx, rx }, tx: pages.0, rx: pages.1 })
}
