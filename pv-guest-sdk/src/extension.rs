//! Calls of our own hypervisor, which no other has.

use hypercall_abi::call::Hypercall;
use hypercall_abi::errno::Errno;
use hypercall_abi::types::DomId;
use hypercall_abi::{cpuid, extension as abi};

use crate::error::{HypercallError, Site, perform};
use crate::raw::gate::Gate;
use crate::raw::request;
pub use abi::Rings;

static AUDIT: Site = Site::operation(
    Hypercall::Extension,
    abi::OPS,
    abi::AUDIT,
    &[
        (Errno::EPERM, "this domain is not privileged"),
        (Errno::ENOMEM, "the hypervisor has no memory in one piece to count in"),
    ],
);

const NO_DOMAIN: &[(Errno, &str)] =
    &[(Errno::EPERM, "this domain is not privileged"), (Errno::ESRCH, "there is no such domain")];
static SET_RINGS: Site = Site::operation(Hypercall::Extension, abi::OPS, abi::SET_RINGS, NO_DOMAIN);
static GET_RINGS: Site = Site::operation(Hypercall::Extension, abi::OPS, abi::GET_RINGS, NO_DOMAIN);

/// The version of these calls, major in the upper half. `None` on a hypervisor without them.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Machine, extension, println};
/// # fn example() {
/// match extension::version(&Machine) {
///     Some(version) => println!("our own hypervisor, version {version} of its calls"),
///     None => println!("another hypervisor"),
/// }
/// # }
/// ```
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
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, extension, println};
/// # fn example() -> Result<(), HypercallError> {
/// if let Some(wrong) = extension::audit(&Machine)? {
///     println!("{wrong} of the hypervisor's counts are wrong");
/// }
/// # Ok(())
/// # }
/// ```
pub fn audit(gate: &impl Gate) -> Result<Option<u64>, HypercallError> {
    if version(gate).is_none_or(|version| version < 2) {
        return Ok(None);
    }
    perform(gate, &AUDIT, &request::audit()).map(Some)
}

/// Has the hypervisor record what a domain is connected to, for a control domain that comes later;
/// does nothing on a hypervisor that cannot.
///
/// # Errors
/// EPERM (1) if this domain is not privileged, ESRCH (3) if there is no such domain.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, extension::{self, Rings}};
/// # fn example(rings: Rings) -> Result<(), HypercallError> {
/// extension::set_rings(&Machine, rings)?;
/// # Ok(())
/// # }
/// ```
pub fn set_rings(gate: &impl Gate, mut rings: Rings) -> Result<(), HypercallError> {
    if version(gate).is_none_or(|version| version < 3) {
        return Ok(());
    }
    perform(gate, &SET_RINGS, &request::set_rings(&mut rings)).map(drop)
}

/// What a domain is connected to, as was recorded; `None` on a hypervisor that cannot.
///
/// # Errors
/// As of [`set_rings`].
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, abi::types::DomId, extension};
/// # fn example() -> Result<(), HypercallError> {
/// if let Some(rings) = extension::rings(&Machine, DomId(1))? {
///     extension::set_rings(&Machine, rings)?;
/// }
/// # Ok(())
/// # }
/// ```
pub fn rings(gate: &impl Gate, domain: DomId) -> Result<Option<Rings>, HypercallError> {
    if version(gate).is_none_or(|version| version < 3) {
        return Ok(None);
    }
    let mut rings = Rings { domain, ..Rings::default() };
    perform(gate, &GET_RINGS, &request::get_rings(&mut rings))?;
    Ok(Some(rings))
}
