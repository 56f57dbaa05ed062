//! `console_io`, hypercall 18.

use hypercall_abi::call::Hypercall;
use hypercall_abi::console::{READ, WRITE};

use super::{Request, readable, writable};

/// Sends `bytes` to the hypervisor's console.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, println, raw::request};
/// # fn example() {
/// println!("{}", Machine.call(&request::console_write(b"hello")));
/// # }
/// ```
#[must_use]
pub fn console_write(bytes: &[u8]) -> Request<'_> {
    let args = [WRITE.into(), bytes.len() as u64, readable(bytes), 0, 0, 0];
    // SAFETY: the hypervisor only reads `bytes`, which are initialised and borrowed.
    unsafe { Request::new(Hypercall::ConsoleIo, args) }
}

/// Takes what was typed at the hypervisor's console.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, println, raw::request};
/// # fn example() {
/// println!("{}", Machine.call(&request::console_read(&mut [0; 64])));
/// # }
/// ```
#[must_use]
pub fn console_read(bytes: &mut [u8]) -> Request<'_> {
    let args = [READ.into(), bytes.len() as u64, writable(bytes), 0, 0, 0];
    // SAFETY: the hypervisor writes at most `bytes.len()` bytes to `bytes`, borrowed mutably.
    unsafe { Request::new(Hypercall::ConsoleIo, args) }
}
