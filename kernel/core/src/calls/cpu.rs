//! A vCPU's own registers: `fpu_taskswitch`, `set_segment_base`.

use hypercall_abi::errno::Errno;
use hypercall_abi::segment;

use crate::dispatch::{Answer, DONE, low_u32};
use crate::guest_memory::is_canonical;
use crate::platform::{Platform, SegmentBase};
use crate::system::Context;

/// `fpu_taskswitch(set)`: sets or clears the virtual CR0.TS. While it is set, the guest's next use
/// of the FPU raises #NM.
///
/// # Errors
///
/// None.
pub fn fpu_taskswitch<P: Platform>(cx: &mut Context<'_, P>, [set, ..]: [u64; 6]) -> Answer {
    let set = low_u32(set) != 0;
    cx.vcpu.state.lock(&cx.system.platform).task_switched = set;
    cx.system.platform.set_task_switched(set);
    DONE
}

/// `set_segment_base(which, value)`: base of FS or GS, or the selector of user mode's GS.
///
/// # Errors
///
/// `EINVAL`: the base is not canonical, or `which` is unknown. A selector that can't be loaded is
/// no error; the null selector is loaded instead.
pub fn set_segment_base<P: Platform>(
    cx: &mut Context<'_, P>,
    [which, value, ..]: [u64; 6],
) -> Answer {
    let base = match low_u32(which) {
        segment::FS => SegmentBase::Fs,
        segment::GS_USER => SegmentBase::GsInactive,
        segment::GS_KERNEL => SegmentBase::GsActive,
        segment::GS_USER_SEL => {
            let [low, high, ..] = value.to_le_bytes();
            let selector = u16::from_le_bytes([low, high]);
            cx.show_descriptor(selector);
            cx.system.platform.load_inactive_gs(selector);
            return DONE;
        }
        _ => return Err(Errno::EINVAL),
    };
    if !is_canonical(value) {
        return Err(Errno::EINVAL);
    }
    cx.system.platform.set_segment_base(base, value);
    DONE
}
