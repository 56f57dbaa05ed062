//! The arithmetic of a plan: one pass over the mapped range, then the frames after it.
use hypercall_abi::layout::HYPERVISOR_VIRT_END;
use hypercall_abi::types::Pfn;

use super::tables::Span;
use super::{Extent, Kind, PAGE, Plan, PlanError, Request};
use crate::image::Image;

/// The mapped range ends at a multiple of this many bytes.
const END_ALIGN: u64 = 4 << 20;
/// Unused bytes behind the stack that a guest can count on.
const END_SLACK: u64 = 512 << 10;
/// End of the lower canonical half.
const LOWER_HALF_END: u64 = 0x0000_8000_0000_0000;

/// A plan that may need more memory than there is, and how many frames it needs.
pub(super) fn lay_out(image: &Image, request: &Request) -> Result<(Plan, u64), PlanError> {
    let list_len = request.nr_pages.saturating_mul(8);
    let parts = MappedParts::new(image, request, list_len)?;
    let mut after = After::new(request.kind, &parts.mapped, parts.ramdisk.as_ref());
    let ramdisk = match parts.ramdisk {
        None if request.ramdisk_len > 0 => Some(after.take(None, request.ramdisk_len)),
        mapped => mapped,
    };
    let first_p2m = after.next;
    let (p2m, p2m_tables) = match (parts.list, image.p2m) {
        (Some(list), _) => (list, Extent { va: None, pfn: first_p2m, pages: 0 }),
        (None, va) => after.list(&parts.mapped, va.unwrap_or_default(), list_len)?,
    };
    let stack_top = parts.stack.va.and_then(|va| va.checked_add(PAGE));
    let plan = Plan {
        kind: request.kind,
        nr_pages: request.nr_pages,
        mapped: parts.mapped,
        image: parts.image,
        ramdisk,
        ramdisk_len: request.ramdisk_len,
        p2m,
        p2m_tables,
        start_info: parts.start_info,
        store: parts.store,
        console: parts.console,
        tables: parts.tables,
        stack: parts.stack,
        entry: image.entry,
        stack_top: stack_top.ok_or(PlanError::Wraps { base: image.base })?,
        hypercall_page: image.hypercall_page,
        first_p2m,
    };
    Ok((plan, after.next.0))
}

/// The parts that lie in the mapped range, in the order in which they lie there.
struct MappedParts {
    image: Extent,
    ramdisk: Option<Extent>,
    list: Option<Extent>,
    start_info: Extent,
    store: Option<Extent>,
    console: Option<Extent>,
    tables: Extent,
    stack: Extent,
    /// All of them, the hole below the image and the slack at the end.
    mapped: Extent,
}

impl MappedParts {
    fn new(image: &Image, request: &Request, list_len: u64) -> Result<Self, PlanError> {
        let wraps = PlanError::Wraps { base: image.base };
        let hole = image.start.checked_sub(image.base).ok_or(wraps)? / PAGE;
        let image_len = image.end.checked_sub(image.start & !(PAGE - 1)).ok_or(wraps)?;
        let rings = request.kind == Kind::Toolstack;
        let ramdisk_mapped = request.ramdisk_len > 0 && !image.ramdisk_by_frame;

        let mut cursor = Cursor { base: image.base, page: hole };
        let image_part = cursor.take(image_len)?;
        let ramdisk = cursor.take_if(ramdisk_mapped, request.ramdisk_len)?;
        let list = cursor.take_if(image.p2m.is_none(), list_len)?;
        let start_info = cursor.take(PAGE)?;
        let store = cursor.take_if(rings, PAGE)?;
        let console = cursor.take_if(rings, PAGE)?;
        let (tables, stack, mapped) = cursor.finish()?;
        Ok(Self {
            image: image_part,
            ramdisk,
            list,
            start_info,
            store,
            console,
            tables,
            stack,
            mapped,
        })
    }
}

/// Hands out the pages of the mapped range in order.
struct Cursor {
    base: u64,
    /// Next page, counted from the base: its frame number too.
    page: u64,
}

