//! What is under way on a connection: requests, answers, watches.
//!
//! Nothing here waits. [`State::pump`] moves what can be moved, in a number of steps that the ring's
//! length bounds, and leaves each answer with the request it is for. Whatever the server writes, it
//! is checked here, and the first thing that is wrong ends the connection.

use hypercall_abi::xenstore::{self as abi, Header};
use zerocopy::{FromBytes, IntoBytes};

use super::error::{Cause, Fault, named};
use super::ring::Ring;
use super::watches::Watches;
use crate::event::Signal;

/// How many requests can be under way.
pub(super) const SLOTS: usize = 8;
/// Unit: bytes.
const HEADER: usize = size_of::<Header>();
const BODY: usize = abi::PAYLOAD_MAX as usize;
/// Room behind the longest message, for those that nobody waits for.
const RESERVE: usize = 1024;
/// The number of requests whose answers nobody reads.
const POST: u32 = u32::MAX;

#[derive(Clone, Copy, Eq, PartialEq)]
enum Phase {
    Free,
    Asked,
    /// The answer's kind and length.
    Answered(u32, usize),
    /// Nobody waits for the answer any more.
    Abandoned,
}

struct Slot {
    id: u32,
    kind: u32,
    phase: Phase,
    body: [u8; BODY],
}

/// Messages on their way to the ring, whole ones one after another.
struct Queue {
    bytes: [u8; HEADER + BODY + RESERVE],
    start: usize,
    end: usize,
}

impl Queue {
    /// Adds a message, if there is room for it and `room` more bytes.
    fn add(&mut self, header: Header, parts: &[&[u8]], room: usize) -> bool {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let length = HEADER + header.len as usize;
        if self.end + length + room > self.bytes.len() {
            return false;
        }
        for part in core::iter::once(header.as_bytes()).chain(parts.iter().copied()) {
            self.bytes[self.end..self.end + part.len()].copy_from_slice(part);
            self.end += part.len();
        }
        true
    }
}

/// What the server does when the connection is made anew.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Server {
    /// It knows nothing of it.
    GoesOn,
    /// It was asked to start again.
    Restarts,
    /// It has done so.
    Restarted,
}

/// All that is known of a connection.
pub(super) struct State {
    ring: Option<Ring>,
    broken: Option<Fault>,
    /// The last request's number, and the last one's that was forgotten: up to it, answers are late.
    last: u32,
    forgotten: u32,
    queue: Queue,
    /// The message that is coming, and how much of it has come.
    message: [u8; HEADER + BODY],
    filled: usize,
    slots: [Slot; SLOTS],
    /// Somebody waits for a slot or for room in the queue.
    crowded: bool,
    pub(super) watches: Watches,
}

impl State {
    pub(super) const fn new() -> Self {
        Self {
            ring: None,
            broken: None,
            last: 0,
            forgotten: 0,
            queue: Queue { bytes: [0; _], start: 0, end: 0 },
            message: [0; _],
            filled: 0,
            slots: [const { Slot { id: 0, kind: 0, phase: Phase::Free, body: [0; BODY] } }; SLOTS],
            crowded: false,
            watches: Watches::new(),
        }
    }

    /// Begins with a ring, unless there is one.
    pub(super) fn begin(&mut self, ring: impl FnOnce() -> Ring) {
        self.ring.get_or_insert_with(ring);
    }

    pub(super) fn ring(&mut self) -> Option<&mut Ring> {
        self.ring.as_mut()
    }

    /// Forgets all that is under way, and goes on if the server does. One that has not started again
    /// still waits for the rest of a message that has begun.
    pub(super) fn forget(&mut self, server: Server) {
        self.slots.iter_mut().for_each(|slot| slot.phase = Phase::Free);
        self.watches.forget();
        self.forgotten = self.last;
        self.filled = 0;
        self.broken = (server == Server::Restarts).then_some(Fault::Restarting);
        if server != Server::GoesOn {
            (self.queue.start, self.queue.end) = (0, 0);
        }
        if let Some(ring) = &mut self.ring {
            ring.resume();
        }
    }

    /// Whether the connection can be used.
    pub(super) fn check(&self) -> Result<(), Cause> {
        match self.broken {
            _ if self.ring.is_none() => Err(Cause::NotConnected),
            Some(fault) => Err(Cause::Broken(fault)),
            None => Ok(()),
        }
    }

    /// Moves what can be moved in both directions, and tells the server and those who wait.
    pub(super) fn pump(&mut self, signal: &dyn Signal) {
        if self.check().is_err() {
            return;
        }
        match self.turn() {
            Ok(true) => signal.notify(),
            Ok(false) => {}
            Err(fault) => {
                self.broken = Some(fault);
                signal.wake();
            }
        }
        let idle = self.queue.start == self.queue.end;
        if self.crowded && idle && self.slots.iter().any(|slot| slot.phase == Phase::Free) {
            self.crowded = false;
            signal.wake();
        }
    }

