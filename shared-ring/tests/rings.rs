//! Rings of any sizes against a front end's end, well-behaved and hostile.
#![allow(clippy::cast_possible_truncation, reason = "the numbers of tests are small")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};

use backend_rig::Page;
use shared_ring::{Protocol, Ring, RingError};

fn pages(count: usize) -> Vec<Page> {
    (0..count).map(|_| Page::zeroed()).collect()
}

/// Requests and responses of so many words.
struct Sizes<const REQUEST: usize, const RESPONSE: usize>;

impl<const REQUEST: usize, const RESPONSE: usize> Protocol for Sizes<REQUEST, RESPONSE> {
    type Request = [u32; REQUEST];
    type Response = [u32; RESPONSE];
    const MAX_ORDER: u32 = 2;
}

/// The front end's end.
struct Front {
    pages: Vec<Page>,
    slots: u32,
    stride: usize,
    put: u32,
    cons: u32,
}

impl Front {
    /// Whose indices begin at `start`.
    fn new<const A: usize, const B: usize>(
        count: usize,
        start: u32,
    ) -> (Self, Ring<Page, Sizes<A, B>>) {
        let pages = pages(count);
        let (stride, words) = (A.max(B), 1024 * count - 16);
        let slots = 1 << (words / stride).ilog2();
        let front = Self { pages, slots, stride, put: start, cons: start };
        for (index, value) in [(0, start), (1, start + 1), (2, start), (3, start + 1)] {
            front.word(index).store(value, Ordering::SeqCst);
        }
        let ring = Ring::attach(front.pages.clone()).expect("a right ring");
        assert_eq!(ring.slots(), slots);
        (front, ring)
    }

    fn word(&self, index: usize) -> &AtomicU32 {
        &self.pages[index / 1024].0[index % 1024]
    }

    fn place(&self, index: u32) -> usize {
        16 + self.stride * (index % self.slots) as usize
    }

    /// Puts a request, and tells whether the back end wants to hear of it.
    fn put(&mut self, request: &[u32]) -> bool {
        for (offset, word) in request.iter().enumerate() {
            self.word(self.place(self.put) + offset).store(*word, Ordering::Relaxed);
        }
        self.put = self.put.wrapping_add(1);
        self.word(0).store(self.put, Ordering::SeqCst);
        self.word(1).load(Ordering::SeqCst) == self.put
    }

    fn response(&mut self, words: usize) -> Option<Vec<u32>> {
        (self.word(2).load(Ordering::SeqCst) != self.cons).then(|| {
            let place = self.place(self.cons);
            self.cons = self.cons.wrapping_add(1);
            (place..place + words).map(|it| self.word(it).load(Ordering::Relaxed)).collect()
        })
    }
}

/// Sends requests and answers in a random interleaving, past the wrap of the indices, and compares
/// with a queue.
fn exercise<const A: usize, const B: usize>(count: usize) {
    let (mut front, mut ring) = Front::new::<A, B>(count, u32::MAX - 300);
    let mut random = 88_172_645_463_325_252_u64;
    let (mut sent, mut taken, mut answers) = (VecDeque::new(), 0, VecDeque::new());
    for number in 0..20_000_u32 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        match random % 7 {
            0..=2 if front.put.wrapping_sub(front.cons) < front.slots => {
                let request: [u32; A] = std::array::from_fn(|at| number * 100 + at as u32);
                front.put(&request);
                sent.push_back(request);
            }
            3 | 4 => {
                let request = ring.take().expect("right indices");
                assert_eq!(request, sent.pop_front());
                taken += u32::from(request.is_some());
                assert_eq!(ring.in_flight(), taken);
            }
            5 => {
                let response: [u32; B] = std::array::from_fn(|at| number * 7 + at as u32);
                ring.respond(&response);
                if taken > 0 {
                    answers.push_back(response.to_vec());
                    taken -= 1;
                }
            }
            _ => {
                let _ = ring.push();
                while let Some(response) = front.response(B) {
                    assert_eq!(Some(response), answers.pop_front());
                }
                assert!(answers.is_empty());
            }
        }
        assert_eq!(ring.waiting(), Ok(sent.len() as u32));
    }
    assert!(front.put < u32::MAX - 300, "the indices wrapped");
}

