//! Locks between virtual CPUs, and between a virtual CPU and its handlers.
//!
//! | | who waits | in a handler |
//! |---|---|---|
//! | [`Held`] | gives the processor up again and again | yes: who has it holds events back |
//! | [`Yielding`] | gives the processor up again and again | no |
//! | `Mutex` | sleeps until it is woken | no |
//!
//! A virtual CPU that takes a lock twice waits for ever, so a handler must not take a lock that the
//! code it interrupts may have. `Held` cannot be had by such code. `try_lock` is for all.

use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use spin::mutex::{SpinMutex, SpinMutexGuard};
use spin::relax::RelaxStrategy;

/// Waits for a lock by letting the virtual CPU run that has it.
#[derive(Debug)]
pub struct Yield;

impl RelaxStrategy for Yield {
    fn relax() {
        crate::wait::yield_now();
    }
}

/// A lock for short times. Who waits for it yields, because who has it may not be running.
pub type Yielding<T> = SpinMutex<T, Yield>;

/// A lock for handlers and what they interrupt: who has it holds events back.
#[derive(Debug)]
pub struct Held<T>(Yielding<T>);

impl<T> Held<T> {
    /// A lock around `value`.
    #[must_use]
    pub const fn new(value: T) -> Self {
        Self(SpinMutex::new(value))
    }

    /// Takes the lock, and holds events back as long as it is taken.
    pub fn lock(&self) -> HeldGuard<'_, T> {
        let release = hold(true);
        HeldGuard { inner: Some(self.0.lock()), release, stays: PhantomData }
    }
}

/// Holds events back or lets them come, and says whether that changed something. A host has none.
fn hold(hold: bool) -> bool {
    #[cfg(target_os = "none")]
    return crate::vcpu::Vcpu::current().is_some_and(|vcpu| vcpu.exchange_hold(hold) != hold);
    #[cfg(not(target_os = "none"))]
    !hold
}

/// A taken [`Held`].
#[derive(Debug)]
pub struct HeldGuard<'a, T> {
    inner: Option<SpinMutexGuard<'a, T, Yield>>,
    /// Whether events are to come again afterwards.
    release: bool,
    /// It holds the events of the virtual CPU that took it.
    stays: PhantomData<*const ()>,
}

impl<T> Deref for HeldGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.inner.as_deref().expect(TAKEN)
    }
}

impl<T> DerefMut for HeldGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.inner.as_deref_mut().expect(TAKEN)
    }
}

const TAKEN: &str = "a guard has its lock until it is dropped";

impl<T> Drop for HeldGuard<'_, T> {
    fn drop(&mut self) {
        self.inner = None;
        if self.release {
            hold(false);
        }
    }
}

#[cfg(target_os = "none")]
pub(crate) use blocking::Waiters;
#[cfg(target_os = "none")]
pub use blocking::{Mutex, MutexGuard};

#[cfg(target_os = "none")]
mod blocking {
    use core::ops::{Deref, DerefMut};
    use core::sync::atomic::{AtomicU64, Ordering, fence};

    use super::{SpinMutex, SpinMutexGuard, TAKEN, Yield, Yielding};
    use crate::event::Kick;
    use crate::vcpu::Vcpu;
    use crate::wait;

    /// Virtual CPUs that wait for something, a bit for each.
    #[derive(Debug)]
    pub(crate) struct Waiters(AtomicU64);

    impl Waiters {
        pub(crate) const fn new() -> Self {
            Self(AtomicU64::new(0))
        }

        /// Waits until `condition`. Whoever makes it true wakes.
        pub(crate) fn wait(&self, mut condition: impl FnMut() -> bool) {
            let bit = Vcpu::current().map_or(0, |vcpu| 1 << vcpu.index());
            if !condition() {
                wait::until(|| {
                    self.0.fetch_or(bit, Ordering::SeqCst);
                    fence(Ordering::SeqCst);
                    condition()
                });
                self.0.fetch_and(!bit, Ordering::SeqCst);
            }
        }

        /// Wakes one of those that wait, the next behind `last` in a circle, so that all have
        /// their turn.
        pub(crate) fn wake_one(&self, last: usize) {
            // What the condition is about must be seen before those who wait are looked for.
            fence(Ordering::SeqCst);
            let waiting = self.0.load(Ordering::SeqCst);
            if waiting != 0 {
                let turn = waiting.rotate_right(u32::try_from(last).unwrap_or(0) + 1);
                Kick::send((turn.trailing_zeros() as usize + last + 1) % 64);
            }
        }

        /// Wakes all of them.
        pub(crate) fn wake_all(&self) {
            fence(Ordering::SeqCst);
            crate::event::scan::bits(self.0.load(Ordering::SeqCst))
                .for_each(|number| Kick::send(number as usize));
        }
    }

    /// A lock for long times. Who waits for it sleeps.
    #[derive(Debug)]
    pub struct Mutex<T> {
        inner: Yielding<T>,
        waiters: Waiters,
    }

    impl<T> Mutex<T> {
        /// A lock around `value`.
        #[must_use]
        pub const fn new(value: T) -> Self {
            Self { inner: SpinMutex::new(value), waiters: Waiters::new() }
        }

        /// Takes the lock.
        ///
        /// # Panics
        /// If it is taken and this virtual CPU holds events back, as in a handler.
        pub fn lock(&self) -> MutexGuard<'_, T> {
            let mut inner = None;
            self.waiters.wait(|| {
                inner = self.inner.try_lock();
                inner.is_some()
            });
            MutexGuard { inner, waiters: &self.waiters }
        }

        /// Takes the lock if nobody has it.
        pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            let inner = Some(self.inner.try_lock()?);
            Some(MutexGuard { inner, waiters: &self.waiters })
        }
    }

    /// A taken [`Mutex`].
    #[derive(Debug)]
    pub struct MutexGuard<'a, T> {
        inner: Option<SpinMutexGuard<'a, T, Yield>>,
        waiters: &'a Waiters,
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.inner.as_deref().expect(TAKEN)
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.inner.as_deref_mut().expect(TAKEN)
        }
    }

    impl<T> Drop for MutexGuard<'_, T> {
        fn drop(&mut self) {
            self.inner = None;
            self.waiters.wake_one(Vcpu::current().map_or(0, Vcpu::index));
        }
    }
}
