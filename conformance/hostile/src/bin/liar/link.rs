//! A ring of which both the indices and the slots are written at will.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use hypercall_abi::blkif::{Request, Segment, SharedRing};
use pv_guest_sdk::event::Channel;
use pv_guest_sdk::grant::Grant;
use zerocopy::IntoBytes;

use crate::{Outcome, ensure};

const PRODUCED: usize = core::mem::offset_of!(SharedRing, req_prod) / 4;
const ANSWERED: usize = core::mem::offset_of!(SharedRing, rsp_prod) / 4;
const WANTED: usize = core::mem::offset_of!(SharedRing, rsp_event) / 4;
const FIRST: usize = core::mem::offset_of!(SharedRing, first) / 4;
/// Slots of one page, and words of a slot.
pub(crate) const SLOTS: u32 = 32;
const SLOT: usize = size_of::<Request>() / 4;

/// An answer: the request's number, its operation, the status.
pub(crate) type Answer = (u64, u8, i16);

/// A connection.
pub(crate) struct Link {
    /// The ring's page.
    pub(crate) ring: Grant,
    channel: Channel,
    produced: u32,
    consumed: u32,
}

/// A request with segments, which may be any; `count` is what it says of their number.
pub(crate) fn request(operation: u8, sector: u64, segments: &[Segment], count: u8) -> Request {
    let mut seg = [Segment::default(); 11];
    seg.iter_mut().zip(segments).for_each(|(to, from)| *to = *from);
    Request { operation, nr_segments: count, sector_number: sector, seg, ..Request::default() }
}

/// A segment: all of a page.
pub(crate) fn whole(page: &Grant) -> Segment {
    Segment { gref: page.reference(), first_sect: 0, last_sect: 7, pad: 0 }
}

impl Link {
    pub(crate) fn new(ring: Grant, channel: Channel) -> Self {
        Self { ring, channel, produced: 0, consumed: 0 }
    }

    /// Puts a request into the next slot. Nobody is told.
    pub(crate) fn put(&mut self, request: &Request) {
        let at = FIRST + (self.produced % SLOTS) as usize * SLOT;
        let slot = self.ring.words().iter().skip(at);
        for (word, bytes) in slot.zip(request.as_bytes().chunks(4)) {
            let bytes = bytes.try_into().unwrap_or_default();
            word.store(u32::from_le_bytes(bytes), Ordering::Relaxed);
        }
        self.produced = self.produced.wrapping_add(1);
    }

    /// Says how many requests there are, as if so many were put.
    pub(crate) fn show_as(&self, produced: u32) -> Outcome {
        self.ring.words()[PRODUCED].store(produced, Ordering::SeqCst);
        Ok(self.channel.send()?)
    }

    /// Says how many requests there are.
    pub(crate) fn show(&self) -> Outcome {
        self.show_as(self.produced)
    }

    /// How many requests were put.
    pub(crate) const fn produced(&self) -> u32 {
        self.produced
    }

    /// Rings the bell.
    pub(crate) fn send(&self) -> Outcome {
        Ok(self.channel.send()?)
    }

    /// The next answer, once there is one.
    pub(crate) async fn answer(&mut self) -> Outcome<Answer> {
        let words = self.ring.words();
        loop {
            words[WANTED].store(self.consumed.wrapping_add(1), Ordering::SeqCst);
            if words[ANSWERED].load(Ordering::SeqCst) != self.consumed {
                break;
            }
            self.channel.notified().await;
        }
        let at = FIRST + (self.consumed % SLOTS) as usize * SLOT;
        let word = |number: usize| words[at + number].load(Ordering::Relaxed).to_le_bytes();
        let ([a, b, c, d], [e, f, g, h], [operation, _, low, high]) = (word(0), word(1), word(2));
        self.consumed = self.consumed.wrapping_add(1);
        let id = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        Ok((id, operation, i16::from_le_bytes([low, high])))
    }

    /// Has one request done. The status.
    pub(crate) async fn ask(&mut self, mut request: Request) -> Outcome<i16> {
        request.id = 0xdead_0000_0000 | u64::from(self.produced);
        self.put(&request);
        self.show()?;
        let (id, _, status) = self.answer().await?;
        let wanted = request.id;
        ensure(id == wanted, || alloc::format!("{wanted:#x} was answered as {id:#x}"))?;
        Ok(status)
    }

    /// The answers to so many requests, whose numbers are 0 and on: each is to be answered once.
    pub(crate) async fn answers(&mut self, count: usize) -> Outcome<Vec<i16>> {
        let mut all = alloc::vec![None; count];
        for _ in 0..count {
            let (id, _, status) = self.answer().await?;
            let place = usize::try_from(id).ok().and_then(|id| all.get_mut(id));
            let place = place.ok_or_else(|| alloc::format!("{id} was not asked"))?;
            ensure(place.is_none(), || alloc::format!("{id} was answered twice"))?;
            *place = Some(status);
        }
        Ok(all.into_iter().flatten().collect())
    }
}
