//! What a panic does: says where and why and by which way, then ends the domain as crashed.

use core::panic::PanicInfo;

use crate::raw::backtrace::frames;
use crate::shutdown::{Reason, shutdown};

/// How many callers are shown.
const DEPTH: usize = 32;

/// The lines `  #N 0xaddr` are return addresses, to be made names by whoever has the ELF file.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    crate::println!("{info}");
    for (number, address) in frames().take(DEPTH).enumerate() {
        crate::println!("  #{number} {address:#x}");
    }
    shutdown(Reason::Crash)
}
