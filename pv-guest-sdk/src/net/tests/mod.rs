//! The front end against a back end in the same process, which keeps to the protocol or does not.
#![expect(
    clippy::cast_possible_truncation,
    reason = "the numbers of tests are small, or may be any"
)]

mod honest;
mod hostile;
#[cfg(feature = "smoltcp")]
mod port;

use core::future::Future;
use core::num::NonZeroU16;
use core::sync::atomic::{AtomicU32, Ordering};
use std::collections::{BTreeMap, VecDeque};
use std::format;
use std::string::{String, ToString};
use std::sync::Mutex;
use std::vec::Vec;

use hypercall_abi::netif::{self as abi, ExtraInfo, RxRequest, RxResponse, TxRequest, TxResponse};
use hypercall_abi::types::{DomId, GrantRef, Port};
use zerocopy::{FromBytes, IntoBytes};

use super::{Card, Checksum, NetError, Note, Options};
use crate::console::ring::Words;
use crate::error::HypercallError;
use crate::event::Signal;
use crate::grant::GrantError;
use crate::paging::Access;
use crate::ring::{Page, Sharing};
use crate::xenbus::Device;
use crate::xenstore::tests::{Line, Server, drive, leak};

pub(super) const FRONT: &str = "device/vif/0";
pub(super) const BACK: &str = "/local/domain/0/backend/vif/7/0";

/// The least and the most that a back end offers.
pub(super) const PLAIN: &[(&str, &str)] = &[("feature-rx-copy", "1")];
pub(super) const RICH: &[(&str, &str)] = &[
    ("feature-rx-copy", "1"),
    ("feature-sg", "1"),
    ("feature-gso-tcpv4", "1"),
    ("feature-split-event-channels", "1"),
];

/// What a front end shares.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) pages: Mutex<BTreeMap<u32, &'static Words>>,
    /// How many there have been, of pages and of ports.
    count: AtomicU32,
    ports: AtomicU32,
    /// Of ports with even numbers, and of others.
    pub(super) lines: [Line; 2],
}

pub(super) struct Granted(GrantRef, &'static Words, &'static Shared);

impl Page for Granted {
    fn reference(&self) -> GrantRef {
        self.0
    }

    fn words(&self) -> &Words {
        self.1
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        self.2.pages.lock().unwrap().remove(&self.0.0);
    }
}

impl Sharing for &'static Shared {
    type Page = Granted;
    type Strip = Vec<Granted>;
    type Signal = &'static Line;

    fn page(&self, to: DomId) -> Result<Granted, GrantError> {
        assert_eq!(to, DomId(3));
        let reference = 8 + self.count.fetch_add(1, Ordering::SeqCst);
        let words: &'static Words = leak([const { AtomicU32::new(0) }; 1024]);
        self.pages.lock().unwrap().insert(reference, words);
        Ok(Granted(GrantRef(reference), words, self))
    }

    fn strip(&self, to: DomId, pages: usize, _: Access) -> Result<Vec<Granted>, GrantError> {
        (0..pages).map(|_| self.page(to)).collect()
    }

    fn signal(&self, _to: DomId) -> Result<(Port, &'static Line), HypercallError> {
        let port = 4 + self.ports.fetch_add(1, Ordering::SeqCst);
        Ok((Port(port), &self.lines[port as usize % 2]))
    }
}

/// A packet with what is said of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Frame(pub(super) Vec<u8>, pub(super) Note);

/// Changes answers to packets that were sent, or answers of packets that come, and where the next
/// one goes.
pub(super) type SendLie = fn(&mut TxResponse, &mut u32);
pub(super) type ReceiveLie = fn(&mut [[u8; 8]], &mut u32);

pub(super) type TestCard = Card<'static, &'static Shared>;

