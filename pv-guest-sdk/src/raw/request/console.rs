//! `console_io`, hypercall 18.

use super::{Request, readable, writable};

const CONSOLE_IO: u64 = 18;
const WRITE: u64 = 0;
const READ: u64 = 1;

/// Sends `bytes` to the hypervisor's console.
#[must_use]
pub fn console_write(bytes: &[u8]) -> Request<'_> {
    let args = [WRITE, bytes.len() as u64, readable(bytes), 0, 0, 0];
    // SAFETY: the hypervisor only reads `bytes`, which are initialised and borrowed.
    unsafe { Request::new(CONSOLE_IO, args) }
}

/// Takes what was typed at the hypervisor's console.
#[must_use]
pub fn console_read(bytes: &mut [u8]) -> Request<'_> {
    let args = [READ, bytes.len() as u64, writable(bytes), 0, 0, 0];
    // SAFETY: the hypervisor writes at most `bytes.len()` bytes to `bytes`, borrowed mutably.
    unsafe { Request::new(CONSOLE_IO, args) }
}
