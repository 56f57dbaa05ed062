//! Traps that need more than handing to the kernel core: on stacks of their own, or in ring 0.

use kernel_core::bounce::rflags;
use kernel_core::regs::GuestRegs;

use super::layout::pointer;
use super::{copy, debug, entry, interrupt, percpu, segment};

/// Vectors from here on are interrupts of devices and other CPUs.
pub(super) const FIRST_INTERRUPT: u8 = 32;
/// The one `int n` above the exceptions whose gate is open to guests: 32-bit system calls.
pub(super) const SYSTEM_CALL: u8 = 0x80;

/// Vector of debug exceptions.
pub(super) const DEBUG: u8 = 1;
const NMI: u8 = 2;
const MACHINE_CHECK: u8 = 18;
/// Vector of page faults.
pub(super) const PAGE_FAULT: u8 = 14;

/// Where the registers of the guest that this CPU runs are saved on every entry.
pub(super) fn guest_regs() -> *mut GuestRegs {
    let top = percpu::current().main_stack_top();
    core::ptr::with_exposed_provenance_mut::<GuestRegs>(pointer(top)).wrapping_sub(1)
}

fn vector(regs: &GuestRegs) -> u8 {
    let [vector, ..] = regs.entry_vector.to_le_bytes();
    vector
}

/// A guest was interrupted by an exception that has a stack of its own: returns to the guest, or
/// moves the registers to the ordinary place and handles the exception from there.
pub(super) extern "sysv64" fn on_ist_trap(regs: &GuestRegs) {
    if !is_the_machines(regs) {
        as_guest_trap(*regs);
    }
}

/// Handles what is about the machine and not about whoever ran: true if that is settled.
#[expect(clippy::panic, reason = "reserved for broken hardware, which this is")]
fn is_the_machines(regs: &GuestRegs) -> bool {
    match vector(regs) {
        NMI if super::stop::requested() => super::stop::halt(),
        // Nobody asked for it. It may have struck while this CPU held any lock: not even a line.
        NMI => {}
        MACHINE_CHECK => panic!("the processor reports a machine check"),
        _ => return false,
    }
    true
}

/// Handles `regs` as if the guest they describe had just raised the exception in them.
fn as_guest_trap(regs: GuestRegs) -> ! {
    let top = guest_regs();
    // SAFETY: the place belongs to this CPU. While ring 0 handles an entry that came another way,
    // nothing there is in use: the frame of a faulted return is spent once it has been copied here.
    unsafe { top.write(regs) };
    // SAFETY: `top` is the top of this CPU's stack and holds the registers of a guest.
    unsafe { entry::reenter_as_guest_trap(top) }
}

/// An exception or interrupt in ring 0.
pub(super) extern "sysv64" fn on_ring_0_trap(regs: &mut GuestRegs) {
    let vector = vector(regs);
    if is_the_machines(regs) {
        // Nothing to do with where it struck.
    } else if vector >= FIRST_INTERRUPT {
        // Only the idle loop runs with interrupts on.
        interrupt::handle(vector);
    } else if vector == DEBUG {
        // A breakpoint that a guest armed: on memory that is being copied, or held back by
        // `mov ss` until the first instruction after `syscall`; or single-stepping, which `sysenter`
        // leaves on, and which is the guest's to find in its frame. Nothing is reported.
        debug::take_status();
        if !entry::has_guest_flags(regs.rip) {
            regs.rflags &= !rflags::TF;
        }
    } else if let Some(recovery) = copy::recovery(regs.rip).or(segment::recovery(regs.rip)) {
        regs.rip = recovery;
    } else if entry::is_return(regs.rip) {
        faulted_return(regs);
    } else {
        crate::panic::exception(regs);
    }
}

/// The return to a guest faulted: the guest's selectors or its RIP can't be loaded. The fault
/// becomes one of the context that was to run.
fn faulted_return(regs: &GuestRegs) -> ! {
    /// What `iretq` was to pop: RIP, CS, RFLAGS, RSP, SS.
    type Frame = [u64; 5];
    let frame = core::ptr::with_exposed_provenance::<Frame>(pointer(regs.rsp));
    // SAFETY: `iretq` was reached with RSP at the last five words of the guest's registers, and the
    // exception was pushed below them.
    let [rip, cs, rflags, rsp, ss] = unsafe { frame.read() };
    if cs & 3 == 0 {
        crate::panic::exception(regs);
    }
    as_guest_trap(GuestRegs { rip, cs, rflags, rsp, ss, ..*regs })
}
