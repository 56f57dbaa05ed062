//! Tasks: several things that wait, on one virtual CPU.
//!
//! A future waits by `.await` for a channel's event or for a time (`Channel::notified`,
//! `time::sleep`), or for whatever keeps to the contract of [`core::task::Waker`]. [`block_on`]
//! runs one, an [`Executor`] several. A virtual CPU that has nothing to do blocks.
//!
//! The executor is the SDK's own, because what wakes a task is an upcall of the hypervisor that
//! must find the virtual CPU blocked or make it look again, without a heap and without unsafe code
//! in guests; executors for embedded systems have their tasks in statics that only their macros can
//! make.

use core::cell::RefCell;
use core::future::Future;
use core::ops::DerefMut;
use core::pin::{Pin, pin};
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::{Context, Poll};

use crate::event::bits;
use crate::raw::waker::waker;
use crate::shared::VCPU_LIMIT;

/// How many tasks a virtual CPU has, with the one of [`block_on`].
pub const TASKS: usize = 256;
/// The task of [`block_on`].
const MAIN: usize = TASKS - 1;

/// Tasks of one virtual CPU that are to run, a bit for each.
struct Ready([AtomicU64; TASKS / 64]);

static READY: [Ready; VCPU_LIMIT] =
    [const { Ready([const { AtomicU64::new(0) }; TASKS / 64]) }; VCPU_LIMIT];

impl Ready {
    fn mark(&self, task: usize) {
        if let Some(word) = self.0.get(task / 64) {
            word.fetch_or(1 << (task % 64), Ordering::SeqCst);
        }
    }

    /// Takes [`MAIN`] if it is there.
    fn take_main(&self) -> bool {
        let bit = 1 << (MAIN % 64);
        self.0[MAIN / 64].fetch_and(!bit, Ordering::SeqCst) & bit != 0
    }

    /// All but [`MAIN`], by number of the word.
    fn words(&self) -> impl Iterator<Item = (usize, &AtomicU64, u64)> {
        self.0.iter().enumerate().map(|(index, word)| {
            let tasks = if index == MAIN / 64 { !(1 << (MAIN % 64)) } else { u64::MAX };
            (index, word, tasks)
        })
    }
}

/// Makes a task run, from anywhere: a handler, another virtual CPU.
pub(crate) fn wake(vcpu: usize, task: usize) {
    if let Some(ready) = READY.get(vcpu) {
        ready.mark(task);
        #[cfg(target_os = "none")]
        crate::event::kick(vcpu);
    }
}

/// The virtual CPU that executes this, and how it waits.
#[cfg(target_os = "none")]
fn here() -> (usize, impl Fn(&mut dyn FnMut() -> bool)) {
    let vcpu = crate::vcpu::Vcpu::current().map_or(0, crate::vcpu::Vcpu::index);
    (vcpu, |condition: &mut dyn FnMut() -> bool| crate::wait::until(condition))
}

/// Runs a future to its end. It may be called within a task, whose virtual CPU then does nothing
/// else.
///
/// # Panics
/// If it has to wait while this virtual CPU holds events back, as in a handler.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{task::block_on, time::{Duration, sleep}};
/// # fn example() {
/// block_on(sleep(Duration::from_millis(10)));
/// # }
/// ```
#[cfg(target_os = "none")]
pub fn block_on<F: Future>(future: F) -> F::Output {
    let (vcpu, idle) = here();
    block_on_with(vcpu, future, idle)
}

fn block_on_with<F: Future>(
    vcpu: usize,
    future: F,
    idle: impl Fn(&mut dyn FnMut() -> bool),
) -> F::Output {
    let (mut future, waker, ready) = (pin!(future), waker(vcpu, MAIN), &READY[vcpu]);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            // Whoever has called this from its own future looks again.
            ready.mark(MAIN);
            return output;
        }
        idle(&mut || ready.take_main());
    }
}

enum Slot<P> {
    Free,
    /// It is being polled.
    Busy,
    Waiting(Pin<P>),
}

/// Runs tasks on one virtual CPU, in turns: pinned futures, `&mut dyn Future<Output = ()>` made by
/// [`core::pin::pin!`] or boxes. A task that never waits keeps the others from running.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{task::Executor, time::{Duration, sleep}, println};
/// # fn example() {
/// let executor = Executor::default();
/// let task = core::pin::pin!(async { sleep(Duration::from_millis(10)).await });
/// if executor.spawn(task).is_err() {
///     println!("it has 255 tasks");
/// }
/// println!("{} tasks", executor.tasks());
/// executor.run(); // until all have ended
/// # }
/// ```
pub struct Executor<P> {
    slots: RefCell<[Slot<P>; MAIN]>,
}

