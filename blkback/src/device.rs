//! A device: its disk, its states in xenstore, and its ring while a front end is connected.
//!
//! What happens depends on where both ends are, not on what changed: [`Device::changed`] may come
//! late, early or twice. A ring that is to be closed is first stopped; requests that the disk has
//! are waited for, so that no page is given back that the disk may still write to.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::task::{Context, Poll};

use hypercall_abi::xenstore::{
    STATE_CLOSED, STATE_CLOSING, STATE_CONNECTED, STATE_INIT_WAIT, STATE_INITIALISED,
    STATE_INITIALISING, STATE_UNKNOWN,
};

use crate::disk::Disk;
use crate::guest::Guest;
use crate::nodes::{Nodes, Parameters, decimal, features};
use crate::queue::{Limits, Queue};
use crate::ring::Ring;

/// What the device's owner is to do, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Write a node of the back end's directory.
    Write(&'static str, String),
    /// Note an error where the toolstack looks for it (`error/...` of this domain).
    Report(String),
    /// Map the ring and bind the event channel, then call [`Device::attached`].
    Attach(Parameters),
    /// The device is gone: remove its directory and forget it.
    Remove,
}

/// What [`Effect::Attach`] made.
pub struct Attachment<G: Guest> {
    /// The front end.
    pub guest: G,
    /// The ring's pages, in order.
    pub pages: Vec<G::Page>,
}

/// What the front end's side looked like at the last [`Device::changed`].
struct Seen {
    front: u32,
    online: bool,
    discard: bool,
    parameters: Result<Parameters, String>,
}

/// Where the ring is.
enum Link<G: Guest> {
    None,
    /// The owner was asked to attach it, for a front end that keeps its grants or not.
    Asked(bool),
    Up(Queue<G>),
    /// Requests are waited for.
    Closing(Queue<G>),
}

/// One device of one front end.
pub struct Device<G: Guest, D> {
    disk: D,
    limits: Limits,
    persistent: bool,
    /// The back end's state as the front end sees it.
    state: u32,
    seen: Seen,
    link: Link<G>,
    /// Closed because the front end did wrong; it has to notice before it may come again.
    failed: bool,
    /// To be removed, whatever the front end does.
    doomed: bool,
    removed: bool,
    effects: Vec<Effect>,
}

impl<G: Guest, D: Disk<G::Piece>> Device<G, D> {
    /// A device that has said nothing yet. `persistent`: whether front ends that keep their grants
    /// are served by pages that stay mapped.
    #[must_use]
    pub fn new(disk: D, limits: Limits, persistent: bool) -> Self {
        let seen = Seen {
            front: STATE_UNKNOWN,
            online: true,
            discard: true,
            parameters: Err(String::new()),
        };
        Self {
            disk,
            limits: limits.sound(),
            persistent,
            state: STATE_INITIALISING,
            seen,
            link: Link::None,
            failed: false,
            doomed: false,
            removed: false,
            effects: Vec::new(),
        }
    }

    /// The nodes may have changed: to be called at first, and when the front end's `state` or the
    /// back end's `online` did. Effects may follow.
    pub fn changed(&mut self, nodes: &impl Nodes) {
        let number = |text: Option<String>| text.and_then(|text| decimal(&text));
        let front = number(nodes.front("state")).unwrap_or(STATE_UNKNOWN);
        let connects = matches!(front, STATE_INITIALISED | STATE_CONNECTED);
        self.seen = Seen {
            front,
            online: number(nodes.back("online")).is_some_and(|online| online != 0),
            discard: number(nodes.back("discard-enable")) != Some(0),
            parameters: if connects { Parameters::read(nodes) } else { Err(String::new()) },
        };
        self.advance();
    }

    /// Answers [`Effect::Attach`]. Effects follow.
    pub fn attached(&mut self, attachment: Result<Attachment<G>, String>) {
        let Link::Asked(persistent) = self.link else { return };
        self.link = Link::None;
        let ring = attachment.and_then(|it| {
            let ring = Ring::attach(it.pages).map_err(|error| error.to_string())?;
            Ok((ring, it.guest))
        });
        match ring {
            Ok((ring, guest)) => {
                self.link = Link::Up(Queue::new(ring, guest, &self.disk, self.limits, persistent));
                self.switch(STATE_CONNECTED);
                self.advance();
            }
            Err(error) => self.fail(error),
        }
    }

