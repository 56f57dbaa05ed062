#![expect(clippy::cast_possible_truncation, reason = "numbers in tests are small")]

use core::sync::atomic::Ordering;
use std::collections::BTreeSet;
use std::vec::Vec;

use super::{Part, Queue, QueueError, available, used};
use crate::hw::Buffer;

/// Numbers that look random, the same in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) % limit
    }
}

/// Uses a chain, as a device does.
fn used_by_device<T>(queue: &Queue<T>, number: u16, head: u32, length: u32) {
    let ring = used(usize::from(queue.size)) / 2;
    let place = ring + 2 + 4 * usize::from(number % queue.size);
    let halves = [head & 0xffff, head >> 16, length & 0xffff, length >> 16];
    for (offset, half) in halves.into_iter().enumerate() {
        queue.half(place + offset).store(half as u16, Ordering::Relaxed);
    }
    queue.half(ring + 1).store(number.wrapping_add(1), Ordering::Release);
}

/// The parts of a chain as the device sees them: machine address, length, whether it writes.
fn seen_by_device<T>(queue: &Queue<T>, number: u16) -> (u16, Vec<(u64, u32, bool)>) {
    let half = |place| u64::from(queue.half(place).load(Ordering::Relaxed));
    let ring = available(usize::from(queue.size)) / 2;
    let head = half(ring + 2 + usize::from(number % queue.size));
    let (mut index, mut parts) = (head as usize, Vec::new());
    loop {
        let word =
            |from, count| (0..count).map(|it| half(8 * index + from + it) << (16 * it)).sum();
        let (address, length): (u64, u64) = (word(0, 4), word(4, 2));
        let flags = half(8 * index + 6);
        parts.push((address, length as u32, flags & 2 != 0));
        if flags & 1 == 0 {
            return (head as u16, parts);
        }
        index = half(8 * index + 7) as usize;
    }
}

#[test]
fn a_device_sees_the_parts_and_gives_each_token_back_once() {
    let memory = Buffer::new(1 << 16, 0).unwrap();
    let mut queue = Queue::new(16).unwrap();
    let (mut random, mut made, mut done, mut most) = (Random(1), 0_u16, 0_u16, 0_u16);
    let mut flying: Vec<(u16, u32, u32)> = Vec::new();
    // The counts wrap more than once.
    for token in 0..200_000_u32 {
        let count = 1 + random.below(4);
        let parts: Vec<Part> = (0..count)
            .map(|it| {
                let piece = memory.piece(64 * random.below(512), 1 + it as u32).unwrap();
                if it > 1 { Part::written(&piece) } else { Part::read(&piece) }
            })
            .collect();
        let room = queue.room();
        if queue.push(&parts, token).is_ok() {
            let (head, seen) = seen_by_device(&queue, made);
            let expected: Vec<_> =
                parts.iter().map(|it| (it.machine, it.length, it.writes)).collect();
            assert_eq!(seen, expected);
            made = made.wrapping_add(1);
            most = most.max(made);
            flying.push((head, token, parts.iter().map(Part::writable).sum()));
        } else {
            assert!(room < parts.len());
        }
        if !flying.is_empty() && random.below(2) == 0 {
            let (head, token, length) =
                flying.swap_remove(random.below(flying.len() as u64) as usize);
            used_by_device(&queue, done, head.into(), length);
            done = done.wrapping_add(1);
            assert_eq!(queue.pop(), Ok(Some((token, length))));
        }
        assert_eq!(queue.pop(), Ok(None));
    }
    assert!(most == u16::MAX && made < most, "the counts have wrapped");
}

#[test]
fn what_a_device_cannot_have_done_is_an_error() {
    let memory = Buffer::new(4096, 0).unwrap();
    let piece = memory.piece(0, 512).unwrap();
    let parts = [Part::read(&piece), Part::written(&piece)];
    let queue = || {
        let mut queue = Queue::new(8).unwrap();
        queue.push(&parts, 'a').unwrap();
        queue
    };
    let after = |head, length| {
        let mut queue = queue();
        used_by_device(&queue, 0, head, length);
        queue.pop()
    };
    assert_eq!(after(0, 512), Ok(Some(('a', 512))));
    assert_eq!(after(0, 513), Err(QueueError::Length(513)));
    assert_eq!(after(1, 0), Err(QueueError::Chain(1)), "the middle of a chain");
    assert_eq!(after(8, 0), Err(QueueError::Chain(8)));
    assert_eq!(after(u32::MAX, 0), Err(QueueError::Chain(u32::MAX)));
    let mut queue = queue();
    used_by_device(&queue, 1, 0, 0);
    assert_eq!(queue.pop(), Err(QueueError::Ahead(2)));
    used_by_device(&queue, 0, 0, 0);
    assert_eq!(queue.pop(), Ok(Some(('a', 0))));
    used_by_device(&queue, 1, 0, 0);
    assert_eq!(queue.pop(), Err(QueueError::Ahead(1)), "the same again");
}

#[test]
fn whatever_a_device_writes_no_token_comes_twice() {
    let memory = Buffer::new(4096, 0).unwrap();
    let piece = memory.piece(0, 512).unwrap();
    let mut random = Random(7);
    for _ in 0..300 {
        let mut queue = Queue::new(8).unwrap();
        let (mut pushed, mut popped) = (0_u32, BTreeSet::new());
        for _ in 0..200 {
            let count = 1 + random.below(4) as usize;
            pushed += u32::from(queue.push(&[Part::written(&piece)].repeat(count), pushed).is_ok());
            // Anywhere, links and descriptors too, and mostly where it matters.
            let places = queue.memory.halves().len() as u64;
            let ring = (used(8) / 2) as u64;
            let place =
                if random.below(3) == 0 { random.below(places) } else { ring + random.below(34) };
            let value = if random.below(2) == 0 { random.below(12) } else { random.below(1 << 16) };
            queue.half(place as usize).store(value as u16, Ordering::Relaxed);
            if let Ok(Some((token, _))) = queue.pop() {
                assert!(token < pushed && popped.insert(token), "{token}");
            }
            assert!(queue.room() <= 8);
        }
    }
}

#[test]
fn queues_are_of_a_power_of_two_and_rings_do_not_overlap() {
    assert!(Queue::<()>::new(0).is_err() && Queue::<()>::new(3).is_err());
    let queue = Queue::<()>::new(1 << 15).unwrap();
    let places = queue.places();
    assert_eq!(places.driver - places.descriptors, 16 << 15);
    assert!(places.device - places.driver >= 6 + (2 << 15));
    assert_eq!((places.device - places.descriptors) % 4096, 0, "as old devices have it");
    assert!(queue.memory.length() >= places.device - places.descriptors + 6 + (8 << 15));
}
