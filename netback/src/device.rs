//! A device: its states in xenstore, its port of the switch, and its rings while a front end is
//! connected.
//!
//! What happens depends on where both ends are, not on what changed: [`Device::changed`] may come
//! late, early or twice.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::task::{Context, Poll};

use hypercall_abi::xenstore::{
    STATE_CLOSED, STATE_CLOSING, STATE_CONNECTED, STATE_INIT_WAIT, STATE_INITIALISING,
    STATE_UNKNOWN,
};

use crate::guest::Guest;
use crate::nodes::{FEATURES, Nodes, Parameters, decimal};
use crate::packet::Pool;
use crate::queue::{Limits, Queue};
use crate::rate::{Credit, Rate};
use crate::switch::{PortId, Switch};

/// What the device's owner is to do, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Write a node of the back end's directory.
    Write(&'static str, String),
    /// Note an error where the toolstack looks for it (`error/...` of this domain).
    Report(String),
    /// Map the rings and bind the event channels, then call [`Device::attached`].
    Attach(Parameters),
    /// The device is gone: remove its directory and its port, and forget it.
    Remove,
}

/// What [`Effect::Attach`] made.
pub struct Attachment<G: Guest> {
    /// The front end.
    pub guest: G,
    /// The ring of packets from it.
    pub tx: G::Page,
    /// The ring of packets to it.
    pub rx: G::Page,
}

/// What the front end's side looked like at the last [`Device::changed`].
struct Seen {
    front: u32,
    online: bool,
    parameters: Result<Parameters, String>,
}

/// Where the rings are.
enum Link<G: Guest> {
    None,
    /// The owner was asked to attach them.
    Asked(Parameters),
    Up(Box<Queue<G>>),
}

/// One device of one front end.
pub struct Device<G: Guest> {
    port: PortId,
    limits: Limits,
    /// What the front end may send, if that is limited.
    credit: Option<Credit>,
    /// When it may send again.
    pause: Option<u64>,
    /// The back end's state as the front end sees it.
    state: u32,
    seen: Seen,
    link: Link<G>,
    /// What the switch has to be told of the port, at the next [`Device::poll`].
    news: Option<Option<Parameters>>,
    /// Closed because the front end did wrong; it has to notice before it may come again.
    failed: bool,
    /// To be removed, whatever the front end does.
    doomed: bool,
    removed: bool,
    effects: Vec<Effect>,
}

impl<G: Guest> Device<G> {
    /// A device that has said nothing yet, at a port of the switch that it is polled with.
    #[must_use]
    pub fn new(port: PortId, limits: Limits) -> Self {
        let seen = Seen { front: STATE_UNKNOWN, online: true, parameters: Err(String::new()) };
        Self {
            port,
            limits: limits.sound(),
            credit: None,
            pause: None,
            state: STATE_INITIALISING,
            seen,
            link: Link::None,
            news: None,
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
        let connects = front == STATE_CONNECTED;
        self.seen = Seen {
            front,
            online: number(nodes.back("online")).is_some_and(|online| online != 0),
            parameters: if connects { Parameters::read(nodes) } else { Err(String::new()) },
        };
        let rate = nodes.back("rate").and_then(|text| Rate::parse(&text));
        if rate != self.credit.as_ref().map(|credit| credit.rate) {
            self.credit = rate.map(Credit::new);
        }
        self.advance();
    }

    /// Answers [`Effect::Attach`]. Effects follow.
    pub fn attached(&mut self, attachment: Result<Attachment<G>, String>) {
        let Link::Asked(parameters) = self.link else { return };
        self.link = Link::None;
        let queue = attachment
            .and_then(|it| Queue::new(it, &parameters).map_err(|error| error.to_string()));
        match queue {
            Ok(queue) => {
                self.link = Link::Up(Box::new(queue));
                self.news = Some(Some(parameters));
                self.switch(STATE_CONNECTED);
                self.advance();
            }
            Err(error) => self.fail(error),
        }
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
        let mut pause = None;
        if let Link::Up(queue) = &mut self.link {
            match queue.turn(switch, self.port, (&self.limits, &mut self.credit), cx) {
                Ok((is_more, until)) => {
                    pause = until;
                    if is_more {
                        cx.waker().wake_by_ref();
                    }
                }
                Err(error) => self.fail(error.to_string()),
            }
            self.tell(switch);
        }
        let is_news = core::mem::replace(&mut self.pause, pause) != pause;
        if self.effects.is_empty() && !is_news { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Tells the switch who is behind the port.
    fn tell<P: Pool<Buffer = G::Buffer>>(&mut self, switch: &mut Switch<P>) {
        if let Some(news) = self.news.take() {
            // What waits was made for who was there before.
            switch.disconnect(self.port);
            if let Some(parameters) = news {
                switch.connect(self.port, parameters.takes);
                if let Link::Up(queue) = &self.link {
                    switch.join(self.port, queue.exit());
                }
            }
        }
    }

    /// Takes what is to be done now.
    #[must_use]
    pub fn effects(&mut self) -> Vec<Effect> {
        core::mem::take(&mut self.effects)
    }

    /// Removes the device without the front end's consent, for instance because its domain is
    /// gone. [`Effect::Remove`] follows.
    pub fn remove(&mut self) {
        self.doomed = true;
        self.advance();
    }

    /// The back end's state.
    #[must_use]
    pub const fn state(&self) -> u32 {
        self.state
    }

    /// Its port of the switch.
    #[must_use]
    pub const fn port(&self) -> PortId {
        self.port
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

    /// Gives the rings back, if there are some.
    fn close(&mut self) {
        if matches!(self.link, Link::Up(_)) {
            self.link = Link::None;
            self.news = Some(None);
        }
    }

    /// Does what follows from where both ends are.
    fn advance(&mut self) {
        if self.removed {
            return;
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
            // Its answer brings us here again.
            Link::Asked(_) => {}
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
        match front {
            STATE_CONNECTED if !self.failed => {
                self.offer();
                match self.seen.parameters.clone() {
                    Ok(parameters) => {
                        self.link = Link::Asked(parameters);
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

    /// Says what there is, and waits for the front end's answer.
    fn offer(&mut self) {
        if self.state == STATE_INIT_WAIT {
            return;
        }
        let features = FEATURES.iter().map(|(name, value)| Effect::Write(name, value.to_string()));
        self.effects.extend(features);
        self.switch(STATE_INIT_WAIT);
    }
}
