//! A device: its life in xenstore, its port of the switch, and its rings while a front end is
//! connected.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::task::{Context, Poll};

use backend::{Kind, Life, Nodes};
use hypercall_abi::xenstore::STATE_CONNECTED;

use crate::guest::Guest;
use crate::nodes::{FEATURES, Parameters};
use crate::packet::Pool;
use crate::queue::{Limits, Queue};
use crate::rate::{Credit, Rate};
use crate::switch::{PortId, Switch};

/// What the device's owner is to do, in order.
pub type Effect = backend::Effect<Parameters>;

/// What [`Effect::Attach`] made.
pub struct Attachment<G: Guest> {
    /// The front end.
    pub guest: G,
    /// The ring of packets from it.
    pub tx: G::Page,
    /// The ring of packets to it.
    pub rx: G::Page,
}

/// What is served at a port, and what the switch is to know of it.
struct Served<G> {
    port: PortId,
    limits: Limits,
    /// What the front end may send, if that is limited.
    credit: Option<Credit>,
    /// What the switch has to be told of the port, at the next [`Device::poll`].
    news: Option<Option<Parameters>>,
    guest: PhantomData<fn() -> G>,
}

impl<G: Guest> Kind for Served<G> {
    type Parameters = Parameters;
    type Attachment = Attachment<G>;
    type Queue = Box<Queue<G>>;

    const CONNECTS: &'static [u32] = &[STATE_CONNECTED];

    fn look(&mut self, nodes: &impl Nodes) {
        let rate = nodes.back("rate").and_then(|text| Rate::parse(&text));
        if rate != self.credit.as_ref().map(|credit| credit.rate) {
            self.credit = rate.map(Credit::new);
        }
    }

    fn read(nodes: &impl Nodes) -> Result<Parameters, String> {
        Parameters::read(nodes)
    }

    fn features(&self) -> Vec<(&'static str, String)> {
        FEATURES.map(|(name, value)| (name, value.to_string())).into()
    }

    fn connect(
        &mut self,
        it: Attachment<G>,
        parameters: Parameters,
    ) -> Result<Box<Queue<G>>, String> {
        let queue = Queue::new(it, &parameters).map_err(|error| error.to_string())?;
        self.news = Some(Some(parameters));
        Ok(Box::new(queue))
    }

    fn stop(&mut self, _: &mut Box<Queue<G>>) {
        self.news = Some(None);
    }

    /// What a packet is copied from or to is not needed after the turn.
    fn is_idle(_: &Box<Queue<G>>) -> bool {
        true
    }
}

/// One device of one front end.
pub struct Device<G: Guest> {
    life: Life<Served<G>>,
    /// When the front end may send again.
    pause: Option<u64>,
}

impl<G: Guest> Device<G> {
    /// A device that has said nothing yet, at a port of the switch that it is polled with.
    #[must_use]
    pub fn new(port: PortId, limits: Limits) -> Self {
        let (limits, guest) = (limits.sound(), PhantomData);
        let served = Served { port, limits, credit: None, news: None, guest };
        Self { life: Life::new(served), pause: None }
    }

    /// The nodes may have changed: to be called at first, and when the front end's `state` or the
    /// back end's `online` did. Effects may follow.
    pub fn changed(&mut self, nodes: &impl Nodes) {
        self.life.changed(nodes);
    }

    /// Answers [`Effect::Attach`]. Effects follow.
    pub fn attached(&mut self, attachment: Result<Attachment<G>, String>) {
        self.life.attached(attachment);
    }

    /// When the front end may send again, if it has sent what it may: then [`Device::poll`] is to be
    /// called. Unit: nanoseconds, as of [`Guest::now`].
    #[must_use]
    pub const fn pause(&self) -> Option<u64> {
        self.pause
    }

    /// Serves the rings for a turn. Ready when there are effects, or [`Device::pause`] has changed;
    /// else the task of `cx` is woken when there is more to do, which may be at once.
    pub fn poll<P: Pool<Buffer = G::Buffer>>(
        &mut self,
        switch: &mut Switch<P>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        self.tell(switch);
        let turn = self.life.serve(|Served { port, limits, credit, .. }, queue| {
            queue.turn(switch, *port, (limits, credit), cx).map_err(|error| error.to_string())
        });
        self.tell(switch);
        let (is_more, pause) = turn.unwrap_or_default();
        if is_more {
            cx.waker().wake_by_ref();
        }
        let is_news = core::mem::replace(&mut self.pause, pause) != pause;
        if is_news { Poll::Ready(()) } else { self.life.poll() }
    }

    /// Tells the switch who is behind the port.
    fn tell<P: Pool<Buffer = G::Buffer>>(&mut self, switch: &mut Switch<P>) {
        let Served { port, news, .. } = &mut self.life.kind;
        if let Some(news) = news.take() {
            // What waits was made for who was there before.
            switch.disconnect(*port);
            if let Some(parameters) = news {
                switch.connect(*port, parameters.takes);
                if let Some(queue) = self.life.queue() {
                    switch.join(self.life.kind.port, queue.exit());
                }
            }
        }
    }

    /// Takes what is to be done now.
    #[must_use]
    pub fn effects(&mut self) -> Vec<Effect> {
        self.life.effects()
    }

    /// Removes the device without the front end's consent, for instance because its domain is
    /// gone. [`Effect::Remove`] follows.
    pub fn remove(&mut self) {
        self.life.remove();
    }

    /// The back end's state.
    #[must_use]
    pub const fn state(&self) -> u32 {
        self.life.state()
    }

    /// Its port of the switch.
    #[must_use]
    pub const fn port(&self) -> PortId {
        self.life.kind.port
    }
}
