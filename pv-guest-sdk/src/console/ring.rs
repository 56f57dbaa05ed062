//! The ring by which a domain's console reaches its back end, as either end sees it.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use hypercall_abi::console::ConsoleRing;
use hypercall_abi::types::PAGE_SIZE;

/// Text on its way in one direction: where it begins in the page, how long it can be (bytes), and
/// the words with the indices of who takes and who puts.
struct Direction {
    start: usize,
    length: usize,
    taken: usize,
    put: usize,
}

const OUTPUT: Direction = Direction {
    start: offset_of!(ConsoleRing, output),
    length: 2048,
    taken: offset_of!(ConsoleRing, out_cons) / 4,
    put: offset_of!(ConsoleRing, out_prod) / 4,
};

const INPUT: Direction = Direction {
    start: offset_of!(ConsoleRing, input),
    length: 1024,
    taken: offset_of!(ConsoleRing, in_cons) / 4,
    put: offset_of!(ConsoleRing, in_prod) / 4,
};

/// The bytes of a shared page.
pub type Bytes = [AtomicU8; PAGE_SIZE];
/// The words of a shared page.
pub type Words = [AtomicU32; PAGE_SIZE / 4];

/// A console's page: the text on its way in both directions. Who is at the other end may write anything
/// at any time; the worst it can do is to garble the text.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{console::ring::{Bytes, Ring, Words}};
/// # fn example(bytes: &Bytes, words: &Words) {
/// // The front end says something, and the back end hears it.
/// let ring = Ring::new(bytes, words);
/// let sent = ring.put(b"hello\n");
/// let mut heard = [0; 80];
/// assert_eq!(ring.take(&mut heard), sent);
/// // The other way.
/// ring.put_input(b"list\n");
/// ring.take_input(&mut heard);
/// # }
/// ```
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

    /// The guest's end: puts as many of the bytes as there is room for, and says how many.
    #[must_use]
    pub fn put(self, bytes: &[u8]) -> usize {
        self.put_to(&OUTPUT, bytes)
    }

    /// The back end's: takes what the guest has put, as much as fits, and says how much that is.
    #[must_use]
    pub fn take(self, to: &mut [u8]) -> usize {
        self.take_from(&OUTPUT, to)
    }

    /// The back end's: puts what was typed, as much as there is room for, and says how much.
    #[must_use]
    pub fn put_input(self, bytes: &[u8]) -> usize {
        self.put_to(&INPUT, bytes)
    }

    /// The guest's: takes what was typed, as much as fits, and says how much that is.
    #[must_use]
    pub fn take_input(self, to: &mut [u8]) -> usize {
        self.take_from(&INPUT, to)
    }

    /// How many bytes wait. More than fit are a liar's, and count as none.
    fn waiting(self, of: &Direction) -> usize {
        let put = self.words[of.put].load(Ordering::Acquire);
        let taken = self.words[of.taken].load(Ordering::Acquire);
        usize::try_from(put.wrapping_sub(taken)).unwrap_or(usize::MAX)
    }

    fn place(self, of: &Direction, index: u32) -> &'a AtomicU8 {
        &self.bytes[of.start + index as usize % of.length]
    }

    fn put_to(self, to: &Direction, bytes: &[u8]) -> usize {
        let room = to.length.saturating_sub(self.waiting(to));
        let mut index = self.words[to.put].load(Ordering::Relaxed);
        for &byte in bytes.iter().take(room) {
            self.place(to, index).store(byte, Ordering::Relaxed);
            index = index.wrapping_add(1);
        }
        self.words[to.put].store(index, Ordering::Release);
        room.min(bytes.len())
    }

    fn take_from(self, from: &Direction, to: &mut [u8]) -> usize {
        let waiting = self.waiting(from);
        if waiting > from.length {
            let put = self.words[from.put].load(Ordering::Relaxed);
            self.words[from.taken].store(put, Ordering::Release);
            return 0;
        }
        let taken = waiting.min(to.len());
        let mut index = self.words[from.taken].load(Ordering::Relaxed);
        for byte in to.iter_mut().take(taken) {
            *byte = self.place(from, index).load(Ordering::Relaxed);
            index = index.wrapping_add(1);
        }
        self.words[from.taken].store(index, Ordering::Release);
        taken
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

    use super::{INPUT, OUTPUT, Ring};

    const LENGTH: usize = OUTPUT.length;
    const PRODUCED: usize = OUTPUT.put;
    const CONSUMED: usize = OUTPUT.taken;

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
    fn what_is_typed_comes_through_beside_the_text() {
        let bytes = [const { AtomicU8::new(0) }; 4096];
        let words = [const { AtomicU32::new(0) }; 1024];
        for word in [INPUT.put, INPUT.taken] {
            words[word].store(u32::MAX - 2, Ordering::Relaxed);
        }
        let ring = Ring::new(&bytes, &words);
        assert_eq!((ring.put(b"text"), ring.put_input(b"typed")), (4, 5));
        let mut text = [0; 8];
        assert_eq!((ring.take_input(&mut text), &text[..5]), (5, &b"typed"[..]));
        assert_eq!((ring.take(&mut text), &text[..4]), (4, &b"text"[..]));
        assert_eq!((ring.put_input(&[b'x'; 1025]), ring.put_input(b"y")), (1024, 0));
        words[INPUT.put].store(5000, Ordering::Relaxed);
        assert_eq!(ring.take_input(&mut text), 0);
    }
}
