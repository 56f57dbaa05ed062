//! A front end as the protocol wants it: rings, grants, packets over slots.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use hypercall_abi::netif::{self as abi, ExtraInfo, RxRequest, RxResponse, TxRequest, TxResponse};
use hypercall_abi::types::GrantRef;
use zerocopy::{FromBytes, IntoBytes};

use crate::world::{Domain, Memory, Page, Random};

/// The front end's end of a ring.
pub(crate) struct End {
    pub(crate) page: Page,
    stride: usize,
    /// Requests put, and those of them that are shown.
    pub(crate) put: u32,
    shown: u32,
    pub(crate) cons: u32,
}

impl End {
    fn new(stride: usize) -> Self {
        let end = Self { page: Page::zeroed(), stride, put: 0, shown: 0, cons: 0 };
        end.word(1).store(1, Ordering::Relaxed);
        end.word(3).store(1, Ordering::Relaxed);
        end
    }

    pub(crate) fn word(&self, index: usize) -> &AtomicU32 {
        &self.page.0[index]
    }

    pub(crate) fn slot(&self, index: u32) -> impl Iterator<Item = &AtomicU32> {
        let first = 16 + self.stride * (index % 256) as usize;
        (first..first + self.stride).map(|index| self.word(index))
    }

    pub(crate) fn put(&mut self, request: &(impl IntoBytes + zerocopy::Immutable)) {
        let words = request.as_bytes().as_chunks().0;
        for (place, word) in self.slot(self.put).zip(words) {
            place.store(u32::from_le_bytes(*word), Ordering::Relaxed);
        }
        self.put = self.put.wrapping_add(1);
    }

    /// Shows the requests. Returns whether the back end wants to be told.
    pub(crate) fn show(&mut self) -> bool {
        let (old, new) = (self.shown, self.put);
        self.shown = new;
        self.word(0).store(new, Ordering::SeqCst);
        let wish = self.word(1).load(Ordering::SeqCst);
        new.wrapping_sub(wish) < new.wrapping_sub(old)
    }

    fn unanswered(&self) -> u32 {
        self.put.wrapping_sub(self.cons)
    }

    /// Takes a response.
    fn response<T: FromBytes>(&mut self) -> Option<(u32, T)> {
        let new = self.word(2).load(Ordering::SeqCst).wrapping_sub(self.cons);
        assert!(new <= self.put.wrapping_sub(self.cons), "more responses than requests");
        if new == 0 {
            self.word(3).store(self.cons.wrapping_add(1), Ordering::SeqCst);
            return None;
        }
        let words: Vec<u32> =
            self.slot(self.cons).map(|word| word.load(Ordering::Relaxed)).collect();
        let place = self.cons;
        self.cons = place.wrapping_add(1);
        Some((place, T::read_from_prefix(words.as_bytes()).ok()?.0))
    }
}

/// A packet with what is said of it.
#[derive(Clone, Default, Eq, PartialEq)]
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    pub(crate) blank: bool,
    pub(crate) validated: bool,
    /// Kind and size.
    pub(crate) gso: Option<(u8, u16)>,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let head = &self.bytes[..self.bytes.len().min(80)];
        let sum = self.bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        let (length, blank, validated) = (self.bytes.len(), self.blank, self.validated);
        write!(f, "{length} {head:x?} {sum} {blank} {validated} {:?}", self.gso)
    }
}

impl Frame {
    pub(crate) fn plain(bytes: Vec<u8>) -> Self {
        Self { bytes, ..Self::default() }
    }
}

pub(crate) const PAGES: usize = 900;

pub(crate) struct Front {
    pub(crate) memory: Domain,
    pub(crate) tx: End,
    pub(crate) rx: End,
    free: Vec<u32>,
    /// What was sent, by id, with its page.
    pending: BTreeMap<u16, u32>,
    /// Slots without an answer that are none of packets'.
    nulls: usize,
    next: u16,
    /// What was put on the ring of packets to it, by its place.
    posted: BTreeMap<u32, (u16, u32)>,
}

impl Front {
    pub(crate) fn new() -> Self {
        Self {
            memory: Memory::new(PAGES),
            tx: End::new(3),
            rx: End::new(2),
            free: (0..PAGES as u32).collect(),
            pending: BTreeMap::new(),
            nulls: 0,
            next: 100,
            posted: BTreeMap::new(),
        }
    }

    /// A page, granted.
    pub(crate) fn grant(&mut self, data: &[u8], offset: usize, read_only: bool) -> u32 {
        let page = self.free.pop().expect("enough pages");
        let mut memory = self.memory.borrow_mut();
        let it = &mut memory.pages[page as usize];
        it.data.fill(0x55);
        it.data[offset..offset + data.len()].copy_from_slice(data);
        (it.granted, it.read_only) = (true, read_only);
        page
    }

    fn release(&mut self, page: u32) -> [u8; 4096] {
        let mut memory = self.memory.borrow_mut();
        let it = &mut memory.pages[page as usize];
        it.granted = false;
        self.free.push(page);
        it.data
    }

    /// Puts a slot of a packet of a page that is granted, without showing it.
    pub(crate) fn slot(&mut self, page: u32, offset: u16, size: u16, flags: u16) -> u16 {
        self.next = self.next.wrapping_add(7);
        let id = self.next;
        self.pending.insert(id, page);
        self.tx.put(&TxRequest { gref: GrantRef(page), offset, flags, id, size });
        id
    }