impl<P> Default for Executor<P> {
    /// Without tasks.
    fn default() -> Self {
        Self { slots: RefCell::new([const { Slot::Free }; MAIN]) }
    }
}

impl<P: DerefMut<Target: Future<Output = ()>>> Executor<P> {
    /// Adds a task; a task may do so too.
    ///
    /// # Errors
    /// The task, if there are 255.
    pub fn spawn(&self, task: Pin<P>) -> Result<(), Pin<P>> {
        let mut slots = self.slots.borrow_mut();
        let free = slots.iter_mut().enumerate().find(|(_, slot)| matches!(slot, Slot::Free));
        let Some((number, slot)) = free else { return Err(task) };
        *slot = Slot::Waiting(task);
        // The executor may run here, and looks at tasks that are ready alone.
        #[cfg(target_os = "none")]
        READY[here().0].mark(number);
        let _ = number;
        Ok(())
    }

    /// How many tasks there are.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.slots.borrow().iter().filter(|slot| !matches!(slot, Slot::Free)).count()
    }

    /// Runs until all tasks have ended.
    ///
    /// # Panics
    /// If it has to wait while this virtual CPU holds events back, as in a handler.
    #[cfg(target_os = "none")]
    pub fn run(&self) {
        let (vcpu, idle) = here();
        self.run_with(vcpu, idle);
    }

    fn run_with(&self, vcpu: usize, idle: impl Fn(&mut dyn FnMut() -> bool)) {
        let ready = &READY[vcpu];
        let mark_all = || {
            ready.words().for_each(|(_, word, tasks)| {
                word.fetch_or(tasks, Ordering::SeqCst);
            })
        };
        mark_all();
        loop {
            for (index, word, tasks) in ready.words() {
                for bit in bits(word.fetch_and(!tasks, Ordering::SeqCst) & tasks) {
                    self.poll(vcpu, 64 * index + bit as usize);
                }
            }
            if self.slots.borrow().iter().all(|slot| matches!(slot, Slot::Free)) {
                break;
            }
            idle(&mut || {
                ready.words().any(|(_, word, tasks)| word.load(Ordering::SeqCst) & tasks != 0)
            });
        }
        // An executor around this one has tasks of the same numbers.
        mark_all();
    }

    fn poll(&self, vcpu: usize, number: usize) {
        let taken = match self.slots.borrow_mut().get_mut(number) {
            Some(slot @ Slot::Waiting(_)) => core::mem::replace(slot, Slot::Busy),
            _ => return,
        };
        let Slot::Waiting(mut task) = taken else { return };
        let ended = task.as_mut().poll(&mut Context::from_waker(&waker(vcpu, number))).is_ready();
        if let Some(slot) = self.slots.borrow_mut().get_mut(number) {
            *slot = if ended { Slot::Free } else { Slot::Waiting(task) };
        }
    }
}

#[cfg(test)]
mod tests {
    use core::cell::{Cell, RefCell};
    use core::future::{Future, poll_fn};
    use core::pin::pin;
    use core::task::{Poll, Waker};
    use std::boxed::Box;
    use std::vec::Vec;

    use super::{Executor, MAIN, block_on_with, wake};

    /// Completes when it is opened; who waits is woken.
    #[derive(Default)]
    struct Gate {
        open: Cell<bool>,
        waker: RefCell<Option<Waker>>,
    }

    impl Gate {
        fn open(&self) {
            self.open.set(true);
            self.waker.take().into_iter().for_each(Waker::wake);
        }

