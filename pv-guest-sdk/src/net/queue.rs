//! Packets that are under way, and the pages they go through.

use core::future::poll_fn;
use core::task::{Context, Poll, Waker};

use heapless::Vec;
use hypercall_abi::netif::{self as abi, ExtraInfo, RxRequest, TxRequest, TxResponse};
use hypercall_abi::types::{GrantRef, PAGE_SIZE};
use zerocopy::IntoBytes;

use super::bytes;
use super::error::{Breach, NetError};
use super::packet::{Assembly, Checksum, Note, Piece};
use crate::event::Signal;
use crate::lock::Held;
use crate::ring::{Page, Ring, Strip};

/// The most pages for packets that are sent.
pub(super) const SEND_PAGES: usize = 64;
/// The most pages for packets that are received.
pub(super) const RECEIVE_PAGES: usize = 128;
/// After how many of them their requests are put again.
const AGAIN: usize = 8;
/// From what length on a packet is used where it is: to take a page from the back end and to give it
/// again costs as much as to copy some bytes. Unit: bytes.
const STAYS: usize = 2048;

/// What went over a card.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{net::Counts, println};
/// # fn example(counts: Counts) {
/// println!("{} bytes out, {} in, {} faulty", counts.sent_bytes, counts.received_bytes, counts.faulty);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Packets that were given to the back end.
    pub sent: u64,
    /// Unit: bytes.
    pub sent_bytes: u64,
    /// Pieces of packets that the back end dropped or refused.
    pub refused: u64,
    /// Packets that came in.
    pub received: u64,
    /// Unit: bytes.
    pub received_bytes: u64,
    /// Packets of which a piece was missing, or that were longer than the room for them.
    pub faulty: u64,
}

struct State<P, T> {
    send: Ring<P>,
    /// What packets that are sent go through.
    strip: T,
    /// Its pages that are free, and that the back end has; a bit for each.
    free: u64,
    asked: u64,
    /// Extra infos that are not answered.
    extras: u32,
    /// Somebody waits for pages or for room in the ring.
    crowded: bool,
    receive: Ring<P>,
    assembly: Assembly,
    /// Answers that were taken, and whose pages were not put again.
    pending: usize,
    /// Of which page the next request is, and the next answer.
    put_page: usize,
    taken_page: usize,
    broken: Option<NetError>,
    counts: Counts,
}

/// The rings of a card, and what is under way on them.
pub(super) struct Queue<P, T, S> {
    state: Held<State<P, T>>,
    /// What packets that come in go through, and how many pages that is. It may be locked when the
    /// state is; who has it locked while a packet is used locks the state for an answer, and nobody
    /// else has the card then.
    ///
    /// Requests are for one page after the other, in a circle: answers come in the order of requests,
    /// and a page is put again when its packet was taken.
    receive: Held<T>,
    receive_pages: usize,
    send_signal: S,
    /// If packets that come in have their own.
    receive_signal: Option<S>,
}

impl<P: Page, T: Strip, S: Signal> Queue<P, T, S> {
    /// Rings in zeroed pages: to send, and to receive.
    pub(super) fn new(
        [send, receive]: [P; 2],
        (strip, send_pages): (T, usize),
        (places, receive_pages): (T, usize),
        (send_signal, receive_signal): (S, Option<S>),
    ) -> Self {
        let ring = |page, size| Ring::new(Vec::from_iter([page]), abi::RING_SLOTS, size);
        let state = State {
            send: ring(send, abi::TX_SLOT),
            strip,
            free: u64::MAX >> (64 - send_pages.clamp(1, 64)),
            asked: 0,
            extras: 0,
            crowded: false,
            receive: ring(receive, abi::RX_SLOT),
            assembly: Assembly::default(),
            pending: 0,
            put_page: 0,
            taken_page: 0,
            broken: None,
            counts: Counts::default(),
        };
        let state = Held::new(state);
        let receive = Held::new(places);
        let queue = Self { state, receive, receive_pages, send_signal, receive_signal };
        let _nobody_is_there_yet = queue.offer(&mut queue.state.lock(), queue.receive_pages);
        queue
    }

    /// The pages of the rings: to send, and to receive.
    pub(super) fn ring_references(&self) -> [GrantRef; 2] {
        let state = self.state.lock();
        [&state.send, &state.receive]
            .map(|ring| ring.pages().first().map_or_else(GrantRef::default, Page::reference))
    }

    fn receive_signal(&self) -> &S {
        self.receive_signal.as_ref().unwrap_or(&self.send_signal)
    }

