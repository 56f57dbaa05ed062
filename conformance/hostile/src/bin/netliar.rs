//! A front end of a network card that lies to its back end, in every way there is, round after round.
//!
//! What the others must not notice: who is at the same switch goes on as before. `mac=` is an address
//! of one of them that it claims, `seed=N` chooses, `rounds=N` says how often it connects. It ends in
//! order if the back end let it connect each time, whatever was done the time before.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::error::Error;
use core::future::poll_fn;
use core::pin::pin;
use core::sync::atomic::{AtomicU32, Ordering};
use core::task::Poll;

use hostile::random::Random;
use hypercall_abi::netif::{self as abi, ExtraInfo, RxRequest, TxRequest};
use hypercall_abi::types::GrantRef;
use pv_guest_sdk::event::Channel;
use pv_guest_sdk::grant::{Grant, Grants};
use pv_guest_sdk::paging::Memory;
use pv_guest_sdk::ring::Sharing;
use pv_guest_sdk::task::block_on;
use pv_guest_sdk::time::{Duration, Instant, sleep, sleep_until};
use pv_guest_sdk::vcpu::Vcpu;
use pv_guest_sdk::xenbus::{Device, State};
use pv_guest_sdk::xenstore::Watch;
use pv_guest_sdk::{BootInfo, entry, println, xenstore};
use zerocopy::IntoBytes;

entry!(main);
pv_guest_sdk::heap!();

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// How long the back end may take for an answer: long, for a host that is busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pages with packets.
const PAGES: usize = 20;
/// Words of a ring's page.
const REQUESTS_PUT: usize = 0;
const RESPONSES_PUT: usize = 2;
const SLOTS: usize = 16;
/// To all.
const ALL: [u8; 6] = [0xff; 6];

