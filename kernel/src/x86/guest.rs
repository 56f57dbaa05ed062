//! Running guests: from the machine's description to the initial domain's first instruction, and
//! every entry from then on.

use hypercall_abi::types::Mfn;
use kernel_core::initial::Ingredients;
use kernel_core::regs::GuestRegs;
use kernel_core::system::{Identity, Running, System};
use kernel_core::trap::Exception;
use spin::Once;

use super::entry;
use super::exit::{self, Outcome};
use super::interrupt;
use super::platform::X86;
use super::trap::{self, FIRST_INTERRUPT};
use super::window::Window;

static SYSTEM: Once<System<X86>> = Once::new();
static RUNNING: Once<Running<X86>> = Once::new();

/// Builds the system on a machine whose frame table is filled, starts the initial domain.
pub(crate) fn start(platform: X86, identity: Identity, parts: &Ingredients<'_>) -> ! {
    let system = SYSTEM.call_once(|| System { platform, identity });
    let (running, regs) = match system.build_initial(parts) {
        Ok(built) => built,
        Err(error) => refuse(&format_args!("{error}")),
    };
    let running = RUNNING.call_once(|| running);
    if Window::new(0).load().is_err() {
        refuse(&"no memory is left for the first vCPU's descriptor tables");
    }
    ::log::info!("domain 0 starts at {:#x}", regs.rip);
    system.load_address_space(running);
    super::fpu::reset();
    let top = trap::guest_regs();
    // SAFETY: the place at the top of this CPU's stack is for exactly this, and what is on the stack
    // below stays untouched: one structure below the top lies nothing that is used again.
    unsafe { top.write(regs) };
    // SAFETY: `top` is the top of this CPU's stack and holds the registers of a guest.
    unsafe { entry::resume_guest(top) }
}

/// Says why nothing can be started, and ends the machine.
fn refuse(why: &dyn core::fmt::Display) -> ! {
    crate::log::always(format_args!("error: {why}"));
    exit::exit(Outcome::InputRefused)
}

/// A kernel object's frame is no longer needed.
pub(super) fn free_kernel_frame(frame: Mfn) {
    if let Some(system) = SYSTEM.get() {
        kernel_core::platform::Platform::frames(&system.platform).free_kernel(frame, 1);
    }
}

/// A zeroed frame for the kernel itself.
pub(super) fn alloc_kernel_frame() -> Option<Mfn> {
    let platform = &SYSTEM.get()?.platform;
    kernel_core::platform::Platform::frames(platform).alloc_kernel(platform, 1).ok()
}

fn current() -> (&'static System<X86>, &'static Running<X86>) {
    match (SYSTEM.get(), RUNNING.get()) {
        (Some(system), Some(running)) => (system, running),
        _ => unreachable!("a guest entered ring 0 before there was one"),
    }
}

/// A guest executed `syscall`. True if it can be left by `sysret`.
pub(super) extern "sysv64" fn on_syscall(regs: &mut GuestRegs) -> bool {
    let (system, running) = current();
    system.syscall(running, regs);
    regs.can_leave_by_sysret()
}

/// A guest raised an exception, or an interrupt came while it ran.
pub(super) extern "sysv64" fn on_trap(regs: &mut GuestRegs) {
    let (system, running) = current();
    let vector = regs.entry_vector;
    if vector >= FIRST_INTERRUPT {
        interrupt::handle(vector);
        system.interrupted(running, regs);
        return;
    }
    let exception = Exception {
        vector: vector.to_le_bytes()[0],
        error_code: regs.error_code,
        address: if vector == trap::PAGE_FAULT { trap::fault_address() } else { 0 },
    };
    system.exception(running, regs, exception);
}
