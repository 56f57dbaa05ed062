//! Waiting by several tasks for something of this program's.

use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::{Poll, Waker};

/// Wakes all who wait for a condition, so that they look again.
#[derive(Debug, Default)]
pub(crate) struct Bell(RefCell<Vec<Waker>>);

impl Bell {
    /// Wakes them.
    pub(crate) fn ring(&self) {
        self.0.take().into_iter().for_each(Waker::wake);
    }

    /// Waits until the condition holds, which whoever makes it true rings for.
    pub(crate) async fn until(&self, condition: impl Fn() -> bool) {
        poll_fn(|cx| {
            if condition() {
                return Poll::Ready(());
            }
            let mut waiting = self.0.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

/// Something that happens once.
#[derive(Debug, Default)]
pub(crate) struct Flag {
    is_up: Cell<bool>,
    bell: Bell,
}

impl Flag {
    /// It has happened.
    pub(crate) fn raise(&self) {
        self.is_up.set(true);
        self.bell.ring();
    }

    /// Whether it has.
    pub(crate) fn is_up(&self) -> bool {
        self.is_up.get()
    }

    /// Waits until it has.
    pub(crate) async fn raised(&self) {
        self.bell.until(|| self.is_up()).await;
    }
}
