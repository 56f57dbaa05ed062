//! Ports as the users of rings see them: many may wait for the same one.

use core::task::Waker;

#[cfg(any(test, target_os = "none"))]
pub(crate) use listeners::{listen, wake};

/// A port by which the two ends of a ring tell each other that something has changed.
///
/// Whoever waits registers first, then looks at the ring, then gives the processor up: so a change
/// that comes in between is not missed.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{event::Signal};
/// # fn example(port: &impl Signal, waker: &core::task::Waker) {
/// port.notify(); // the peer
/// port.listen(waker); // woken by the next event
/// port.wake(); // all who listen, as if one had come
/// # }
/// ```
pub trait Signal {
    /// Tells the other end.
    fn notify(&self);

    /// Wakes a task when an event comes next. It may be woken for no reason.
    fn listen(&self, waker: &Waker);

    /// Wakes all tasks that listen, as an event does.
    fn wake(&self);
}

#[cfg(any(test, target_os = "none"))]
mod listeners {
    use core::task::Waker;

    use heapless::Vec;
    use hypercall_abi::types::Port;

    use crate::lock::Held;

    /// How many tasks can listen, at all ports together.
    pub(super) const PLACES: usize = 128;

    static LISTENING: Held<Vec<(Port, Waker), PLACES>> = Held::new(Vec::new());

    /// Wakes a task when an event comes to a port next; at once if too many listen.
    pub(crate) fn listen(port: Port, waker: &Waker) {
        let mut places = LISTENING.lock();
        let heard = places.iter().any(|(other, old)| *other == port && old.will_wake(waker));
        if !heard && places.push((port, waker.clone())).is_err() {
            waker.wake_by_ref();
        }
    }

    /// Wakes all tasks that listen at a port.
    pub(crate) fn wake(port: Port) {
        LISTENING.lock().retain(|(other, waker)| {
            if *other == port {
                waker.wake_by_ref();
            }
            *other != port
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};
    use std::vec::Vec;

    use hypercall_abi::types::Port;

    use super::listeners::PLACES;
    use super::{listen, wake};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn all_that_listen_at_a_port_are_woken_once_and_nobody_waits_unheard() {
        let counts: Vec<_> = (0..PLACES + 2).map(|_| Arc::new(Count::default())).collect();
        let told = |of: usize| counts[of].0.load(Ordering::Relaxed);
        let wakers: Vec<_> = counts.iter().map(|count| Waker::from(count.clone())).collect();
        (0..3).for_each(|_| listen(Port(7), &wakers[0]));
        listen(Port(7), &wakers[1]);
        listen(Port(8), &wakers[2]);
        wake(Port(7));
        wake(Port(7));
        assert_eq!((told(0), told(1), told(2)), (1, 1, 0));
        wakers[3..].iter().for_each(|waker| listen(Port(9), waker));
        assert_eq!((told(PLACES), told(PLACES + 1)), (0, 0));
        listen(Port(9), &wakers[0]);
        assert_eq!(told(0), 2, "without a place it is told at once");
        wake(Port(9));
        wake(Port(8));
        assert_eq!((told(0), told(2), told(3)), (2, 1, 1));
    }
}
