//! `xen_version`, hypercall 17.

use super::{Request, writable};

const XEN_VERSION: u64 = 17;

/// A sub-operation that fills `out`, or answers in `rax` alone if there is none.
///
/// # Safety
/// `operation` must write nothing but `out`.
unsafe fn ask<'a, T: ?Sized>(operation: u64, out: Option<&'a mut T>) -> Request<'a> {
    let address = out.map_or(0, writable);
    // SAFETY: by this function's contract the hypervisor writes only borrowed memory; what it
    // writes are bytes, and every `T` used below takes any bytes.
    unsafe { Request::new(XEN_VERSION, [operation, address, 0, 0, 0, 0]) }
}

/// The version, major in the upper half, minor in the lower.
#[must_use]
pub fn version() -> Request<'static> {
    // SAFETY: sub-operation 0 has no output structure.
    unsafe { ask::<u8>(0, None) }
}

/// The text after the version's numbers.
#[must_use]
pub fn extra_version(out: &mut [u8; 16]) -> Request<'_> {
    // SAFETY: sub-operation 1 writes 16 bytes.
    unsafe { ask(1, Some(out)) }
}

/// Compiler (64 bytes), builder (16), builder's domain (32), date (32).
#[must_use]
pub fn compile_info(out: &mut [u8; 144]) -> Request<'_> {
    // SAFETY: sub-operation 2 writes 144 bytes.
    unsafe { ask(2, Some(out)) }
}

/// The kinds of guests the hypervisor runs.
#[must_use]
pub fn capabilities(out: &mut [u8; 1024]) -> Request<'_> {
    // SAFETY: sub-operation 3 writes 1024 bytes.
    unsafe { ask(3, Some(out)) }
}

/// The state of its sources.
#[must_use]
pub fn changeset(out: &mut [u8; 64]) -> Request<'_> {
    // SAFETY: sub-operation 4 writes 64 bytes.
    unsafe { ask(4, Some(out)) }
}

/// The first address that belongs to the hypervisor.
#[must_use]
pub fn platform_parameters(out: &mut u64) -> Request<'_> {
    // SAFETY: sub-operation 5 writes 8 bytes.
    unsafe { ask(5, Some(out)) }
}

/// A word of feature bits: the caller puts its index first, the hypervisor its bits second.
#[must_use]
pub fn features(index_and_bits: &mut [u32; 2]) -> Request<'_> {
    // SAFETY: sub-operation 6 reads 4 bytes and writes the next 4.
    unsafe { ask(6, Some(index_and_bits)) }
}

/// The size of a page.
#[must_use]
pub fn page_size() -> Request<'static> {
    // SAFETY: sub-operation 7 has no output structure.
    unsafe { ask::<u8>(7, None) }
}

/// This domain's UUID.
#[must_use]
pub fn guest_handle(out: &mut [u8; 16]) -> Request<'_> {
    // SAFETY: sub-operation 8 writes 16 bytes.
    unsafe { ask(8, Some(out)) }
}

/// The hypervisor's own command line.
#[must_use]
pub fn hypervisor_command_line(out: &mut [u8; 1024]) -> Request<'_> {
    // SAFETY: sub-operation 9 writes 1024 bytes.
    unsafe { ask(9, Some(out)) }
}
