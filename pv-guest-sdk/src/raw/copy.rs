//! Copies between pages that others share and memory that nobody else has.

use core::arch::asm;
use core::sync::atomic::AtomicU32;

/// Copies from the beginning of a page, which others may write meanwhile, as many bytes as both have.
/// What is copied does not change any more.
pub(crate) fn copy_out(words: &[AtomicU32], bytes: &mut [u8]) {
    let length = bytes.len().min(size_of_val(words));
    // SAFETY: so many bytes are in both. The destination is borrowed mutably, so it is not the page,
    // which is atomics to Rust and is read as it is found.
    unsafe { copy(words.as_ptr().cast(), bytes.as_mut_ptr(), length) };
}

/// Copies to the beginning of a page, which others may read and write meanwhile, as many bytes as
/// both have.
pub(crate) fn copy_in(words: &[AtomicU32], bytes: &[u8]) {
    let length = bytes.len().min(size_of_val(words));
    // SAFETY: so many bytes are in both. The page is atomics to Rust, which may be written behind a
    // shared reference.
    unsafe { copy(bytes.as_ptr(), words.as_ptr().cast_mut().cast(), length) };
}

/// Copies words of eight bytes and what is left, in instructions that the compiler does not see
/// through: it can take nothing for granted of memory that changes meanwhile.
///
/// # Safety
/// So many bytes can be read and written, and no Rust reference but to atomics is to those written.
unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: by this function's contract; the direction flag is clear, as everywhere in Rust.
    unsafe {
        asm!("rep movsq", "mov ecx, {rest:e}", "rep movsb", rest = in(reg) length % 8,
            inout("rsi") from => _, inout("rdi") to => _, inout("rcx") length / 8 => _,
            options(nostack, preserves_flags));
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicU32, Ordering};

    use super::{copy_in, copy_out};

    #[test]
    fn copies_end_where_the_shorter_one_does() {
        let page = [const { AtomicU32::new(0) }; 8];
        copy_in(&page[..5], &[7; 19]);
        let words = page.each_ref().map(|word| word.load(Ordering::Relaxed));
        assert_eq!(words, [0x0707_0707, 0x0707_0707, 0x0707_0707, 0x0707_0707, 0x07_0707, 0, 0, 0]);
        copy_in(&page[..5], &[9; 33]);
        assert_eq!(page[5].load(Ordering::Relaxed), 0);
        let mut bytes = [1; 24];
        copy_out(&page[..5], &mut bytes);
        assert_eq!(bytes, [[9; 20].as_slice(), &[1; 4]].concat()[..]);
        let mut few = [1; 3];
        copy_out(&page, &mut few);
        assert_eq!(few, [9; 3]);
    }
}