/// A back end, and all around it.
pub(super) struct World {
    pub(super) server: Server,
    pub(super) shared: &'static Shared,
    /// The rings' pages, and the lines, as long as it is connected.
    pub(super) rings: Option<[(&'static Words, &'static Line); 2]>,
    /// Of each ring.
    pub(super) taken: [u32; 2],
    pub(super) put: [u32; 2],
    /// How often the front end was told of answers.
    pub(super) told: [u32; 2],
    /// Answers to packets that it keeps back.
    pub(super) holds: bool,
    held: Vec<TxResponse>,
    pub(super) status: i16,
    /// Where pieces of packets that come begin in their pages.
    pub(super) offset: u16,
    pub(super) got: Vec<Frame>,
    pub(super) comes: VecDeque<Frame>,
    pub(super) send_lie: Option<SendLie>,
    pub(super) receive_lie: Option<ReceiveLie>,
    /// The back end's next state, from the front end's and its own.
    pub(super) next: fn(u32, u32) -> Option<u32>,
}

/// As the protocol has it.
pub(super) fn states(front: u32, back: u32) -> Option<u32> {
    match (front, back) {
        (1, 1 | 6) => Some(2),
        (4, 2) => Some(4),
        (5, 2..=4) => Some(5),
        (6, 2..=5) => Some(6),
        _ => None,
    }
}

impl World {
    pub(super) fn new(features: &[(&str, &str)]) -> (Self, Device<'static>) {
        let (mut server, store) = Server::new(0);
        server.set(&format!("{FRONT}/backend"), BACK);
        server.set(&format!("{FRONT}/backend-id"), "3");
        server.set(&format!("{FRONT}/state"), "1");
        server.set(&format!("{FRONT}/mac"), "00:16:3e:00:00:07");
        server.set(&format!("{BACK}/state"), "1");
        for (key, value) in features {
            server.set(&format!("{BACK}/{key}"), value);
        }
        let mut world = Self {
            server,
            shared: leak(Shared::default()),
            rings: None,
            taken: [0; 2],
            put: [0; 2],
            told: [0; 2],
            holds: false,
            held: Vec::new(),
            status: 0,
            offset: 0,
            got: Vec::new(),
            comes: VecDeque::new(),
            send_lie: None,
            receive_lie: None,
            next: states,
        };
        let device = world.run(Device::find(store, "vif", 0)).unwrap();
        (world, device)
    }

    pub(super) fn run<T>(&mut self, future: impl Future<Output = T>) -> T {
        drive(future, || self.step()).expect("it waits for nothing")
    }

    pub(super) fn open(&mut self, device: Device<'static>) -> Result<TestCard, NetError> {
        let shared = self.shared;
        self.run(Card::open(device, shared, Options::default()))
    }

    /// A world and an open card.
    pub(super) fn up(features: &[(&str, &str)]) -> (Self, TestCard) {
        let (mut world, device) = Self::new(features);
        let card = world.open(device).unwrap();
        (world, card)
    }

    pub(super) fn is_clean(&self) -> bool {
        self.shared.pages.lock().unwrap().is_empty()
    }

    fn text(&self, path: &str) -> Option<String> {
        let value = self.server.tree.get(path)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    fn node(&self, path: &str) -> Option<u32> {
        self.text(path)?.parse().ok()
    }

    pub(super) fn front(&self, key: &str) -> Option<u32> {
        self.node(&format!("{FRONT}/{key}"))
    }

    pub(super) fn back_state(&self) -> u32 {
        self.node(&format!("{BACK}/state")).unwrap_or(0)
    }

    pub(super) fn switch(&mut self, state: u32) {
        self.server.set(&format!("{BACK}/state"), &state.to_string());
    }

    pub(super) fn step(&mut self) -> bool {
        let mut moved = self.server.step();
        let next = (self.next)(self.front("state").unwrap_or(0), self.back_state());
        if let Some(state) = next {
            match state {
                4 => self.connect(),
                6 => self.rings = None,
                _ => {}
            }
            self.switch(state);
            moved = true;
        }
        let sent = self.rings.is_some() && self.serve_send();
        let came = self.rings.is_some() && self.serve_receive();
        moved | sent | came
    }

    fn connect(&mut self) {
        assert_eq!(
            (self.front("request-rx-copy"), self.front("feature-rx-notify")),
            (Some(1), Some(1))
        );
        let pages = self.shared.pages.lock().unwrap();
        let page = |key: &str| pages.get(&self.front(key).unwrap_or(0)).copied();
        let port = |key: &str| self.front(key).map(|port| &self.shared.lines[port as usize % 2]);
        let one = port("event-channel");
        let lines = ["event-channel-tx", "event-channel-rx"].map(|key| port(key).or(one));
        assert!(one.is_none() || port("event-channel-tx").is_none(), "both forms");
        let ring = |key, line: Option<_>| Some((page(key)?, line?));
        let rings = (ring("tx-ring-ref", lines[0]), ring("rx-ring-ref", lines[1]));
        let (Some(send), Some(receive)) = rings else { return };
        drop(pages);
        self.rings = Some([send, receive]);
        (self.taken, self.held) = ([0; 2], Vec::new());
        self.put = [0; 2];
    }

    pub(super) fn word(&self, ring: usize, index: usize) -> &'static AtomicU32 {
        &self.rings.unwrap()[ring].0[index]
    }