/// A way to lie: what it is called, and what does it.
type Lie = (&'static str, fn(&mut Liar));

/// All of them.
const LIES: [Lie; 11] = [
    ("packets that are too long", Liar::too_long),
    ("headers that are not what they say", Liar::headers),
    ("extra infos", Liar::extras),
    ("no places for packets", Liar::starve),
    ("pages that are not granted", Liar::ungranted),
    ("slots of any bytes", Liar::noise),
    ("addresses of others", Liar::spoof),
    ("floods", Liar::flood),
    ("events without a cause", Liar::storm),
    ("more requests than places, to send", |it| it.indices(0)),
    ("more requests than places, to receive", |it| it.indices(1)),
];

/// Rings that a back end has.
struct Liar {
    rings: [Grant; 2],
    pages: Vec<Grant>,
    channel: Channel,
    /// Requests put on each ring.
    put: [u32; 2],
    random: Random,
    own: [u8; 6],
    others: [u8; 6],
    /// What was done ends the connection.
    is_ending: bool,
}

fn main(boot: &BootInfo<'static>) -> Outcome {
    let vcpu = Vcpu::start(boot)?;
    Memory::start(boot)?;
    vcpu.start_events()?;
    let grants = Grants::start(2)?;
    let number = |name, otherwise| boot.argument(name).map_or(Ok(otherwise), str::parse::<u64>);
    let (seed, rounds) = (number("seed", 1)?, number("rounds", 44)?);
    let others = boot.argument("mac").and_then(address).unwrap_or(ALL);
    block_on(Box::pin(async {
        let device = Device::find(xenstore::connect(boot)?, "vif", 0).await?;
        let watch = device.watch_backend().await?;
        let mut random = Random::new(seed);
        for round in 0..rounds {
            within(device.begin(&watch)).await?;
            if random.once_in(4) {
                nonsense(&device, &watch, &mut random).await?;
            }
            let mut liar = connect(&device, &watch, grants, random.clone(), others).await?;
            let (name, lie) = LIES[usize::try_from(round).unwrap_or(0) % LIES.len()];
            lie(&mut liar);
            if liar.is_ending {
                // It must have noticed.
                within(device.wait_for(&watch, &[State::Closing, State::Closed])).await?;
            } else {
                liar.show();
                sleep(Duration::from_millis(20)).await;
            }
            random = liar.random.clone();
            let state = device.backend_state().await?;
            println!("{name}: the back end is {state}");
            if liar.is_ending || random.once_in(2) {
                within(device.close(&watch)).await?;
            } else {
                // It begins anew without a word.
                device.switch(State::Initialising).await?;
                let begun = [State::InitWait, State::Closed];
                within(device.wait_for(&watch, &begun)).await?;
            }
        }
        println!("{rounds} times connected");
        Ok(())
    }))
}

/// Six bytes in hexadecimal.
fn address(text: &str) -> Option<[u8; 6]> {
    let (mut bytes, mut parts) = ([0; 6], text.split(':'));
    for byte in &mut bytes {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    Some(bytes)
}

/// What a future gives, if it does so in time.
async fn within<T, E: Error + 'static>(future: impl Future<Output = Result<T, E>>) -> Outcome<T> {
    let (mut future, mut end) = (pin!(future), pin!(sleep_until(Instant::now() + PATIENCE)));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(result.map_err(Into::into)),
        Poll::Pending if end.as_mut().poll(context).is_ready() => {
            Poll::Ready(Err("the back end does not answer".into()))
        }
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Says what is wrong of the rings, and begins anew.
async fn nonsense(device: &Device<'_>, watch: &Watch<'_>, random: &mut Random) -> Outcome {
    let any = random.wild().to_string();
    let ring = random.of([Some("0"), Some("4294967295"), Some("-1"), None, Some(&*any)]);
    let nodes = [
        ("tx-ring-ref", ring),
        ("rx-ring-ref", Some("1")),
        ("event-channel", random.of([Some("1"), Some("99999"), None])),
        ("request-rx-copy", random.of([Some("0"), Some("1"), Some("yes"), None])),
        ("multi-queue-num-queues", random.of([None, Some("77")])),
        ("mtu", random.of([None, Some("1"), Some("18446744073709551615")])),
    ];
    device.publish(&nodes, State::Connected).await?;
    within(device.wait_for(watch, &[State::Closing, State::Closed])).await?;
    device.switch(State::Closed).await?;
    within(device.begin(watch)).await.map(drop)
}

/// Connects as a front end should.
async fn connect(
    device: &Device<'_>,
    watch: &Watch<'_>,
    grants: Grants,
    random: Random,
    others: [u8; 6],
) -> Outcome<Liar> {
    let peer = device.backend_domain();
    let rings = [grants.page(peer)?, grants.page(peer)?];
    let pages = (0..PAGES).map(|_| grants.page(peer)).collect::<Result<Vec<_>, _>>()?;
    let (port, channel) = grants.signal(peer)?;
    let [send, receive] = rings.each_ref().map(|ring| ring.reference().0.to_string());
    let port = port.0.to_string();
    let nodes = [
        ("tx-ring-ref", Some(&*send)),
        ("rx-ring-ref", Some(&*receive)),
        ("event-channel", Some(&*port)),
        ("request-rx-copy", Some("1")),
        ("feature-rx-notify", Some("1")),
        ("feature-sg", Some("1")),
        ("feature-gso-tcpv4", Some("1")),
        ("multi-queue-num-queues", None),
        ("mtu", None),
    ];
    device.publish(&nodes, State::Connected).await?;
    let state = within(device.wait_for(watch, &[State::Connected, State::Closed])).await?;
    if state != State::Connected {
        return Err("the back end does not connect".into());
    }
    let own = device.text::<32>("mac").await?.and_then(|text| address(&text)).unwrap_or_default();
    let mut liar =
        Liar { rings, pages, channel, put: [0; 2], random, own, others, is_ending: false };
    let bytes = liar.packet(ALL, own);
    (0..PAGES).for_each(|page| liar.fill(page, &bytes));
    Ok(liar)
}

impl Liar {
    fn word(&self, ring: usize, word: usize) -> &AtomicU32 {
        &self.rings[ring].words()[word]
    }

    /// Puts a request.
    fn put(&mut self, ring: usize, request: &[u8]) {
        let size = [3, 2][ring];
        let first = SLOTS + size * (self.put[ring] % 256) as usize;
        for (index, word) in request.as_chunks::<4>().0.iter().enumerate().take(size) {
            self.word(ring, first + index).store(u32::from_le_bytes(*word), Ordering::Relaxed);
        }
        self.put[ring] = self.put[ring].wrapping_add(1);
    }

    /// Shows what was put, as far as there are places, and tells the back end.
    fn show(&mut self) {
        for ring in 0..2 {
            let answered = self.word(ring, RESPONSES_PUT).load(Ordering::SeqCst);
            let put = self.put[ring].min(answered.wrapping_add(256));
            self.put[ring] = put;
            self.word(ring, REQUESTS_PUT).store(put, Ordering::SeqCst);
        }
        let _it_may_be_closed = self.channel.send();
    }

    /// Puts a piece of a packet in a page.
    fn piece(&mut self, page: usize, size: u16, flags: u16) {
        let gref = self.pages[page % PAGES].reference();
        let id = u16::try_from(self.random.below(0x1_0000)).unwrap_or(0);
        self.put(0, TxRequest { gref, offset: 0, flags, id, size }.as_bytes());
    }

    fn extra(&mut self, extra: ExtraInfo) {
        let mut slot = [0x5a; 12];
        slot[..8].copy_from_slice(extra.as_bytes());
        self.put(0, &slot);
    }

    fn fill(&self, page: usize, bytes: &[u8]) {
        for (place, word) in self.pages[page].words().iter().zip(bytes.as_chunks::<4>().0) {
            place.store(u32::from_le_bytes(*word), Ordering::Relaxed);
        }
    }

    /// A packet of TCP over IPv4 with 1000 bytes of data, whose checksum is blank.
    fn packet(&mut self, to: [u8; 6], from: [u8; 6]) -> Vec<u8> {
        let mut bytes =
            [&to[..], &from, &[8, 0, 0x45, 0, 4, 16, 0, 1, 0x40, 0, 64, 6, 0, 0]].concat();
        bytes
            .extend([10, 0, 2, 99, 10, 0, 2, 80, 0, 80, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10]);
        bytes.resize(1056, 0x77);
        bytes
    }

    fn too_long(&mut self) {
        for (count, size) in [(1, 4097), (1, u16::MAX), (16, u16::MAX), (18, u16::MAX), (100, 4096)]
        {
            for left in (0..count).rev() {
                let more = if left > 0 { abi::TX_MORE_DATA } else { 0 };
                self.piece(left, if left + 1 == count { size } else { 4096 }, more);
            }
        }
        // One that does not end.
        (0..30).for_each(|page| self.piece(page, 64, abi::TX_MORE_DATA));
    }

    fn headers(&mut self) {
        for page in 0..PAGES {
            let mut bytes = self.packet(self.others, self.own);
            for _ in 0..1 + self.random.below(3) {
                let at = 12 + usize::try_from(self.random.below(46)).unwrap_or(0);
                bytes[at] = self.random.next().to_le_bytes()[0];
            }
            self.fill(page, &bytes);
            let size = 14 + u16::try_from(self.random.below(1041)).unwrap_or(0);
            let gso = self.random.once_in(2);
            let flags = if gso { abi::TX_EXTRA_INFO } else { 0 };
            self.piece(page, size, flags | abi::TX_CSUM_BLANK);
            if gso {
                let gso_size = u16::try_from(self.random.count(500) & 0xffff).unwrap_or(0);
                let gso_kind = self.random.of([0, 1, 2, 3, 255]);
                let kind = abi::EXTRA_GSO;
                self.extra(ExtraInfo { kind, gso_size, gso_kind, ..ExtraInfo::default() });
            }
        }
    }

    fn extras(&mut self) {
        for kind in 0..20 {
            self.piece(0, 1054, abi::TX_EXTRA_INFO | abi::TX_CSUM_BLANK);
            for _ in 0..self.random.below(12) {
                let flags = abi::EXTRA_MORE;
                self.extra(ExtraInfo { kind, flags, ..ExtraInfo::default() });
            }
            self.extra(ExtraInfo { kind: 255, ..ExtraInfo::default() });
        }
    }

    /// Gets others to send, and has no place for it.
    fn starve(&mut self) {
        (0..PAGES).for_each(|page| {
            let bytes = self.packet(self.own, self.own);
            self.fill(page, &bytes);
            self.piece(page, 1054, 0);
        });
        let id = 3;
        self.put(1, RxRequest { id, pad: 0, gref: self.pages[0].reference() }.as_bytes());
    }

    fn ungranted(&mut self) {
        for number in 0..100 {
            let any = u32::try_from(self.random.wild() & 0xffff_ffff).unwrap_or(0);
            let gref = GrantRef(self.random.of([number, any, u32::MAX]));
            let (offset, flags) = (0, self.random.of([0, abi::TX_MORE_DATA]));
            self.put(0, TxRequest { gref, offset, flags, id: 0, size: 60 }.as_bytes());
            self.put(1, RxRequest { id: 7, pad: 0, gref }.as_bytes());
        }
    }

    fn noise(&mut self) {
        for _ in 0..240 {
            let words = [self.random.wild(), self.random.next(), self.random.wild()];
            self.put(0, words.as_bytes());
            self.put(1, words.as_bytes());
        }
    }

    fn spoof(&mut self) {
        let (own, others) = (self.own, self.others);
        for (page, (to, from)) in [
            (ALL, others),
            (own, others),
            (others, others),
            (others, ALL),
            (ALL, ALL),
            (ALL, [0; 6]),
        ]
        .into_iter()
        .enumerate()
        {
            let bytes = self.packet(to, from);
            self.fill(page, &bytes);
            (0..30).for_each(|_| self.piece(page, 1054, 0));
        }
    }

    /// Sends as much as it can for half a second, to all and to one.
    fn flood(&mut self) {
        let bytes = self.packet(self.others, self.own);
        (0..PAGES / 2).for_each(|page| self.fill(page, &bytes));
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(500) {
            (0..256).for_each(|page| self.piece(page, 1054, 0));
            self.show();
        }
    }

    fn storm(&mut self) {
        for _ in 0..50_000 {
            let _it_may_be_closed = self.channel.send();
        }
    }

    /// Shows requests that are none, or takes some back.
    fn indices(&mut self, ring: usize) {
        self.piece(0, 1054, 0);
        self.show();
        let wrong = self.random.of([257, 0x8000_0000, 0xffff_ff00, 5000]);
        let wrong = self.put[ring].wrapping_add(wrong);
        self.word(ring, REQUESTS_PUT).store(wrong, Ordering::SeqCst);
        let _it_may_be_closed = self.channel.send();
        // Places for packets are looked at when there is one.
        self.is_ending = ring == 0;
    }
}
