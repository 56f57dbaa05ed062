//! `xen_version`, hypercall 17.

use hypercall_abi::call::Hypercall;
use hypercall_abi::version::{
    CAPABILITIES, CAPABILITIES_SIZE, CHANGESET, CHANGESET_SIZE, COMMANDLINE, COMMANDLINE_SIZE,
    COMPILE_INFO, CompileInfo, EXTRAVERSION, EXTRAVERSION_SIZE, FeatureInfo, GET_FEATURES,
    GUEST_HANDLE, HANDLE_SIZE, PAGESIZE, PLATFORM_PARAMETERS, PlatformParameters, VERSION,
};

use super::{Request, writable};

/// A sub-operation that fills `out`, or answers in `rax` alone if there is none.
///
/// # Safety
/// `operation` must write nothing but `out`.
unsafe fn ask<'a, T: ?Sized>(operation: u32, out: Option<&'a mut T>) -> Request<'a> {
    let address = out.map_or(0, writable);
    // SAFETY: by this function's contract the hypervisor writes only borrowed memory; what it
    // writes are bytes, and every `T` used below takes any bytes.
    unsafe { Request::new(Hypercall::XenVersion, [operation.into(), address, 0, 0, 0, 0]) }
}

/// The version, major in the upper half, minor in the lower.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, println, raw::request};
/// # fn example() {
/// println!("{}", Machine.call(&request::version()));
/// # }
/// ```
#[must_use]
pub fn version() -> Request<'static> {
    // SAFETY: this sub-operation has no output structure.
    unsafe { ask::<u8>(VERSION, None) }
}

/// The text after the version's numbers.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, println, raw::request};
/// # fn example() {
/// println!("{}", Machine.call(&request::extra_version(&mut [0; 16])));
/// # }
/// ```
#[must_use]
pub fn extra_version(out: &mut [u8; EXTRAVERSION_SIZE]) -> Request<'_> {
    // SAFETY: this sub-operation writes 16 bytes.
    unsafe { ask(EXTRAVERSION, Some(out)) }
}

/// Who compiled it, when, with what.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, abi::version::CompileInfo, println, raw::request};
/// # fn example(info: &mut CompileInfo) {
/// println!("{}", Machine.call(&request::compile_info(info)));
/// # }
/// ```
#[must_use]
pub fn compile_info(out: &mut CompileInfo) -> Request<'_> {
    // SAFETY: this sub-operation writes 144 bytes.
    unsafe { ask(COMPILE_INFO, Some(out)) }
}

/// The kinds of guests the hypervisor runs.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, println, raw::request};
/// # fn example() {
/// println!("{}", Machine.call(&request::capabilities(&mut [0; 1024])));
/// # }
/// ```
#[must_use]
pub fn capabilities(out: &mut [u8; CAPABILITIES_SIZE]) -> Request<'_> {
    // SAFETY: this sub-operation writes 1024 bytes.
    unsafe { ask(CAPABILITIES, Some(out)) }
}

/// The state of its sources.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, println, raw::request};
/// # fn example() {
/// println!("{}", Machine.call(&request::changeset(&mut [0; 64])));
/// # }
/// ```
#[must_use]
pub fn changeset(out: &mut [u8; CHANGESET_SIZE]) -> Request<'_> {
    // SAFETY: this sub-operation writes 64 bytes.
    unsafe { ask(CHANGESET, Some(out)) }
}

/// The first address that belongs to the hypervisor.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, abi::version::PlatformParameters, println, raw::request};
/// # fn example(info: &mut PlatformParameters) {
/// println!("{}", Machine.call(&request::platform_parameters(info)));
/// # }
/// ```
#[must_use]
pub fn platform_parameters(out: &mut PlatformParameters) -> Request<'_> {
    // SAFETY: this sub-operation writes 8 bytes.
    unsafe { ask(PLATFORM_PARAMETERS, Some(out)) }
}

/// A word of feature bits: the caller puts its index first, the hypervisor its bits second.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, abi::version::FeatureInfo, println, raw::request};
/// # fn example(info: &mut FeatureInfo) {
/// println!("{}", Machine.call(&request::features(info)));
/// # }
/// ```
#[must_use]
pub fn features(info: &mut FeatureInfo) -> Request<'_> {
    // SAFETY: this sub-operation reads 4 bytes and writes the next 4.
    unsafe { ask(GET_FEATURES, Some(info)) }
}

/// The size of a page.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, println, raw::request};
/// # fn example() {
/// println!("{}", Machine.call(&request::page_size()));
/// # }
/// ```
#[must_use]
pub fn page_size() -> Request<'static> {
    // SAFETY: this sub-operation has no output structure.
    unsafe { ask::<u8>(PAGESIZE, None) }
}

/// This domain's UUID.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, println, raw::request};
/// # fn example() {
/// println!("{}", Machine.call(&request::guest_handle(&mut [0; 16])));
/// # }
/// ```
#[must_use]
pub fn guest_handle(out: &mut [u8; HANDLE_SIZE]) -> Request<'_> {
    // SAFETY: this sub-operation writes 16 bytes.
    unsafe { ask(GUEST_HANDLE, Some(out)) }
}

/// The hypervisor's own command line.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, println, raw::request};
/// # fn example() {
/// println!("{}", Machine.call(&request::hypervisor_command_line(&mut [0; 1024])));
/// # }
/// ```
#[must_use]
pub fn hypervisor_command_line(out: &mut [u8; COMMANDLINE_SIZE]) -> Request<'_> {
    // SAFETY: this sub-operation writes 1024 bytes.
    unsafe { ask(COMMANDLINE, Some(out)) }
}
