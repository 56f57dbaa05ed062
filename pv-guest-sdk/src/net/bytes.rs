//! Bytes in pages that another domain may write at any time.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::raw::copy::copy_out;

/// Copies from `offset` on, in bytes, of a page that has all of it.
pub(super) fn load(words: &[AtomicU32], offset: usize, into: &mut [u8]) {
    let (word, within) = (offset / 4, offset % 4);
    let Some((first, rest)) = words.get(word..).and_then(<[_]>::split_first) else { return };
    let (start, behind) = into.split_at_mut(into.len().min((4 - within) % 4));
    let first = first.load(Ordering::Relaxed).to_le_bytes();
    start.iter_mut().zip(&first[within..]).for_each(|(to, from)| *to = *from);
    copy_out(if within == 0 { &words[word..] } else { rest }, behind);
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::AtomicU32;
    use std::vec::Vec;

    use super::load;
    use crate::raw::copy::copy_in;

    #[test]
    fn every_range_is_loaded_as_it_was_stored() {
        let words: Vec<_> = (0..8).map(|_| AtomicU32::new(u32::MAX)).collect();
        let data: Vec<u8> = (1..=32).collect();
        for length in 0..32 {
            copy_in(&words, &data[..length]);
            for offset in 0..length {
                let mut bytes = std::vec![0; length - offset];
                load(&words, offset, &mut bytes);
                assert_eq!(bytes, data[offset..length]);
            }
        }
    }
}
