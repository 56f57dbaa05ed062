//! `sched_op`, hypercall 29.

use core::marker::PhantomData;

use hypercall_abi::call::Hypercall;
use hypercall_abi::sched::{BLOCK, POLL, SHUTDOWN, SchedPoll, SchedShutdown, YIELD};
use hypercall_abi::types::Port;

use super::{Request, readable};

/// Lets other virtual CPUs run.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, println, raw::request};
/// # fn example() {
/// println!("{}", Machine.call(&request::yield_now()));
/// # }
/// ```
#[must_use]
pub fn yield_now() -> Request<'static> {
    // SAFETY: touches no memory of this program.
    unsafe { Request::new(Hypercall::SchedOp, [YIELD.into(), 0, 0, 0, 0, 0]) }
}

/// Lets events come, and waits for one.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, println, raw::request};
/// # fn example() {
/// println!("{}", Machine.call(&request::block()));
/// # }
/// ```
#[must_use]
pub fn block() -> Request<'static> {
    // SAFETY: touches nothing but the event mask in the shared page, an atomic.
    unsafe { Request::new(Hypercall::SchedOp, [BLOCK.into(), 0, 0, 0, 0, 0]) }
}

/// Some ports to wait for.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, abi::types::Port, println, raw::request};
/// # fn example() {
/// let ports = [Port(5)];
/// let list = request::PortList::new(&ports, 0); // without end
/// println!("{}", Machine.call(&request::poll(&list)));
/// # }
/// ```
#[derive(Debug)]
pub struct PortList<'a> {
    list: SchedPoll,
    borrowed: PhantomData<&'a [Port]>,
}

impl<'a> PortList<'a> {
    /// These ports, until a time. Unit: ns of system time; 0: for ever.
    #[must_use]
    pub fn new(ports: &'a [Port], timeout: u64) -> Self {
        let nr_ports = u32::try_from(ports.len()).unwrap_or(u32::MAX);
        let list = SchedPoll { ports: readable(ports), nr_ports, pad: 0, timeout };
        Self { list, borrowed: PhantomData }
    }
}

/// Waits until an event is pending at one of the ports, whether or not events are held back.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, println, raw::request};
/// # fn example(list: &request::PortList<'_>) {
/// println!("{}", Machine.call(&request::poll(list)));
/// # }
/// ```
#[must_use]
pub fn poll<'a>(ports: &'a PortList<'_>) -> Request<'a> {
    let args = [POLL.into(), readable(&ports.list), 0, 0, 0, 0];
    // SAFETY: the hypervisor only reads the structure and the ports that it borrows.
    unsafe { Request::new(Hypercall::SchedOp, args) }
}

/// Ends the domain for `reason`.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, abi::sched::SchedShutdown, println, raw::request};
/// # fn example(reason: &SchedShutdown) {
/// println!("{}", Machine.call(&request::shutdown(reason)));
/// # }
/// ```
#[must_use]
pub fn shutdown(reason: &SchedShutdown) -> Request<'_> {
    // SAFETY: the hypervisor only reads the reason; should it suspend the domain instead of
    // ending it, the program continues behind the call.
    unsafe { Request::new(Hypercall::SchedOp, [SHUTDOWN.into(), readable(reason), 0, 0, 0, 0]) }
}
