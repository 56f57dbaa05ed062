//! `sched_op` (hypercall 29): giving up the CPU, and ending.

use hypercall_abi::errno::Errno;
use hypercall_abi::sched;

use crate::dispatch::{Answer, DONE, low_u32};
use crate::domain::ShutdownReason;
use crate::guest_memory;
use crate::platform::Platform;
use crate::system::Context;

/// `sched_op(cmd, argument)`.
///
/// # Errors
///
/// - `ENOSYS`: the sub-op is unknown or not implemented.
/// - `EFAULT`: the argument can't be read.
pub fn sched_op<P: Platform>(cx: &mut Context<'_, P>, [cmd, argument, ..]: [u64; 6]) -> Answer {
    match low_u32(cmd) {
        // With one vCPU there is nobody to yield to.
        sched::YIELD => DONE,
        // Masked or not, what is pending now is delivered at once.
        sched::BLOCK => {
            block(cx);
            DONE
        }
        sched::SHUTDOWN => {
            let reason: u32 = guest_memory::read(&cx.system.platform, argument)?;
            log::info!("domain {} shuts down, reason {reason}", cx.domain.id.0);
            cx.domain.shut_down(&cx.system.platform, ShutdownReason(reason));
            DONE
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// Unmasks events and waits until one is pending, or an NMI; it is delivered on the way out. As long
/// as there are no event channels none becomes pending meanwhile, and the wait is for ever.
fn block<P: Platform>(cx: &Context<'_, P>) {
    let info = cx.vcpu.info(&cx.system.platform);
    info.set_mask(0);
    while !info.wants_upcall() && !cx.vcpu.nmi.is_due() {
        cx.system.platform.wait_for_interrupt();
    }
}
