//! Requests that safe code may make, each with the argument why it is harmless.
//!
//! Addresses of buffers are exposed (`expose_provenance`), so the compiler knows that the
//! hypervisor may use them.

use super::gate::Request;

/// Numbers of the hypercalls the SDK makes.
pub(crate) mod number {
    pub(crate) const CONSOLE_IO: u64 = 18;
    pub(crate) const SCHED_OP: u64 = 29;
}

/// `console_io`, write: sends `bytes` to the hypervisor's console.
#[must_use]
pub fn console_write(bytes: &[u8]) -> Request<'_> {
    let address = bytes.as_ptr().expose_provenance() as u64;
    // SAFETY: the hypervisor only reads `bytes`, which are initialised and borrowed.
    unsafe {
        Request::new(
            number::CONSOLE_IO,
            [0, bytes.len() as u64, address, 0, 0, 0],
        )
    }
}

/// `console_io`, read: takes what was typed at the hypervisor's console.
#[must_use]
pub fn console_read(bytes: &mut [u8]) -> Request<'_> {
    let address = bytes.as_mut_ptr().expose_provenance() as u64;
    // SAFETY: the hypervisor writes at most `bytes.len()` bytes to `bytes`, borrowed mutably.
    unsafe {
        Request::new(
            number::CONSOLE_IO,
            [1, bytes.len() as u64, address, 0, 0, 0],
        )
    }
}

/// `sched_op`, shutdown: ends the domain for `reason`.
#[must_use]
pub fn shutdown(reason: &u32) -> Request<'_> {
    let address = core::ptr::from_ref(reason).expose_provenance() as u64;
    // SAFETY: the hypervisor reads the reason, and the program then ends.
    unsafe { Request::new(number::SCHED_OP, [2, address, 0, 0, 0, 0]) }
}

/// `sched_op`, yield: lets other virtual CPUs run.
#[must_use]
pub fn yield_now() -> Request<'static> {
    // SAFETY: touches no memory of this program.
    unsafe { Request::new(number::SCHED_OP, [0; 6]) }
}
