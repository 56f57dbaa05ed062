//! The entries of this guest's table: which are free, and which of them are still in use.

use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::grant::{EntryState, RESERVED_ENTRIES};
use hypercall_abi::types::{DomId, GrantRef, Mfn, Pfn};
use spin::Mutex;

use crate::grant::GrantError;
use crate::paging::Access;

/// Behind the last free entry.
const NONE: u64 = u64::MAX;
/// In a note: the entry is in quarantine, and so is the page whose number is below.
const PARKED: u64 = 1 << 63;

/// A table. An entry is one word (flags, domain, frame), so that it is written and taken back whole.
///
/// What this guest knows of an entry is in its note, never in the table, which others write: the
/// next free entry, or the page in quarantine.
#[derive(Debug)]
pub(crate) struct Entries<'a> {
    shared: &'a [AtomicU64],
    notes: &'a [AtomicU64],
    /// The first free entry, or [`NONE`].
    free: Mutex<u64>,
}

impl<'a> Entries<'a> {
    /// The table `shared`, but for the reserved entries, with as many `notes`.
    pub(crate) fn new(shared: &'a [AtomicU64], notes: &'a [AtomicU64]) -> Self {
        let end = shared.len().min(notes.len()) as u64;
        let first = u64::from(RESERVED_ENTRIES);
        for (index, note) in (0..end).zip(notes) {
            note.store(if index + 1 < end { index + 1 } else { NONE }, Ordering::Relaxed);
        }
        Self { shared, notes, free: Mutex::new(if first < end { first } else { NONE }) }
    }

    /// Grants a frame to a domain.
    pub(crate) fn grant(
        &self,
        domain: DomId,
        frame: Mfn,
        access: Access,
    ) -> Result<GrantRef, GrantError> {
        let frame = u32::try_from(frame.0).map_err(|_| GrantError::Unreachable)?;
        let reference = self.take().ok_or(GrantError::Exhausted)?;
        let writable = access.contains(Access::WRITE);
        let limit = if writable { EntryState::empty() } else { EntryState::READONLY };
        let state = EntryState::PERMIT_ACCESS.union(limit).bits();
        let entry = u64::from(state) | u64::from(domain.0) << 16 | u64::from(frame) << 32;
        if let Some(place) = self.at(self.shared, reference) {
            // What was written to the page before is there when the peer sees the entry.
            place.store(entry, Ordering::Release);
        }
        Ok(reference)
    }

    /// Whether the peer maps the page or copies from or to it now.
    pub(crate) fn is_used(&self, reference: GrantRef) -> bool {
        let entry = self.at(self.shared, reference);
        entry.is_some_and(|entry| in_use(entry.load(Ordering::Acquire)))
    }

    /// Ends a grant and frees its entry, unless the peer uses the page: then nothing changes.
    pub(crate) fn revoke(&self, reference: GrantRef) -> bool {
        let Some(entry) = self.at(self.shared, reference) else { return false };
        // The hypervisor sets the bits of use in the same word, so it is used or gone, not both.
        let unused = |entry| if in_use(entry) { None } else { Some(0) };
        if entry.fetch_update(Ordering::AcqRel, Ordering::Acquire, unused).is_err() {
            return false;
        }
        let mut free = self.free.lock();
        if let Some(note) = self.at(self.notes, reference) {
            note.store(*free, Ordering::Relaxed);
            *free = reference.0.into();
        }
        true
    }

    /// Takes a page from the peer for a while, unless it uses it: then nothing changes. What the
    /// entry was comes back for [`Entries::resume`].
    pub(crate) fn suspend(&self, reference: GrantRef) -> Option<u64> {
        let unused = |entry| if in_use(entry) { None } else { Some(0) };
        let entry = self.at(self.shared, reference)?;
        entry.fetch_update(Ordering::AcqRel, Ordering::Acquire, unused).ok()
    }

    /// Grants a page again as it was before.
    pub(crate) fn resume(&self, reference: GrantRef, entry: u64) {
        if let Some(place) = self.at(self.shared, reference) {
            place.store(entry, Ordering::Release);
        }
    }

    /// Keeps a page whose grant is to end, and could not, until [`Entries::sweep`] finds it unused.
    pub(crate) fn park(&self, reference: GrantRef, page: Pfn) {
        if let Some(note) = self.at(self.notes, reference) {
            note.store(PARKED | page.0, Ordering::Release);
        }
    }

    /// Ends all parked grants that the peer no longer uses, and gives their pages to `give`. Returns
    /// how many are left.
    pub(crate) fn sweep(&self, mut give: impl FnMut(Pfn)) -> usize {
        let mut left = 0;
        for (index, note) in (0..).zip(self.notes) {
            let parked = |note| if is_parked(note) { Some(0) } else { None };
            // Whoever takes the note may end the grant.
            let Ok(taken) = note.fetch_update(Ordering::AcqRel, Ordering::Acquire, parked) else {
                continue;
            };
            if self.revoke(GrantRef(index)) {
                give(Pfn(taken & !PARKED));
            } else {
                note.store(taken, Ordering::Release);
                left += 1;
            }
        }
        left
    }

    fn take(&self) -> Option<GrantRef> {
        let mut free = self.free.lock();
        let reference = GrantRef(u32::try_from(*free).ok()?);
        *free = self.at(self.notes, reference)?.swap(0, Ordering::Relaxed);
        Some(reference)
    }

