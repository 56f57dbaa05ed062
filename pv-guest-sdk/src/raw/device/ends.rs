//! The page in which the hypervisor notes whose ends it waits for.

use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::physdev::PirqEoiGmfn;
use hypercall_abi::types::PAGE_SIZE;
use spin::Once;

use crate::device::physdev::PIRQ_EOI_GMFN;
use crate::error::perform;
use crate::raw::gate::Machine;
use crate::raw::memory::{Frame, pointer, tables};
use crate::raw::request::note_ends;

/// A bit for each interrupt.
type Bits = [AtomicU64; PAGE_SIZE / 8];

static PAGE: Once<Option<&'static Bits>> = Once::new();

/// Whether the hypervisor waits for the end of an interrupt right now; `None` if it does not say.
pub(crate) fn waits(pirq: u32) -> Option<bool> {
    let bits = (*PAGE.call_once(share))?;
    let word = bits.get(usize::try_from(pirq / 64).ok()?)?;
    Some(word.load(Ordering::Acquire) >> (pirq % 64) & 1 != 0)
}

/// Gives the hypervisor a page to note it in, for ever.
fn share() -> Option<&'static Bits> {
    let page = Frame::new().ok()?.into_page();
    let mut argument = PirqEoiGmfn { gmfn: tables::machine(page).ok()?.0 };
    let bits: *const Bits = pointer(tables::home(page));
    // SAFETY: the page was given up, and is atomics from here on.
    let request = unsafe { note_ends(&mut argument) };
    if perform(&Machine, &PIRQ_EOI_GMFN, &request).is_err() {
        // SAFETY: the page was just a frame's, and nobody else has it.
        drop(unsafe { Frame::from_page(page) });
        return None;
    }
    // SAFETY: the page is at its home and belongs to nobody else, and any bytes are atomics.
    Some(unsafe { &*bits })
}
