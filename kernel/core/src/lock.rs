//! The one lock of the kernel.

use core::ops::{Deref, DerefMut};

use spin::mutex::{SpinMutex, SpinMutexGuard};

use crate::platform::Platform;

/// A spin lock whose waiters keep serving the flush requests of other CPUs.
///
/// Interrupts are off in ring 0, so a holder is never interrupted on its own CPU, and critical
/// sections are short. The rules that make it free of deadlock: locks are taken in the order of the
/// table in `docs/src/architecture.md`, and nobody waits for another CPU's acknowledgement while
/// holding one.
#[derive(Debug, Default)]
pub struct Lock<T> {
    inner: SpinMutex<T>,
}

impl<T> Lock<T> {
    /// An open lock around `value`.
    pub const fn new(value: T) -> Self {
        Self { inner: SpinMutex::new(value) }
    }

    /// Waits for the lock and takes it until the guard is dropped.
    pub fn lock(&self, platform: &impl Platform) -> Guard<'_, T> {
        platform.about_to_race();
        loop {
            if let Some(inner) = self.inner.try_lock() {
                return Guard { inner };
            }
            platform.spin_wait();
        }
    }
}

/// Holds a [`Lock`]; gives it back when dropped.
#[must_use]
pub struct Guard<'a, T> {
    inner: SpinMutexGuard<'a, T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}
