//! A page through which the supervisor and a guest tell each other numbers: that of the store's ring,
//! which none of these guests uses. It works on every hypervisor, and for a guest that is being
//! crashed. Words of 64 bits, of which the lower halves count; the supervisor's `slate` has the same.

use hypercall_abi::layout::MACH2PHYS_VIRT_START;
use pv_guest_sdk::BootInfo;

use crate::raw::memory::{peek, poke};

/// How many calls an attacker has made.
pub const CALLS: u64 = 0;
/// The supervisor wants no beat to count.
pub const HOLD: u64 = 1;
/// No beat counts.
pub const HELD: u64 = 2;
/// The supervisor wants the neighbour to end.
pub const END: u64 = 3;
/// Beats that counted.
pub const BEATS: u64 = 4;
/// Beats that were missed.
pub const MISSED: u64 = 5;
/// How late one was at most. Unit: microseconds.
pub const LATEST: u64 = 6;
/// How often the neighbour has looked through its memory.
pub const PASSES: u64 = 7;
/// Words of it that were not as they should.
pub const DAMAGED: u64 = 8;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Slate(u64);

impl Slate {
    /// Finds the page, which loaders map with the image.
    #[must_use]
    pub fn new(boot: &BootInfo<'_>) -> Self {
        let page = peek(MACH2PHYS_VIRT_START + 8 * boot.start_info().store_mfn.0);
        let slate = Self(0xffff_ffff_8000_0000 + (page << 12));
        (CALLS..=DAMAGED).for_each(|word| slate.set(word, 0));
        slate
    }

    /// Reads a word.
    #[must_use]
    pub fn get(self, word: u64) -> u64 {
        peek(self.0 + 8 * word)
    }

    /// Writes a word.
    pub fn set(self, word: u64, value: u64) {
        poke(self.0 + 8 * word, value);
    }

    /// Adds to a word.
    pub fn add(self, word: u64, value: u64) {
        self.set(word, self.get(word) + value);
    }
}
