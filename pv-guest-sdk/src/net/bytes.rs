//! Bytes in pages that another domain may write at any time.

use core::sync::atomic::{AtomicU32, Ordering};

/// Calls `each` with every word that has bytes of `range`, and which of its bytes these are.
fn pieces(offset: usize, length: usize, mut each: impl FnMut(usize, usize, usize, usize)) {
    let mut done = 0;
    while done < length {
        let at = offset + done;
        let count = (4 - at % 4).min(length - done);
        each(at / 4, at % 4, done, count);
        done += count;
    }
}

/// Copies from `offset` on, in bytes. What is outside of the page is 0.
pub(super) fn load(words: &[AtomicU32], offset: usize, into: &mut [u8]) {
    pieces(offset, into.len(), |word, first, at, count| {
        let word = words.get(word).map_or(0, |word| word.load(Ordering::Relaxed)).to_le_bytes();
        into[at..at + count].copy_from_slice(&word[first..first + count]);
    });
}

/// Copies to the page's beginning; what follows in the last word becomes 0.
pub(super) fn store(words: &[AtomicU32], data: &[u8]) {
    for (word, bytes) in words.iter().zip(data.chunks(4)) {
        let mut whole = [0; 4];
        whole[..bytes.len()].copy_from_slice(bytes);
        word.store(u32::from_le_bytes(whole), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::AtomicU32;
    use std::vec::Vec;

    use super::{load, store};

    #[test]
    fn every_range_is_loaded_as_it_was_stored() {
        let words: Vec<_> = (0..8).map(|_| AtomicU32::new(u32::MAX)).collect();
        let data: Vec<u8> = (1..=32).collect();
        for length in 0..32 {
            store(&words, &data[..length]);
            for offset in 0..length {
                let mut bytes = std::vec![0; length - offset];
                load(&words, offset, &mut bytes);
                assert_eq!(bytes, data[offset..length]);
            }
        }
        let mut bytes = [1; 8];
        load(&words, 32, &mut bytes);
        assert_eq!(bytes, [0; 8]);
    }
}