    /// Wakes a task when something changes next.
    pub(super) fn listen(&self, waker: &Waker) {
        self.send_signal.listen(waker);
        if let Some(signal) = &self.receive_signal {
            signal.listen(waker);
        }
    }

    /// Wakes all that listen.
    pub(super) fn wake(&self) {
        self.send_signal.wake();
        self.receive_signal().wake();
    }

    pub(super) fn counts(&self) -> Counts {
        let mut state = self.state.lock();
        // Of a back end that is broken, what was counted before.
        let _is_known = self.take_answers(&mut state);
        state.counts
    }

    /// Why the card is of no use any more.
    pub(super) fn broken(&self) -> Option<NetError> {
        self.state.lock().broken.clone()
    }

    /// Ends the use of the rings. All that waits is told.
    pub(super) fn end(&self, why: NetError) {
        self.state.lock().broken.get_or_insert(why);
        self.wake();
    }

    fn check<V>(&self, state: &mut State<P, T>, result: Result<V, Breach>) -> Result<V, NetError> {
        if let (None, Err(breach)) = (&state.broken, &result) {
            state.broken = Some(NetError::Broken(*breach));
            self.wake();
        }
        match (&state.broken, result) {
            (None, Ok(value)) => Ok(value),
            (broken, _) => Err(broken.clone().unwrap_or(NetError::Gone)),
        }
    }

    /// Puts so many requests for packets, and says whether the back end wants to be told.
    fn offer(&self, state: &mut State<P, T>, count: usize) -> bool {
        let mut strip = self.receive.lock();
        for _ in 0..count {
            let number = state.put_page;
            state.put_page = (number + 1) % self.receive_pages;
            strip.grant(number);
            let gref = strip.reference(number);
            let id = u16::try_from(number).unwrap_or(0);
            state.receive.put(RxRequest { id, pad: 0, gref }.as_bytes());
        }
        state.receive.show()
    }

    /// Takes a packet, if one is there and room for an answer of so many pages: its length, what is
    /// said of it, and where it is, if it may stay in its pages and is there in a row: at which byte
    /// of them. Then [`Queue::release`] must follow. One that is faulty is dropped, and who listens is
    /// woken to look for another.
    pub(super) fn try_receive(
        &self,
        into: &mut [u8],
        answer: usize,
        stays: bool,
    ) -> Result<Option<(usize, Note, Option<usize>)>, NetError> {
        let mut state = self.state.lock();
        let result = state.assemble(self.receive_pages);
        if !self.check(&mut state, result)? || !self.find_room(&mut state, answer)? {
            return Ok(None);
        }
        let packet = core::mem::take(&mut state.assembly);
        let length = packet.length();
        let fits = !packet.is_faulty() && length <= into.len();
        let mut place = None;
        if fits {
            let mut strip = self.receive.lock();
            place =
                if stays && length >= STAYS { keep(&mut *strip, packet.pieces()) } else { None };
            let mut rest = &mut *into;
            for piece in packet.pieces().iter().filter(|_| place.is_none()) {
                let (part, behind) = rest.split_at_mut(piece.length);
                bytes::load(strip.words(piece.page), piece.offset, part);
                rest = behind;
            }
            state.counts.received += 1;
            state.counts.received_bytes += length as u64;
        } else {
            state.counts.faulty += 1;
            self.receive_signal().wake();
        }
        if place.is_none() {
            self.put_again(&mut state);
        }
        Ok(fits.then(|| (length, packet.note(), place)))
    }

    /// Uses a packet that is in its pages.
    #[cfg(feature = "smoltcp")]
    pub(super) fn with<R>(&self, at: usize, length: usize, using: impl FnOnce(&[u8]) -> R) -> R {
        let (page, offset) = (at / PAGE_SIZE, at % PAGE_SIZE);
        self.receive.lock().with(page, offset + length, |bytes| using(&bytes[offset..]))
    }

    /// A packet that was in its pages is of no use any more.
    #[cfg(feature = "smoltcp")]
    pub(super) fn release(&self) {
        self.put_again(&mut self.state.lock());
    }

    /// Puts requests for pages whose packets were taken, a few at once. So many stay that the longest
    /// packet finds its places.
    fn put_again(&self, state: &mut State<P, T>) {
        if state.pending >= AGAIN {
            let again = core::mem::take(&mut state.pending);
            if self.offer(state, again) {
                self.receive_signal().notify();
            }
        }
    }

    /// Waits for a packet.
    pub(super) async fn receive(&self, into: &mut [u8]) -> Result<(usize, Note), NetError> {
        let mut look = || {
            let came = self.try_receive(into, 0, false)?;
            Ok(came.map(|(length, note, _)| (length, note)))
        };
        poll_fn(|context| self.poll(context, self.receive_signal(), &mut look)).await
    }

