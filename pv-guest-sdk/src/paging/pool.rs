//! Which of a guest's pages are free.

use hypercall_abi::types::Pfn;

/// The end of the list of pages that were given back.
const NONE: u64 = u64::MAX;

/// Pages that nobody uses: those never used, from `next` to `end`, and a list of those that were
/// given back, each of which holds the number of the one after it.
#[derive(Debug)]
pub(crate) struct Pool {
    next: u64,
    end: u64,
    returned: u64,
    returned_count: u64,
}

impl Pool {
    /// Pages from `next` to before `end`.
    pub(crate) const fn new(next: Pfn, end: Pfn) -> Self {
        Self { next: next.0, end: end.0, returned: NONE, returned_count: 0 }
    }

    /// How many pages are free.
    pub(crate) const fn free(&self) -> u64 {
        self.end.saturating_sub(self.next) + self.returned_count
    }

    /// Takes a page; `follower` reads the number in a page that was given back.
    pub(crate) fn take(&mut self, follower: impl FnOnce(Pfn) -> u64) -> Option<Pfn> {
        if self.returned == NONE {
            return self.take_run(1);
        }
        let page = Pfn(self.returned);
        self.returned = follower(page);
        self.returned_count -= 1;
        Some(page)
    }

    /// Takes `count` pages in a row that were never used.
    pub(crate) fn take_run(&mut self, count: u64) -> Option<Pfn> {
        let after = self.next.checked_add(count).filter(|&after| after <= self.end)?;
        Some(Pfn(core::mem::replace(&mut self.next, after)))
    }

    /// Gives a page back; `keep` writes a number into it.
    pub(crate) fn give(&mut self, page: Pfn, keep: impl FnOnce(Pfn, u64)) {
        keep(page, self.returned);
        self.returned = page.0;
        self.returned_count += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::vec::Vec;

    use super::Pool;
    use hypercall_abi::types::Pfn;

    #[test]
    fn every_page_is_given_out_once_whatever_comes_back() {
        let mut pool = Pool::new(Pfn(3), Pfn(40));
        let mut memory: HashMap<Pfn, u64> = HashMap::new();
        let mut held: Vec<Pfn> = Vec::new();
        let mut random = 7_u32;
        for _ in 0..10_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if random >> 31 == 0 {
                if let Some(page) = pool.take(|page| memory[&page]) {
                    assert!((3..40).contains(&page.0) && !held.contains(&page), "{page:?}");
                    held.push(page);
                } else {
                    assert_eq!(held.len(), 37);
                }
            } else if !held.is_empty() {
                let page = held.swap_remove(random as usize % held.len());
                pool.give(page, |page, value| {
                    memory.insert(page, value);
                });
            }
            assert_eq!(pool.free() + held.len() as u64, 37);
        }
        assert_eq!(held.iter().collect::<HashSet<_>>().len(), held.len());
    }

    #[test]
    fn a_run_is_of_pages_never_used() {
        let mut pool = Pool::new(Pfn(0), Pfn(10));
        assert_eq!(pool.take(|_| unreachable!()), Some(Pfn(0)));
        assert_eq!(pool.take_run(4), Some(Pfn(1)));
        assert_eq!(pool.take_run(6), None);
        assert_eq!(pool.take_run(u64::MAX), None);
        assert_eq!(pool.take_run(5), Some(Pfn(5)));
        assert_eq!(pool.free(), 0);
    }
}
