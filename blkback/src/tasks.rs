//! Commands under way, for disks whose commands are futures.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use crate::disk::{DiskError, Ticket};

/// A command under way.
type Task = Pin<Box<dyn Future<Output = Result<(), DiskError>>>>;

/// Commands under way, each with its ticket. A [`crate::Disk`] puts them here when they are
/// submitted, and polls them with [`Self::poll`].
#[derive(Default)]
pub struct Tasks {
    all: Vec<(Ticket, Task)>,
    /// Where to look next, so that one look at each finds all that are done.
    next: usize,
}

impl Tasks {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self { all: Vec::new(), next: 0 }
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.all.len()
    }

    /// Adds one. It begins when it is polled.
    pub fn add(
        &mut self,
        ticket: Ticket,
        task: impl Future<Output = Result<(), DiskError>> + 'static,
    ) {
        self.all.push((ticket, Box::pin(task)));
    }

    /// The next completion; or each has the task of `cx` to wake.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Ticket, Result<(), DiskError>)> {
        for _ in 0..self.all.len() {
            if self.next >= self.all.len() {
                self.next = 0;
            }
            let Some((ticket, task)) = self.all.get_mut(self.next) else { break };
            if let Poll::Ready(result) = task.as_mut().poll(cx) {
                let ticket = *ticket;
                drop(self.all.swap_remove(self.next));
                return Poll::Ready((ticket, result));
            }
            self.next += 1;
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use core::future::{pending, ready};
    use core::task::Waker;

    use super::*;

    #[test]
    fn each_is_polled_and_those_that_are_done_come_out() {
        let mut tasks = Tasks::new();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(tasks.poll(&mut cx).is_pending());
        tasks.add(Ticket(1), pending());
        tasks.add(Ticket(2), ready(Err(DiskError::Failed)));
        tasks.add(Ticket(3), pending());
        tasks.add(Ticket(4), ready(Ok(())));
        let mut done = Vec::from([tasks.poll(&mut cx), tasks.poll(&mut cx)]);
        done.sort_by_key(|it| matches!(it, Poll::Ready((Ticket(4), _))));
        let failed = Poll::Ready((Ticket(2), Err(DiskError::Failed)));
        assert_eq!(done, [failed, Poll::Ready((Ticket(4), Ok(())))]);
        assert!(tasks.poll(&mut cx).is_pending());
        assert_eq!(tasks.count(), 2);
        tasks.add(Ticket(2), ready(Ok(())));
        assert_eq!(tasks.poll(&mut cx), Poll::Ready((Ticket(2), Ok(()))));
    }
}
