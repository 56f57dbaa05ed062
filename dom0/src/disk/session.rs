//! Requests by number: for a server of disks, which gives commands and takes answers in any order.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::task::{Context, Poll, Waker};

use super::{Device, Disk, DiskError, Operation};
use crate::hw::Piece;
use crate::virtio::block::{Block, Kind, Order, Who};

/// What a disk is to do.
#[derive(Clone, Copy, Debug)]
pub enum Command<'a> {
    /// As [`Disk::transfer`].
    Transfer(Operation, u64, &'a [Piece]),
    /// As [`Disk::flush`].
    Flush,
    /// As [`Disk::discard`]: the first sector, and how many.
    Discard(u64, u64),
}

/// There is no room: to be asked again after another of the session's requests is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Full;

/// Answers of a device to a session.
#[derive(Default)]
pub(crate) struct Completions {
    done: RefCell<VecDeque<(u32, Result<(), DiskError>)>>,
    waker: RefCell<Option<Waker>>,
}

impl Completions {
    pub(crate) fn push(&self, number: u32, answer: Result<(), DiskError>) {
        self.done.borrow_mut().push_back((number, answer));
        self.waker.take().into_iter().for_each(Waker::wake);
    }
}

/// A request that waits for room.
struct Kept {
    number: u32,
    kind: Kind,
    sector: u64,
    list: Vec<Piece>,
    count: u64,
}

/// A request that was cut.
struct Cut {
    number: u32,
    /// Parts that are not done.
    left: usize,
    answer: Result<(), DiskError>,
}

/// Requests of one user of a disk, each known by a number, which must not be used again before its
/// answer was taken. Without allocations for each, but for lists and what is cut.
pub struct Session {
    disk: Disk,
    completions: Rc<Completions>,
    /// Answers that no device had to give.
    at_once: VecDeque<(u32, Result<(), DiskError>)>,
    /// What the device has.
    flying: usize,
    kept: VecDeque<Kept>,
    cuts: Vec<Cut>,
}

impl Session {
    /// A session without requests.
    #[must_use]
    pub fn new(disk: Disk) -> Self {
        Self {
            disk,
            completions: Rc::default(),
            at_once: VecDeque::new(),
            flying: 0,
            kept: VecDeque::new(),
            cuts: Vec::new(),
        }
    }

    /// The disk.
    #[must_use]
    pub const fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Begins a request. Its pieces are kept for as long as the device may use them. What the disk
    /// refuses is answered with the error.
    ///
    /// # Errors
    /// [`Full`] if there is no room. A session with no request under way always has room for one.
    pub fn submit(&mut self, number: u32, command: Command<'_>) -> Result<(), Full> {
        if !self.kept.is_empty() {
            return Err(Full);
        }
        let order = match self.disk.order(command) {
            Ok(order) => order,
            Err(error) => {
                self.at_once.push_back((number, Err(error)));
                return Ok(());
            }
        };
        match self.disk.device.clone() {
            Device::Ram(ram) => {
                self.at_once.push_back((number, super::carry_out(&ram, &order)));
                Ok(())
            }
            Device::Virtio(block) => self.give(number, &block, &order),
        }
    }

    fn give(&mut self, number: u32, block: &Block, order: &Order<'_>) -> Result<(), Full> {
        let kept = |sector, list, count| Kept { number, kind: order.kind, sector, list, count };
        if order.kind == Kind::Flush && !block.limits().can_flush {
            self.at_once.push_back((number, Ok(())));
        } else if order.kind == Kind::Discard {
            let ranges = block.cut_range(order.sector, order.count);
            self.keep_parts(
                number,
                ranges.map(|(at, count)| kept(at, Vec::new(), count)).collect(),
            );
        } else if !block.takes(order.list) {
            let lists = block.cut(order.sector, order.list).into_iter();
            self.keep_parts(number, lists.map(|(at, list)| kept(at, list, 0)).collect());
        } else {
            match block.begin(order, Who::Session(self.completions.clone(), number)) {
                Some(Ok(_)) => self.flying += 1,
                Some(Err(error)) => self.at_once.push_back((number, Err(error))),
                None if self.flying > 0 => return Err(Full),
                None => self.kept.push_back(kept(order.sector, order.list.to_vec(), 0)),
            }
        }
        self.fill(block);
        Ok(())
    }

    fn keep_parts(&mut self, number: u32, parts: Vec<Kept>) {
        self.cuts.push(Cut { number, left: parts.len(), answer: Ok(()) });
        self.kept.extend(parts);
    }

    /// Gives the device what waits, as long as there is room.
    fn fill(&mut self, block: &Block) {
        while let Some(Kept { number, kind, sector, list, count }) = self.kept.front() {
            let order = Order { kind: *kind, sector: *sector, list, count: *count };
            let number = *number;
            match block.begin(&order, Who::Session(self.completions.clone(), number)) {
                Some(Ok(_)) => self.flying += 1,
                Some(Err(error)) => self.at_once.push_back((number, Err(error))),
                None if self.flying > 0 => break,
                None => return block.reserve(&self.completions),
            }
            self.kept.pop_front();
        }
    }

    /// The next answer, with its request's number; or the caller's task is woken when there is one.
    pub fn poll(&mut self, context: &Context<'_>) -> Poll<(u32, Result<(), DiskError>)> {
        if self.flying == 0 && self.kept.is_empty() && self.cuts.is_empty() {
            // No device will answer.
            return self.at_once.pop_front().map_or(Poll::Pending, Poll::Ready);
        }
        loop {
            if !self.kept.is_empty()
                && let Device::Virtio(block) = self.disk.device.clone()
            {
                self.fill(&block);
                if !self.kept.is_empty() {
                    block.wait_for_room(context);
                }
            }
            let answered = self.completions.done.borrow_mut().pop_front();
            self.flying -= usize::from(answered.is_some());
            let Some((number, answer)) = answered.or_else(|| self.at_once.pop_front()) else {
                self.completions.waker.replace(Some(context.waker().clone()));
                return Poll::Pending;
            };
            let Some(place) = self.cuts.iter().position(|cut| cut.number == number) else {
                return Poll::Ready((number, answer));
            };
            let Some(cut) = self.cuts.get_mut(place) else { continue };
            cut.left -= 1;
            cut.answer = cut.answer.and(answer);
            if cut.left == 0 {
                let cut = self.cuts.swap_remove(place);
                return Poll::Ready((number, cut.answer));
            }
        }
    }
}

#[cfg(test)]
mod tests;
