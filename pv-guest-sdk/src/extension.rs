//! Calls of our own hypervisor, which no other has.

use hypercall_abi::call::Hypercall;
use hypercall_abi::errno::Errno;
use hypercall_abi::{cpuid, extension as abi};

use crate::error::{HypercallError, Site, perform};
use crate::raw::gate::Gate;
use crate::raw::request;

static AUDIT: Site = Site::operation(
    Hypercall::Extension,
    abi::OPS,
    abi::AUDIT,
    &[
        (Errno::EPERM, "this domain is not privileged"),
        (Errno::ENOMEM, "the hypervisor has no memory in one piece to count in"),
    ],
);

/// The version of these calls, major in the upper half. `None` on a hypervisor without them.
#[must_use]
pub fn version(gate: &impl Gate) -> Option<u32> {
    let [_, signature @ ..] = gate.cpuid(cpuid::EXTENSION_BASE, 0);
    let [version, ..] = gate.cpuid(cpuid::EXTENSION_VERSION, 0);
    (signature == cpuid::EXTENSION_SIGNATURE).then_some(version)
}

/// Has the hypervisor count all that anybody refers to, while nobody else runs. Returns how many
/// things do not fit, which it says on its log; `None` on a hypervisor that cannot.
///
/// # Errors
/// EPERM (1) if this domain is not privileged, ENOMEM (12) without memory for the count.
pub fn audit(gate: &impl Gate) -> Result<Option<u64>, HypercallError> {
    if version(gate).is_none_or(|version| version < 2) {
        return Ok(None);
    }
    perform(gate, &AUDIT, &request::audit()).map(Some)
}
