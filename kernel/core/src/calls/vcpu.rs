//! `vcpu_op` (hypercall 24): the vCPUs of the calling domain. So far: sending an NMI.

use hypercall_abi::errno::Errno;
use hypercall_abi::vcpu;

use crate::dispatch::{Answer, DONE, low_u32};
use crate::platform::Platform;
use crate::system::Context;

/// `vcpu_op(cmd, vcpu, argument)`.
///
/// # Errors
///
/// - `ENOENT`: the domain has no such vCPU.
/// - `ENOSYS`: unknown command, or one that is not implemented.
pub fn vcpu_op<P: Platform>(cx: &mut Context<'_, P>, [cmd, number, ..]: [u64; 6]) -> Answer {
    match low_u32(cmd) {
        vcpu::SEND_NMI if low_u32(number) != cx.vcpu.id.0 => Err(Errno::ENOENT),
        vcpu::SEND_NMI => {
            cx.vcpu.nmi.raise();
            DONE
        }
        _ => Err(Errno::ENOSYS),
    }
}
