//! What a panic does: says where and why, then ends the domain.

use core::panic::PanicInfo;

use crate::shutdown::{Reason, shutdown};

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    crate::println!("{info}");
    shutdown(Reason::Crash)
}
