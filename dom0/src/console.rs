//! A domain's console: what it says is kept, and comes out line by line with the domain's name before
//! it unless somebody is attached; what is typed goes to the domain.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use embassy_futures::yield_now;
use hypercall_abi::types::{Mfn, Port};
use pv_guest_sdk::control::{ControlError, Domain, Foreign};
use pv_guest_sdk::event::Channel;
use pv_guest_sdk::time::Instant;
use toolstack::lines::Lines;
use toolstack::operator::allowance::Allowance;
use toolstack::operator::record::Record;

use crate::bell::Bell;
use crate::screen::Screen;
use crate::window::Window;

/// How much is taken at once. Unit: bytes.
const PIECE: usize = 512;
/// How many pieces before others run.
const TURN: usize = 8;
/// How much of what was said is kept. Unit: bytes.
const KEPT: usize = 64 << 10;
/// How much of what was typed waits for the domain at most. Unit: bytes.
const TYPED: usize = 4096;
/// What passes to the machine's console if there is an operator. Unit: bytes per second; bytes.
const SHOWN: (u64, u64) = (8 << 10, 64 << 10);

/// The connection to a domain.
#[derive(Debug)]
struct Wire {
    ring: Foreign,
    channel: Rc<Channel>,
    /// Behind the mapping, as it is to be dropped after that.
    _window: Window,
}

/// The back end of one domain's console.
#[derive(Debug)]
pub(crate) struct Console {
    name: String,
    screen: Rc<Screen>,
    wire: RefCell<Option<Wire>>,
    record: RefCell<Record>,
    lines: RefCell<Lines>,
    /// Rung when something was said.
    said: Bell,
    typed: RefCell<VecDeque<u8>>,
    /// None: everything is shown.
    allowance: RefCell<Option<Allowance>>,
    /// Bytes that were not shown.
    dropped: Cell<usize>,
}

impl Console {
    /// Connects to the ring in a frame of the domain, and to its port. What is shown of floods is
    /// `limited`.
    ///
    /// # Errors
    /// [`ControlError`] if the hypervisor refuses one of them.
    pub(crate) fn new(
        name: &str,
        domain: &Domain,
        (frame, port): (Mfn, Port),
        window: Window,
        screen: Rc<Screen>,
        limited: bool,
    ) -> Result<Self, ControlError> {
        let ring = domain.map(window.page(), frame)?;
        let channel = Rc::new(Channel::connect(domain.id(), port)?);
        Ok(Self {
            name: name.into(),
            screen,
            wire: RefCell::new(Some(Wire { ring, channel, _window: window })),
            record: RefCell::new(Record::new(KEPT)),
            lines: RefCell::default(),
            said: Bell::default(),
            typed: RefCell::default(),
            allowance: RefCell::new(limited.then(|| Allowance::new(SHOWN.0, SHOWN.1))),
            dropped: Cell::new(0),
        })
    }

    /// Serves it until it is closed.
    pub(crate) async fn serve(&self) {
        loop {
            let Some(channel) = self.wire.borrow().as_ref().map(|wire| wire.channel.clone()) else {
                return;
            };
            if !self.exchange(TURN) {
                channel.notified().await;
            }
            // Also then, as a domain may tell of something faster than this looks.
            yield_now().await;
        }
    }

    /// Takes what the domain has said, so many pieces, and gives what was typed. Whether there was
    /// so much that there may be more.
    fn exchange(&self, pieces: usize) -> bool {
        let mut text = [0; PIECE];
        let (mut is_changed, mut more) = (false, true);
        for _ in 0..pieces {
            let Some(taken) =
                self.wire.borrow().as_ref().map(|wire| wire.ring.console().take(&mut text))
            else {
                return false;
            };
            is_changed |= taken > 0;
            more = taken > 0;
            if !more {
                break;
            }
            self.hear(text.get(..taken).unwrap_or_default());
        }
        is_changed |= self.give();
        if let Some(wire) = self.wire.borrow().as_ref().filter(|_| is_changed) {
            // One that waits for room or for a key goes on; one that is gone does not.
            let _is_gone = wire.channel.send();
        }
        more
    }

    fn hear(&self, text: &[u8]) {
        self.record.borrow_mut().add(text);
        self.lines.borrow_mut().feed(text, |line| self.show(line));
        self.said.ring();
    }

    /// Shows a line, if there was not too much lately.
    fn show(&self, line: &str) {
        if let Some(allowance) = &mut *self.allowance.borrow_mut() {
            let length = self.name.len() + line.len() + 4;
            let now = Instant::now().nanoseconds();
            // Room for the note too.
            let note = if self.dropped.get() > 0 { 80 } else { 0 };
            if !allowance.take(now, (length + note) as u64) {
                self.dropped.set(self.dropped.get() + line.len() + 1);
                return;
            }
        }
        if self.dropped.get() > 0 {
            let (name, dropped) = (&self.name, self.dropped.take());
            self.screen.line_of_domain(format_args!(
                "{name}| [{dropped} bytes are not shown: `log {name}`]"
            ));
        }
        self.screen.line_of_domain(format_args!("{}| {line}", self.name));
    }

    /// Gives the domain what was typed, as much as it takes. Whether it took any.
    fn give(&self) -> bool {
        let mut typed = self.typed.borrow_mut();
        let wire = self.wire.borrow();
        let Some(wire) = wire.as_ref().filter(|_| !typed.is_empty()) else { return false };
        let taken = wire.ring.console().put_input(typed.make_contiguous());
        typed.drain(..taken);
        taken > 0
    }

    /// Types at the console. How much was taken: a domain that reads nothing is not typed at for ever.
    pub(crate) fn input(&self, bytes: &[u8]) -> usize {
        let taken = {
            let mut typed = self.typed.borrow_mut();
            let taken = bytes.len().min(TYPED.saturating_sub(typed.len()));
            typed.extend(bytes.iter().take(taken));
            taken
        };
        self.exchange(1);
        taken
    }

    /// What was said from byte `from` of all on, and where to go on.
    pub(crate) fn said(&self, from: u64, most: usize) -> (Vec<u8>, u64) {
        self.record.borrow().from(from, most)
    }

    /// How much was ever said. Unit: bytes.
    pub(crate) fn end(&self) -> u64 {
        self.record.borrow().end()
    }

    /// Waits until more than `from` bytes were said.
    pub(crate) async fn beyond(&self, from: u64) {
        self.said.until(|| self.end() > from).await;
    }

    /// Ends the connection, of a domain that has ended: what is left is shown.
    pub(crate) fn close(&self) {
        // The ring holds four pieces; a domain that others still let run is cut off.
        self.exchange(TURN);
        self.lines.borrow_mut().end(|line| self.show(line));
        self.wire.take();
    }
}
