//! Network interfaces for domains: `netback` connected to grants, event channels, the store and the
//! switch.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use core::future::{pending, poll_fn};
use core::task::Context;

use devices::hw::PacketPage;
use devices::hw::grant::copy_packets;
use embassy_futures::select::{Either4, select4};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;
use hypercall_abi::types::{DomId, GrantRef};
use netback::{
    Attachment, Copy, Device, Direction, Guest, Limits, Mac, Packet, Parameters, Ports, Side,
};
use pv_guest_sdk::event::Channel;
use pv_guest_sdk::grant::Grants;
use pv_guest_sdk::time::{Instant, sleep_until};

use super::Attached;
use crate::complaints::Complaints;
use crate::halves::{self, Halves, Page, map};
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
        halves::notify(channel);
    }

    fn listen(&mut self, cx: &mut Context<'_>) {
        for channel in [Some(&self.tx), self.rx.as_ref()].into_iter().flatten() {
            halves::listen(channel, cx);
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
    let halves = Halves::new(&world.store, front, back);
    let mut device = Device::<Front>::new(attached.port, Limits::default());
    device.changed(&halves);
    loop {
        let is_gone = halves.carry_out(device.effects(), |parameters| {
            device.attached(attach(domain, &parameters, world.grants, &world.windows));
        });
        if is_gone {
            return;
        }
        let pause = device.pause().map(Instant::from_nanoseconds);
        let paused = async move {
            match pause {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            }
        };
        let polled = poll_fn(|cx| device.poll(&mut attached.switch.borrow_mut(), cx));
        match select4(polled, halves.changed(), stop.wait(), paused).await {
            Either4::First(()) | Either4::Fourth(()) => {}
            Either4::Second(()) => device.changed(&halves),
            Either4::Third(()) => device.remove(),
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
    let connect = |port| halves::connect(domain, port);
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
