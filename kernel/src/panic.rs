//! The end of the kernel: reserved for broken hardware and broken invariants.
//!
//! Prints what is known, stops every CPU and leaves with the panic's exit code. What a guest does
//! wrong never comes here.

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::x86::exit::{self, Outcome};
use crate::x86::{backtrace, stop};

static PANICKING: AtomicBool = AtomicBool::new(false);

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
