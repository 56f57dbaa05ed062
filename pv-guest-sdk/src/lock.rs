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
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{lock::Yielding};
/// # fn example() {
/// // `Yield` is what who waits for it does.
/// static COUNT: Yielding<u32> = Yielding::new(0);
/// *COUNT.lock() += 1;
/// # }
/// ```
#[derive(Debug)]
pub struct Yield;

impl RelaxStrategy for Yield {
    fn relax() {
        crate::wait::yield_now();
    }
}

/// A lock for short times. Who waits for it yields, because who has it may not be running.
pub type Yielding<T> = SpinMutex<T, Yield>;

/// A lock that is taken, and what is done after it was given back: the value `A` is dropped.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{lock::Held};
/// # fn example(list: &Held<[u32; 4]>) {
/// let mut guard = list.lock(); // a `Guard`
/// guard[0] += 1;
/// drop(guard);
/// # }
/// ```
#[derive(Debug)]
pub struct Guard<'a, T, A> {
    // Fields are dropped in this order.
    inner: SpinMutexGuard<'a, T, Yield>,
    _after: A,
}

impl<T, A> Deref for Guard<'_, T, A> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T, A> DerefMut for Guard<'_, T, A> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// A lock for handlers and what they interrupt: who has it holds events back.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{lock::Held};
/// # fn example() {
/// static COUNT: Held<u32> = Held::new(0);
///
/// // A handler on this virtual CPU may take it too: none runs while it is held.
/// *COUNT.lock() += 1;
/// # }
/// ```
#[derive(Debug)]
pub struct Held<T>(Yielding<T>);

impl<T> Held<T> {
    /// A lock around `value`.
    #[must_use]
    pub const fn new(value: T) -> Self {
        Self(SpinMutex::new(value))
    }

    /// Takes the lock, and holds events back as long as it is taken.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use pv_guest_sdk::{lock::Held};
    /// # fn example(count: &Held<u32>) {
    /// *count.lock() += 1;
    /// # }
    /// ```
    pub fn lock(&self) -> Guard<'_, T, Release> {
        let after = Release { come: hold(true), stays: PhantomData };
        Guard { inner: self.0.lock(), _after: after }
    }
}

/// Lets the events of the virtual CPU that made it come again, if they came before.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{lock::Held};
/// # fn example(count: &Held<u32>) {
/// // `Release` lets events come again, behind the unlocking.
/// drop(count.lock());
/// # }
/// ```
#[derive(Debug)]
pub struct Release {
    come: bool,
    stays: PhantomData<*const ()>,
}

impl Drop for Release {
    fn drop(&mut self) {
        if self.come {
            hold(false);
        }
    }
}

/// Holds events back or lets them come, and says whether that changed something. A host has none.
fn hold(hold: bool) -> bool {
    #[cfg(target_os = "none")]
    return crate::vcpu::Vcpu::current().is_some_and(|vcpu| vcpu.exchange_hold(hold) != hold);
    #[cfg(not(target_os = "none"))]
    !hold
}

#[cfg(target_os = "none")]
pub use blocking::{Mutex, Turn, Waiters};

#[cfg(target_os = "none")]
mod blocking {
    use core::sync::atomic::{AtomicU64, Ordering, fence};

    use super::{Guard, SpinMutex, Yielding};
    use crate::event::{bits, kick};
    use crate::vcpu::Vcpu;
    use crate::wait;

    /// Virtual CPUs that wait for something, a bit for each.
    #[derive(Debug, Default)]
    pub struct Waiters(AtomicU64);

    impl Waiters {
        /// Nobody waits.
        #[must_use]
        pub const fn new() -> Self {
            Self(AtomicU64::new(0))
        }

        /// Waits until `condition`, which is asked with events held back. Whoever makes it true
        /// wakes.
        ///
        /// # Panics
        /// If it is not true and this virtual CPU holds events back, as in a handler.
        pub fn wait(&self, mut condition: impl FnMut() -> bool) {
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

        /// Wakes one of those that wait: the next behind this virtual CPU, in a circle, so that
        /// all have their turn.
        pub fn wake_one(&self) {
            // What the condition is about must be seen before those who wait are looked for.
            fence(Ordering::SeqCst);
            let waiting = self.0.load(Ordering::SeqCst);
            if waiting != 0 {
                let next = Vcpu::current().map_or(0, |vcpu| vcpu.id().0) + 1;
                kick(((waiting.rotate_right(next).trailing_zeros() + next) % 64) as usize);
            }
        }

        /// Wakes all of them.
        pub fn wake_all(&self) {
            fence(Ordering::SeqCst);
            bits(self.0.load(Ordering::SeqCst)).for_each(|number| kick(number as usize));
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
        pub fn lock(&self) -> Guard<'_, T, Turn<'_>> {
            let mut guard = None;
            self.waiters.wait(|| {
                guard = self.try_lock();
                guard.is_some()
            });
            guard.expect("who was waited for")
        }

        /// Takes the lock if nobody has it.
        pub fn try_lock(&self) -> Option<Guard<'_, T, Turn<'_>>> {
            Some(Guard { inner: self.inner.try_lock()?, _after: Turn(&self.waiters) })
        }
    }

    /// Wakes who waits next.
    #[derive(Debug)]
    pub struct Turn<'a>(&'a Waiters);

    impl Drop for Turn<'_> {
        fn drop(&mut self) {
            self.0.wake_one();
        }
    }
}
