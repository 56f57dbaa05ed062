//! `sched_op`, hypercall 29.

use hypercall_abi::call::Hypercall;
use hypercall_abi::sched::{SHUTDOWN, SchedShutdown, YIELD};

use super::{Request, readable};

/// Lets other virtual CPUs run.
#[must_use]
pub fn yield_now() -> Request<'static> {
    // SAFETY: touches no memory of this program.
    unsafe { Request::new(Hypercall::SchedOp, [YIELD.into(), 0, 0, 0, 0, 0]) }
}

/// Ends the domain for `reason`.
#[must_use]
pub fn shutdown(reason: &SchedShutdown) -> Request<'_> {
    // SAFETY: the hypervisor only reads the reason; should it suspend the domain instead of
    // ending it, the program continues behind the call.
    unsafe { Request::new(Hypercall::SchedOp, [SHUTDOWN.into(), readable(reason), 0, 0, 0, 0]) }
}