    /// Serves the ring for a turn. Ready when there are effects; else the task of `cx` is woken
    /// when there is more to do, which may be at once.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Link::Up(queue) | Link::Closing(queue) = &mut self.link {
            match queue.turn(&mut self.disk, cx) {
                Ok(true) => cx.waker().wake_by_ref(),
                Ok(false) => {}
                Err(error) => self.fail(error.to_string()),
            }
            self.advance();
        }
        if self.effects.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Takes what is to be done now.
    #[must_use]
    pub fn effects(&mut self) -> Vec<Effect> {
        core::mem::take(&mut self.effects)
    }

    /// Removes the device without the front end's consent, for instance because its domain is
    /// gone. [`Effect::Remove`] follows when the disk has done what it had begun.
    pub fn remove(&mut self) {
        self.doomed = true;
        self.advance();
    }

    /// The back end's state.
    #[must_use]
    pub const fn state(&self) -> u32 {
        self.state
    }

    /// How many pages it has: of this domain's own, and of the front end's that are mapped.
    #[must_use]
    pub fn pages(&self) -> (usize, usize) {
        match &self.link {
            Link::Up(queue) | Link::Closing(queue) => queue.pages(),
            _ => (0, 0),
        }
    }

    /// The disk.
    pub const fn disk(&mut self) -> &mut D {
        &mut self.disk
    }

    fn switch(&mut self, state: u32) {
        if self.state != state {
            self.state = state;
            self.effects.push(Effect::Write("state", state.to_string()));
        }
    }

    /// The front end did wrong: closes, and says why.
    fn fail(&mut self, error: String) {
        self.failed = true;
        self.effects.push(Effect::Report(error));
        self.switch(STATE_CLOSING);
        self.close();
        self.advance();
    }

    /// Stops the ring, if there is one.
    fn close(&mut self) {
        self.link = match core::mem::replace(&mut self.link, Link::None) {
            Link::Up(mut queue) | Link::Closing(mut queue) => {
                queue.stop();
                Link::Closing(queue)
            }
            other => other,
        };
    }

    /// Does what follows from where both ends are.
    fn advance(&mut self) {
        if self.removed {
            return;
        }
        if matches!(&self.link, Link::Closing(queue) if queue.is_idle()) {
            self.link = Link::None;
        }
        let leaving = self.doomed || !self.seen.online;
        match self.link {
            Link::Up(_) => self.advance_connected(leaving),
            Link::None if leaving => {
                self.switch(STATE_CLOSED);
                self.effects.push(Effect::Remove);
                self.removed = true;
            }
            Link::None => self.advance_alone(),
            // Its end brings us here again.
            Link::Closing(_) | Link::Asked(_) => {}
        }
    }

    fn advance_connected(&mut self, leaving: bool) {
        match self.seen.front {
            // It started again without closing. It waits for our offer; closing would confuse it.
            STATE_INITIALISING if !leaving => {
                self.close();
                self.advance();
            }
            STATE_INITIALISING | STATE_CLOSED | STATE_UNKNOWN => {
                self.switch(STATE_CLOSING);
                self.close();
                self.advance();
            }
            _ if self.doomed => {
                self.switch(STATE_CLOSING);
                self.close();
                self.advance();
            }
            // Asks it to close, or agrees; it goes to closed when it is done with the ring.
            STATE_CLOSING => self.switch(STATE_CLOSING),
            _ if leaving => self.switch(STATE_CLOSING),
            _ => {}
        }
    }

    /// Without a ring.
    fn advance_alone(&mut self) {
        let front = self.seen.front;
        if matches!(front, STATE_INITIALISING | STATE_CLOSED | STATE_UNKNOWN) {
            self.failed = false;
        }
        let fresh = self.state == STATE_INITIALISING;
        match front {
            STATE_INITIALISED | STATE_CONNECTED if !self.failed => {
                self.offer();
                match self.seen.parameters.clone() {
                    Ok(parameters) => {
                        self.link = Link::Asked(parameters.persistent && self.persistent);
                        self.effects.push(Effect::Attach(parameters));
                    }
                    Err(error) => self.fail(error),
                }
            }
            STATE_INITIALISING => self.offer(),
            _ if fresh && !self.failed => self.offer(),
            STATE_UNKNOWN if self.state == STATE_INIT_WAIT => {}
            STATE_CLOSED | STATE_UNKNOWN => self.switch(STATE_CLOSED),
            STATE_CLOSING if !self.failed => self.switch(STATE_CLOSING),
            _ if self.failed => self.switch(STATE_CLOSED),
            _ => {}
        }
    }

    /// Says what the disk is like, and waits for the front end's answer.
    fn offer(&mut self) {
        if self.state == STATE_INIT_WAIT {
            return;
        }
        let disk = self.disk.geometry();
        let all = features(&disk, &self.limits, self.persistent, self.seen.discard);
        self.effects.extend(all.into_iter().map(|(name, value)| Effect::Write(name, value)));
        self.switch(STATE_INIT_WAIT);
    }
}
