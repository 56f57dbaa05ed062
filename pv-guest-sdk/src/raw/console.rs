//! This domain's end of its console's ring.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hypercall_abi::start::StartFlags;
use hypercall_abi::types::{PAGE_SHIFT, Port};

use super::gate::Machine;
use super::m2p;
use super::memory::pointer;
use crate::boot::BootInfo;
use crate::console::ring::Ring;
use crate::event::port;
use crate::lock::Held;
use crate::wait::yield_now;

/// Where page 0 is mapped by the loader, and the others after it.
const IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;

/// The page's address; 0: none.
static PAGE: AtomicU64 = AtomicU64::new(0);
static PORT: AtomicU32 = AtomicU32::new(0);
/// One line at a time.
static WRITING: Held<()> = Held::new(());

/// Finds the ring that the start-of-day page names. It lies where loaders put it: between that page
/// and the page tables, where nothing of this program is.
pub(super) fn find(boot: &BootInfo<'_>) {
    let start = boot.start_info();
    if boot.flags().contains(StartFlags::INITDOMAIN) {
        return;
    }
    let own = m2p::lookup(start.console_mfn);
    let own = own.filter(|&page| boot.frames().get(page) == Some(start.console_mfn));
    let Some(page) = own.map(|page| IMAGE_BASE.wrapping_add(page.0 << PAGE_SHIFT)) else { return };
    let behind = core::ptr::from_ref(start).addr() as u64;
    if (behind + 1..start.pt_base).contains(&page) {
        PORT.store(start.console_evtchn.0, Ordering::Relaxed);
        PAGE.store(page, Ordering::Release);
    }
}

/// The ring, if there is one.
fn ring() -> Option<Ring<'static>> {
    let page = PAGE.load(Ordering::Acquire);
    if page == 0 {
        return None;
    }
    // SAFETY: `find` has found the page there, mapped for ever and used for nothing else; any bytes
    // are atomics.
    let text = unsafe { &*pointer(page) };
    // SAFETY: as above.
    let words = unsafe { &*pointer(page) };
    Some(Ring::new(text, words))
}

/// Puts all of the bytes on the ring of this domain's console, if it has one; waits where it is full.
pub fn write(mut bytes: &[u8]) {
    let Some(ring) = ring() else { return };
    let _whole = WRITING.lock();
    while !bytes.is_empty() {
        let put = ring.put(bytes);
        bytes = bytes.get(put..).unwrap_or_default();
        let _nobody_listens = port::send(&Machine, Port(PORT.load(Ordering::Relaxed)));
        if !bytes.is_empty() {
            yield_now();
        }
    }
}

/// Takes what was typed at this domain's console, without waiting, and says how much that is.
pub fn read(to: &mut [u8]) -> usize {
    let taken = ring().map_or(0, |ring| ring.receive(to));
    if taken > 0 {
        // There is room again.
        let _nobody_types = port::send(&Machine, Port(PORT.load(Ordering::Relaxed)));
    }
    taken
}
