//! Which frame of a new domain holds what, and where the guest finds it.
//!
//! Everything a guest is born with lies in one range of addresses that starts at the image's base
//! and frame 0, in this order: image, ramdisk (unless the guest takes it unmapped), list of machine
//! frames (unless the guest says where to map it), start-info page, store and console pages (not
//! for the initial domain), page tables, one page of stack. The range is mapped on to a 4 MiB
//! boundary with at least 512 KiB of unused pages behind the stack; all of it is backed by frames.
//! What lies outside of it (an unmapped ramdisk, a frame list at an address of the guest's choice
//! with the tables that map it) takes the frames after it.
//!
//! Numbers and orders are Xen's: the initial domain's as its own builder lays them out, the others'
//! as its toolstack does. One difference: a list of 512 pages and more is mapped in small pages
//! here, for the initial domain too.
mod error;
mod layout;
mod start_info;
mod tables;

use hypercall_abi::types::Pfn;

pub use self::error::PlanError;
pub use self::start_info::{COMMAND_LINE_MAX, Connections};
pub use self::tables::{Entry, Level, Table, Tables};
use crate::image::Image;
use layout::lay_out;

/// Bytes of a page.
const PAGE: u64 = 4096;
/// More frames than an address of 52 bits can number are a caller's mistake.
const MOST_PAGES: u64 = 1 << 40;

/// Which builder's habits a plan follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The domain that ring 0 builds: privileged, without store and console page. Its frames up to
    /// the end of the mapped range count as one power-of-two chunk, as Xen allocates them.
    Initial,
    /// A domain built by the control domain, with a store and a console page.
    Toolstack,
}

/// The sizes a plan is made for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Request {
    /// Whose habits.
    pub kind: Kind,
    /// Frames of 4 KiB the domain has at its start.
    pub nr_pages: u64,
    /// Bytes of the ramdisk; 0: none.
    pub ramdisk_len: u64,
}

/// Pages that follow each other in frame numbers, and in addresses where they are mapped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Extent {
    /// Address of the first page; `None`: not mapped.
    pub va: Option<u64>,
    /// First frame.
    pub pfn: Pfn,
    /// Number of pages.
    pub pages: u64,
}

impl Extent {
    /// One past the last frame.
    #[must_use]
    pub const fn end(&self) -> Pfn {
        Pfn(self.pfn.0.saturating_add(self.pages))
    }
}

/// Where everything goes. All extents lie below [`Plan::nr_pages`]; none overlaps another but
/// [`Plan::mapped`], which contains most of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Plan {
    /// Whose habits this follows.
    pub kind: Kind,
    /// Frames of the domain.
    pub nr_pages: u64,
    /// The range mapped at the image's base: frame 0 up to the 4 MiB boundary.
    pub mapped: Extent,
    /// The pages from the first segment's to the last one's.
    pub image: Extent,
    /// The ramdisk's pages.
    pub ramdisk: Option<Extent>,
    /// Bytes of the ramdisk.
    pub ramdisk_len: u64,
    /// The list of machine frames: `nr_pages` entries of 8 bytes.
    pub p2m: Extent,
    /// Tables that map nothing but the list; 0 pages where the list lies in the mapped range.
    pub p2m_tables: Extent,
    /// The start-info page.
    pub start_info: Extent,
    /// The store's ring page.
    pub store: Option<Extent>,
    /// The console's ring page.
    pub console: Option<Extent>,
    /// Page tables, the L4 first.
    pub tables: Extent,
    /// The boot stack.
    pub stack: Extent,
    /// Where the first virtual CPU starts.
    pub entry: u64,
    /// Its stack pointer: the end of the boot stack.
    pub stack_top: u64,
    /// The page to be filled with hypercall stubs.
    pub hypercall_page: Option<u64>,
    /// What the start-info page reports as `first_p2m_pfn`.
    first_p2m: Pfn,
}

impl Plan {
    /// Lays out a domain for `image`.
    ///
    /// # Errors
    ///
    /// [`PlanError`] when the domain's memory or its address space can't hold the parts; its
    /// `Display` says how much memory would do.
    pub fn new(image: &Image, request: &Request) -> Result<Self, PlanError> {
        if request.nr_pages > MOST_PAGES {
            return Err(PlanError::TooManyPages { pages: request.nr_pages });
        }
        if request.kind == Kind::Initial && !image.may_be_initial {
            return Err(PlanError::NotInitial);
        }
        let (plan, mut needed) = lay_out(image, request)?;
        if needed <= request.nr_pages {
            return plan.check_hypercall_page();
        }
        // More frames make the list of frames longer, by one page in 512: each turn adds
        // less than the one before, and the bound is never reached.
        for _ in 0..u64::BITS {
            let (_, more) = lay_out(image, &Request { nr_pages: needed, ..*request })?;
            if more <= needed {
                break;
            }
            needed = more;
        }
        Err(PlanError::TooLittleMemory {
            needed,
            pages: request.nr_pages,
            ramdisk_len: request.ramdisk_len,
        })
    }

    fn check_hypercall_page(self) -> Result<Self, PlanError> {
        match self.hypercall_page {
            Some(page) if self.frame_at(page).is_none() => {
                Err(PlanError::HypercallPageOutside { page })
            }
            _ => Ok(self),
        }
    }

    /// The frame behind an address of the mapped range.
    #[must_use]
    pub fn frame_at(&self, va: u64) -> Option<Pfn> {
        let page = va.checked_sub(self.mapped.va?)? / PAGE;
        (page < self.mapped.pages).then_some(Pfn(page))
    }
}
