//! Physical memory through the direct map.

use core::sync::atomic::{AtomicU64, Ordering};

use super::layout::DIRECT_BASE;

/// End of what the boot page tables map.
pub(crate) const BOOT_MAPPED: u64 = 4 << 30;

/// Physical addresses below this may be reached; the boot page tables' 4 GiB at first.
static REACHABLE: AtomicU64 = AtomicU64::new(BOOT_MAPPED);

/// Tells this module that the direct map now ends at `end`.
pub(crate) fn set_reachable(end: u64) {
    REACHABLE.store(end, Ordering::Relaxed);
}

/// The direct-map address of a physical one.
pub(crate) const fn direct(physical: u64) -> u64 {
    DIRECT_BASE + physical
}

/// Bytes that firmware or boot loader left at `start`; `None` where the direct map does not reach.
///
/// Only for memory that nobody writes any more: tables of the firmware, and what the loader handed
/// over (which is never given to the page allocator).
pub(crate) fn left_behind(start: u64, length: u64) -> Option<&'static [u8]> {
    let end = start.checked_add(length)?;
    if start == 0 || end > REACHABLE.load(Ordering::Relaxed) {
        return None;
    }
    let pointer = direct(start) as *const u8;
    // SAFETY: mapped (checked above), never written (this function's contract), never unmapped.
    Some(unsafe { core::slice::from_raw_parts(pointer, usize::try_from(length).ok()?) })
}

/// Zeroes the whole pages `start..start + length`, which the caller owns: fresh from the allocator.
pub(crate) fn zero(start: u64, length: u64) {
    fill(start, length, 0);
}

/// Fills whole pages, as [`zero`] does, with the byte `value`.
pub(crate) fn fill(start: u64, length: u64, value: u8) {
    assert!(start + length <= REACHABLE.load(Ordering::Relaxed), "beyond the direct map");
    let length = usize::try_from(length).unwrap_or(0);
    // SAFETY: mapped (checked above), and by this function's contract nobody else's.
    unsafe { core::ptr::write_bytes(direct(start) as *mut u8, value, length) };
}

/// The words of a page that is used as a page table.
pub(crate) fn table(physical: u64) -> &'static [AtomicU64; 512] {
    assert!(physical & 0xfff == 0, "page tables are page-aligned");
    assert!(physical < REACHABLE.load(Ordering::Relaxed), "beyond the direct map");
    let pointer = direct(physical) as *const [AtomicU64; 512];
    // SAFETY: mapped, aligned, any content is valid for atomics; kernel tables are never freed.
    unsafe { &*pointer }
}

/// Little-endian integers in bytes that came from outside.
pub(crate) trait Fields {
    /// The bytes `at..at + N`, if there are that many.
    fn field<const N: usize>(&self, at: usize) -> Option<[u8; N]>;

    /// The byte at `at`.
    fn u8(&self, at: usize) -> Option<u8> {
        self.field::<1>(at).map(u8::from_le_bytes)
    }
    /// The 16-bit value at `at`.
    fn u16(&self, at: usize) -> Option<u16> {
        self.field(at).map(u16::from_le_bytes)
    }
    /// The 32-bit value at `at`.
    fn u32(&self, at: usize) -> Option<u32> {
        self.field(at).map(u32::from_le_bytes)
    }
    /// The 64-bit value at `at`.
    fn u64(&self, at: usize) -> Option<u64> {
        self.field(at).map(u64::from_le_bytes)
    }
}

impl Fields for [u8] {
    fn field<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..at.checked_add(N)?)?.try_into().ok()
    }
}
