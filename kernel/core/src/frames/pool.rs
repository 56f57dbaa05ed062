//! The free frames: a bitmap in which a set bit is a free frame.
//!
//! Without a lock: a frame is taken by clearing its bit with one locked instruction, and whoever
//! cleared it has it. Single frames come from the top of memory, because low memory is what devices
//! with short addresses need.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use hypercall_abi::types::Mfn;

/// The largest order of an aligned group of frames that the pool gives.
pub const MAX_ORDER: u32 = 12;

const WORD_BITS: u64 = 64;
const WORD_ORDER: u32 = 6;
/// One more than the bits that a frame's number can have.
const WIDTHS: usize = 41;

/// The bitmap and what speeds up searching it.
#[derive(Debug)]
pub(super) struct Pool {
    bitmap: &'static [AtomicU64],
    free: AtomicU64,
    /// How many of the free frames are for those who have claimed them.
    claimed: AtomicU64,
    /// The free frames again, by the number of bits that their own numbers have.
    widths: [AtomicU64; WIDTHS],
    /// No word above this one has a free frame, as far as anyone knows.
    top: AtomicUsize,
}

impl Pool {
    /// A pool without a free frame; `bitmap` is all zeros.
    pub(super) const fn new(bitmap: &'static [AtomicU64]) -> Self {
        let widths = [const { AtomicU64::new(0) }; WIDTHS];
        let [free, claimed] = [const { AtomicU64::new(0) }; 2];
        Self { bitmap, free, claimed, widths, top: AtomicUsize::new(0) }
    }

    /// How many frames are free at this moment.
    pub(super) fn free_count(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// How many free frames are claimed.
    pub(super) fn claimed(&self) -> u64 {
        self.claimed.load(Ordering::Relaxed)
    }

    /// Keeps `count` free frames from everybody, if as many are left; they are not chosen yet.
    pub(super) fn claim(&self, count: u64) -> bool {
        let free = self.free_count();
        let claim = |claimed: u64| claimed.checked_add(count).filter(|&claimed| claimed <= free);
        self.claimed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim).is_ok()
    }

    /// Leaves `count` claimed frames to everybody.
    pub(super) fn unclaim(&self, count: u64) {
        self.claimed.fetch_sub(count, Ordering::Relaxed);
    }

    /// Claims again what was left to everybody a moment ago.
    pub(super) fn reclaim(&self, count: u64) {
        self.claimed.fetch_add(count, Ordering::Relaxed);
    }

    /// How many free frames are not claimed.
    fn unclaimed(&self) -> u64 {
        self.free_count().saturating_sub(self.claimed())
    }

    /// How many free frames have numbers of at least `from` and at most `to` bits.
    pub(super) fn free_of_widths(&self, from: u32, to: u32) -> u64 {
        let within = (0..).zip(&self.widths).filter(|(bits, _)| (from..=to).contains(bits));
        within.fold(0, |sum, (_, count)| sum.wrapping_add(count.load(Ordering::Relaxed)))
    }

    /// Counts `count` frames from a number on as free, or as no longer free.
    fn count(&self, start: u64, count: u64, free: bool) {
        let add = |counter: &AtomicU64, count| match free {
            true => counter.fetch_add(count, Ordering::Relaxed),
            false => counter.fetch_sub(count, Ordering::Relaxed),
        };
        add(&self.free, count);
        let mut start = start;
        let end = start.saturating_add(count);
        while start < end {
            let bits = u64::BITS.saturating_sub(start.leading_zeros());
            let next = 1_u64.checked_shl(bits).unwrap_or(u64::MAX).min(end);
            if let Some(counter) = self.widths.get(usize::try_from(bits).unwrap_or(WIDTHS)) {
                add(counter, next.saturating_sub(start));
            }
            start = next;
        }
    }

