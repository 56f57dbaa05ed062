//! What the processor says of a segment.

use super::pages_snippets::LIMIT;
use super::{Registers, run};

/// What [`limit`] says where there is no segment.
pub(crate) const NO_SEGMENT: u64 = u64::MAX;

/// The limit of the segment that a selector names, or [`NO_SEGMENT`]. Unit: bytes, the last one.
pub(crate) fn limit(selector: u64) -> u64 {
    let mut registers = Registers::new();
    registers.rcx = selector;
    run(LIMIT, &mut registers);
    if registers.rbx == 1 { registers.rax } else { NO_SEGMENT }
}
