//! From the loader to the guest's `main`, and from its end to the domain's.

use core::fmt;

use crate::boot::BootInfo;
use crate::shutdown::{Reason, shutdown};

/// What a guest's `main` may return.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{entry::Outcome};
/// # fn example() {
/// fn judge(outcome: impl Outcome) {
///     outcome.report();
/// }
/// judge(());
/// # }
/// ```
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
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{BootInfo, entry};
/// # fn example(boot: &BootInfo<'static>) {
/// fn main(_: &BootInfo<'static>) -> Result<(), &'static str> {
///     Err("it can't") // printed, and the domain ends as crashed
/// }
///
/// entry::run(boot, main)
/// # }
/// ```
pub fn run<O: Outcome>(boot: &BootInfo<'static>, main: fn(&BootInfo<'static>) -> O) -> ! {
    crate::logger::start(boot);
    shutdown(main(boot).report())
}

/// Names the function a guest starts with.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{BootInfo, entry, println};
/// entry!(start);
///
/// fn start(boot: &BootInfo<'static>) {
///     println!("{} pages", boot.pages());
/// }
/// # fn main() {}
/// ```
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
