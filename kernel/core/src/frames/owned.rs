//! Which frames a domain has: a list for each domain, with its links beside the frame table.
//!
//! A frame is in its owner's list from the moment it is his until it is free, or until whoever ends
//! the domain has done with it. The lists are only for that: who asks whose a frame is looks at the
//! frame.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use hypercall_abi::types::{DomId, Mfn};

use crate::lock::Lock;
use crate::platform::Platform;

/// Lists with one lock: those of domains whose numbers differ by so many.
const LOCKS: usize = 64;
/// [`Link::before`] of the first of a list.
const FIRST: u32 = u32::MAX;

/// A frame's place in the list of its owner. Zero is a frame that is in no list.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Link {
    /// The next frame's number plus 1; 0: it is the last.
    next: AtomicU32,
    /// The number plus 1 of the one before, or [`FIRST`]; 0: it is in no list.
    before: AtomicU32,
}

/// All lists. Links and heads change under the lock of the owner.
#[derive(Debug)]
pub(super) struct Lists {
    links: &'static [Link],
    /// By domain: the first frame's number plus 1; 0: none.
    heads: &'static [AtomicU32],
    locks: [Lock<()>; LOCKS],
}

impl Lists {
    /// Empty lists; both slices are zeroed.
    pub(super) const fn new(links: &'static [Link], heads: &'static [AtomicU32]) -> Self {
        Self { links, heads, locks: [const { Lock::new(()) }; LOCKS] }
    }

    /// Enters a frame that is in no list.
    pub(super) fn enter(&self, platform: &impl Platform, owner: DomId, mfn: Mfn) {
        let (Some((head, lock)), Some(link)) = (self.head(owner), self.link(mfn)) else { return };
        let _held = lock.lock(platform);
        let name = name(mfn);
        let next = head.load(Relaxed);
        link.next.store(next, Relaxed);
        link.before.store(FIRST, Relaxed);
        if let Some(next) = self.named(next) {
            next.before.store(name, Relaxed);
        }
        head.store(name, Relaxed);
    }

    /// Takes a frame out, if it is in the list. The caller has a reference, or the frame's last one
    /// went: so it is in no other.
    pub(super) fn leave(&self, platform: &impl Platform, owner: DomId, mfn: Mfn) {
        let (Some((head, lock)), Some(link)) = (self.head(owner), self.link(mfn)) else { return };
        if link.before.load(Relaxed) == 0 {
            return;
        }
        let _held = lock.lock(platform);
        self.unlink(head, link);
    }

    /// Takes the first frame out, if it `may` go: that is asked while nobody else can take it out.
    pub(super) fn leave_first_if(
        &self,
        platform: &impl Platform,
        owner: DomId,
        may: impl FnOnce(Mfn) -> bool,
    ) -> Option<Mfn> {
        let (head, lock) = self.head(owner)?;
        let _held = lock.lock(platform);
        let name = head.load(Relaxed);
        let first = Mfn(name.checked_sub(1)?.into());
        if !may(first) {
            return None;
        }
        self.unlink(head, self.link(first)?);
        Some(first)
    }

    /// Takes a link out, under its list's lock, if it is still there.
    fn unlink(&self, head: &AtomicU32, link: &Link) {
        let (next, before) = (link.next.load(Relaxed), link.before.load(Relaxed));
        if before == 0 {
            return;
        }
        link.next.store(0, Relaxed);
        link.before.store(0, Relaxed);
        match self.named(before) {
            Some(before) => before.next.store(next, Relaxed),
            None => head.store(next, Relaxed),
        }
        if let Some(next) = self.named(next) {
            next.before.store(before, Relaxed);
        }
    }

    /// The first frame at this moment.
    pub(super) fn first(&self, owner: DomId) -> Option<Mfn> {
        let (head, _) = self.head(owner)?;
        head.load(Relaxed).checked_sub(1).map(|mfn| Mfn(mfn.into()))
    }

    /// How many there are, if nobody changes the list.
    pub(super) fn count(&self, owner: DomId) -> u64 {
        let next = |mfn: &Mfn| self.link(*mfn)?.next.load(Relaxed).checked_sub(1);
        core::iter::successors(self.first(owner), |mfn| next(mfn).map(|mfn| Mfn(mfn.into())))
            .take(self.links.len())
            .count() as u64
    }

    fn head(&self, owner: DomId) -> Option<(&AtomicU32, &Lock<()>)> {
        let at = usize::from(owner.0);
        Some((self.heads.get(at)?, self.locks.get(at % LOCKS)?))
    }

    fn link(&self, mfn: Mfn) -> Option<&Link> {
        self.links.get(usize::try_from(mfn.0).ok()?)
    }

    /// The link of the frame that another link names; none of 0 and [`FIRST`].
    fn named(&self, name: u32) -> Option<&Link> {
        self.link(Mfn(name.checked_sub(1).filter(|_| name != FIRST)?.into()))
    }
}

/// How a link names a frame. A machine has fewer frames than there are names: its direct map ends at
/// 4 TiB.
fn name(mfn: Mfn) -> u32 {
    u32::try_from(mfn.0).unwrap_or(0).wrapping_add(1)
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    use super::*;
    use crate::fake::Machine;

    /// Frames of two domains come and go in any order, and each list has exactly its own.
    #[test]
    fn lists_are_as_sets() {
        const FRAMES: usize = 24;
        let links: Vec<Link> = (0..FRAMES).map(|_| Link::default()).collect();
        let heads: Vec<AtomicU32> = (0..2).map(|_| AtomicU32::new(0)).collect();
        let lists = Lists::new(Box::leak(links.into()), Box::leak(heads.into()));
        let machine = Machine::new(1, 1);
        let mut sets = [BTreeSet::new(), BTreeSet::new()];
        let mut random = 1_u64;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
            let (mfn, owner) = (random >> 33 & 15, u16::from(random >> 40 & 1 != 0));
            let (frame, id) = (Mfn(mfn), DomId(owner));
            let other = sets[usize::from(1 - owner)].contains(&mfn);
            let own = &mut sets[usize::from(owner)];
            if own.remove(&mfn) {
                lists.leave(&machine, id, frame);
            } else if !other {
                own.insert(mfn);
                lists.enter(&machine, id, frame);
            }
            for (set, id) in sets.iter().zip([DomId(0), DomId(1)]) {
                assert_eq!(lists.count(id), set.len() as u64);
                assert!(lists.first(id).is_none_or(|first| set.contains(&first.0)));
            }
        }
        // Each list leads to all of its frames.
        for (set, id) in sets.iter_mut().zip([DomId(0), DomId(1)]) {
            assert_eq!(lists.leave_first_if(&machine, id, |_| false), None);
            while let Some(first) = lists.leave_first_if(&machine, id, |_| true) {
                assert!(set.remove(&first.0));
                // Once more does nothing.
                lists.leave(&machine, id, first);
            }
            assert!(set.is_empty());
        }
    }
}
