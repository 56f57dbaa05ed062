//! The hypervisor's table of all machine frames, which guests may read: for each frame, the page
//! number its owner gave it.

/// Address of the first entry.
const TABLE: u64 = 0xffff_8000_0000_0000;
/// Entries the address space has room for: 256 GiB of 8 bytes.
const ENTRIES: u64 = 1 << 35;

/// The number its owner gave to a machine frame, as the table has it.
///
/// It says nothing about who the owner is: believe it only if this domain's list of frames leads
/// back to the same frame. `None` for a frame number that the table's window has no room for, and
/// for entries marked invalid. The table has holes where the machine has no memory: asking there
/// is a page fault.
#[must_use]
pub fn lookup(mfn: u64) -> Option<u64> {
    let offset = Some(mfn).filter(|&mfn| mfn < ENTRIES)?.checked_mul(8)?;
    let entry: *const u64 =
        core::ptr::with_exposed_provenance(usize::try_from(TABLE.checked_add(offset)?).ok()?);
    // SAFETY: within the window that is the hypervisor's and that guests may read; a hole faults
    // and does not return. The hypervisor writes entries whole; volatile, as they may change.
    let pfn = unsafe { entry.read_volatile() };
    (pfn >> 62 == 0).then_some(pfn)
}
