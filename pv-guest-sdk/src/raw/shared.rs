//! The page the hypervisor shares with this domain, mapped over a page of the image.

use core::arch::global_asm;

use hypercall_abi::call::Hypercall;
use hypercall_abi::errno::Errno;

use super::gate::Gate;
use super::request::map_shared_info;
use crate::boot::BootInfo;
use crate::error::{HypercallError, Site, perform};
use crate::shared::SharedInfo;

// Outside Rust's view, so that the compiler knows nothing of the page's contents.
global_asm!(
    ".pushsection .pages.shared, \"aw\", @nobits",
    ".balign 4096",
    ".globl __shared_info",
    "__shared_info:",
    ".skip 4096",
    ".popsection",
);

unsafe extern "C" {
    static __shared_info: SharedInfo;
}

static MAP: Site = Site::call(
    Hypercall::UpdateVaMapping,
    &[
        (Errno::EPERM, "the frame is not this domain's shared page"),
        (Errno::EINVAL, "the frame is not this domain's shared page, or no table maps the page"),
    ],
);

/// Maps the shared page. Doing it again gives the same page.
///
/// # Errors
/// [`HypercallError`] if the hypervisor refuses.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{BootInfo, HypercallError, Machine, raw::shared};
/// # fn example(boot: &BootInfo<'_>) -> Result<(), HypercallError> {
/// let page = shared::shared_info(&Machine, boot)?;
/// # Ok(())
/// # }
/// ```
pub fn shared_info(
    gate: &impl Gate,
    boot: &BootInfo<'_>,
) -> Result<&'static SharedInfo, HypercallError> {
    // SAFETY: defined above, one zeroed page at a page's boundary, and any bytes are atomics.
    let page = unsafe { &__shared_info };
    // SAFETY: the address is the loader's (a `BootInfo` can only be made from what it left), and
    // nothing but this function uses the page.
    let request = unsafe { map_shared_info(page, boot.start_info().shared_info) };
    perform(gate, &MAP, &request)?;
    Ok(page)
}
