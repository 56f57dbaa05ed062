//! Split queues: requests as chains of parts of memory, of which any number is in flight.
//!
//! What the driver needs to know stays in memory of its own: links of chains, who waits, how much
//! may be written. Of what the device can write, only the ring of used chains is read, and checked.
//! `docs/decisions` says why the queue of the crate `virtio-drivers` is not used.

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU16, Ordering, fence};

use pv_guest_sdk::device::DeviceError;

use crate::hw::{Buffer, Piece};

/// A descriptor's flag: another one follows.
const NEXT: u16 = 1;
/// A descriptor's flag: the device writes.
const WRITE: u16 = 2;
/// The device's flag: it need not be notified.
const NO_NOTIFY: u16 = 1;
/// The most descriptors of a queue.
const MOST: u16 = 1 << 15;
/// What old devices align the used ring to. Unit: bytes.
const ALIGN: usize = 4096;

/// A part of a request.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    machine: u64,
    length: u32,
    writes: bool,
}

impl Part {
    /// What the device reads.
    #[must_use]
    pub const fn read(piece: &Piece) -> Self {
        Self { machine: piece.machine(), length: piece.length(), writes: false }
    }

    /// What the device reads of a page of a packet, at a machine address.
    pub(super) const fn read_at(machine: u64, length: u32) -> Self {
        Self { machine, length, writes: false }
    }

    /// What the device writes of a page that was lent to it.
    pub(super) const fn written_at(machine: u64, length: u32) -> Self {
        Self { machine, length, writes: true }
    }

    /// How much the device may write. Unit: bytes.
    #[must_use]
    pub const fn writable(&self) -> u32 {
        if self.writes { self.length } else { 0 }
    }

    /// What the device writes. These come after all that it reads.
    #[must_use]
    pub const fn written(piece: &Piece) -> Self {
        Self { machine: piece.machine(), length: piece.length(), writes: true }
    }
}

/// What a device did that cannot be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum QueueError {
    /// It used more chains than it was given.
    Ahead(u16),
    /// It used a chain that it does not have.
    Chain(u32),
    /// It wrote more than it may, or less than it must; bytes.
    Length(u32),
    /// It put a packet into so many buffers.
    Buffers(u16),
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ahead(count) => write!(f, "the device used {count} requests, more than it has"),
            Self::Chain(chain) => write!(f, "the device used request {chain}, which it has not"),
            Self::Length(length) => write!(f, "the device says it wrote {length} bytes"),
            Self::Buffers(count) => write!(f, "the device put a packet into {count} buffers"),
        }
    }
}

impl core::error::Error for QueueError {}

/// Where a queue's three parts are, by machine addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Places {
    /// Descriptors.
    pub descriptors: u64,
    /// What the driver makes available.
    pub driver: u64,
    /// What the device has used.
    pub device: u64,
}

/// A chain that the device has.
#[derive(Debug)]
struct Chain<T> {
    token: T,
    /// Its descriptors.
    count: u16,
    /// How much the device may write. Unit: bytes.
    writable: u32,
}

/// A queue whose requests are known by a token each.
#[derive(Debug)]
pub struct Queue<T> {
    memory: Buffer,
    size: u16,
    /// The descriptors that are free, the next one last.
    free: Vec<u16>,
    /// Which descriptor comes after each, in chains.
    links: Vec<u16>,
    /// By the first descriptor.
    chains: Vec<Option<Chain<T>>>,
    flying: u16,
    /// How many chains were made available and were seen used, since the beginning.
    made: u16,
    seen: u16,
}

impl<T> Queue<T> {
    /// An empty queue of `size` descriptors, a power of two up to 32768.
    ///
    /// # Errors
    /// [`DeviceError::Range`] for another size, [`DeviceError::Memory`] without memory for it.
    pub fn new(size: u16) -> Result<Self, DeviceError> {
        if !size.is_power_of_two() || size > MOST {
            return Err(DeviceError::Range);
        }
        let entries = usize::from(size);
        let memory = Buffer::new(used(entries) + 6 + 8 * entries, 0)?;
        Ok(Self {
            memory,
            size,
            free: (0..size).rev().collect(),
            links: (0..size).collect(),
            chains: (0..size).map(|_| None).collect(),
            flying: 0,
            made: 0,
            seen: 0,
        })
    }

    /// How many descriptors it has.
    #[must_use]
    pub const fn size(&self) -> u16 {
        self.size
    }

    /// How many descriptors are free.
    #[must_use]
    pub fn room(&self) -> usize {
        self.free.len()
    }

    /// Where it is.
    #[must_use]
    pub fn places(&self) -> Places {
        let (start, entries) = (self.memory.machine(), usize::from(self.size));
        Places {
            descriptors: start,
            driver: start + available(entries) as u64,
            device: start + used(entries) as u64,
        }
    }