#[test]
fn everything_arrives_once_in_order_whatever_the_sizes() {
    exercise::<3, 1>(1);
    exercise::<2, 2>(1);
    exercise::<1, 2>(2);
    exercise::<28, 4>(4);
    exercise::<28, 4>(1);
    exercise::<700, 1>(4);
}

#[test]
fn the_slots_are_those_of_xens_macros() {
    for (pages, slots) in [(1, 32), (2, 64), (4, 128)] {
        assert_eq!(Front::new::<28, 4>(pages, 0).1.slots(), slots);
    }
    assert_eq!(Front::new::<3, 1>(1, 0).1.slots(), 256);
    assert_eq!(Front::new::<2, 2>(1, 0).1.slots(), 256);
}

#[test]
fn the_back_end_is_told_of_the_request_it_waits_for() {
    let (mut front, mut ring) = Front::new::<3, 1>(1, 0);
    assert_eq!(ring.has(3), Ok(false));
    assert!(!front.put(&[1; 3]));
    assert!(!front.put(&[2; 3]));
    assert_eq!(ring.has(3), Ok(false));
    assert!(front.put(&[3; 3]));
    assert_eq!((ring.has(3), ring.has(4)), (Ok(true), Ok(false)));
    assert!(front.put(&[4; 3]));
    while ring.take() != Ok(None) {}
    assert_eq!(ring.is_more(), Ok(false));
    assert!(front.put(&[5; 3]));
    assert_eq!(ring.is_more(), Ok(true));
}

#[test]
fn the_front_end_is_told_of_the_response_it_waits_for() {
    let (mut front, mut ring) = Front::new::<3, 1>(1, u32::MAX - 2);
    for _ in 0..20 {
        front.put(&[0; 3]);
        let _ = ring.take();
    }
    for (wish, count, told) in [
        (1, 1, true),
        (2, 1, true),
        (4, 1, false),
        (4, 1, true),
        (9, 3, false),
        (8, 5, true),
        (20, 2, false),
    ] {
        front.word(3).store((u32::MAX - 2).wrapping_add(wish), Ordering::SeqCst);
        for _ in 0..count {
            ring.respond(&[0]);
        }
        assert_eq!(ring.push(), told, "{wish}");
        assert!(!ring.push(), "nothing is new");
    }
}

#[test]
fn what_cannot_be_is_found() {
    for count in [0, 3, 5, 8] {
        let ring = Ring::<_, Sizes<3, 1>>::attach(pages(count));
        assert_eq!(ring.map(|_| ()), Err(RingError::Pages), "{count}");
    }
    for produced in [257, 1 << 31, u32::MAX] {
        let pages = pages(1);
        pages[0].0[0].store(produced, Ordering::SeqCst);
        let ring = Ring::<_, Sizes<3, 1>>::attach(pages);
        assert_eq!(ring.map(|_| ()), Err(RingError::Indices));
    }
    let (mut front, mut ring) = Front::new::<3, 1>(1, 0);
    for _ in 0..100 {
        front.put(&[0; 3]);
        let _ = ring.take();
    }
    for _ in 0..30 {
        ring.respond(&[0]);
    }
    // 70 are in flight, so 186 fit; none was taken back.
    for (produced, waiting) in [
        (100, Ok(0)),
        (286, Ok(186)),
        (287, Err(RingError::Indices)),
        (99, Err(RingError::Indices)),
    ] {
        front.word(0).store(produced, Ordering::SeqCst);
        assert_eq!(ring.waiting(), waiting);
        assert_eq!(ring.has(200), waiting.map(|_| false));
    }
    assert_eq!(ring.take(), Err(RingError::Indices));
}
