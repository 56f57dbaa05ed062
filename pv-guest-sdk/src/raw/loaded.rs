//! The pages by which the loader's tools talk to this domain: the console's and the store's.

use hypercall_abi::start::StartFlags;
use hypercall_abi::types::{Mfn, PAGE_SHIFT};

use super::m2p;
use super::memory::pointer;
use crate::boot::BootInfo;
use crate::console::ring::{Bytes, Words};

/// Where page 0 is mapped by the loader, and the others after it.
const IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;

/// A page that the start-of-day page names. It lies where loaders put it: between that page and the
/// page tables, where nothing of this program is.
pub(crate) fn shared_page(
    boot: &BootInfo<'_>,
    frame: Mfn,
) -> Option<(&'static Bytes, &'static Words)> {
    let start = boot.start_info();
    if boot.flags().contains(StartFlags::INITDOMAIN) {
        return None;
    }
    let own = m2p::lookup(frame).filter(|&page| boot.frames().get(page) == Some(frame));
    let page = IMAGE_BASE.wrapping_add(own?.0 << PAGE_SHIFT);
    let behind = core::ptr::from_ref(start).addr() as u64;
    if !(behind + 1..start.pt_base).contains(&page) {
        return None;
    }
    // SAFETY: the page is there, mapped for ever and used for nothing else; any bytes are atomics.
    let bytes = unsafe { &*pointer(page) };
    // SAFETY: as above.
    let words = unsafe { &*pointer(page) };
    Some((bytes, words))
}