    pub(crate) fn extra(&mut self, extra: ExtraInfo) {
        let mut slot = [0xA5; 12];
        slot[..8].copy_from_slice(extra.as_bytes());
        self.tx.put(&slot);
        self.nulls += 1;
    }

    /// Puts a packet, in pieces at random, without showing it.
    pub(crate) fn put(&mut self, frame: &Frame, random: &mut Random) {
        let length = frame.bytes.len();
        let (mut at, mut pieces) = (0, Vec::new());
        while at < length {
            let least = (length - at).div_ceil(18 - pieces.len()).max(1);
            let most = (length - at).min(4096).max(least);
            let size = least + random.below(most - least + 1);
            let offset = random.below(4096 - size + 1);
            let page = self.grant(&frame.bytes[at..at + size], offset, true);
            pieces.push((page, offset as u16, size as u16));
            at += size;
        }
        for (index, (page, offset, size)) in pieces.iter().enumerate() {
            let mut flags = if index + 1 < pieces.len() { abi::TX_MORE_DATA } else { 0 };
            if index == 0 {
                flags |= if frame.blank { abi::TX_CSUM_BLANK } else { 0 };
                flags |= if frame.validated { abi::TX_DATA_VALIDATED } else { 0 };
                flags |= if frame.gso.is_some() { abi::TX_EXTRA_INFO } else { 0 };
            }
            let size = if index == 0 { length as u16 } else { *size };
            self.slot(*page, *offset, size, flags);
            if let Some((gso_kind, gso_size)) = frame.gso.filter(|_| index == 0) {
                self.extra(gso(gso_kind, gso_size));
            }
        }
    }

    /// Shows what was put, and tells the back end if it wants to be.
    pub(crate) fn show(&mut self) {
        if self.tx.show() {
            self.memory.borrow_mut().event();
        }
    }

    /// Takes the answers to what was sent: their statuses by id.
    pub(crate) fn reap(&mut self) -> Vec<(u16, i16)> {
        let mut all = Vec::new();
        while let Some((_, TxResponse { id, status })) = self.tx.response() {
            if status == abi::STATUS_NULL {
                self.nulls = self.nulls.checked_sub(1).expect("an answer for each extra info");
                continue;
            }
            let page = self.pending.remove(&id).expect("one answer to each slot");
            if (page as usize) < PAGES {
                self.release(page);
            }
            all.push((id, status));
        }
        all
    }

    /// Whether all that was sent has its answer.
    pub(crate) fn is_done(&self) -> bool {
        self.pending.is_empty() && self.nulls == 0
    }

    /// Puts so many pages for packets to it.
    pub(crate) fn post(&mut self, count: usize) {
        for _ in 0..count {
            let page = self.grant(&[], 0, false);
            self.post_page(page);
        }
        if self.rx.show() {
            self.memory.borrow_mut().event();
        }
    }

    pub(crate) fn post_page(&mut self, page: u32) {
        let id = (self.rx.put % 256) as u16 ^ 0x4000;
        self.posted.insert(self.rx.put, (id, page));
        self.rx.put(&RxRequest { id, pad: 0xFFFF, gref: GrantRef(page) });
    }

    /// Free slots for packets to it.
    pub(crate) fn rx_room(&self) -> usize {
        256 - self.rx.unanswered() as usize
    }

    fn posted(&mut self, place: u32) -> (u16, [u8; 4096]) {
        let (id, page) = self.posted.remove(&place).expect("each place is answered once");
        let data = if (page as usize) < PAGES { self.release(page) } else { [0; 4096] };
        (id, data)
    }

    /// Takes the packets that came: as they are, or the status of one that went wrong.
    pub(crate) fn receive(&mut self) -> Vec<Result<Frame, i16>> {
        let mut all = Vec::new();
        while let Some((place, first)) = self.rx.response::<RxResponse>() {
            let mut frame = Frame {
                blank: first.flags & abi::RX_CSUM_BLANK != 0,
                validated: first.flags & abi::RX_DATA_VALIDATED != 0,
                ..Frame::default()
            };
            let (mut place, mut response, mut is_first) = (place, first, true);
            let mut error = None;
            loop {
                let (id, data) = self.posted(place);
                assert_eq!(response.id, id, "answers are where their requests were");
                if response.status < 0 {
                    error = Some(response.status);
                } else {
                    let range = usize::from(response.offset)..;
                    frame.bytes.extend(&data[range][..response.status.unsigned_abs() as usize]);
                }
                if is_first && response.flags & abi::RX_EXTRA_INFO != 0 {
                    let (place, extra) = self.rx.response::<ExtraInfo>().expect("an extra info");
                    self.posted(place);
                    assert_eq!((extra.kind, extra.flags, extra.gso_features), (1, 0, 0));
                    frame.gso = Some((extra.gso_kind, extra.gso_size));
                }
                if response.flags & abi::RX_MORE_DATA == 0 {
                    break;
                }
                is_first = false;
                (place, response) = self.rx.response().expect("the packet goes on");
                assert_eq!(response.flags & !abi::RX_MORE_DATA, 0, "said at first");
            }
            all.push(error.map_or(Ok(frame), Err));
        }
        all
    }
}

pub(crate) fn gso(gso_kind: u8, gso_size: u16) -> ExtraInfo {
    ExtraInfo { kind: abi::EXTRA_GSO, gso_size, gso_kind, ..ExtraInfo::default() }
}
