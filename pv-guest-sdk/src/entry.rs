//! From the loader to the guest's `main`, and from its end to the domain's.

use core::fmt;

use crate::boot::BootInfo;
use crate::shutdown::{Reason, shutdown};

/// What a guest's `main` may return.
pub trait Outcome {
    /// Says what went wrong, if anything did, and for which reason the domain shall end.
    fn report(self) -> Reason;
}

impl Outcome for () {
    fn report(self) -> Reason {
        Reason::Poweroff
    }
}

impl<E: fmt::Display> Outcome for Result<(), E> {
    fn report(self) -> Reason {
        match self {
            Ok(()) => Reason::Poweroff,
            Err(error) => {
                crate::println!("error: {error}");
                Reason::Crash
            }
        }
    }
}

/// Runs a guest's `main` and ends the domain with its outcome. What [`crate::entry!`] expands to.
pub fn run<O: Outcome>(boot: &BootInfo<'static>, main: fn(&BootInfo<'static>) -> O) -> ! {
    crate::logger::start(boot);
    shutdown(main(boot).report())
}

/// Names the function a guest starts with.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[doc(hidden)]
        #[unsafe(no_mangle)]
        extern "Rust" fn __pv_guest_main(boot: &$crate::boot::BootInfo<'static>) -> ! {
            $crate::entry::run(boot, $main)
        }
    };
}
