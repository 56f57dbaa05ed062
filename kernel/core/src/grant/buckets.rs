//! Tables that grow by buckets, and cost nothing but a few words before the first is needed.

use spin::Once;

use crate::platform::{NoMemory, Platform};

/// Buckets that are found through one shelf: its pointers fill half a frame.
const SHELF: usize = 128;

type Place<P, T> = Once<<P as Platform>::Arc<T>>;

struct Shelf<P: Platform, T: Send + Sync + 'static> {
    buckets: [Place<P, T>; SHELF],
}

/// Up to `SHELVES * 128` buckets. They stay until all goes. The first needs no shelf: many a domain
/// never needs another.
pub(super) struct Buckets<P: Platform, T: Send + Sync + 'static, const SHELVES: usize> {
    first: Place<P, T>,
    shelves: [Place<P, Shelf<P, T>>; SHELVES],
}

impl<P: Platform, T: Send + Sync + 'static, const SHELVES: usize> Buckets<P, T, SHELVES> {
    pub(super) const fn new() -> Self {
        Self { first: Once::new(), shelves: [const { Once::new() }; SHELVES] }
    }

    /// The bucket with this number, if it was needed before.
    #[inline]
    pub(super) fn get(&self, number: usize) -> Option<&T> {
        if number == 0 {
            return self.first.get().map(|bucket| &**bucket);
        }
        let shelf = self.shelves.get(number / SHELF)?.get()?;
        shelf.buckets.get(number % SHELF)?.get().map(|bucket| &**bucket)
    }

    /// The bucket with this number, which may be made for it. To be called without a lock held.
    ///
    /// # Errors
    ///
    /// [`NoMemory`]; also if there can be no such bucket.
    #[inline]
    pub(super) fn make(
        &self,
        platform: &P,
        number: usize,
        new: impl FnOnce() -> T,
    ) -> Result<&T, NoMemory> {
        if let Some(bucket) = self.get(number) {
            return Ok(bucket);
        }
        if number == 0 {
            return filled(platform, &self.first, new);
        }
        let shelf = self.shelves.get(number / SHELF).ok_or(NoMemory)?;
        let shelf = filled(platform, shelf, || Shelf { buckets: [const { Once::new() }; SHELF] })?;
        let bucket = shelf.buckets.get(number % SHELF).ok_or(NoMemory)?;
        filled(platform, bucket, new)
    }
}

/// What is at a place. Allocation may wait for other CPUs, so it comes first; nobody waits long for a
/// place that is being filled then. Who comes second throws away what it has allocated.
fn filled<'a, P: Platform, T: Send + Sync + 'static>(
    platform: &P,
    place: &'a Place<P, T>,
    new: impl FnOnce() -> T,
) -> Result<&'a T, NoMemory> {
    if place.get().is_none() {
        let made = platform.arc_with(new)?;
        place.call_once(|| made);
    }
    place.get().map(|there| &**there).ok_or(NoMemory)
}
