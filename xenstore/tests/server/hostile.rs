//! Streams and rings that mean no good.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use hypercall_abi::xenstore::{self as wire, Header};
use proptest::prelude::*;
use xenstore::ring::{ANSWERS, REQUESTS, Ring, Server};
use xenstore::{Connection, Fault, Store};
use zerocopy::IntoBytes;

use crate::guest::{Guest, home, message, messages, store};

struct Page {
    bytes: [AtomicU8; 4096],
    words: [AtomicU32; 1024],
}

impl Page {
    fn new() -> Box<Self> {
        let bytes = [const { AtomicU8::new(0) }; 4096];
        let words = [const { AtomicU32::new(0) }; 1024];
        Box::new(Self { bytes, words })
    }

    fn ring(&self) -> Ring<'_> {
        Ring::new(&self.bytes, &self.words)
    }

    fn set(&self, place: usize, value: u32) {
        self.words[place / 4].store(value, Ordering::Relaxed);
    }

    fn get(&self, place: usize) -> u32 {
        self.words[place / 4].load(Ordering::Relaxed)
    }
}

/// Sends requests over the ring and returns all that comes, as a domain does that reads as it goes.
fn talk(store: &mut Store, server: &mut Server<'_>, page: &Page, requests: &[u8]) -> Vec<u8> {
    let (mut sent, mut heard) = (0, Vec::new());
    loop {
        sent += page.ring().put(REQUESTS, &requests[sent..]).unwrap();
        let served = server.serve(store);
        assert_eq!(served.fault, None);
        let mut piece = [0; 1024];
        let taken = page.ring().take(ANSWERS, &mut piece).unwrap();
        heard.extend_from_slice(&piece[..taken]);
        if taken == 0 && !served.again && sent == requests.len() {
            return heard;
        }
    }
}

#[test]
fn requests_and_answers_cross_the_ring_where_its_indices_wrap() {
    let (mut store, me) = store();
    home(&mut store, me, 3);
    let page = Page::new();
    for place in [2048, 2052, 2056, 2060] {
        page.set(place, u32::MAX - 100);
    }
    let mut server = Server::new(&mut store, 3, &page.bytes, &page.words);
    assert_eq!(page.get(2064), 3);
    let value = [b'v'; 1900];
    let write = message(wire::WRITE, 1, 0, &[b"data/x\0", &value[..]].concat());
    let read = message(wire::READ, 2, 0, b"data/x\0");
    let heard = talk(&mut store, &mut server, &page, &[write, read].concat());
    let heard = messages(&heard);
    assert_eq!(heard[0].1, b"OK\0");
    assert_eq!((heard[1].0.req_id, heard[1].1.as_slice()), (2, &value[..]));
    assert!(!server.has_work(&store));
}

/// Says at its end that it is done.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_domain_that_runs_at_the_same_time_as_the_store() {
    let (mut store, me) = store();
    home(&mut store, me, 3);
    let page = Page::new();
    let mut server = Server::new(&mut store, 3, &page.bytes, &page.words);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _done = Done(&is_done);
            while !is_done.load(Ordering::Relaxed) {
                let served = server.serve(&mut store);
                assert_eq!(served.fault, None);
                if !served.notify {
                    std::thread::yield_now();
                }
            }
        });
        // Each end stops when an assertion fails in the other.
        let _done = Done(&is_done);
        let mut stream = Vec::new();
        for round in 0..5000_u32 {
            // Values of every length, so that messages lie across the ring's end in many ways.
            let value = vec![round.to_le_bytes()[0]; round as usize % 280 * 7];
            let write = message(wire::WRITE, round, 0, &[b"data/x\0", &value[..]].concat());
            let requests = [write, message(wire::READ, round, 0, b"data/x\0")].concat();
            let (mut sent, whole) = (0, 16 + 3 + 16 + value.len());
            stream.clear();
            while stream.len() < whole {
                assert!(!is_done.load(Ordering::Relaxed));
                sent += page.ring().put(REQUESTS, &requests[sent..]).unwrap();
                let mut piece = [0; 100];
                let taken = page.ring().take(ANSWERS, &mut piece).unwrap();
                stream.extend_from_slice(&piece[..taken]);
                if taken == 0 {
                    std::thread::yield_now();
                }
            }
            let answers = messages(&stream);
            assert_eq!((answers[0].0.req_id, answers[0].1.as_slice()), (round, &b"OK\0"[..]));
            assert_eq!(answers[1].1, value);
        }
    });
}