impl Cursor {
    /// The next `bytes`, in whole pages.
    fn take(&mut self, bytes: u64) -> Result<Extent, PlanError> {
        let wraps = PlanError::Wraps { base: self.base };
        let (first, pages) = (self.page, bytes.div_ceil(PAGE));
        self.page = first.checked_add(pages).ok_or(wraps)?;
        let va = address(self.base, first).ok_or(wraps)?;
        address(self.base, self.page).ok_or(wraps)?;
        Ok(Extent { va: Some(va), pfn: Pfn(first), pages })
    }

    /// The next `bytes` if `wanted`.
    fn take_if(&mut self, wanted: bool, bytes: u64) -> Result<Option<Extent>, PlanError> {
        if wanted { self.take(bytes).map(Some) } else { Ok(None) }
    }

    /// Page tables, stack, and the whole range with the slack at its end.
    ///
    /// The tables' number depends on the end, the end on the tables' number. Each turn assumes the
    /// number that the last turn's end needs; it grows by one in 512, so a few turns suffice.
    fn finish(mut self) -> Result<(Extent, Extent, Extent), PlanError> {
        let wraps = PlanError::Wraps { base: self.base };
        let free = address(self.base, self.page).ok_or(wraps)?;
        let end_with = |tables: u64| {
            let used = tables.checked_add(1)?.checked_mul(PAGE)?.checked_add(END_SLACK)?;
            free.checked_add(used)?.checked_next_multiple_of(END_ALIGN)
        };
        let mut tables = 0;
        let end = loop {
            let end = end_with(tables).ok_or(wraps)?;
            allowed(self.base, end)?;
            tables = Span::new(self.base, end).table_count();
            if end_with(tables) == Some(end) {
                break end;
            }
        };
        let tables = self.take(tables.saturating_mul(PAGE))?;
        let stack = self.take(PAGE)?;
        let pages = end.saturating_sub(self.base) / PAGE;
        Ok((tables, stack, Extent { va: Some(self.base), pfn: Pfn(0), pages }))
    }
}

/// Hands out the frames behind the mapped range.
struct After {
    kind: Kind,
    next: Pfn,
}

impl After {
    /// For the initial domain the mapped range without the ramdisk is rounded up to a power of two,
    /// as Xen allocates it; the ramdisk's frames come on top.
    fn new(kind: Kind, mapped: &Extent, ramdisk: Option<&Extent>) -> Self {
        let extra = ramdisk.map_or(0, |ramdisk| ramdisk.pages);
        let chunk = mapped.pages.saturating_sub(extra);
        let next = match kind {
            // The range lies below 2^48, so its pages can be rounded up.
            Kind::Initial => chunk.next_power_of_two().saturating_add(extra),
            Kind::Toolstack => mapped.pages,
        };
        Self { kind, next: Pfn(next) }
    }

    fn take(&mut self, va: Option<u64>, bytes: u64) -> Extent {
        let part = Extent { va, pfn: self.next, pages: bytes.div_ceil(PAGE) };
        self.next = part.end();
        part
    }

    /// The list of frames at the address the guest wants, and the tables it needs.
    fn list(
        &mut self,
        mapped: &Extent,
        va: u64,
        bytes: u64,
    ) -> Result<(Extent, Extent), PlanError> {
        let base = mapped.va.unwrap_or_default();
        let end = address(va, bytes.div_ceil(PAGE)).ok_or(PlanError::Wraps { base: va })?;
        allowed(va, end)?;
        let mapped_end = address(base, mapped.pages).ok_or(PlanError::Wraps { base })?;
        if va < mapped_end && base < end {
            return Err(PlanError::ListOverlaps { va, start: base, end: mapped_end });
        }
        let tables = Span::new(va, end).new_tables(Span::new(base, mapped_end));
        let tables_len = tables.saturating_mul(PAGE);
        Ok(match self.kind {
            Kind::Initial => {
                let tables = self.take(None, tables_len);
                (self.take(Some(va), bytes), tables)
            }
            Kind::Toolstack => (self.take(Some(va), bytes), self.take(None, tables_len)),
        })
    }
}

/// Address of a page.
fn address(base: u64, page: u64) -> Option<u64> {
    base.checked_add(page.checked_mul(PAGE)?)
}

/// Refuses addresses that no guest can have: not canonical, or the hypervisor's.
fn allowed(start: u64, end: u64) -> Result<(), PlanError> {
    if end <= LOWER_HALF_END || start >= HYPERVISOR_VIRT_END {
        Ok(())
    } else {
        Err(PlanError::Forbidden { start, end })
    }
}