    /// Whether the frame is free at this moment.
    pub(super) fn is_free(&self, mfn: Mfn) -> bool {
        let (word, bit) = place(mfn);
        self.word(word).is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0)
    }

    /// Makes one frame free. A frame beyond the bitmap is lost.
    pub(super) fn give(&self, mfn: Mfn) {
        let (index, bit) = place(mfn);
        if let Some(word) = self.word(index)
            && word.fetch_or(bit, Ordering::Release) & bit == 0
        {
            self.count(mfn.0, 1, true);
            self.top.fetch_max(index, Ordering::Relaxed);
        }
    }

    /// Takes `1 << order` frames that are not claimed, aligned to their number, that all lie below frame
    /// number `below`.
    pub(super) fn take(&self, order: u32, below: u64) -> Option<Mfn> {
        if order > MAX_ORDER || self.unclaimed() >> order == 0 {
            return None;
        }
        let limit = usize::try_from(below.div_ceil(WORD_BITS)).unwrap_or(usize::MAX);
        let all = limit.min(self.bitmap.len());
        let top = self.top.load(Ordering::Relaxed);
        let found = self.take_below(top.saturating_add(1).min(all), order, below);
        let found = found.or_else(|| self.take_below(all, order, below))?;
        if self.free_count() < self.claimed() {
            // Others took the last that were not claimed at the same time.
            let end = found.0.saturating_add(1_u64.wrapping_shl(order));
            (found.0..end).for_each(|mfn| self.give(Mfn(mfn)));
            return None;
        }
        if order == 0 && below == u64::MAX {
            // What became free above meanwhile, unseen, is found by the second search one day.
            let (index, _) = place(found);
            let (old, new) = (top, index.min(top));
            let _ = self.top.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed);
        }
        Some(found)
    }

    /// Searches the words below `end` from above.
    fn take_below(&self, end: usize, order: u32, below: u64) -> Option<Mfn> {
        if order <= WORD_ORDER {
            return (0..end).rev().find_map(|index| self.take_in_word(index, order, below));
        }
        let words = 1_usize.wrapping_shl(order.saturating_sub(WORD_ORDER));
        let end = end.min(usize::try_from(below / WORD_BITS).unwrap_or(usize::MAX));
        let groups = end.checked_div(words).unwrap_or(0);
        (0..groups).rev().find_map(|group| self.take_words(group.wrapping_mul(words), words))
    }

    fn take_in_word(&self, index: usize, order: u32, below: u64) -> Option<Mfn> {
        let word = self.word(index)?;
        let first = u64::try_from(index).ok()?.checked_mul(WORD_BITS)?;
        let usable = match below.saturating_sub(first) {
            0 => return None,
            count if count >= WORD_BITS => u64::MAX,
            count => 1_u64.wrapping_shl(u32::try_from(count).ok()?).wrapping_sub(1),
        };
        let mut now = word.load(Ordering::Relaxed);
        loop {
            let bit = highest_group(now & usable, order)?;
            let size = 1_u32.wrapping_shl(order);
            let ones = u64::MAX.wrapping_shr(64_u32.wrapping_sub(size));
            let mask = ones.wrapping_shl(bit);
            match word.compare_exchange(now, now & !mask, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => {
                    let start = first.wrapping_add(u64::from(bit));
                    self.count(start, u64::from(size), false);
                    return Some(Mfn(start));
                }
                Err(changed) => now = changed,
            }
        }
    }

    /// Takes whole words, or nothing.
    fn take_words(&self, index: usize, words: usize) -> Option<Mfn> {
        for taken in 0..words {
            let word = self.word(index.checked_add(taken)?)?;
            let all = word.compare_exchange(u64::MAX, 0, Ordering::Acquire, Ordering::Relaxed);
            if all.is_err() {
                (0..taken).filter_map(|back| self.word(index.wrapping_add(back))).for_each(
                    |word| {
                        word.fetch_or(u64::MAX, Ordering::Release);
                    },
                );
                return None;
            }
        }
        let frames = u64::try_from(words).ok()?.checked_mul(WORD_BITS)?;
        let start = u64::try_from(index).ok()?.wrapping_mul(WORD_BITS);
        self.count(start, frames, false);
        Some(Mfn(start))
    }

    /// Takes the first `count` free frames in a row. Slow; meant for boot, on one CPU.
    pub(super) fn take_run(&self, count: u64) -> Option<Mfn> {
        if self.unclaimed() < count {
            return None;
        }
        let end = u64::try_from(self.bitmap.len()).ok()?.checked_mul(WORD_BITS)?;
        let mut start = 0_u64;
        let mut length = 0_u64;
        for mfn in 0..end {
            length = if self.is_free(Mfn(mfn)) { length.wrapping_add(1) } else { 0 };
            start = if length == 0 { mfn.wrapping_add(1) } else { start };
            if length == count && count > 0 {
                let end = start.wrapping_add(count);
                let taken = (start..end).take_while(|&mfn| self.take_one(Mfn(mfn))).count();
                if u64::try_from(taken).ok()? == count {
                    return Some(Mfn(start));
                }
                let taken = u64::try_from(taken).ok()?;
                (start..start.wrapping_add(taken)).for_each(|mfn| self.give(Mfn(mfn)));
                length = 0;
                start = mfn.wrapping_add(1);
            }
        }
        None
    }

    fn take_one(&self, mfn: Mfn) -> bool {
        let (index, bit) = place(mfn);
        let taken =
            self.word(index).is_some_and(|word| word.fetch_and(!bit, Ordering::Acquire) & bit != 0);
        if taken {
            self.count(mfn.0, 1, false);
        }
        taken
    }

    fn word(&self, index: usize) -> Option<&AtomicU64> {
        self.bitmap.get(index)
    }
}

fn place(mfn: Mfn) -> (usize, u64) {
    let index = usize::try_from(mfn.0 / WORD_BITS).unwrap_or(usize::MAX);
    let bit = (mfn.0 % WORD_BITS) as u32;
    (index, 1_u64.wrapping_shl(bit))
}

/// The lowest bit of the highest aligned group of `1 << order` ones.
fn highest_group(mut bits: u64, order: u32) -> Option<u32> {
    const ALIGNED: [u64; 7] = [
        u64::MAX,
        0x5555_5555_5555_5555,
        0x1111_1111_1111_1111,
        0x0101_0101_0101_0101,
        0x0001_0001_0001_0001,
        0x0000_0001_0000_0001,
        1,
    ];
    // After this a bit is set when it begins a run of `1 << order` ones.
    for step in 0..order {
        bits &= bits.wrapping_shr(1_u32.wrapping_shl(step));
    }
    let starts = bits & ALIGNED.get(usize::try_from(order).ok()?)?;
    63_u32.checked_sub(starts.leading_zeros())
}