    /// Gives the device a request.
    ///
    /// # Errors
    /// The token, if there is no room for all parts, or no part.
    pub fn push(&mut self, parts: &[Part], token: T) -> Result<(), T> {
        let Some(&head) = self.free.last().filter(|_| parts.len() <= self.free.len()) else {
            return Err(token);
        };
        if parts.is_empty() {
            return Err(token);
        }
        let (mut last, mut writable) = (None, 0_u32);
        for (number, part) in parts.iter().enumerate() {
            let Some(index) = self.free.pop() else { break };
            if let Some(link) =
                last.replace(index).and_then(|it| self.links.get_mut(usize::from(it)))
            {
                *link = index;
            }
            let follows = self.free.last().filter(|_| number + 1 < parts.len());
            writable = writable.saturating_add(part.writable());
            self.describe(index, part, follows.copied());
        }
        if let Some(chain) = self.chains.get_mut(usize::from(head)) {
            let count = u16::try_from(parts.len()).unwrap_or(u16::MAX);
            *chain = Some(Chain { token, count, writable });
        }
        self.flying += 1;
        let ring = available(usize::from(self.size)) / 2;
        let place = ring + 2 + usize::from(self.made % self.size);
        self.half(place).store(head, Ordering::Relaxed);
        self.made = self.made.wrapping_add(1);
        // The device sees the entry and the chain before the count.
        self.half(ring + 1).store(self.made, Ordering::Release);
        Ok(())
    }

    fn describe(&self, index: u16, part: &Part, follows: Option<u16>) {
        let place = 8 * usize::from(index);
        let flags = if part.writes { WRITE } else { 0 } | if follows.is_some() { NEXT } else { 0 };
        let address = part.machine.to_le_bytes();
        let length = part.length.to_le_bytes();
        let halves = address.chunks_exact(2).chain(length.chunks_exact(2));
        for (offset, half) in halves.enumerate() {
            let half = u16::from_le_bytes([half[0], half[1]]);
            self.half(place + offset).store(half, Ordering::Relaxed);
        }
        self.half(place + 6).store(flags, Ordering::Relaxed);
        self.half(place + 7).store(follows.unwrap_or(0), Ordering::Relaxed);
    }

    /// Whether the device wants to be told of what was pushed.
    #[must_use]
    pub fn wants_notice(&self) -> bool {
        // The count must be out before the device's wish is read, or both might miss the other.
        fence(Ordering::SeqCst);
        let flags = self.half(used(usize::from(self.size)) / 2).load(Ordering::Relaxed);
        flags & NO_NOTIFY == 0
    }

    /// Tells the device whether interrupts are wanted. It may send some all the same.
    pub fn want_interrupts(&self, wanted: bool) {
        let place = available(usize::from(self.size)) / 2;
        self.half(place).store(u16::from(!wanted), Ordering::Relaxed);
        // The wish must be out before the queue is looked at once more.
        fence(Ordering::SeqCst);
    }

    /// Takes a request that the device is done with: its token, and how much it wrote (unit:
    /// bytes). `None` if there is none now.
    ///
    /// # Errors
    /// [`QueueError`] for what cannot be; the queue is not to be used any more then.
    pub fn pop(&mut self) -> Result<Option<(T, u32)>, QueueError> {
        let ring = used(usize::from(self.size)) / 2;
        let ahead = self.half(ring + 1).load(Ordering::Acquire).wrapping_sub(self.seen);
        if ahead == 0 {
            return Ok(None);
        }
        if ahead > self.flying {
            return Err(QueueError::Ahead(ahead));
        }
        let place = ring + 2 + 4 * usize::from(self.seen % self.size);
        let word = |place| {
            let low = u32::from(self.half(place).load(Ordering::Relaxed));
            u32::from(self.half(place + 1).load(Ordering::Relaxed)) << 16 | low
        };
        let (head, length) = (word(place), word(place + 2));
        let chain = usize::try_from(head).ok().and_then(|head| self.chains.get_mut(head));
        let chain = chain.and_then(Option::take).ok_or(QueueError::Chain(head))?;
        let mut index = u16::try_from(head).unwrap_or(0);
        for _ in 0..chain.count {
            self.free.push(index);
            index = self.links.get(usize::from(index)).copied().unwrap_or(0);
        }
        self.flying -= 1;
        self.seen = self.seen.wrapping_add(1);
        if length > chain.writable {
            return Err(QueueError::Length(length));
        }
        Ok(Some((chain.token, length)))
    }

    /// Takes the tokens of all requests back from a device that was reset. The queue is of no use
    /// any more.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = T> {
        self.chains.iter_mut().filter_map(|chain| Some(chain.take()?.token))
    }

    /// Never gives its memory back: the device may still use it.
    pub(crate) fn leak(&self) {
        self.memory.leak();
    }

    /// A half of the queue's memory. All places that are asked for are within.
    fn half(&self, place: usize) -> &AtomicU16 {
        &self.memory.halves()[place]
    }
}

/// Where available chains are. Unit: bytes.
const fn available(size: usize) -> usize {
    16 * size
}

/// Where used chains are. Unit: bytes.
const fn used(size: usize) -> usize {
    (available(size) + 6 + 2 * size).next_multiple_of(ALIGN)
}

#[cfg(test)]
pub(crate) mod tests;
