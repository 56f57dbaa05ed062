//! The end of the kernel: reserved for broken hardware and broken invariants.
//!
//! Stops every CPU, prints what is known and leaves with the panic's exit code. What a guest does
//! wrong never comes here.

use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

use kernel_core::regs::GuestRegs;

use crate::x86::backtrace::{self, Backtrace};
use crate::x86::exit::{self, Outcome};
use crate::x86::{fault, stop};

/// The CPU that reports: its number plus one, or 0 while all is well.
static REPORTER: AtomicUsize = AtomicUsize::new(0);

/// Ends the kernel because of an exception in ring 0 that nothing expects.
pub(crate) fn exception(regs: &GuestRegs) -> ! {
    let address = fault::address();
    let why = format_args!("exception {} in ring 0 at {:#x}", regs.entry_vector, regs.rip);
    end(why, Some(regs.rip), backtrace::from(regs.rbp), |print| {
        print(format_args!("error code {:#x}, cr2 {address:#018x}", regs.error_code));
        print(format_args!(
            "rip {:#018x} rsp {:#018x} flags {:#x}",
            regs.rip, regs.rsp, regs.rflags
        ));
        for [(a, x), (b, y), (c, z)] in regs.by_name() {
            print(format_args!("{a} {x:016x} {b} {y:016x} {c} {z:016x}"));
        }
    })
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    end(format_args!("{}", info.message()), None, backtrace::here(), |print| {
        if let Some(location) = info.location() {
            print(format_args!("at {location}"));
        }
    })
}

/// Something that prints a line.
type Print<'a> = &'a mut dyn FnMut(fmt::Arguments<'_>);

/// Reports and leaves. The first CPU to come here reports, any other halts.
fn end(
    why: fmt::Arguments<'_>,
    address: Option<u64>,
    callers: Backtrace,
    details: impl FnOnce(Print<'_>),
) -> ! {
    stop::disable_interrupts();
    let this = stop::this_cpu();
    match REPORTER.compare_exchange(0, this + 1, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => stop::other_cpus(),
        // Failed while reporting: what is printed by now is all there will be.
        Err(reporter) if reporter == this + 1 => exit::exit(Outcome::KernelPanic),
        Err(_) => stop::halt(),
    }
    crate::log::emergency(|print| {
        print(format_args!("panic: {why}"));
        print(format_args!("on CPU {this}"));
        details(print);
        print(format_args!("backtrace:"));
        for (number, address) in address.into_iter().chain(callers).enumerate() {
            print(format_args!("  #{number} {address:#018x}"));
        }
    });
    exit::exit(Outcome::KernelPanic)
}
