//! The chain of frame pointers on the stack of a virtual CPU.

use core::arch::asm;
use core::ops::Range;

use super::start::stack_of;
use crate::vcpu::Vcpu;

unsafe extern "C" {
    static __boot_stack: u8;
    static __boot_stack_end: u8;
}

/// Return addresses, innermost first, as far as the chain stays on the stack.
pub(crate) struct Frames {
    pointer: usize,
}

/// The callers of the function that calls this.
#[inline(always)]
pub(crate) fn frames() -> Frames {
    let pointer;
    // SAFETY: reads a register.
    unsafe {
        asm!("mov {}, rbp", out(reg) pointer, options(nomem, nostack, preserves_flags));
    }
    Frames { pointer }
}

/// The return addresses of the frames from the frame pointer `pointer` on.
pub(crate) fn frames_from(pointer: u64) -> Frames {
    Frames { pointer: usize::try_from(pointer).unwrap_or(0) }
}

/// The stack a guest starts on.
fn first_stack() -> Range<usize> {
    let start = (&raw const __boot_stack).expose_provenance();
    start..(&raw const __boot_stack_end).expose_provenance()
}

impl Iterator for Frames {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let number = Vcpu::current().map_or(0, Vcpu::index);
        let stack = if number == 0 { first_stack() } else { stack_of(number) };
        let last = stack.end.checked_sub(16)?;
        if !self.pointer.is_multiple_of(8) || !(stack.start..=last).contains(&self.pointer) {
            return None;
        }
        let record: *const [usize; 2] = core::ptr::with_exposed_provenance(self.pointer);
        // SAFETY: sixteen aligned bytes within the stack, which is always mapped; volatile, as
        // they are the business of functions that are still running.
        let [caller, address] = unsafe { record.read_volatile() };
        // Frames of callers lie higher, so a chain that does not climb is broken, and this ends.
        self.pointer = if caller > self.pointer { caller } else { 0 };
        Some(address).filter(|&address| address != 0)
    }
}
