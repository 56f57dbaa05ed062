//! `sched_op`, hypercall 29.

use super::{Request, readable};

const SCHED_OP: u64 = 29;
const YIELD: u64 = 0;
const SHUTDOWN: u64 = 2;

/// Lets other virtual CPUs run.
#[must_use]
pub fn yield_now() -> Request<'static> {
    // SAFETY: touches no memory of this program.
    unsafe { Request::new(SCHED_OP, [YIELD, 0, 0, 0, 0, 0]) }
}

/// Ends the domain for `reason`.
#[must_use]
pub fn shutdown(reason: &u32) -> Request<'_> {
    // SAFETY: the hypervisor only reads the reason; should it suspend the domain instead of
    // ending it, the program continues behind the call.
    unsafe { Request::new(SCHED_OP, [SHUTDOWN, readable(reason), 0, 0, 0, 0]) }
}
