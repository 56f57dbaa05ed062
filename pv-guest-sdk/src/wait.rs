//! Giving the processor up: until an event, until a time, or for a moment.

use hypercall_abi::call::Hypercall;
use hypercall_abi::errno::Errno;
use hypercall_abi::sched;
use hypercall_abi::types::Port;

use crate::error::{HypercallError, Site, perform};
use crate::raw::gate::{Gate, Machine};
use crate::raw::request::{self, PortList};
use crate::time::Instant;

static POLL: Site = Site::operation(
    Hypercall::SchedOp,
    sched::OPS,
    sched::POLL,
    &[(Errno::EINVAL, "too many ports, or one that is not open")],
);

/// Lets other virtual CPUs run.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{wait};
/// # fn example() {
/// wait::yield_now(); // others may run
/// # }
/// ```
pub fn yield_now() {
    Machine.call(&request::yield_now());
}

/// Waits until an event is pending at one of the ports, or until a time, whether or not events are
/// held back or the ports masked. It may also end for no such reason.
///
/// # Errors
/// EINVAL (22) for more than 128 ports, or one that is not open.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, abi::types::Port, time::{Duration, Instant}, wait};
/// # fn example(now: Instant) -> Result<(), HypercallError> {
/// // At most a second, with events held back.
/// let until = now + Duration::from_secs(1);
/// wait::poll(&Machine, &[Port(5)], Some(until))?;
/// # Ok(())
/// # }
/// ```
pub fn poll(
    gate: &impl Gate,
    ports: &[Port],
    until: Option<Instant>,
) -> Result<(), HypercallError> {
    let timeout = until.map_or(0, |until| until.nanoseconds().max(1));
    perform(gate, &POLL, &request::poll(&PortList::new(ports, timeout))).map(drop)
}

/// Waits until `condition`, which is asked with events held back: again after each event. Whoever
/// makes it true must be an event's receiver here or wake this virtual CPU.
#[cfg(target_os = "none")]
pub(crate) fn until(mut condition: impl FnMut() -> bool) {
    let vcpu = crate::vcpu::Vcpu::current().filter(|vcpu| !vcpu.exchange_hold(true));
    let vcpu = vcpu.expect("to wait, events must come: see Vcpu::start_events; no handler waits");
    while !condition() {
        vcpu.wait();
    }
    vcpu.hold_events(false);
}

#[cfg(test)]
mod tests {
    use core::cell::RefCell;
    use std::vec::Vec;

    use hypercall_abi::types::Port;

    use super::poll;
    use crate::raw::gate::{CpuidAnswer, Gate, Request};
    use crate::time::Instant;

    /// Remembers numbers and the first argument.
    #[derive(Default)]
    struct Recorder(RefCell<Vec<(u64, u64)>>);

    impl Gate for Recorder {
        fn call(&self, request: &Request<'_>) -> i64 {
            self.0.borrow_mut().push((request.number(), request.args()[0]));
            0
        }

        fn cpuid(&self, _leaf: u32, _subleaf: u32) -> CpuidAnswer {
            [0; 4]
        }
    }

    #[test]
    fn a_poll_is_one_call() {
        let gate = Recorder::default();
        poll(&gate, &[Port(1), Port(2)], Some(Instant::from_nanoseconds(5))).unwrap();
        assert_eq!(*gate.0.borrow(), [(29, 3)]);
    }
}
