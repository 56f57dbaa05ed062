//! The states of both ends, and what follows from them.
//!
//! What happens depends on where both ends are, not on what changed: [`Life::changed`] may come
//! late, early or twice. Rings that are to be closed are first stopped; what is under way in them is
//! waited for.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::task::Poll;

use hypercall_abi::xenstore::{
    STATE_CLOSED, STATE_CLOSING, STATE_CONNECTED, STATE_INIT_WAIT, STATE_INITIALISING,
    STATE_UNKNOWN,
};

use crate::nodes::{Nodes, decimal};

/// What a kind of device does in the course of its life.
pub trait Kind {
    /// How a front end wants to be served.
    type Parameters: Clone;
    /// What the owner has made of them.
    type Attachment;
    /// The rings while they are served.
    type Queue;

    /// The states of a front end that has said how it wants to be served.
    const CONNECTS: &'static [u32];

    /// Notes what the back end's nodes say of the device; they may have changed.
    fn look(&mut self, nodes: &impl Nodes);

    /// Reads what the front end wrote.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence for who looks into xenstore.
    fn read(nodes: &impl Nodes) -> Result<Self::Parameters, String>;

    /// What the back end's directory says before the front end may connect, in the order of writing.
    fn features(&self) -> Vec<(&'static str, String)>;

    /// Begins to serve.
    ///
    /// # Errors
    /// What is wrong with the rings.
    fn connect(
        &mut self,
        attachment: Self::Attachment,
        parameters: Self::Parameters,
    ) -> Result<Self::Queue, String>;

    /// Begins nothing more with the rings. May be called again.
    fn stop(&mut self, queue: &mut Self::Queue);

    /// Whether rings that were stopped may be given back.
    fn is_idle(queue: &Self::Queue) -> bool;
}

/// What the device's owner is to do, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect<P> {
    /// Write a node of the back end's directory.
    Write(&'static str, String),
    /// Note an error where the toolstack looks for it (`error/...` of this domain).
    Report(String),
    /// Map the rings and bind the event channels, then tell the device that they are attached.
    Attach(P),
    /// The device is gone: remove its directory and forget it.
    Remove,
}

/// What the front end's side looked like at the last [`Life::changed`].
struct Seen<P> {
    front: u32,
    online: bool,
    /// Of a front end that wants to connect.
    parameters: Option<Result<P, String>>,
}

/// Where the rings are.
enum Link<K: Kind> {
    None,
    /// The owner was asked to attach them.
    Asked(K::Parameters),
    Up(K::Queue),
    /// What is under way is waited for.
    Closing(K::Queue),
}

/// The life of one device of one front end.
pub struct Life<K: Kind> {
    /// What it is the life of.
    pub kind: K,
    /// The back end's state as the front end sees it.
    state: u32,
    seen: Seen<K::Parameters>,
    link: Link<K>,
    /// Closed because the front end did wrong; it has to notice before it may come again.
    failed: bool,
    /// To be removed, whatever the front end does.
    doomed: bool,
    removed: bool,
    effects: Vec<Effect<K::Parameters>>,
}

impl<K: Kind> Life<K> {
    /// A device that has said nothing yet.
    #[must_use]
    pub const fn new(kind: K) -> Self {
        Self {
            kind,
            state: STATE_INITIALISING,
            seen: Seen { front: STATE_UNKNOWN, online: true, parameters: None },
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
        self.seen = Seen {
            front,
            online: number(nodes.back("online")).is_some_and(|online| online != 0),
            parameters: K::CONNECTS.contains(&front).then(|| K::read(nodes)),
        };
        self.kind.look(nodes);
        self.advance();
    }

    /// Answers [`Effect::Attach`]. Effects follow.
    pub fn attached(&mut self, attachment: Result<K::Attachment, String>) {
        let Link::Asked(parameters) = &self.link else { return };
        let parameters = parameters.clone();
        self.link = Link::None;
        match attachment.and_then(|it| self.kind.connect(it, parameters)) {
            Ok(queue) => {
                self.link = Link::Up(queue);
                self.switch(STATE_CONNECTED);
                self.advance();
            }
            Err(error) => self.fail(error),
        }
    }

    /// Does a turn with the rings, also with those that are stopped, if there are some. A turn that
    /// fails says what the front end did wrong, and closes. Effects may follow.
    pub fn serve<T>(
        &mut self,
        turn: impl FnOnce(&mut K, &mut K::Queue) -> Result<T, String>,
    ) -> Option<T> {
        let (Link::Up(queue) | Link::Closing(queue)) = &mut self.link else { return None };
        let done = turn(&mut self.kind, queue).map_err(|error| self.fail(error));
        self.advance();
        done.ok()
    }

    /// Takes what is to be done now.
    #[must_use]
    pub fn effects(&mut self) -> Vec<Effect<K::Parameters>> {
        core::mem::take(&mut self.effects)
    }

    /// Ready when there are effects. Wakes nobody.
    pub const fn poll(&self) -> Poll<()> {
        if self.effects.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Removes the device without the front end's consent, for instance because its domain is
    /// gone. [`Effect::Remove`] follows when nothing is under way any more.
    pub fn remove(&mut self) {
        self.doomed = true;
        self.advance();
    }

    /// The back end's state.
    #[must_use]
    pub const fn state(&self) -> u32 {
        self.state
    }

    /// The rings, if there are some.
    #[must_use]
    pub const fn queue(&self) -> Option<&K::Queue> {
        match &self.link {
            Link::Up(queue) | Link::Closing(queue) => Some(queue),
            Link::None | Link::Asked(_) => None,
        }
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
    }

    /// Stops the rings, if there are some, and goes on from there.
    fn close(&mut self) {
        self.link = match core::mem::replace(&mut self.link, Link::None) {
            Link::Up(mut queue) | Link::Closing(mut queue) => {
                self.kind.stop(&mut queue);
                Link::Closing(queue)
            }
            other => other,
        };
        self.advance();
    }

    /// Does what follows from where both ends are.
    fn advance(&mut self) {
        if self.removed {
            return;
        }
        if matches!(&self.link, Link::Closing(queue) if K::is_idle(queue)) {
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
            STATE_INITIALISING if !leaving => self.close(),
            STATE_INITIALISING | STATE_CLOSED | STATE_UNKNOWN => {
                self.switch(STATE_CLOSING);
                self.close();
            }
            _ if self.doomed => {
                self.switch(STATE_CLOSING);
                self.close();
            }
            // Asks it to close, or agrees; it goes to closed when it is done with the rings.
            STATE_CLOSING => self.switch(STATE_CLOSING),
            _ if leaving => self.switch(STATE_CLOSING),
            _ => {}
        }
    }

    /// Without rings.
    fn advance_alone(&mut self) {
        let front = self.seen.front;
        if matches!(front, STATE_INITIALISING | STATE_CLOSED | STATE_UNKNOWN) {
            self.failed = false;
        }
        let fresh = self.state == STATE_INITIALISING;
        match (front, &self.seen.parameters) {
            (_, Some(parameters)) if !self.failed => {
                let parameters = parameters.clone();
                self.offer();
                match parameters {
                    Ok(parameters) => {
                        self.link = Link::Asked(parameters.clone());
                        self.effects.push(Effect::Attach(parameters));
                    }
                    Err(error) => self.fail(error),
                }
            }
            (STATE_INITIALISING, _) => self.offer(),
            _ if fresh && !self.failed => self.offer(),
            (STATE_UNKNOWN, _) if self.state == STATE_INIT_WAIT => {}
            (STATE_CLOSED | STATE_UNKNOWN, _) => self.switch(STATE_CLOSED),
            (STATE_CLOSING, _) if !self.failed => self.switch(STATE_CLOSING),
            _ if self.failed => self.switch(STATE_CLOSED),
            _ => {}
        }
    }

    /// Says what there is, and waits for the front end's answer.
    fn offer(&mut self) {
        if self.state == STATE_INIT_WAIT {
            return;
        }
        let features = self.kind.features();
        self.effects.extend(features.into_iter().map(|(name, value)| Effect::Write(name, value)));
        self.switch(STATE_INIT_WAIT);
    }
}
