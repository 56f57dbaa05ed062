//! `domctl` (36), `sysctl` (35), and calls for other domains.

use hypercall_abi::call::Hypercall;
use hypercall_abi::domctl::Domctl;
use hypercall_abi::memory::{ForeignMemoryMap, Reservation};
use hypercall_abi::sysctl::Sysctl;

use super::{Request, writable};

/// Makes one operation, which answers in its envelope.
///
/// # Safety
/// Guest addresses in the payload must be of memory that is borrowed for as long, and that takes
/// what the operation writes. The domain must not be the caller's own.
#[must_use]
pub(in crate::raw) unsafe fn domctl(operation: &mut Domctl) -> Request<'_> {
    // SAFETY: the envelope takes any bytes; the rest by this function's contract.
    unsafe { Request::new(Hypercall::Domctl, [writable(operation), 0, 0, 0, 0, 0]) }
}

/// Makes one operation about the machine, which answers in its envelope.
///
/// # Safety
/// As of [`domctl`], for the guest addresses.
#[must_use]
pub(in crate::raw) unsafe fn sysctl(operation: &mut Sysctl) -> Request<'_> {
    // SAFETY: the envelope takes any bytes; the rest by this function's contract.
    unsafe { Request::new(Hypercall::Sysctl, [writable(operation), 0, 0, 0, 0, 0]) }
}

/// An argument of `memory_op` that names a domain.
pub(in crate::raw) trait MemoryArgument {}
impl MemoryArgument for Reservation {}
impl MemoryArgument for ForeignMemoryMap {}

/// Makes one operation on another domain's memory.
///
/// # Safety
/// As of [`domctl`], for the argument.
#[must_use]
pub(in crate::raw) unsafe fn memory_operation<T: MemoryArgument>(
    operation: u32,
    argument: &mut T,
) -> Request<'_> {
    let args = [operation.into(), writable(argument), 0, 0, 0, 0];
    // SAFETY: by this function's contract.
    unsafe { Request::new(Hypercall::MemoryOp, args) }
}