        fn passed(&self) -> impl Future<Output = ()> + '_ {
            poll_fn(|context| {
                if self.open.get() {
                    return Poll::Ready(());
                }
                self.waker.replace(Some(context.waker().clone()));
                Poll::Pending
            })
        }
    }

    type Task<'a> = Box<dyn Future<Output = ()> + 'a>;

    /// Does `event` once nothing is to be done, as a handler would, and says whether that made
    /// anything ready.
    fn idle(event: impl Fn()) -> impl Fn(&mut dyn FnMut() -> bool) {
        move |condition| {
            while !condition() {
                event();
            }
        }
    }

    #[test]
    fn tasks_run_when_they_are_woken_and_not_before() {
        let (gate, seen) = (Gate::default(), RefCell::new(Vec::new()));
        let executor = Executor::<Task<'_>>::default();
        let waits = async {
            seen.borrow_mut().push("one waits");
            gate.passed().await;
            seen.borrow_mut().push("one goes on");
        };
        let ends = async { seen.borrow_mut().push("two") };
        executor.spawn(Box::pin(waits)).ok().unwrap();
        executor.spawn(Box::pin(ends)).ok().unwrap();
        assert_eq!(executor.tasks(), 2);
        let idles = Cell::new(0);
        executor.run_with(
            40,
            idle(|| {
                idles.set(idles.get() + 1);
                if idles.get() == 3 {
                    gate.open();
                }
            }),
        );
        assert_eq!(*seen.borrow(), ["one waits", "two", "one goes on"]);
        assert_eq!((idles.get(), executor.tasks()), (3, 0));
    }

    #[test]
    fn a_wake_up_before_the_wait_is_not_lost() {
        let polls = Cell::new(0);
        let executor = Executor::<Task<'_>>::default();
        let task = poll_fn(|context| {
            polls.set(polls.get() + 1);
            context.waker().wake_by_ref();
            if polls.get() == 3 { Poll::Ready(()) } else { Poll::Pending }
        });
        executor.spawn(Box::pin(task)).ok().unwrap();
        executor.run_with(41, idle(|| panic!("there was something to do")));
        assert_eq!(polls.get(), 3);
    }

    #[test]
    fn a_future_in_a_task_does_not_take_the_wake_ups_of_others() {
        let (outer, inner) = (Gate::default(), Gate::default());
        let executor = Executor::<Task<'_>>::default();
        executor.spawn(Box::pin(outer.passed())).ok().unwrap();
        let task = async {
            block_on_with(
                42,
                inner.passed(),
                idle(|| {
                    outer.open();
                    inner.open();
                }),
            );
        };
        executor.spawn(Box::pin(task)).ok().unwrap();
        executor.run_with(42, idle(|| panic!("both are ready")));
    }

    #[test]
    fn a_future_in_a_future_does_not_take_its_wake_up() {
        let (outer, inner, entered) = (Gate::default(), Gate::default(), Cell::new(false));
        let mut waits = pin!(outer.passed());
        let future = poll_fn(|context| {
            let passed = waits.as_mut().poll(context);
            if !entered.replace(true) {
                block_on_with(
                    46,
                    inner.passed(),
                    idle(|| {
                        outer.open();
                        inner.open();
                    }),
                );
            }
            passed
        });
        block_on_with(46, future, idle(|| panic!("it was woken")));
    }

    #[test]
    fn an_executor_in_a_task_does_not_take_the_wake_ups_of_others() {
        let (outer, inner) = (Gate::default(), Gate::default());
        let executor = Executor::<Task<'_>>::default();
        executor.spawn(Box::pin(outer.passed())).ok().unwrap();
        let task = async {
            let nested = Executor::<Task<'_>>::default();
            nested.spawn(Box::pin(inner.passed())).ok().unwrap();
            nested.run_with(
                43,
                idle(|| {
                    outer.open();
                    inner.open();
                }),
            );
        };
        executor.spawn(Box::pin(task)).ok().unwrap();
        executor.run_with(43, idle(|| panic!("both are ready")));
    }

    #[test]
    fn there_is_room_for_as_many_tasks_as_said() {
        let count = Cell::new(0);
        let executor = Executor::<Task<'_>>::default();
        for _ in 0..MAIN {
            executor.spawn(Box::pin(async { count.set(count.get() + 1) })).ok().unwrap();
        }
        assert!(executor.spawn(Box::pin(async {})).is_err());
        executor.run_with(44, idle(|| panic!("no task waits")));
        assert_eq!(count.get(), MAIN);
        assert!(executor.spawn(Box::pin(async {})).is_ok(), "there is room again");
    }

    #[test]
    fn a_wake_up_of_nobody_is_nothing() {
        wake(usize::MAX, 0);
        wake(45, usize::MAX);
        let executor = Executor::<Task<'_>>::default();
        (0..=MAIN).for_each(|task| wake(45, task));
        executor.run_with(45, idle(|| panic!("there is no task")));
    }
}
