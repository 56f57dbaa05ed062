//! Changes of all connections, which go to the disk together: one flush for all that wait.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::poll_fn;
use core::task::{Poll, Waker};

use kv_store::{Batch, Change, Disk, Refusal, Store};

/// A change that a connection waits for.
pub(crate) enum Wanted {
    Set(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    /// The log is to begin anew.
    Compaction,
}

/// Whether its key was there before, or why nothing was done.
pub(crate) type Answer = Result<bool, String>;

/// What a connection waits for.
struct Entry {
    wanted: Wanted,
    answer: RefCell<Option<Answer>>,
    /// Who waits.
    waker: Cell<Option<Waker>>,
}

/// A store, and the changes that are to be made.
pub(crate) struct Group<D> {
    store: Store<D>,
    queue: RefCell<VecDeque<Rc<Entry>>>,
    committer: Cell<Option<Waker>>,
    changes: Cell<u64>,
}

impl<D: Disk<Error: fmt::Display>> Group<D> {
    pub(crate) fn new(store: Store<D>) -> Self {
        Self { store, queue: RefCell::default(), committer: Cell::new(None), changes: Cell::new(0) }
    }

    /// The store, to be read. What waits is not there yet.
    pub(crate) const fn store(&self) -> &Store<D> {
        &self.store
    }

    /// How many changes were committed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.get()
    }

    /// Has changes made, in their order, and returns when all are on the disk or refused.
    pub(crate) async fn submit(&self, wanted: Vec<Wanted>) -> Vec<Answer> {
        let entry = |wanted| Rc::new(Entry { wanted, answer: None.into(), waker: None.into() });
        let entries: Vec<_> = wanted.into_iter().map(entry).collect();
        self.queue.borrow_mut().extend(entries.iter().cloned());
        if let Some(committer) = self.committer.take() {
            committer.wake();
        }
        let mut answers = Vec::new();
        for entry in entries {
            let answer = poll_fn(|context| match entry.answer.take() {
                Some(answer) => Poll::Ready(answer),
                None => {
                    entry.waker.set(Some(context.waker().clone()));
                    Poll::Pending
                }
            });
            answers.push(answer.await);
        }
        answers
    }

    /// Makes changes for ever, as many at a time as wait and have room; or until the disk fails: then it
    /// says so, and to everybody who comes.
    pub(crate) async fn run(&self) -> String {
        let mut failed = None::<String>;
        loop {
            poll_fn(|context| {
                if !self.queue.borrow().is_empty() {
                    return Poll::Ready(());
                }
                self.committer.set(Some(context.waker().clone()));
                Poll::Pending
            })
            .await;
            if let Some(error) = &failed {
                while let Some(entry) = self.take() {
                    entry.give(Err(error.clone()));
                }
                continue;
            }
            let (batch, entries, compacts) = self.gather();
            let mut done = self.store.commit(batch).await;
            if done.is_ok() && compacts {
                done = self.store.compact().await;
            }
            if done.is_ok() {
                let changes = entries.len() as u64 - u64::from(compacts);
                self.changes.set(self.changes.get() + changes);
            }
            for (entry, there) in entries {
                entry.give(done.as_ref().map(|()| there).map_err(ToString::to_string));
            }
            if let Err(error) = done {
                pv_guest_sdk::println!("{error}");
                failed = Some(error.to_string());
            }
        }
    }

    /// A batch of what waits, with who waits for it, and whether the log is to begin anew.
    fn gather(&self) -> (Batch, Vec<(Rc<Entry>, bool)>, bool) {
        let (mut batch, mut entries) = (Batch::default(), Vec::new());
        while let Some(entry) = self.take() {
            let change = match &entry.wanted {
                Wanted::Set(key, value) => Change::Set(key, value),
                Wanted::Delete(key) => Change::Delete(key),
                Wanted::Compaction => {
                    entries.push((entry, true));
                    return (batch, entries, true);
                }
            };
            match self.store.add(&mut batch, change) {
                Ok(there) => entries.push((entry, there)),
                Err(Refusal::Later) => {
                    self.queue.borrow_mut().push_front(entry);
                    break;
                }
                Err(refusal) => entry.give(Err(refusal.to_string())),
            }
        }
        (batch, entries, false)
    }

    fn take(&self) -> Option<Rc<Entry>> {
        self.queue.borrow_mut().pop_front()
    }
}

impl Entry {
    fn give(&self, answer: Answer) {
        *self.answer.borrow_mut() = Some(answer);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
