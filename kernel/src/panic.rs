//! The end of the kernel: reserved for broken hardware and broken invariants.
//!
//! Prints what is known, stops every CPU and leaves with the panic's exit code. What a guest does
//! wrong never comes here.

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use kernel_core::regs::GuestRegs;

use crate::x86::exit::{self, Outcome};
use crate::x86::{backtrace, fault, stop};

static PANICKING: AtomicBool = AtomicBool::new(false);

/// Ends the kernel because of an exception in ring 0 that nothing expects.
#[expect(clippy::panic, reason = "a broken invariant is what panics are for")]
pub(crate) fn exception(regs: &GuestRegs) -> ! {
    stop::disable_interrupts();
    crate::log::emergency(|print| {
        print(format_args!(
            "exception {} in ring 0, error code {:#x}, cr2 {:#018x}",
            regs.entry_vector,
            regs.error_code,
            fault::address(),
        ));
        print(format_args!(
            "rip {:#018x} rsp {:#018x} flags {:#x}",
            regs.rip, regs.rsp, regs.rflags
        ));
        for [(a, x), (b, y), (c, z)] in regs.by_name() {
            print(format_args!("{a} {x:016x} {b} {y:016x} {c} {z:016x}"));
        }
        print(format_args!("  #0 {:#018x}", regs.rip));
    });
    panic!("exception {} in ring 0 at {:#x}", regs.entry_vector, regs.rip);
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    stop::disable_interrupts();
    if PANICKING.swap(true, Ordering::SeqCst) {
        // A second panic, on this CPU or another: the first one's report is the one to read.
        stop::halt();
    }
    stop::other_cpus();
    crate::log::emergency(|print| {
        print(format_args!("panic: {}", info.message()));
        if let Some(location) = info.location() {
            print(format_args!("at {location} on CPU {}", stop::this_cpu()));
        }
        print(format_args!("backtrace:"));
        for (number, address) in backtrace::here().enumerate() {
            print(format_args!("  #{number} {address:#018x}"));
        }
    });
    exit::exit(Outcome::KernelPanic)
}
