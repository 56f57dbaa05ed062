//! The page below the stack a guest starts on: unmapped, so that safe code that recurses too deeply
//! faults instead of writing over whatever lies there.

use hypercall_abi::call::Hypercall;
use hypercall_abi::errno::Errno;

use super::gate::Gate;
use super::request::unmap_page;
use crate::error::{HypercallError, Site, perform};

unsafe extern "C" {
    static __boot_guard: u8;
}

static UNMAP: Site = Site::call(
    Hypercall::UpdateVaMapping,
    &[(Errno::EINVAL, "no table maps the page, or it may not be changed")],
);

/// Unmaps the guard page. Its frame stays the domain's.
pub(super) fn unmap(gate: &impl Gate) -> Result<(), HypercallError> {
    // SAFETY: the page is reserved by the entry code, for this.
    let request = unsafe { unmap_page((&raw const __boot_guard).expose_provenance() as u64) };
    perform(gate, &UNMAP, &request).map(drop)
}
