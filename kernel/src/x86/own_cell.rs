//! A place that one CPU alone uses.

use core::cell::Cell;

/// Room for a value that belongs to one CPU, in memory that others can see.
pub(super) struct OwnCell<T>(Cell<Option<T>>);

// SAFETY: `take` and `put` are for the owning CPU alone, as their callers promise; others never touch
// the value. It may be put by one CPU and taken by another only before the second one runs.
unsafe impl<T: Send> Sync for OwnCell<T> {}

impl<T> OwnCell<T> {
    pub(super) const fn new() -> Self {
        Self(Cell::new(None))
    }

    /// Takes the value out.
    ///
    /// # Safety
    ///
    /// Only on the CPU that owns the cell.
    pub(super) unsafe fn take(&self) -> Option<T> {
        self.0.take()
    }

    /// Puts a value in.
    ///
    /// # Safety
    ///
    /// Only on the CPU that owns the cell.
    pub(super) unsafe fn put(&self, value: T) {
        self.0.set(Some(value));
    }
}
