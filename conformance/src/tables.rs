//! The page tables the loader left, read as any guest can read them.

use pv_guest_sdk::BootInfo;

use crate::raw::guard_page;
use crate::raw::memory::peek;

/// Where page 0 of the guest is mapped (this guest's note says so).
pub(crate) const VIRT_BASE: u64 = 0xffff_ffff_8000_0000;
/// The hypervisor's table from machine frames to pages.
pub(crate) const M2P: u64 = 0xffff_8000_0000_0000;

pub(crate) const PRESENT: u64 = 1;
pub(crate) const WRITABLE: u64 = 2;
/// The bits of an entry that say which frame it names.
pub(crate) const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// The page that the hypervisor says a machine frame is. Only for frames that exist.
pub(crate) fn page_of(mfn: u64) -> u64 {
    peek(M2P + mfn * 8)
}

/// The machine frame that the list of frames has for a page. Unit: frame numbers.
pub(crate) fn frame_of(boot: &BootInfo<'_>, pfn: u64) -> u64 {
    peek(boot.start_info().mfn_list + pfn * 8)
}

/// The address at which the loader mapped a page.
pub(crate) const fn address_of(pfn: u64) -> u64 {
    VIRT_BASE + (pfn << 12)
}

/// The index of `address` in the table of a level, 1 to 4.
pub(crate) const fn index(level: u32, address: u64) -> u64 {
    (address >> (12 + 9 * (level - 1))) & 511
}

/// The entry number `index` of the table in page `table`.
pub(crate) fn entry(table: u64, index: u64) -> u64 {
    peek(address_of(table) + index * 8)
}

/// The page of the top-level table.
pub(crate) fn top(boot: &BootInfo<'_>) -> u64 {
    (boot.start_info().pt_base - VIRT_BASE) >> 12
}

/// The entry of `level` through which `address` is translated, if all above it are present.
pub(crate) fn walk(boot: &BootInfo<'_>, level: u32, address: u64) -> Option<u64> {
    let mut table = top(boot);
    let mut at = 4;
    loop {
        let found = entry(table, index(at, address));
        if at == level {
            return Some(found);
        }
        if found & PRESENT == 0 {
            return None;
        }
        table = page_of((found & FRAME) >> 12);
        at -= 1;
    }
}

/// The last-level entry for `address`, if there is one and it is present.
pub(crate) fn mapping(boot: &BootInfo<'_>, address: u64) -> Option<u64> {
    walk(boot, 1, address).filter(|entry| entry & PRESENT != 0)
}

/// The first address behind everything that is mapped from [`VIRT_BASE`] on.
pub(crate) fn mapped_end(boot: &BootInfo<'_>) -> u64 {
    let mut address = boot.start_info().pt_base;
    while mapping(boot, address).is_some() {
        address += 4096;
    }
    address
}

/// The pages that the loader mapped, but for the one that the SDK has unmapped since.
pub(crate) fn mapped_pages(boot: &BootInfo<'_>) -> impl Iterator<Item = u64> {
    let guard = guard_page();
    (VIRT_BASE..mapped_end(boot)).step_by(4096).filter(move |&page| page != guard)
}
