//! Return addresses found by following frame pointers (the target is built with them).

use core::arch::asm;

/// The most frames a backtrace shows.
const LIMIT: usize = 32;

/// A walk up the frames of one stack.
pub(crate) struct Backtrace {
    frame: u64,
    left: usize,
}

/// The backtrace of the caller.
#[inline(always)]
pub(crate) fn here() -> Backtrace {
    let frame: u64;
    // SAFETY: reads a register, nothing else.
    unsafe { asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack, preserves_flags)) };
    from(frame)
}

/// The backtrace that starts at the frame pointer `frame` (for a trap: the interrupted `rbp`).
pub(crate) fn from(frame: u64) -> Backtrace {
    Backtrace { frame, left: LIMIT }
}

impl Iterator for Backtrace {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let frame = self.frame;
        if self.left == 0 || !super::percpu::stack_contains(frame, 16) {
            return None;
        }
        // SAFETY: the two words lie inside a mapped kernel stack (just checked; `frame` is aligned).
        let caller = unsafe { (frame as *const u64).read() };
        let address_slot = frame + 8;
        // SAFETY: as above, the second word.
        let address = unsafe { (address_slot as *const u64).read() };
        // Frames only ever lie further up; anything else is not a frame, and ends the walk.
        self.left = if caller > frame { self.left - 1 } else { 0 };
        self.frame = caller;
        (address != 0).then_some(address)
    }
}
