//! Wakers: a virtual CPU and one of its tasks, as a number.

use core::ptr::without_provenance;
use core::task::{RawWaker, RawWakerVTable, Waker};

use crate::task::{TASKS, wake};

static TABLE: RawWakerVTable = RawWakerVTable::new(
    |data| RawWaker::new(data, &TABLE),
    |data| wake(data.addr() / TASKS, data.addr() % TASKS),
    |data| wake(data.addr() / TASKS, data.addr() % TASKS),
    |_| {},
);

/// What wakes a task of a virtual CPU.
pub(crate) fn waker(vcpu: usize, task: usize) -> Waker {
    let data = without_provenance(vcpu * TASKS + task);
    // SAFETY: the data is a number: copies need no care, and what the functions do with it is
    // safe whatever it is, on any virtual CPU.
    unsafe { Waker::new(data, &TABLE) }
}
