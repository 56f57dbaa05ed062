//! The areas the loader left, as safe references.

use core::slice;
use core::sync::atomic::AtomicU64;

use hypercall_abi::start::{StartFlags, StartInfo};
use hypercall_abi::types::PAGE_SIZE;

use crate::boot::{BootError, BootInfo};
use crate::frames::FrameList;

/// Reads what the loader left, starting at the address of the start-of-day page.
///
/// # Errors
/// [`BootError`] if the page, the ramdisk or the list of frames lies where it cannot be.
///
/// # Safety
/// `start` must be what the loader left in `rsi`, and memory outside the image must be as the
/// loader left it: start-of-day page, ramdisk and list of frames stay mapped and are not written
/// (the list but atomically) for the rest of the program.
pub(super) unsafe fn boot_info(start: u64) -> Result<BootInfo<'static>, BootError> {
    if start == 0 || !start.is_multiple_of(PAGE_SIZE as u64) {
        return Err(BootError::Address(start));
    }
    let start: *const StartInfo = core::ptr::with_exposed_provenance(address(start)?);
    // SAFETY: the page is the guest's, mapped, not written by anybody any more, and any bytes are
    // a `StartInfo`.
    let start = unsafe { &*start };
    let ramdisk = if start.mod_len == 0
        || StartFlags::from_bits_retain(start.flags).contains(StartFlags::MOD_START_PFN)
    {
        // Absent, or named by its page number and not mapped.
        &[]
    } else {
        let (first, length) = area::<u8>(start.mod_start, start.mod_len)?;
        // SAFETY: the loader mapped these bytes for the guest and left them to it.
        unsafe { slice::from_raw_parts(first, length) }
    };
    let (first, length) = area::<AtomicU64>(start.mfn_list, start.nr_pages)?;
    // SAFETY: the loader mapped one entry per page for the guest; all access is atomic.
    let frames = unsafe { slice::from_raw_parts(first, length) };
    BootInfo::check(start, ramdisk, FrameList::new(frames))
}

/// Checks that `count` values of type `T` can lie at `start`: aligned, without running over the
/// end of the address space.
fn area<T>(start: u64, count: u64) -> Result<(*const T, usize), BootError> {
    let wrong = BootError::Area(start, count);
    let bytes = count.checked_mul(size_of::<T>() as u64).ok_or(wrong)?;
    let fits = start.checked_add(bytes).is_some() && isize::try_from(bytes).is_ok();
    if start == 0 || !start.is_multiple_of(align_of::<T>() as u64) || !fits {
        return Err(wrong);
    }
    let count = usize::try_from(count).map_err(|_| wrong)?;
    Ok((core::ptr::with_exposed_provenance(address(start)?), count))
}

fn address(value: u64) -> Result<usize, BootError> {
    usize::try_from(value).map_err(|_| BootError::Address(value))
}