    /// Says whether anything moved. It ends when what waited at its beginning is taken.
    fn turn(&mut self) -> Result<bool, Fault> {
        let Self { ring: Some(ring), queue, .. } = self else { return Ok(false) };
        let sent = ring.put(&queue.bytes[queue.start..queue.end])?;
        queue.start += sent;
        let mut waiting = ring.waiting()?;
        let moved = sent > 0 || waiting > 0;
        while waiting > 0 {
            let Self { ring: Some(ring), message, filled, .. } = self else { break };
            let piece = (Self::length(message, *filled)? - *filled).min(waiting);
            ring.take(&mut message[*filled..*filled + piece]);
            *filled += piece;
            waiting -= piece;
            if *filled >= HEADER && Self::length(message, *filled)? == *filled {
                self.deliver()?;
                self.filled = 0;
            }
        }
        Ok(moved)
    }

    /// The length of the message that is coming, or of its header as long as that is not complete.
    fn length(message: &[u8; HEADER + BODY], filled: usize) -> Result<usize, Fault> {
        if filled < HEADER {
            return Ok(HEADER);
        }
        let length = header(message)?.len;
        if length > abi::PAYLOAD_MAX {
            Err(Fault::Length(length))
        } else {
            Ok(HEADER + length as usize)
        }
    }

    /// Gives the message that has come to whom it is for.
    fn deliver(&mut self) -> Result<(), Fault> {
        let (header, body) = (header(&self.message)?, &self.message[HEADER..self.filled]);
        if header.kind == abi::WATCH_EVENT {
            return self.watches.deliver(body);
        }
        if header.req_id == POST || (1..=self.forgotten).contains(&header.req_id) {
            return Ok(());
        }
        let asked = |slot: &&mut Slot| {
            slot.id == header.req_id && matches!(slot.phase, Phase::Asked | Phase::Abandoned)
        };
        let slot = self.slots.iter_mut().find(asked).ok_or(Fault::Answer(header.req_id))?;
        if header.kind != slot.kind && header.kind != abi::ERROR {
            return Err(Fault::Kind(header.kind));
        }
        slot.phase = if slot.phase == Phase::Abandoned {
            Phase::Free
        } else {
            slot.body[..body.len()].copy_from_slice(body);
            Phase::Answered(header.kind, body.len())
        };
        Ok(())
    }

    /// Begins a request. Returns its number, or none if it has to wait for others.
    pub(super) fn ask(
        &mut self,
        kind: u32,
        tx_id: u32,
        parts: &[&[u8]],
    ) -> Result<Option<u32>, Cause> {
        let len = length(parts).ok_or(Cause::TooLong)?;
        if self.last >= POST - 1 {
            (self.last, self.forgotten) = (0, 0);
        }
        let id = self.last + 1;
        let free = self.slots.iter_mut().find(|slot| slot.phase == Phase::Free);
        let header = Header { kind, req_id: id, tx_id, len };
        match free {
            Some(slot) if self.queue.add(header, parts, RESERVE) => {
                (slot.id, slot.kind, slot.phase) = (id, kind, Phase::Asked);
                self.last = id;
                Ok(Some(id))
            }
            _ => {
                self.crowded = true;
                Ok(None)
            }
        }
    }

    /// Begins a request whose answer nobody reads, if there is room for it.
    pub(super) fn post(&mut self, kind: u32, tx_id: u32, parts: &[&[u8]]) {
        if let (Some(len), Ok(())) = (length(parts), self.check()) {
            self.queue.add(Header { kind, req_id: POST, tx_id, len }, parts, 0);
        }
    }

    /// Takes the answer to a request, if it has come: how long it is, of what is now in `into`.
    pub(super) fn answer(&mut self, id: u32, into: &mut [u8]) -> Option<Result<usize, Cause>> {
        let mine = |slot: &&mut Slot| slot.id == id && slot.phase != Phase::Free;
        let Some(slot) = self.slots.iter_mut().find(mine) else {
            return Some(Err(Cause::Reconnected));
        };
        let Phase::Answered(kind, length) = slot.phase else { return None };
        slot.phase = Phase::Free;
        let body = &slot.body[..length];
        if kind == abi::ERROR {
            return Some(Err(named(body)));
        }
        Some(match into.get_mut(..length) {
            Some(place) => {
                place.copy_from_slice(body);
                Ok(length)
            }
            None => Err(Cause::NoRoom(length)),
        })
    }

    /// Nobody waits for a request's answer any more.
    pub(super) fn abandon(&mut self, id: u32) {
        for slot in self.slots.iter_mut().filter(|slot| slot.id == id) {
            slot.phase = match slot.phase {
                Phase::Asked | Phase::Abandoned => Phase::Abandoned,
                Phase::Answered(..) | Phase::Free => Phase::Free,
            };
        }
    }
}

fn header(message: &[u8; HEADER + BODY]) -> Result<Header, Fault> {
    Header::read_from_prefix(message).map(|(header, _)| header).map_err(|_| Fault::Form)
}

/// The length of a body, unless it is too long.
fn length(parts: &[&[u8]]) -> Option<u32> {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    u32::try_from(length).ok().filter(|&length| length <= abi::PAYLOAD_MAX)
}
