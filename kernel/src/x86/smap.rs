//! Supervisor-mode access prevention: ring 0 can touch guest pages only where it says so.
//!
//! The instructions that say so exist only on CPUs with the feature. The places where they belong
//! hold a three-byte no-op until [`arm`] replaces it, once, before any guest runs.

use super::layout::{IMAGE_BASE, pointer};
use super::{cpu, phys};

const STAC: [u8; 3] = [0x0f, 0x01, 0xcb];
const CLAC: [u8; 3] = [0x0f, 0x01, 0xca];
/// `nop dword ptr [rax]`: what the places hold before.
const NOTHING: [u8; 3] = [0x0f, 0x1f, 0x00];

unsafe extern "C" {
    static vector_clac: u8;
    static copy_stac: u8;
    static copy_clac: u8;
}

/// Puts the instructions in their places, where the CPU has them.
pub(crate) fn arm() {
    if cpu::features().smap {
        patch(&raw const vector_clac, CLAC);
        patch(&raw const copy_stac, STAC);
        patch(&raw const copy_clac, CLAC);
    }
}

/// Writes an instruction into the image's text, which is read-only where it is executed.
fn patch(place: *const u8, instruction: [u8; 3]) {
    // Hidden from the compiler: an address computed from that of a constant would be taken for one
    // within it, and the write for one that can't happen.
    let physical = core::hint::black_box(place.addr() as u64) - IMAGE_BASE;
    let text = core::ptr::with_exposed_provenance_mut::<[u8; 3]>(pointer(phys::direct(physical)));
    // SAFETY: a place in the text, mapped writable by the direct map; nobody executes it yet.
    let before = unsafe { text.read_volatile() };
    assert!(before == NOTHING, "not a place for an instruction: {before:x?}");
    // SAFETY: as above.
    unsafe { text.write_volatile(instruction) };
}
