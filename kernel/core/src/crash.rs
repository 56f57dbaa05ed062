//! The last words about a guest: its registers, its stack, where it came from.

use crate::guest_memory;
use crate::platform::Platform;
use crate::system::Context;

/// Words of the guest's stack that are shown.
const STACK_WORDS: u64 = 16;
/// Frames of the guest's call chain that are shown.
const FRAMES: usize = 16;

/// Logs why a domain ends and the state of the vCPU that caused it.
pub(crate) fn dump<P: Platform>(cx: &Context<'_, P>, why: core::fmt::Arguments<'_>) {
    let regs = &*cx.regs;
    log::error!("domain {} crashed: vCPU {}: {why}", cx.domain.id.0, cx.vcpu.id.0);
    log::error!("rip {:04x}:{:016x} rflags {:08x}", regs.cs & 0xffff, regs.rip, regs.rflags);
    log::error!("rsp {:04x}:{:016x}", regs.ss & 0xffff, regs.rsp);
    for [(a, x), (b, y), (c, z)] in regs.by_name() {
        log::error!("{a} {x:016x} {b} {y:016x} {c} {z:016x}");
    }
    stack(cx);
    backtrace(cx);
}

/// Shows the top of the guest's stack, as far as it can be read.
fn stack<P: Platform>(cx: &Context<'_, P>) {
    log::error!("guest stack:");
    for line in 0..STACK_WORDS.div_ceil(4) {
        let at = cx.regs.rsp.wrapping_add(line.wrapping_mul(32));
        let words: [u64; 4] = match guest_memory::read(&cx.system.platform, at) {
            Ok(words) => words,
            Err(_) => {
                log::error!("  {at:016x}: can't be read");
                return;
            }
        };
        let [a, b, c, d] = words;
        log::error!("  {at:016x}: {a:016x} {b:016x} {c:016x} {d:016x}");
    }
}

/// Follows the guest's frame pointers upwards. They are the guest's to forge: each is copied, must
/// lie above the one before, and their number is bounded.
fn backtrace<P: Platform>(cx: &Context<'_, P>) {
    log::error!("guest backtrace:");
    log::error!("  #0 {:#x}", cx.regs.rip);
    let mut frame = cx.regs.rbp;
    for number in 1..FRAMES {
        let Ok([next, return_address]) = guest_memory::read::<[u64; 2]>(&cx.system.platform, frame)
        else {
            return;
        };
        if return_address == 0 {
            return;
        }
        log::error!("  #{number} {return_address:#x}");
        if next <= frame {
            return;
        }
        frame = next;
    }
}
