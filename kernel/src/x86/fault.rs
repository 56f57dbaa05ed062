//! What the processor says about a page fault besides the error code.

use x86_64::registers::control::Cr2;

/// The address whose access raised the last page fault on this CPU.
pub(crate) fn address() -> u64 {
    Cr2::read_raw()
}
