//! Carries a plan out: writes image, ramdisk, frame list, page tables and start-info page.
//!
//! [`build`] does everything when the sources lie in memory, as ring 0 has them. A builder that
//! streams brings image and ramdisk to the frames of [`Plan::image`] and [`Plan::ramdisk`] by [`copy`],
//! and has the rest written by [`describe`].
use hypercall_abi::types::{Mfn, Pfn};
use zerocopy::IntoBytes;

use super::hypercall_page::{STUB_COUNT, STUB_LEN, stub};
use super::image::Image;
use super::plan::{Connections, Kind, Plan};

/// Bytes of a page.
const PAGE: usize = 4096;
/// Entries of the frame list that are gathered before they are written.
const BATCH: usize = 64;
/// Position of the frame number in a page-table entry.
const ENTRY_SHIFT: u32 = 12;

/// The memory of the domain to be built.
///
/// It has [`Plan::nr_pages`] frames, all filled with zeros at the beginning; only frames below that
/// number are ever named.
pub trait Target {
    /// Why an operation failed. A target that can't fail says [`core::convert::Infallible`].
    type Error;

    /// The machine's number of a frame.
    fn machine_frame(&self, pfn: Pfn) -> Mfn;

    /// Writes `bytes` into a frame, from `offset` on; they end within the frame.
    ///
    /// # Errors
    ///
    /// The target's own.
    fn write(&mut self, pfn: Pfn, offset: usize, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Stores one entry of a page table. `slot` is below 512.
    ///
    /// # Errors
    ///
    /// The target's own.
    fn set_entry(&mut self, table: Pfn, slot: u16, entry: u64) -> Result<(), Self::Error>;
}

/// What a domain is filled with.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// The file that the image's facts were read from.
    pub image: &'a [u8],
    /// The ramdisk; as long as the plan says.
    pub ramdisk: &'a [u8],
    /// The kernel's command line; cut to [`COMMAND_LINE_MAX`](super::plan::COMMAND_LINE_MAX).
    pub command_line: &'a [u8],
    /// Machine frame of the shared-info page.
    pub shared_info: Mfn,
    /// Store, console and screen.
    pub connections: Connections,
}

/// Fills a domain's memory as `plan` says.
///
/// What remains for the caller: give the page tables their types and pin the root, fill the
/// hypervisor's slots of the root, enter every frame into the machine-to-physical table, and set up
/// the virtual CPU with [`Plan::entry`], [`Plan::stack_top`] and the start-info page's address.
///
/// # Errors
///
/// The first error of the target. What was written until then stays.
pub fn build<T: Target>(
    plan: &Plan,
    image: &Image,
    contents: &Contents<'_>,
    target: &mut T,
) -> Result<(), T::Error> {
    for segment in image.segments(contents.image) {
        let bytes = contents.image.get(segment.file).unwrap_or_default();
        copy(plan, segment.offset, bytes, target)?;
    }
    if let Some(part) = plan.ramdisk {
        copy(plan, address(part.pfn), contents.ramdisk, target)?;
    }
    describe(plan, contents, target)
}

/// Writes all that tells a domain of itself: hypercall stubs, list of frames, page tables, and the
/// page it starts with. `contents` need not have image and ramdisk.
///
/// # Errors
///
/// The first error of the target.
pub fn describe<T: Target>(
    plan: &Plan,
    contents: &Contents<'_>,
    target: &mut T,
) -> Result<(), T::Error> {
    hypercall_page(plan, target)?;
    frame_list(plan, target)?;
    page_tables(plan, target)?;
    let start_info = plan.start_info(
        contents.shared_info,
        &contents.connections,
        contents.command_line,
        |pfn| target.machine_frame(pfn),
    );
    let page = plan.start_info.pfn;
    target.write(page, 0, start_info.as_bytes())?;
    match (plan.kind, contents.connections.video) {
        (Kind::Initial, Some(video)) => {
            target.write(page, size_of_val(&start_info), video.as_bytes())
        }
        _ => Ok(()),
    }
}

/// Writes the list of machine frames.
///
/// # Errors
///
/// The first error of the target.
pub fn frame_list<T: Target>(plan: &Plan, target: &mut T) -> Result<(), T::Error> {
    let mut at = address(plan.p2m.pfn);
    let mut pfns = (0..plan.nr_pages).map(Pfn);
    let mut batch = [0_u64; BATCH];
    loop {
        let mut filled = 0_usize;
        for (entry, pfn) in batch.iter_mut().zip(&mut pfns) {
            *entry = target.machine_frame(pfn).0;
            filled = filled.saturating_add(1);
        }
        let Some(filled) = batch.get(..filled).filter(|filled| !filled.is_empty()) else { break };
        copy(plan, at, filled.as_bytes(), target)?;
        at = at.saturating_add(len(filled.as_bytes()));
    }
    Ok(())
}

/// Writes every page table.
///
/// # Errors
///
/// The first error of the target.
pub fn page_tables<T: Target>(plan: &Plan, target: &mut T) -> Result<(), T::Error> {
    for table in plan.page_tables() {
        for entry in table.entries() {
            let frame = target.machine_frame(entry.pfn).0 << ENTRY_SHIFT;
            target.set_entry(table.pfn(), entry.slot, frame | entry.flags)?;
        }
    }
    Ok(())
}

/// Writes the hypercall stubs, for a guest that asked for them.
///
/// # Errors
///
/// The first error of the target.
pub fn hypercall_page<T: Target>(plan: &Plan, target: &mut T) -> Result<(), T::Error> {
    let Some(page) = plan.hypercall_page.and_then(|va| plan.frame_at(va)) else {
        return Ok(());
    };
    for number in 0..STUB_COUNT {
        let offset = usize::from(number).saturating_mul(STUB_LEN);
        target.write(page, offset, &stub(number))?;
    }
    Ok(())
}

/// Writes `bytes` from pseudo-physical address `at` on, a frame at a time. Bytes that would lie
/// beyond the domain's memory are not written: a plan made for these contents has none.
///
/// # Errors
///
/// The first error of the target.
pub fn copy<T: Target>(
    plan: &Plan,
    at: u64,
    mut bytes: &[u8],
    target: &mut T,
) -> Result<(), T::Error> {
    let mut pfn = Pfn(at >> ENTRY_SHIFT);
    let mut offset = usize::try_from(at).unwrap_or(0) % PAGE;
    while !bytes.is_empty() && pfn.0 < plan.nr_pages {
        let room = PAGE.saturating_sub(offset).min(bytes.len());
        let (now, rest) = bytes.split_at(room);
        target.write(pfn, offset, now)?;
        bytes = rest;
        offset = 0;
        pfn = Pfn(pfn.0.saturating_add(1));
    }
    Ok(())
}

/// Pseudo-physical address of a frame.
#[must_use]
pub const fn address(pfn: Pfn) -> u64 {
    pfn.0 << ENTRY_SHIFT
}

fn len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
