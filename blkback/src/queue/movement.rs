//! Data between the front end's pages, this domain's and the disk.

use alloc::vec::Vec;

use hypercall_abi::blkif::{STATUS_ERROR, STATUS_OKAY, Segment};
use hypercall_abi::types::GrantRef;
use zerocopy::IntoBytes;

use super::{Mode, Queue};
use crate::disk::{Disk, Ticket};
use crate::flight::Action;
use crate::guest::{Direction, Guest, PageCopy};
use crate::request::{check_segments, extent};

impl<G: Guest> Queue<G> {
    /// Reads the lists of segments that are in pages of the front end's, and checks them.
    pub(super) fn read_lists(&mut self) {
        for ticket in &self.fresh {
            let Some(flight) = self.flights.get(*ticket) else { continue };
            let indirect = flight.operation == hypercall_abi::blkif::INDIRECT;
            let (Some(page), Some(first), true) =
                (flight.buffers.first(), flight.segments.first(), indirect)
            else {
                continue;
            };
            // No more than a page of them was let in.
            let length = u16::try_from(flight.segments.as_bytes().len()).unwrap_or(0);
            self.copies.push(PageCopy {
                gref: first.gref,
                offset: 0,
                own: self.guest.part_of_buffer(page, 0, length),
                length,
                direction: Direction::FromGuest,
                done: false,
            });
            self.owners.push((*ticket, self.copies.len()));
        }
        self.copy();
        let mut owners = core::mem::take(&mut self.owners);
        for (ticket, _) in owners.drain(..) {
            let Some(flight) = self.flights.get(ticket) else { continue };
            let page = flight.buffers.first().filter(|_| flight.copied);
            let checked = page.is_some_and(|page| {
                self.guest.read(page, flight.segments.as_mut_bytes());
                check_segments(&flight.segments, flight.sector, &self.geometry).is_ok()
            });
            if !checked {
                self.finish(ticket, STATUS_ERROR);
            }
        }
        self.owners = owners;
    }

    /// Moves the data of the requests that are new in this turn, and gives them to the disk.
    pub(super) fn move_data(&mut self, disk: &mut impl Disk<G::Piece>) {
        let mut fresh = core::mem::take(&mut self.fresh);
        for ticket in &fresh {
            self.prepare(*ticket, disk);
        }
        if let Mode::Mapped(cache) = &mut self.mode {
            cache.map(&mut self.guest);
        }
        self.copy();
        self.owners.clear();
        for ticket in &fresh {
            self.proceed(*ticket, disk);
        }
        fresh.clear();
        self.fresh = fresh;
    }

    /// Notes what copies and mappings a request needs.
    fn prepare(&mut self, ticket: Ticket, disk: &impl Disk<G::Piece>) {
        let Some(flight) = self.flights.get(ticket) else { return };
        let (Action::Transfer(direction) | Action::Barrier(direction)) = flight.action else {
            return;
        };
        flight.copied = false;
        match &mut self.mode {
            Mode::Resident => self.copy_resident(ticket, direction, disk),
            Mode::Buffers if direction == Direction::FromGuest => {
                self.copy_buffers(ticket, direction);
            }
            Mode::Buffers => {}
            Mode::Mapped(cache) => {
                let segments = flight.segments.iter();
                let places = segments.map(|segment| cache.begin(segment.gref, &mut self.guest));
                flight.places.extend(places);
            }
        }
    }

    /// Does the next step of a request whose copies and mappings are made.
    fn proceed(&mut self, ticket: Ticket, disk: &mut impl Disk<G::Piece>) {
        let Some(flight) = self.flights.get(ticket) else { return };
        let (Action::Transfer(direction) | Action::Barrier(direction)) = flight.action else {
            return self.submit(ticket, disk);
        };
        let ready = match &self.mode {
            Mode::Resident if flight.copied => return self.resident_done(ticket, disk),
            Mode::Resident => false,
            Mode::Buffers => flight.copied || direction == Direction::ToGuest,
            Mode::Mapped(_) => true,
        };
        if ready && self.place(ticket) {
            self.submit(ticket, disk);
        } else {
            self.finish(ticket, STATUS_ERROR);
        }
    }