/// Both ends at once, again and again: one puts or takes bytes and then looks whether the other one
/// has come so far that it is to be told, the other takes or puts and then looks whether there is more
/// to do. How often both saw nothing, with so many bytes in the ring before: then nobody would go on.
fn standstills(
    before: usize,
    turn: impl Fn(Ring<'_>) -> bool,
    other: impl Fn(Ring<'_>) -> bool + Sync,
) -> u32 {
    const ROUNDS: u32 = 10_000;
    let page = Page::new();
    let (gate, asleep) = (AtomicU32::new(0), AtomicBool::new(false));
    let meet = |count: u32| {
        gate.fetch_add(1, Ordering::SeqCst);
        for tries in 0.. {
            if gate.load(Ordering::SeqCst) >= count {
                break;
            }
            if tries % 20_000 == 19_999 {
                std::thread::yield_now();
            }
        }
    };
    let mut both = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                meet(4 * round + 2);
                asleep.store(other(page.ring()), Ordering::Relaxed);
                meet(4 * round + 4);
            }
        });
        for round in 0..ROUNDS {
            for place in [2048, 2052, 2056, 2060] {
                page.set(place, 0);
            }
            page.ring().put(REQUESTS, &vec![0; before]).unwrap();
            meet(4 * round + 2);
            let is_silent = turn(page.ring());
            meet(4 * round + 4);
            both += u32::from(is_silent && asleep.load(Ordering::Relaxed));
        }
    });
    both
}

#[test]
fn nothing_is_missed_that_the_domain_does_not_tell_of() {
    // As Linux does: who has put bytes tells of them if all before were taken.
    let puts = |ring: Ring<'_>| {
        let _put = ring.put(REQUESTS, &[0]).unwrap();
        ring.waiting(REQUESTS).unwrap() > 1
    };
    let takes = |ring: Ring<'_>| {
        let _taken = ring.take(REQUESTS, &mut [0]).unwrap();
        ring.waiting(REQUESTS).unwrap() == 0
    };
    assert_eq!(standstills(1, puts, takes), 0, "bytes");
    // And who has taken bytes tells of the room if there was none before.
    let takes = |ring: Ring<'_>| {
        let _taken = ring.take(REQUESTS, &mut [0]).unwrap();
        ring.waiting(REQUESTS).unwrap() < 1023
    };
    let puts = |ring: Ring<'_>| {
        let _put = ring.put(REQUESTS, &[0]).unwrap();
        ring.waiting(REQUESTS).unwrap() == 1024
    };
    assert_eq!(standstills(1023, takes, puts), 0, "room");
}

#[test]
fn one_call_handles_one_request() {
    let (mut store, me) = store();
    home(&mut store, me, 3);
    let page = Page::new();
    let mut server = Server::new(&mut store, 3, &page.bytes, &page.words);
    let read = message(wire::READ, 2, 0, b"name\0");
    page.ring().put(REQUESTS, &read.repeat(3)).unwrap();
    for round in 1..=3 {
        let served = server.serve(&mut store);
        assert!(served.notify);
        assert_eq!(served.again, round < 3);
        let bytes = page.ring().waiting(ANSWERS).unwrap();
        assert_eq!(bytes, round * (16 + 5));
    }
    assert_eq!(server.serve(&mut store), xenstore::ring::Served::default());
}

#[test]
fn indices_that_make_no_sense_end_it() {
    for place in [2052, 2056] {
        let (mut store, me) = store();
        home(&mut store, me, 3);
        let page = Page::new();
        let mut server = Server::new(&mut store, 3, &page.bytes, &page.words);
        page.set(place, 1025);
        let served = server.serve(&mut store);
        assert_eq!((served.fault, served.again), (Some(Fault::Indices), false));
        assert_eq!(page.get(2072), 2);
        page.set(place, 0);
        let served = server.serve(&mut store);
        assert_eq!((served.fault, served.notify), (Some(Fault::Indices), false), "it stays so");
        // The domain asks for a new start.
        page.set(2068, 1);
        let served = server.serve(&mut store);
        assert_eq!((served.fault, served.notify), (None, true));
        assert_eq!((page.get(2068), page.get(2072), page.get(place)), (0, 0, 0));
        let read = message(wire::READ, 2, 0, b"name\0");
        let heard = talk(&mut store, &mut server, &page, &read);
        assert_eq!(messages(&heard)[0].1, b"guest");
    }
}

