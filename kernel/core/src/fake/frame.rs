//! A frame that is words or bytes, whichever was asked for last.
//!
//! Safe code can't see the same atomics as both, so there are two copies, and whoever asks for the
//! other kind gets the contents carried over. Only one thread plays the machine.

use std::boxed::Box;
use std::sync::OnceLock;

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Byte;
use crate::platform::{Bytes, Table};

#[derive(Default)]
pub(super) struct Frame {
    words: OnceLock<Box<Table>>,
    bytes: OnceLock<Box<Bytes>>,
    is_bytes: AtomicBool,
}

impl Frame {
    pub(super) fn words(&self) -> &Table {
        let words = self.words_raw();
        if self.is_bytes.swap(false, Ordering::Relaxed) {
            for (word, bytes) in words.iter().zip(self.bytes_raw().as_chunks::<8>().0) {
                let bytes = bytes.each_ref().map(|byte| byte.load(Ordering::Relaxed));
                word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
            }
        }
        words
    }

    pub(super) fn bytes(&self) -> &Bytes {
        let bytes = self.bytes_raw();
        if !self.is_bytes.swap(true, Ordering::Relaxed) {
            for (word, bytes) in self.words_raw().iter().zip(bytes.as_chunks::<8>().0) {
                let value = word.load(Ordering::Relaxed).to_le_bytes();
                bytes.iter().zip(value).for_each(|(to, from)| to.store(from, Ordering::Relaxed));
            }
        }
        bytes
    }

    fn words_raw(&self) -> &Table {
        self.words.get_or_init(|| Box::new([const { AtomicU64::new(0) }; 512]))
    }

    fn bytes_raw(&self) -> &Bytes {
        self.bytes.get_or_init(|| Box::new([const { Byte::new(0) }; 4096]))
    }
}
