//! Who is to be woken when.

use core::task::Waker;

use super::Instant;

/// How many wait for a time on one virtual CPU.
const ENTRIES: usize = 64;

/// One that waits.
#[derive(Debug)]
struct Entry {
    key: u64,
    at: Instant,
    waker: Waker,
}

/// Wakers with the times they are due.
#[derive(Debug)]
pub(crate) struct Queue {
    entries: [Option<Entry>; ENTRIES],
    keys: u64,
}

impl Queue {
    pub(crate) const fn new() -> Self {
        Self { entries: [const { None }; ENTRIES], keys: 0 }
    }

    /// Adds a waker, or replaces the one that has the key. Returns the key; none if the queue is
    /// full.
    pub(crate) fn set(&mut self, key: Option<u64>, at: Instant, waker: &Waker) -> Option<u64> {
        let own = |entry: &Option<Entry>| key.is_some() && entry.as_ref().map(|it| it.key) == key;
        let place = self.entries.iter().position(own);
        let place = place.or_else(|| self.entries.iter().position(Option::is_none))?;
        let key = key.unwrap_or_else(|| {
            self.keys += 1;
            self.keys
        });
        *self.entries.get_mut(place)? = Some(Entry { key, at, waker: waker.clone() });
        Some(key)
    }

    /// Takes the waker with a key out.
    pub(crate) fn remove(&mut self, key: u64) {
        for entry in &mut self.entries {
            if entry.as_ref().is_some_and(|entry| entry.key == key) {
                *entry = None;
            }
        }
    }

    /// When the first is due.
    pub(crate) fn first(&self) -> Option<Instant> {
        self.entries.iter().flatten().map(|entry| entry.at).min()
    }

    /// Takes one out that is due, the earliest first.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Waker> {
        let first = self.first().filter(|&first| first <= now)?;
        let due = |entry: &&mut Option<Entry>| entry.as_ref().is_some_and(|it| it.at == first);
        self.entries.iter_mut().find(due)?.take().map(|entry| entry.waker)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex;
    use std::task::Wake;
    use std::vec::Vec;

    use super::{ENTRIES, Queue};
    use crate::time::Instant;

    static WOKEN: Mutex<Vec<u64>> = Mutex::new(Vec::new());

    struct Name(u64);

    impl Wake for Name {
        fn wake(self: Arc<Self>) {
            WOKEN.lock().unwrap().push(self.0);
        }
    }

    #[test]
    fn who_is_due_is_taken_the_earliest_first() {
        let mut queue = Queue::new();
        let mut set = |key, at| queue.set(key, Instant(at), &Arc::new(Name(at)).into());
        let late = set(None, 30);
        set(None, 20);
        let moved = set(None, 90);
        let removed = set(None, 5);
        assert_eq!(set(moved, 10), moved, "the same one, earlier");
        queue.remove(removed.unwrap());
        assert_eq!(queue.first(), Some(Instant(10)));
        while let Some(waker) = queue.take(Instant(20)) {
            waker.wake();
        }
        assert_eq!(*WOKEN.lock().unwrap(), [10, 20]);
        assert_eq!(queue.first(), Some(Instant(30)));
        queue.remove(late.unwrap());
        assert_eq!(queue.first(), None);
    }

    #[test]
    fn a_full_queue_takes_no_more_but_changes_what_it_has() {
        let mut queue = Queue::new();
        let waker = std::task::Waker::noop();
        let keys: Vec<_> =
            (0..ENTRIES).map(|_| queue.set(None, Instant(1), waker).unwrap()).collect();
        assert_eq!(queue.set(None, Instant(1), waker), None);
        assert_eq!(queue.set(Some(keys[7]), Instant(0), waker), Some(keys[7]));
        assert_eq!(queue.first(), Some(Instant(0)));
    }
}