    /// The data of a disk that lies in memory is where it belongs.
    fn resident_done(&mut self, ticket: Ticket, disk: &mut impl Disk<G::Piece>) {
        match self.flights.get(ticket) {
            Some(flight) if matches!(flight.action, Action::Barrier(_)) => {
                flight.action = Action::Flush;
                self.submit(ticket, disk);
            }
            _ => self.finish(ticket, STATUS_OKAY),
        }
    }

    /// Lists where in memory the disk finds the data. Returns whether all of it is there.
    fn place(&mut self, ticket: Ticket) -> bool {
        let Some(flight) = self.flights.get(ticket) else { return false };
        flight.pieces.clear();
        for (index, segment) in flight.segments.iter().enumerate() {
            let (offset, length) = extent(segment);
            let piece = match &self.mode {
                Mode::Mapped(cache) => {
                    let page = flight.places.get(index).and_then(|&place| cache.get(place));
                    page.map(|page| self.guest.part_of_mapping(page, offset, length))
                }
                _ => {
                    let page = flight.buffers.get(index);
                    page.map(|page| self.guest.part_of_buffer(page, offset, length))
                }
            };
            let Some(piece) = piece else { return false };
            flight.pieces.push(piece);
        }
        true
    }

    /// Notes the copies between a request's pages and those of this domain.
    pub(super) fn copy_buffers(&mut self, ticket: Ticket, direction: Direction) {
        let Some(flight) = self.flights.get(ticket) else { return };
        for (segment, page) in flight.segments.iter().zip(&flight.buffers) {
            let (offset, length) = extent(segment);
            let own = self.guest.part_of_buffer(page, offset, length);
            let gref = segment.gref;
            self.copies.push(PageCopy { gref, offset, own, length, direction, done: false });
        }
        self.owners.push((ticket, self.copies.len()));
    }

    /// Notes the copies between a request's pages and a disk that lies in memory.
    fn copy_resident(&mut self, ticket: Ticket, direction: Direction, disk: &impl Disk<G::Piece>) {
        let Some(flight) = self.flights.get(ticket) else { return };
        let before = self.copies.len();
        let mut sector = flight.sector;
        for segment in &flight.segments {
            if !copies_of(segment, &mut sector, direction, disk, &mut self.copies) {
                // None of them: what was not copied is an error.
                self.copies.truncate(before);
                return;
            }
        }
        self.owners.push((ticket, self.copies.len()));
    }

    /// Makes the copies that were noted, and notes in each request whether all of its were made.
    pub(super) fn copy(&mut self) {
        if self.copies.is_empty() {
            return;
        }
        self.guest.copy(&mut self.copies);
        let mut start = 0;
        for (ticket, end) in &self.owners {
            let made = self.copies.get(start..*end);
            if let Some(flight) = self.flights.get(*ticket) {
                flight.copied = made.is_some_and(|made| made.iter().all(|copy| copy.done));
            }
            start = *end;
        }
        self.copies.clear();
    }
}

/// The copies of one segment: what lies in one page here need not lie in one page of the disk.
/// Returns whether the disk has all of it.
fn copies_of<P>(
    segment: &Segment,
    sector: &mut u64,
    direction: Direction,
    disk: &impl Disk<P>,
    copies: &mut Vec<PageCopy<P>>,
) -> bool {
    let gref: GrantRef = segment.gref;
    let (mut offset, mut left) = extent(segment);
    while left > 0 {
        let Some((own, count)) = disk.resident(*sector, left / 512) else { return false };
        let length = count.saturating_mul(512);
        if length == 0 || length > left {
            return false;
        }
        copies.push(PageCopy { gref, offset, own, length, direction, done: false });
        *sector += u64::from(count);
        (offset, left) = (offset + length, left - length);
    }
    true
}