    /// Whether there are so many pages, and room in the ring for them and an extra info. If not, who
    /// listens is woken when some are.
    #[cfg(feature = "smoltcp")]
    pub(super) fn has_room(&self, pages: usize) -> Result<bool, NetError> {
        self.find_room(&mut self.state.lock(), pages)
    }

    fn find_room(&self, state: &mut State<P, T>, pages: usize) -> Result<bool, NetError> {
        self.check(state, Ok(()))?;
        if state.fits(pages) {
            return Ok(true);
        }
        for crowded in [false, true] {
            state.crowded |= crowded;
            self.take_answers(state)?;
            if state.fits(pages) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn take_answers(&self, state: &mut State<P, T>) -> Result<(), NetError> {
        let result = state.take_answers();
        if self.check(state, result)? {
            self.send_signal.wake();
        }
        Ok(())
    }

    fn poll<V>(
        &self,
        context: &Context<'_>,
        signal: &S,
        look: impl FnOnce() -> Result<Option<V>, NetError>,
    ) -> Poll<Result<V, NetError>> {
        signal.listen(context.waker());
        look().map_or_else(
            |error| Poll::Ready(Err(error)),
            |it| it.map_or(Poll::Pending, |value| Poll::Ready(Ok(value))),
        )
    }

    /// Sends a packet, after waiting for room.
    pub(super) async fn send(&self, packet: &[u8], note: Note) -> Result<(), NetError> {
        let send = || {
            let mut state = self.state.lock();
            let has_room = self.find_room(&mut state, packet.len().div_ceil(PAGE_SIZE))?;
            let fill = |bytes: &mut [u8]| (bytes.copy_from_slice(packet), note);
            Ok(has_room.then(|| self.put(&mut state, packet.len(), fill)))
        };
        poll_fn(|context| self.poll(context, &self.send_signal, send)).await
    }

    /// Sends a packet of so many bytes, of 18 pages at most, that `fill` writes and says something of.
    /// Without room it is lost.
    #[cfg(feature = "smoltcp")]
    pub(super) fn send_or_lose<R>(
        &self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> (R, Note),
    ) -> R {
        let mut state = self.state.lock();
        if self.find_room(&mut state, length.div_ceil(PAGE_SIZE)).unwrap_or(false) {
            return self.put(&mut state, length, fill);
        }
        // Nobody is there who reads these pages.
        state.strip.with(0, length, fill).0
    }

    /// Sends a packet for which there is room.
    fn put<R>(
        &self,
        state: &mut State<P, T>,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> (R, Note),
    ) -> R {
        let first = state.row(length.div_ceil(PAGE_SIZE)).trailing_zeros() as usize;
        let (result, note) = state.strip.with(first, length, fill);
        state.put(first, length, note);
        if state.send.show() {
            self.send_signal.notify();
        }
        result
    }

    /// Goes on as if so many requests had been answered on each ring.
    #[cfg(test)]
    pub(super) fn start_at(&self, index: u32) {
        let mut state = self.state.lock();
        (state.put_page, state.taken_page) = (0, 0);
        state.send.start_at(index);
        state.receive.start_at(index);
        let _nobody_is_told = self.offer(&mut state, self.receive_pages);
    }

    /// Waits until the back end has no packet of ours.
    pub(super) async fn settle(&self) -> Result<(), NetError> {
        let idle = || {
            let mut state = self.state.lock();
            state.crowded = true;
            let result = state.take_answers();
            self.check(&mut state, result)?;
            Ok((state.asked == 0).then_some(()))
        };
        poll_fn(|context| self.poll(context, &self.send_signal, idle)).await
    }
}

/// Takes the pages of a packet from the back end, if it is there in a row. At which byte of the strip
/// it begins. The first page is copied to the one behind it if that has nothing, as an extra info's
/// has.
fn keep(strip: &mut impl Strip, pieces: &[Piece]) -> Option<usize> {
    let (first, others) = pieces.split_first()?;
    let last = pieces.last()?.page;
    let start = match others.first() {
        None => first.page,
        // The circle begins again at 0.
        Some(second) => second.page.checked_sub(1)?,
    };
    let in_row = others.iter().zip(start..).all(|(piece, page)| {
        piece.page == page + 1
            && piece.offset == 0
            && (piece.length == PAGE_SIZE || page + 1 == last)
    });
    let is_whole = others.is_empty() || first.offset + first.length == PAGE_SIZE;
    let is_near = start == first.page || start == first.page + 1;
    if !in_row || !is_whole || !is_near || !(first.page..=last).all(|page| strip.withdraw(page)) {
        // What was withdrawn is granted again with its request.
        return None;
    }
    if start != first.page {
        strip.with(first.page, 2 * PAGE_SIZE, |bytes| bytes.copy_within(..PAGE_SIZE, PAGE_SIZE));
    }
    Some(start * PAGE_SIZE + first.offset)
}

impl<P: Page, T: Strip> State<P, T> {
    fn fits(&self, pages: usize) -> bool {
        (pages == 0 || self.row(pages) != 0) && self.send.room() as usize > pages
    }

    /// Where so many free pages begin in a row; a bit for each.
    fn row(&self, pages: usize) -> u64 {
        let (mut rows, mut length) = (self.free, 1);
        while length < pages {
            let more = length.min(pages - length);
            (rows, length) = (rows & rows >> more, length + more);
        }
        rows
    }

    /// Puts the requests for a packet in the pages from `first` on, for which there is room.
    fn put(&mut self, first: usize, length: usize, note: Note) {
        let mut flags = match note.checksum {
            Checksum::Complete => 0,
            Checksum::Validated => abi::TX_DATA_VALIDATED,
            Checksum::Blank => abi::TX_DATA_VALIDATED | abi::TX_CSUM_BLANK,
        } | if note.segment.is_some() { abi::TX_EXTRA_INFO } else { 0 };
        let bits = u64::MAX >> (64 - length.div_ceil(PAGE_SIZE)) << first;
        (self.free, self.asked) = (self.free & !bits, self.asked | bits);
        let mut left = length;
        for number in first.. {
            let piece = left.min(PAGE_SIZE);
            let more = if left > PAGE_SIZE { abi::TX_MORE_DATA } else { 0 };
            let size = if number == first { length } else { piece };
            let request = TxRequest {
                gref: self.strip.reference(number),
                offset: 0,
                flags: core::mem::take(&mut flags) | more,
                id: u16::try_from(number).unwrap_or(0),
                size: u16::try_from(size).unwrap_or(u16::MAX),
            };
            self.send.put(request.as_bytes());
            if let (true, Some(size)) = (number == first, note.segment) {
                let (kind, gso_kind) = (abi::EXTRA_GSO, abi::GSO_TCPV4);
                let gso_size = size.get();
                let extra = ExtraInfo { kind, gso_kind, gso_size, ..ExtraInfo::default() };
                let mut slot = [0; abi::TX_SLOT as usize];
                slot[..size_of::<ExtraInfo>()].copy_from_slice(extra.as_bytes());
                self.send.put(&slot);
                self.extras += 1;
            }
            left -= piece;
            if left == 0 {
                break;
            }
        }
        self.counts.sent += 1;
        self.counts.sent_bytes += length as u64;
    }

    /// Takes answers until a packet is there, and says whether one is.
    fn assemble(&mut self, pages: usize) -> Result<bool, Breach> {
        while !self.assembly.is_complete() {
            let Some(answer) = self.receive.take::<{ abi::RX_SLOT as usize }>(0)? else {
                return Ok(false);
            };
            let page = self.taken_page;
            self.taken_page = (page + 1) % pages;
            self.pending += 1;
            self.assembly.take(answer, page)?;
        }
        Ok(true)
    }

    /// Takes all answers to packets that were sent, and says whether somebody waits for what is
    /// free now. Each is one of a request that is under way, so they come to an end.
    fn take_answers(&mut self) -> Result<bool, Breach> {
        const SIZE: usize = size_of::<TxResponse>();
        let before = self.free;
        // Nobody is to be told of an answer for which nobody waits: all are looked for before the next
        // packet. More than the ring has never come before that.
        let behind = if self.crowded { 0 } else { self.send.slots() };
        while let Some(answer) = self.send.take::<SIZE>(behind)? {
            let TxResponse { id, status } = zerocopy::transmute!(answer);
            if status == abi::STATUS_NULL {
                self.extras = self.extras.checked_sub(1).ok_or(Breach::Status(status))?;
                continue;
            }
            let bit = 1_u64.checked_shl(id.into()).filter(|bit| self.asked & bit != 0);
            let bit = bit.ok_or(Breach::Answer(id))?;
            if !abi::STATUSES.iter().any(|&(_, known)| known == status) {
                return Err(Breach::Status(status));
            }
            self.counts.refused += u64::from(status != abi::STATUS_OKAY);
            self.asked &= !bit;
            self.free |= bit;
        }
        Ok(self.free != before && core::mem::take(&mut self.crowded))
    }
}
