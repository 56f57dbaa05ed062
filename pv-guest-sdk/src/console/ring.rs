//! The ring by which a domain's console reaches its back end, as either end sees it.

use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use hypercall_abi::console::ConsoleRing;
use hypercall_abi::types::PAGE_SIZE;

/// One direction: where in the page its bytes are, and its indices. Unit: bytes; words.
#[derive(Clone, Copy, Debug)]
struct Half {
    start: usize,
    length: usize,
    consumed: usize,
    produced: usize,
}

/// From the guest.
const OUTPUT: Half = Half {
    start: core::mem::offset_of!(ConsoleRing, output),
    length: 2048,
    consumed: core::mem::offset_of!(ConsoleRing, out_cons) / 4,
    produced: core::mem::offset_of!(ConsoleRing, out_prod) / 4,
};
/// To the guest.
const INPUT: Half = Half {
    start: core::mem::offset_of!(ConsoleRing, input),
    length: 1024,
    consumed: core::mem::offset_of!(ConsoleRing, in_cons) / 4,
    produced: core::mem::offset_of!(ConsoleRing, in_prod) / 4,
};

/// The bytes of a shared page.
pub type Bytes = [AtomicU8; PAGE_SIZE];
/// The words of a shared page.
pub type Words = [AtomicU32; PAGE_SIZE / 4];

/// A console's page: the text on its way from and to the guest. Who is at the other end may write anything
/// at any time; the worst it can do is to garble the text.
#[derive(Clone, Copy, Debug)]
pub struct Ring<'a> {
    bytes: &'a Bytes,
    words: &'a Words,
}

impl<'a> Ring<'a> {
    /// The ring in a page, of which both are views.
    #[must_use]
    pub const fn new(bytes: &'a Bytes, words: &'a Words) -> Self {
        Self { bytes, words }
    }

    /// How many bytes wait. More than fit are a liar's.
    fn waiting(self, half: Half) -> usize {
        let produced = self.words[half.produced].load(Ordering::Acquire);
        let consumed = self.words[half.consumed].load(Ordering::Acquire);
        usize::try_from(produced.wrapping_sub(consumed)).unwrap_or(usize::MAX)
    }

    fn place(self, half: Half, index: u32) -> &'a AtomicU8 {
        &self.bytes[half.start + index as usize % half.length]
    }

    /// Puts as many of the bytes as there is room for, and says how many.
    fn produce(self, half: Half, bytes: &[u8]) -> usize {
        let room = half.length.saturating_sub(self.waiting(half));
        let mut index = self.words[half.produced].load(Ordering::Relaxed);
        for &byte in bytes.iter().take(room) {
            self.place(half, index).store(byte, Ordering::Relaxed);
            index = index.wrapping_add(1);
        }
        self.words[half.produced].store(index, Ordering::Release);
        room.min(bytes.len())
    }

    /// Takes what waits, as much as fits, and says how much that is. Of a liar it is nothing.
    fn consume(self, half: Half, to: &mut [u8]) -> usize {
        let waiting = self.waiting(half);
        if waiting > half.length {
            let produced = self.words[half.produced].load(Ordering::Relaxed);
            self.words[half.consumed].store(produced, Ordering::Release);
            return 0;
        }
        let taken = waiting.min(to.len());
        let mut index = self.words[half.consumed].load(Ordering::Relaxed);
        for byte in to.iter_mut().take(taken) {
            *byte = self.place(half, index).load(Ordering::Relaxed);
            index = index.wrapping_add(1);
        }
        self.words[half.consumed].store(index, Ordering::Release);
        taken
    }

    /// The guest's end: puts as many of the bytes as there is room for, and says how many.
    #[must_use]
    pub fn put(self, bytes: &[u8]) -> usize {
        self.produce(OUTPUT, bytes)
    }

    /// The back end's: takes what the guest has put, as much as fits, and says how much that is.
    #[must_use]
    pub fn take(self, to: &mut [u8]) -> usize {
        self.consume(OUTPUT, to)
    }

    /// The back end's: gives the guest as many of the bytes as there is room for, and says how many.
    #[must_use]
    pub fn give(self, bytes: &[u8]) -> usize {
        self.produce(INPUT, bytes)
    }

    /// The guest's: receives what was given, as much as fits, and says how much that is.
    #[must_use]
    pub fn receive(self, to: &mut [u8]) -> usize {
        self.consume(INPUT, to)
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

    use super::{INPUT, OUTPUT, Ring};

    const LENGTH: usize = OUTPUT.length;
    const PRODUCED: usize = OUTPUT.produced;
    const CONSUMED: usize = OUTPUT.consumed;

    #[test]
    fn text_comes_through_in_order_also_where_the_indices_wrap() {
        let bytes = [const { AtomicU8::new(0) }; 4096];
        let words = [const { AtomicU32::new(0) }; 1024];
        words[PRODUCED].store(u32::MAX - 3, Ordering::Relaxed);
        words[CONSUMED].store(u32::MAX - 3, Ordering::Relaxed);
        let ring = Ring::new(&bytes, &words);
        assert_eq!(ring.put(b"hello, world"), 12);
        let mut text = [0; 7];
        assert_eq!((ring.take(&mut text), &text), (7, b"hello, "));
        assert_eq!((ring.take(&mut text), &text[..5]), (5, &b"world"[..]));
        assert_eq!(ring.take(&mut text), 0);
    }

    #[test]
    fn a_full_ring_takes_no_more_and_a_liar_gives_nothing() {
        let bytes = [const { AtomicU8::new(0) }; 4096];
        let words = [const { AtomicU32::new(0) }; 1024];
        let ring = Ring::new(&bytes, &words);
        assert_eq!(ring.put(&[b'x'; LENGTH + 5]), LENGTH);
        assert_eq!(ring.put(b"y"), 0);
        let mut text = [0; LENGTH + 5];
        assert_eq!(ring.take(&mut text), LENGTH);
        words[PRODUCED].store(2 * 2048 + 1, Ordering::Relaxed);
        assert_eq!(ring.put(b"y"), 0);
        assert_eq!(ring.take(&mut text), 0);
        assert_eq!(ring.put(b"y"), 1, "the back end starts anew");
    }

    #[test]
    fn input_goes_the_other_way_and_has_half_the_room() {
        let bytes = [const { AtomicU8::new(0) }; 4096];
        let words = [const { AtomicU32::new(0) }; 1024];
        let ring = Ring::new(&bytes, &words);
        assert_eq!(ring.put(b"out"), 3);
        assert_eq!(ring.give(&[b'i'; INPUT.length + 1]), INPUT.length);
        assert_eq!(ring.give(b"x"), 0);
        let mut text = [0; 2 * INPUT.length];
        assert_eq!(ring.receive(&mut text), INPUT.length);
        assert_eq!((text[0], text[INPUT.length - 1], text[INPUT.length]), (b'i', b'i', 0));
        assert_eq!((ring.take(&mut text), &text[..3]), (3, &b"out"[..]));
    }
}
