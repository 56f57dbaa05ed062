//! `extension`, hypercall 55 of our own hypervisor.

use hypercall_abi::call::Hypercall;
use hypercall_abi::extension::AUDIT;

use super::Request;

/// Has all references counted.
#[must_use]
pub fn audit() -> Request<'static> {
    // SAFETY: reads and writes nothing of this guest's.
    unsafe { Request::new(Hypercall::Extension, [AUDIT.into(), 0, 0, 0, 0, 0]) }
}