    fn take(&mut self, ring: usize) -> Option<Vec<u8>> {
        let waiting = self.word(ring, 0).load(Ordering::SeqCst).wrapping_sub(self.taken[ring]);
        assert!(waiting <= 256, "more requests than places");
        if waiting == 0 {
            self.word(ring, 1).store(self.taken[ring].wrapping_add(1), Ordering::SeqCst);
            return None;
        }
        let size = [3, 2][ring];
        let start = 16 + size * (self.taken[ring] % 256) as usize;
        let words = (start..start + size).map(|at| self.word(ring, at).load(Ordering::SeqCst));
        let bytes = words.flat_map(u32::to_le_bytes).collect();
        self.taken[ring] = self.taken[ring].wrapping_add(1);
        Some(bytes)
    }

    fn answer(&mut self, ring: usize, bytes: &[u8]) {
        let start = 16 + [3, 2][ring] * (self.put[ring] % 256) as usize;
        for (index, word) in bytes.chunks_exact(4).enumerate() {
            let word = u32::from_le_bytes(word.try_into().unwrap());
            self.word(ring, start + index).store(word, Ordering::SeqCst);
        }
        self.put[ring] = self.put[ring].wrapping_add(1);
    }

    /// Shows answers from `old` on.
    fn show(&mut self, ring: usize, old: u32) {
        let put = self.put[ring];
        self.word(ring, 2).store(put, Ordering::SeqCst);
        let event = self.word(ring, 3).load(Ordering::SeqCst);
        if put.wrapping_sub(event) < put.wrapping_sub(old) {
            let line = self.rings.unwrap()[ring].1;
            self.told[ring] += 1;
            (&line).wake();
        }
    }

