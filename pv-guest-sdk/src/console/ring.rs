//! The ring by which a domain's console reaches its back end, as either end sees it.

use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use hypercall_abi::console::ConsoleRing;
use hypercall_abi::types::PAGE_SIZE;

/// Where the guest's text begins in the page, and how long it can be. Unit: bytes.
const OUTPUT: usize = core::mem::offset_of!(ConsoleRing, output);
const LENGTH: usize = 2048;
/// Words of the page.
const CONSUMED: usize = core::mem::offset_of!(ConsoleRing, out_cons) / 4;
const PRODUCED: usize = core::mem::offset_of!(ConsoleRing, out_prod) / 4;

/// The bytes of a shared page.
pub type Bytes = [AtomicU8; PAGE_SIZE];
/// The words of a shared page.
pub type Words = [AtomicU32; PAGE_SIZE / 4];

/// A console's page: the text on its way from the guest. Who is at the other end may write anything
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

    /// How many bytes wait. More than fit are a liar's, and count as none.
    fn waiting(self) -> usize {
        let produced = self.words[PRODUCED].load(Ordering::Acquire);
        let consumed = self.words[CONSUMED].load(Ordering::Acquire);
        usize::try_from(produced.wrapping_sub(consumed)).unwrap_or(usize::MAX)
    }

    fn place(self, index: u32) -> &'a AtomicU8 {
        &self.bytes[OUTPUT + index as usize % LENGTH]
    }

    /// The guest's end: puts as many of the bytes as there is room for, and says how many.
    #[must_use]
    pub fn put(self, bytes: &[u8]) -> usize {
        let room = LENGTH.saturating_sub(self.waiting());
        let mut index = self.words[PRODUCED].load(Ordering::Relaxed);
        for &byte in bytes.iter().take(room) {
            self.place(index).store(byte, Ordering::Relaxed);
            index = index.wrapping_add(1);
        }
        self.words[PRODUCED].store(index, Ordering::Release);
        room.min(bytes.len())
    }

    /// The back end's: takes what waits, as much as fits, and says how much that is.
    #[must_use]
    pub fn take(self, to: &mut [u8]) -> usize {
        let waiting = self.waiting();
        if waiting > LENGTH {
            let produced = self.words[PRODUCED].load(Ordering::Relaxed);
            self.words[CONSUMED].store(produced, Ordering::Release);
            return 0;
        }
        let taken = waiting.min(to.len());
        let mut index = self.words[CONSUMED].load(Ordering::Relaxed);
        for byte in to.iter_mut().take(taken) {
            *byte = self.place(index).load(Ordering::Relaxed);
            index = index.wrapping_add(1);
        }
        self.words[CONSUMED].store(index, Ordering::Release);
        taken
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

    use super::{CONSUMED, LENGTH, PRODUCED, Ring};

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
}
