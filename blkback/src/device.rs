//! A device: its disk, its life in xenstore, and its ring while a front end is connected.
//!
//! A ring that is to be closed is first stopped; requests that the disk has are waited for, so that
//! no page is given back that the disk may still write to.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::task::{Context, Poll};

use backend::{Kind, Life, Nodes, decimal};
use hypercall_abi::xenstore::{STATE_CONNECTED, STATE_INITIALISED};

use crate::disk::Disk;
use crate::guest::Guest;
use crate::nodes::{Parameters, features};
use crate::queue::{Limits, Queue};
use crate::ring::Ring;

/// What the device's owner is to do, in order.
pub type Effect = backend::Effect<Parameters>;

/// What [`Effect::Attach`] made.
pub struct Attachment<G: Guest> {
    /// The front end.
    pub guest: G,
    /// The ring's pages, in order.
    pub pages: Vec<G::Page>,
}

/// A disk, and how it is served.
struct Served<G, D> {
    disk: D,
    limits: Limits,
    persistent: bool,
    /// Whether the toolstack lets it be discarded.
    discard: bool,
    guest: PhantomData<fn() -> G>,
}

impl<G: Guest, D: Disk<G::Piece>> Kind for Served<G, D> {
    type Parameters = Parameters;
    type Attachment = Attachment<G>;
    type Queue = Queue<G>;

    const CONNECTS: &'static [u32] = &[STATE_INITIALISED, STATE_CONNECTED];

    fn look(&mut self, nodes: &impl Nodes) {
        let enabled = nodes.back("discard-enable").and_then(|text| decimal(&text));
        self.discard = enabled != Some(0);
    }

    fn read(nodes: &impl Nodes) -> Result<Parameters, String> {
        Parameters::read(nodes)
    }

    fn features(&self) -> Vec<(&'static str, String)> {
        features(&self.disk.geometry(), &self.limits, self.persistent, self.discard)
    }

    fn connect(&mut self, it: Attachment<G>, parameters: Parameters) -> Result<Queue<G>, String> {
        let ring = Ring::attach(it.pages).map_err(|error| error.to_string())?;
        let keep_mapped = parameters.persistent && self.persistent;
        Ok(Queue::new(ring, it.guest, &self.disk, self.limits, keep_mapped))
    }

    fn stop(&mut self, queue: &mut Queue<G>) {
        queue.stop();
    }

    fn is_idle(queue: &Queue<G>) -> bool {
        queue.is_idle()
    }
}

/// One device of one front end.
pub struct Device<G: Guest, D: Disk<G::Piece>> {
    life: Life<Served<G, D>>,
}

impl<G: Guest, D: Disk<G::Piece>> Device<G, D> {
    /// A device that has said nothing yet. `persistent`: whether front ends that keep their grants
    /// are served by pages that stay mapped.
    #[must_use]
    pub fn new(disk: D, limits: Limits, persistent: bool) -> Self {
        let (limits, guest) = (limits.sound(), PhantomData);
        Self { life: Life::new(Served { disk, limits, persistent, discard: true, guest }) }
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

    /// Serves the ring for a turn. Ready when there are effects; else the task of `cx` is woken
    /// when there is more to do, which may be at once.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let turn = self.life.serve(|served, queue| {
            queue.turn(&mut served.disk, cx).map_err(|error| error.to_string())
        });
        if turn == Some(true) {
            cx.waker().wake_by_ref();
        }
        self.life.poll()
    }

    /// Takes what is to be done now.
    #[must_use]
    pub fn effects(&mut self) -> Vec<Effect> {
        self.life.effects()
    }

    /// Removes the device without the front end's consent, for instance because its domain is
    /// gone. [`Effect::Remove`] follows when the disk has done what it had begun.
    pub fn remove(&mut self) {
        self.life.remove();
    }

    /// The back end's state.
    #[must_use]
    pub const fn state(&self) -> u32 {
        self.life.state()
    }

    /// How many pages it has: of this domain's own, and of the front end's that are mapped.
    #[must_use]
    pub fn pages(&self) -> (usize, usize) {
        self.life.queue().map_or((0, 0), Queue::pages)
    }

    /// The disk.
    pub const fn disk(&mut self) -> &mut D {
        &mut self.life.kind.disk
    }
}
