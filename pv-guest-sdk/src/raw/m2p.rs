//! The hypervisor's table of all machine frames, which guests may read: for each frame, the page
//! number its owner gave it.

use hypercall_abi::layout::{MACH2PHYS_NR_ENTRIES, MACH2PHYS_VIRT_START};
use hypercall_abi::types::{Mfn, Pfn};

/// The number its owner gave to a machine frame, as the table has it.
///
/// It says nothing about who the owner is: believe it only if this domain's list of frames leads
/// back to the same frame. `None` for a frame number that the table's window has no room for, and
/// for entries marked invalid. The table has holes where the machine has no memory: asking there
/// is a page fault.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{abi::types::Mfn, raw::m2p, println};
/// # fn example(frame: Mfn) {
/// match m2p::lookup(frame) {
///     Some(page) => println!("the page {}", page.0),
///     None => println!("another domain's, or nobody's"),
/// }
/// # }
/// ```
#[must_use]
pub fn lookup(mfn: Mfn) -> Option<Pfn> {
    let offset = Some(mfn.0).filter(|&mfn| mfn < MACH2PHYS_NR_ENTRIES)?.checked_mul(8)?;
    let address = MACH2PHYS_VIRT_START.checked_add(offset)?;
    let entry: *const u64 = core::ptr::with_exposed_provenance(usize::try_from(address).ok()?);
    // SAFETY: within the window that is the hypervisor's and that guests may read; a hole faults
    // and does not return. The hypervisor writes entries whole; volatile, as they may change.
    let pfn = unsafe { entry.read_volatile() };
    // Both marks for "nobody's" have bit 62 set, and no page has such a number.
    (pfn >> 62 == 0).then_some(Pfn(pfn))
}
