//! The list of a domain's frames: for each page of the guest, the machine frame behind it.

use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::types::{Mfn, Pfn};

/// The entry of a page without a frame.
const NO_FRAME: Mfn = Mfn(u64::MAX);

/// The guest's list of frames, which the loader made and the guest keeps up to date.
///
/// Entries are atomic: a page may be exchanged on one virtual CPU while another looks it up.
///
/// # Examples
///
/// ```ignore-none
/// # use pv_guest_sdk::{abi::types::{Mfn, Pfn}, frames::FrameList};
/// use core::sync::atomic::AtomicU64;
///
/// let entries = [AtomicU64::new(0x1f2), AtomicU64::new(0x3a0)];
/// let list = FrameList::new(&entries);
/// assert_eq!(list.get(Pfn(1)), Some(Mfn(0x3a0)));
/// assert_eq!((list.len(), list.is_empty(), list.get(Pfn(2))), (2, false, None));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FrameList<'a>(&'a [AtomicU64]);

impl<'a> FrameList<'a> {
    /// A list over the given entries; entry `n` holds the machine frame of page `n`.
    #[must_use]
    pub const fn new(entries: &'a [AtomicU64]) -> Self {
        Self(entries)
    }

    /// The machine frame behind a page, if the page exists and has one.
    #[must_use]
    pub fn get(&self, pfn: Pfn) -> Option<Mfn> {
        let entry = self.0.get(usize::try_from(pfn.0).ok()?)?;
        Some(Mfn(entry.load(Ordering::Relaxed))).filter(|&mfn| mfn != NO_FRAME)
    }

    /// Notes the machine frame that is behind a page now.
    #[cfg(target_os = "none")]
    pub(crate) fn set(&self, pfn: Pfn, frame: Mfn) {
        let entry = usize::try_from(pfn.0).ok().and_then(|number| self.0.get(number));
        if let Some(entry) = entry {
            entry.store(frame.0, Ordering::Relaxed);
        }
    }

    /// How many pages the list has room for.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the list has no entry at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
