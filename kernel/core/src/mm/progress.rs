//! How far a long operation may go before the guest is interruptible again.

use super::refusal::Refusal;

/// Entries that one hypercall may look at before it lets interrupts and other vCPUs in. Whoever
/// needs more is continued. A table of level 1 is always done as a whole.
const ENTRIES_PER_SLICE: u32 = 8 * 512;

/// Work that is left to do in this slice. Unit: page-table entries.
#[derive(Debug)]
pub struct Budget(u32);

impl Budget {
    /// A fresh slice.
    #[must_use]
    pub const fn new() -> Self {
        Self(ENTRIES_PER_SLICE)
    }

    /// A slice of another size.
    #[must_use]
    pub const fn of(entries: u32) -> Self {
        Self(entries)
    }

    /// A slice without an end, for when no guest can be waiting: the building of a domain.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self(u32::MAX)
    }

    /// Uses up some of it.
    pub const fn charge(&mut self, entries: u32) {
        if self.0 != u32::MAX {
            self.0 = self.0.saturating_sub(entries);
        }
    }

    /// Whether it is used up.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        self.0 == 0
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}

/// Why an operation stopped before its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// It is refused; nothing has changed.
    Refused(Refusal),
    /// The slice is used up. To be asked again, with the same arguments; what was done is kept.
    Again,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What became of a hypercall that may be continued.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Progress {
    /// It is done; the value for `rax`.
    Done(u64),
    /// So many of its parts are done. It must be executed again for the others, with its arguments
    /// changed accordingly, after interrupts and other vCPUs had their chance.
    Again {
        /// Parts done, of those asked for this time.
        done: u64,
    },
    /// It is refused after so many of its parts were done.
    Refused {
        /// Parts done, of those asked for this time.
        done: u64,
        /// Why the next one is refused.
        refusal: Refusal,
    },
}
