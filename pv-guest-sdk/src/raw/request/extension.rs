//! `extension`, hypercall 55 of our own hypervisor.

use hypercall_abi::call::Hypercall;
use hypercall_abi::extension::{AUDIT, GET_RINGS, Rings, SET_RINGS};

use super::{Request, writable};

/// Has all references counted.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, println, raw::request};
/// # fn example() {
/// println!("{}", Machine.call(&request::audit()));
/// # }
/// ```
#[must_use]
pub fn audit() -> Request<'static> {
    // SAFETY: reads and writes nothing of this guest's.
    unsafe { Request::new(Hypercall::Extension, [AUDIT.into(), 0, 0, 0, 0, 0]) }
}

/// Records what a domain is connected to.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, extension::Rings, println, raw::request};
/// # fn example() {
/// println!("{}", Machine.call(&request::set_rings(&mut Rings::default())));
/// # }
/// ```
#[must_use]
pub fn set_rings(rings: &mut Rings) -> Request<'_> {
    // SAFETY: the structure is read, and borrowed for as long.
    unsafe { Request::new(Hypercall::Extension, [SET_RINGS.into(), writable(rings), 0, 0, 0, 0]) }
}

/// Asks what a domain is connected to.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, extension::Rings, println, raw::request};
/// # fn example() {
/// println!("{}", Machine.call(&request::get_rings(&mut Rings::default())));
/// # }
/// ```
#[must_use]
pub fn get_rings(rings: &mut Rings) -> Request<'_> {
    // SAFETY: the structure is borrowed for as long, and takes any bytes.
    unsafe { Request::new(Hypercall::Extension, [GET_RINGS.into(), writable(rings), 0, 0, 0, 0]) }
}
