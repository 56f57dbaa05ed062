//! Now, and the timer of each virtual CPU.

use core::future::Future;
use core::marker::PhantomData;
use core::pin::Pin;
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::{Context, Poll};

use hypercall_abi::types::{Port, VcpuId};
use hypercall_abi::vcpu::{self as abi, SetSingleshotTimer};
use hypercall_abi::virq;

use super::{Duration, Instant, Scale};
use crate::error::{HypercallError, Site, perform};
use crate::event::Channel;
use crate::raw::gate::Machine;
use crate::raw::registers::counter;
use crate::raw::request;
use crate::shared::shared;
use crate::vcpu::{NO_VCPU, Vcpu, site};

static STOP_PERIODIC: Site = site(abi::STOP_PERIODIC_TIMER, &[NO_VCPU]);
static SET_SINGLESHOT: Site = site(abi::SET_SINGLESHOT_TIMER, &[]);

/// The latest time that was read on any virtual CPU: counters may differ by a little.
static LATEST: AtomicU64 = AtomicU64::new(0);

pub(super) fn now() -> Instant {
    let info = Vcpu::current().and_then(Vcpu::info).expect("the clock comes with Vcpu::start");
    let (scale, counter) = Scale::read(&info.time, counter);
    let now = scale.time(counter).0;
    Instant(LATEST.fetch_max(now, Ordering::SeqCst).max(now))
}

/// The time since the beginning of 1970, UTC. It jumps when the clock is set.
///
/// # Panics
/// Before [`Vcpu::start`].
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{time, println};
/// # fn example() {
/// println!("{} s since 1970", time::wall_clock().as_secs());
/// # }
/// ```
#[must_use]
pub fn wall_clock() -> Duration {
    let shared = shared().expect("the clock comes with Vcpu::start");
    loop {
        let version = shared.wall_clock_version.load(Ordering::Acquire);
        let low = shared.wall_clock_seconds.load(Ordering::Acquire);
        let high = shared.wall_clock_seconds_high.load(Ordering::Acquire);
        let nanoseconds = shared.wall_clock_nanoseconds.load(Ordering::Acquire);
        if version.is_multiple_of(2) && shared.wall_clock_version.load(Ordering::Acquire) == version
        {
            let start = Duration::new(u64::from(high) << 32 | u64::from(low), nanoseconds);
            return start.saturating_add(Duration::from_nanos(now().0));
        }
    }
}

/// Makes the timer of a virtual CPU, whose first one this must be.
pub(crate) fn prepare(vcpu: VcpuId) -> Result<(), HypercallError> {
    perform(&Machine, &STOP_PERIODIC, &request::stop_periodic_timer(vcpu))?;
    let channel = Channel::virq(virq::TIMER, vcpu)?;
    channel.handle(&expire);
    core::mem::forget(channel);
    Ok(())
}

/// Wakes who is due, on the virtual CPU whose timer it is.
fn expire(_port: Port) {
    let Some(vcpu) = Vcpu::current() else { return };
    loop {
        let due = vcpu.timers.borrow_mut().take(now());
        let Some(waker) = due else { break };
        waker.wake();
    }
    let _cannot_be_refused = arm(vcpu);
}

/// Sets the timer for the first who waits. Events must be held back.
fn arm(vcpu: &Vcpu) -> Result<(), HypercallError> {
    let Some(first) = vcpu.timers.borrow().first() else { return Ok(()) };
    let timer = SetSingleshotTimer { timeout_abs_ns: first.0, flags: 0, pad: 0 };
    perform(&Machine, &SET_SINGLESHOT, &request::set_singleshot_timer(vcpu.id(), &timer)).map(drop)
}

/// Completes after `duration`, or a little later. Blocking: `block_on(sleep(duration))`.
///
/// # Panics
/// When it waits before [`Vcpu::start`].
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{time::{Duration, sleep}};
/// # async fn example() {
/// sleep(Duration::from_millis(10)).await;
/// # }
/// ```
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(Instant::now() + duration)
}

/// Completes at a time, or a little later.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{time::{Duration, Instant, sleep_until}};
/// # async fn example() {
/// let mut next = Instant::now();
/// for _ in 0..3 {
///     next = next + Duration::from_millis(10); // without drift
///     sleep_until(next).await;
/// }
/// # }
/// ```
pub const fn sleep_until(at: Instant) -> Sleep {
    Sleep { at, key: None, stays: PhantomData }
}

/// What [`sleep`] returns. It waits on the virtual CPU that first polls it.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{time::{Duration, Sleep, sleep}};
/// # async fn example() {
/// let pause: Sleep = sleep(Duration::from_millis(10)); // begins when it is waited for
/// pause.await;
/// # }
/// ```
#[derive(Debug)]
#[must_use = "does nothing unless it is awaited"]
pub struct Sleep {
    at: Instant,
    key: Option<u64>,
    stays: PhantomData<*const ()>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.at {
            return Poll::Ready(());
        }
        let vcpu = Vcpu::current().expect("the clock comes with Vcpu::start");
        let (key, armed) = vcpu.quietly(|| {
            let key = vcpu.timers.borrow_mut().set(self.key, self.at, context.waker());
            (key, arm(vcpu))
        });
        self.key = self.key.or(key);
        if key.is_none() || armed.is_err() {
            // Without a place in the queue it asks again at once.
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let (Some(key), Some(vcpu)) = (self.key, Vcpu::current()) {
            vcpu.quietly(|| vcpu.timers.borrow_mut().remove(key));
        }
    }
}