    fn at(&self, words: &'a [AtomicU64], reference: GrantRef) -> Option<&'a AtomicU64> {
        words.get(usize::try_from(reference.0).ok()?)
    }
}

const fn is_parked(note: u64) -> bool {
    note & PARKED != 0 && note != NONE
}

const fn in_use(entry: u64) -> bool {
    entry & EntryState::READING.union(EntryState::WRITING).bits() as u64 != 0
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::vec::Vec;

    use hypercall_abi::types::{DomId, GrantRef, Mfn, Pfn};

    use super::Entries;
    use crate::grant::GrantError;
    use crate::paging::Access;

    const PEER: DomId = DomId(7);

    fn words() -> Vec<AtomicU64> {
        (0..32).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn an_entry_says_who_may_use_which_frame_how() {
        let (shared, notes) = (words(), words());
        let entries = Entries::new(&shared, &notes);
        let first = entries.grant(PEER, Mfn(0x1234), Access::WRITE).unwrap();
        let second = entries.grant(DomId(0), Mfn(0xffff_ffff), Access::empty()).unwrap();
        assert_eq!((first, second), (GrantRef(8), GrantRef(9)), "0 to 7 are reserved");
        assert_eq!(shared[8].load(Relaxed), 0x0000_1234_0007_0001);
        assert_eq!(shared[9].load(Relaxed), 0xffff_ffff_0000_0005);
        let far = entries.grant(PEER, Mfn(1 << 32), Access::WRITE);
        assert_eq!(far, Err(GrantError::Unreachable));
        assert!(shared[..8].iter().all(|entry| entry.load(Relaxed) == 0));
    }

    #[test]
    fn an_entry_is_used_by_one_grant_at_a_time() {
        let (shared, notes) = (words(), words());
        let entries = Entries::new(&shared, &notes);
        let grant = || entries.grant(PEER, Mfn(1), Access::WRITE);
        let all: Vec<_> = core::iter::from_fn(|| grant().ok()).collect();
        assert_eq!(all, (8..32).map(GrantRef).collect::<Vec<_>>());
        assert_eq!(grant(), Err(GrantError::Exhausted));
        assert!(entries.revoke(GrantRef(20)));
        assert_eq!(shared[20].load(Relaxed), 0);
        assert_eq!((grant(), grant()), (Ok(GrantRef(20)), Err(GrantError::Exhausted)));
    }

    #[test]
    fn a_grant_in_use_does_not_end_and_its_page_waits() {
        let (shared, notes) = (words(), words());
        let entries = Entries::new(&shared, &notes);
        for bits in [8, 16, 24] {
            let reference = entries.grant(PEER, Mfn(1), Access::WRITE).unwrap();
            let entry = &shared[reference.0 as usize];
            entry.fetch_or(bits, Relaxed);
            assert!(entries.is_used(reference) && !entries.revoke(reference));
            assert_eq!(entry.load(Relaxed) & 0xff, bits | 1);
            entries.park(reference, Pfn(0x77));
            assert_eq!(entries.sweep(|_| panic!("given while in use")), 1);
            assert!(entries.grant(PEER, Mfn(1), Access::WRITE).unwrap() != reference);
            entry.fetch_and(!bits, Relaxed);
            let mut given = Vec::new();
            assert_eq!(entries.sweep(|page| given.push(page)), 0);
            assert_eq!((given, entry.load(Relaxed)), (std::vec![Pfn(0x77)], 0));
            assert_eq!(entries.sweep(|_| panic!("given twice")), 0);
        }
    }

    #[test]
    fn a_page_is_taken_for_a_while_unless_it_is_used() {
        let (shared, notes) = (words(), words());
        let entries = Entries::new(&shared, &notes);
        let reference = entries.grant(PEER, Mfn(5), Access::WRITE).unwrap();
        let entry = &shared[reference.0 as usize];
        for bits in [8, 16] {
            entry.fetch_or(bits, Relaxed);
            assert_eq!(entries.suspend(reference), None);
            entry.fetch_and(!bits, Relaxed);
        }
        let was = entries.suspend(reference).unwrap();
        assert_eq!((was, entry.load(Relaxed)), (0x0000_0005_0007_0001, 0));
        // It is nobody else's meanwhile.
        assert!(entries.grant(PEER, Mfn(6), Access::WRITE).unwrap() != reference);
        entries.resume(reference, was);
        assert_eq!(entry.load(Relaxed), was);
        assert_eq!(entries.suspend(GrantRef(99)), None);
    }

    #[test]
    fn what_others_write_to_the_table_moves_no_page() {
        let (shared, notes) = (words(), words());
        let entries = Entries::new(&shared, &notes);
        let reference = entries.grant(PEER, Mfn(1), Access::WRITE).unwrap();
        shared.iter().for_each(|entry| entry.store(u64::MAX, Relaxed));
        entries.park(reference, Pfn(3));
        assert_eq!(entries.sweep(|_| panic!("in use")), 1);
        shared.iter().for_each(|entry| entry.store(0xffff_ffff_0000_0001, Relaxed));
        let mut given = Vec::new();
        assert_eq!(entries.sweep(|page| given.push(page)), 0);
        assert_eq!(given, [Pfn(3)]);
    }
}