    /// A page, if it is granted: what this back end writes to the rings it may read there later.
    fn page(&self, page: GrantRef) -> Option<&'static Words> {
        self.shared.pages.lock().unwrap().get(&page.0).copied()
    }

    /// The bytes of a page.
    fn bytes(&self, page: GrantRef) -> Vec<u8> {
        let words = self.page(page).into_iter().flatten();
        words.flat_map(|word| word.load(Ordering::SeqCst).to_le_bytes()).collect()
    }

    fn serve_send(&mut self) -> bool {
        let mut moved = false;
        while let Some(slot) = self.take(0) {
            let first = TxRequest::read_from_bytes(&slot).unwrap();
            let checksum = match first.flags & (abi::TX_CSUM_BLANK | abi::TX_DATA_VALIDATED) {
                0 => Checksum::Complete,
                abi::TX_DATA_VALIDATED => Checksum::Validated,
                _ => Checksum::Blank,
            };
            let mut note = Note { checksum, segment: None };
            self.held.push(TxResponse { id: first.id, status: self.status });
            if first.flags & abi::TX_EXTRA_INFO != 0 {
                let extra = self.take(0).unwrap();
                let extra = ExtraInfo::read_from_prefix(&extra).unwrap().0;
                assert_eq!((extra.kind, extra.gso_kind, extra.flags), (1, 1, 0));
                note.segment = NonZeroU16::new(extra.gso_size);
                self.held.push(TxResponse { id: 0, status: abi::STATUS_NULL });
            }
            let (mut pieces, mut more) = (Vec::from([first]), first.flags);
            while more & abi::TX_MORE_DATA != 0 {
                let piece = TxRequest::read_from_bytes(&self.take(0).unwrap()).unwrap();
                self.held.push(TxResponse { id: piece.id, status: self.status });
                pieces.push(piece);
                more = piece.flags;
            }
            let rest: u16 = pieces[1..].iter().map(|piece| piece.size).sum();
            pieces[0].size -= rest;
            let mut bytes = Vec::new();
            for piece in pieces {
                let range =
                    piece.offset.into()..usize::from(piece.offset) + usize::from(piece.size);
                bytes.extend(self.bytes(piece.gref).get(range).unwrap_or_default());
            }
            self.got.push(Frame(bytes, note));
            moved = true;
        }
        if self.holds || self.held.is_empty() {
            return moved;
        }
        let old = self.put[0];
        for mut answer in core::mem::take(&mut self.held) {
            if let Some(lie) = self.send_lie {
                lie(&mut answer, &mut self.put[0]);
            }
            self.answer(0, answer.as_bytes());
        }
        self.show(0, old);
        true
    }

    fn serve_receive(&mut self) -> bool {
        let mut moved = false;
        while let Some(Frame(bytes, note)) = self.comes.front() {
            let (bytes, note, offset) = (bytes.clone(), *note, self.offset);
            let pieces: Vec<_> = bytes.chunks(4096 - usize::from(offset)).collect();
            let wanted = (pieces.len() + usize::from(note.segment.is_some())) as u32;
            let there = self.word(1, 0).load(Ordering::SeqCst);
            if there.wrapping_sub(self.taken[1]) < wanted {
                let event = self.taken[1].wrapping_add(wanted);
                self.word(1, 1).store(event, Ordering::SeqCst);
                break;
            }
            self.comes.pop_front();
            let answers = self.place(&pieces, note);
            let old = self.put[1];
            let mut answers = answers;
            if let Some(lie) = self.receive_lie {
                lie(&mut answers, &mut self.put[1]);
            }
            answers.iter().for_each(|answer| self.answer(1, answer));
            self.show(1, old);
            moved = true;
        }
        moved
    }

    fn place(&mut self, pieces: &[&[u8]], note: Note) -> Vec<[u8; 8]> {
        let mut flags = match note.checksum {
            Checksum::Complete => 0,
            Checksum::Validated => abi::RX_DATA_VALIDATED,
            Checksum::Blank => abi::RX_DATA_VALIDATED | abi::RX_CSUM_BLANK,
        } | if note.segment.is_some() { abi::RX_EXTRA_INFO } else { 0 };
        let (mut answers, offset) = (Vec::new(), self.offset);
        for (index, piece) in pieces.iter().enumerate() {
            let request = RxRequest::read_from_bytes(&self.take(1).unwrap()).unwrap();
            let mut page = self.bytes(request.gref);
            if let Some(part) = page.get_mut(offset.into()..usize::from(offset) + piece.len()) {
                part.copy_from_slice(piece);
            }
            for (word, bytes) in
                self.page(request.gref).into_iter().flatten().zip(page.chunks_exact(4))
            {
                word.store(u32::from_le_bytes(bytes.try_into().unwrap()), Ordering::SeqCst);
            }
            flags |= if index + 1 < pieces.len() { abi::RX_MORE_DATA } else { 0 };
            let status = piece.len() as i16;
            let answer = RxResponse { id: request.id, offset, flags, status };
            answers.push(answer.as_bytes().try_into().unwrap());
            flags = 0;
            if let Some(size) = note.segment.filter(|_| index == 0) {
                let _its_page_is_not_used = self.take(1).unwrap();
                answers.push(gso(size.get()));
            }
        }
        answers
    }
}

/// An extra info that tells of segments.
pub(super) fn gso(gso_size: u16) -> [u8; 8] {
    let (kind, gso_kind) = (abi::EXTRA_GSO, abi::GSO_TCPV4);
    let extra = ExtraInfo { kind, gso_kind, gso_size, ..ExtraInfo::default() };
    extra.as_bytes().try_into().unwrap()
}

/// Bytes that look random, and come again with their seed.
pub(super) fn noise(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// A packet of a length.
pub(super) fn packet(length: usize) -> Vec<u8> {
    let mut next = noise(length as u64 + 1);
    let mut bytes: Vec<u8> = (0..length).map(|_| next() as u8).collect();
    if length > 13 {
        // Nothing that has a checksum.
        bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
    }
    bytes
}