#[test]
fn too_long_a_request_ends_it_and_takes_the_watches_along() {
    let (mut store, me) = store();
    home(&mut store, me, 3);
    let page = Page::new();
    let mut server = Server::new(&mut store, 3, &page.bytes, &page.words);
    talk(&mut store, &mut server, &page, &message(wire::WATCH, 1, 0, b"data\0t\0"));
    let header = Header { kind: wire::READ, req_id: 0, tx_id: 0, len: 4097 };
    page.ring().put(REQUESTS, header.as_bytes()).unwrap();
    let served = server.serve(&mut store);
    assert_eq!((served.fault, served.again), (Some(Fault::Protocol), false));
    assert_eq!(page.get(2072), 3);
    store.write(me, "/local/domain/3/data/x", b"1").unwrap();
    assert!(!server.has_work(&store));
    page.set(2068, 1);
    assert_eq!(server.serve(&mut store).fault, None);
    let heard = talk(&mut store, &mut server, &page, &message(wire::READ, 1, 0, b"name\0"));
    assert_eq!(messages(&heard)[0].1, b"guest");
}

#[test]
fn a_domain_that_is_gone_is_served_no_more() {
    let (mut store, me) = store();
    home(&mut store, me, 3);
    let page = Page::new();
    let mut server = Server::new(&mut store, 3, &page.bytes, &page.words);
    store.release(me, 3).unwrap();
    assert_eq!(server.serve(&mut store).fault, Some(Fault::Gone));
    page.set(2068, 1);
    assert_eq!(server.serve(&mut store).fault, Some(Fault::Gone));
}

proptest! {
    #[test]
    fn pieces_of_any_size_are_one_stream(cuts in prop::collection::vec(1usize..40, 1..80)) {
        let (mut store, me) = store();
        home(&mut store, me, 3);
        let requests: Vec<u8> = (0..30)
            .flat_map(|id| message(wire::READ, id, 0, b"name\0"))
            .collect();
        let mut guest = Guest::new(&mut store, 3);
        let (mut at, mut cut, mut heard) = (0, cuts.iter().cycle(), Vec::new());
        while at < requests.len() {
            let end = (at + cut.next().unwrap()).min(requests.len());
            at += guest.connection.receive(&requests[at..end]);
            if guest.connection.handle(&mut store).unwrap() {
                heard.extend(guest.output(&mut store));
            }
        }
        let ids: Vec<_> = heard.iter().map(|(header, _)| header.req_id).collect();
        prop_assert_eq!(ids, (0..30).collect::<Vec<_>>());
        prop_assert!(heard.iter().all(|(_, body)| body == b"guest"));
    }

    #[test]
    fn nonsense_is_answered_and_changes_nothing_of_others(
        requests in prop::collection::vec(
            (0u32..30, 0u32..4, prop::collection::vec(
                prop::sample::select(b"\0\0/ab@-.1Tnr\xff".to_vec()), 0..40)),
            0..60,
        ),
    ) {
        let (mut store, me) = store();
        home(&mut store, me, 3);
        store.write(me, "/a", b"1").unwrap();
        let before = store.dump();
        let mut guest = Guest::new(&mut store, 3);
        for (kind, tx, body) in requests {
            guest.ask_bytes(&mut store, kind, tx, &body).unwrap();
        }
        store.rm(me, "/local/domain/3/data").unwrap();
        store.mkdir(me, "/local/domain/3/data").unwrap();
        let own = xenstore::Perms::new(3, xenstore::Access::NONE);
        store.set_perms(me, "/local/domain/3/data", &own).unwrap();
        prop_assert_eq!(store.dump(), before);
    }

    #[test]
    fn random_bytes_break_nothing_but_the_connection(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        len in 0u32..64,
    ) {
        let (mut store, me) = store();
        home(&mut store, me, 3);
        let before = store.dump();
        let mut connection = Connection::new(&mut store, 3);
        let header = Header { kind: wire::READ, req_id: 0, tx_id: 0, len };
        let stream = [header.as_bytes(), &bytes].concat();
        let mut at = 0;
        loop {
            let taken = connection.receive(&stream[at..]);
            at += taken;
            match connection.handle(&mut store) {
                Ok(handled) if handled || taken > 0 => {}
                _ => break,
            }
        }
        prop_assert_eq!(store.dump(), before);
    }

    #[test]
    fn whatever_the_page_holds(
        words in prop::collection::vec((2048usize..2076, any::<u32>()), 0..8),
        small in prop::collection::vec((2048usize..2076, 0u32..1100), 0..8),
        fill in prop::collection::vec(any::<u8>(), 1..64),
    ) {
        let (mut store, me) = store();
        home(&mut store, me, 3);
        let before = store.dump();
        let page = Page::new();
        for (place, byte) in page.bytes.iter().zip(fill.iter().cycle()) {
            place.store(*byte, Ordering::Relaxed);
        }
        let mut server = Server::new(&mut store, 3, &page.bytes, &page.words);
        for (place, value) in words.into_iter().chain(small) {
            page.set(place, value);
            let _ = server.serve(&mut store);
        }
        prop_assert_eq!(store.dump(), before);
    }
}
