//! The calls for ports, by number. `Channel` is the owned form of them.

use hypercall_abi::call::Hypercall;
use hypercall_abi::errno::Errno;
use hypercall_abi::event as abi;
use hypercall_abi::types::{DomId, Port, VcpuId};

use crate::error::{HypercallError, Site, perform};
use crate::raw::gate::Gate;
use crate::raw::request::event_channel;

const FULL: (Errno, &str) = (Errno::ENOSPC, "no port is free");
const NO_DOMAIN: (Errno, &str) = (Errno::ESRCH, "there is no such domain");
const NO_VCPU: (Errno, &str) = (Errno::ENOENT, "there is no such virtual CPU");
const NOT_OPEN: (Errno, &str) = (Errno::EINVAL, "the port is not open");

const fn site(operation: u32, causes: &'static [(Errno, &'static str)]) -> Site {
    Site::operation(Hypercall::EventChannelOp, abi::OPS, operation, causes)
}

static ALLOC_UNBOUND: Site = site(abi::ALLOC_UNBOUND, &[FULL, NO_DOMAIN]);
static BIND_INTERDOMAIN: Site = site(
    abi::BIND_INTERDOMAIN,
    &[FULL, NO_DOMAIN, (Errno::EINVAL, "the other port does not wait for this domain")],
);
static BIND_PIRQ: Site = site(
    abi::BIND_PIRQ,
    &[
        FULL,
        (Errno::EPERM, "the interrupt is not for this domain"),
        (Errno::EEXIST, "the interrupt is bound to a port already"),
        (Errno::EINVAL, "there is no such interrupt"),
    ],
);
static BIND_IPI: Site = site(abi::BIND_IPI, &[FULL, NO_VCPU]);
static BIND_VIRQ: Site = site(
    abi::BIND_VIRQ,
    &[
        FULL,
        NO_VCPU,
        (Errno::EEXIST, "the interrupt is bound to a port already"),
        (Errno::EINVAL, "no such interrupt, or not one of this virtual CPU"),
        (Errno::EPERM, "the interrupt is not for this domain"),
    ],
);
static BIND_VCPU: Site =
    site(abi::BIND_VCPU, &[NO_VCPU, (Errno::EINVAL, "the port stays with its virtual CPU")]);
static CLOSE: Site = site(abi::CLOSE, &[NOT_OPEN]);
static SEND: Site = site(abi::SEND, &[NOT_OPEN]);
static STATUS: Site = site(abi::STATUS, &[(Errno::EINVAL, "there is no such port")]);
static UNMASK: Site = site(abi::UNMASK, &[NOT_OPEN]);

/// Makes a port that `remote` may bind to. Virtual CPU 0 is notified.
///
/// # Errors
/// ENOSPC (28) if no port is free, ESRCH (3) if there is no such domain.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, abi::types::{DomId, Port, VcpuId}, event::port};
/// # fn example() -> Result<(), HypercallError> {
/// let offered = port::alloc_unbound(&Machine, DomId(1))?;
/// # Ok(())
/// # }
/// ```
pub fn alloc_unbound(gate: &impl Gate, remote: DomId) -> Result<Port, HypercallError> {
    let mut argument =
        abi::AllocUnbound { dom: DomId::SELF, remote_dom: remote, port: Port::default() };
    perform(gate, &ALLOC_UNBOUND, &event_channel(&mut argument))?;
    Ok(argument.port)
}

/// Makes a port that is connected to another domain's unbound one. Virtual CPU 0 is notified.
///
/// # Errors
/// EINVAL (22) if the other port does not wait for this domain, ENOSPC (28) if no port is free,
/// ESRCH (3) if there is no such domain.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, abi::types::{DomId, Port, VcpuId}, event::port};
/// # fn example() -> Result<(), HypercallError> {
/// let ours = port::bind_interdomain(&Machine, DomId(1), Port(5))?;
/// # Ok(())
/// # }
/// ```
pub fn bind_interdomain(
    gate: &impl Gate,
    remote: DomId,
    port: Port,
) -> Result<Port, HypercallError> {
    let mut argument =
        abi::BindInterdomain { remote_dom: remote, remote_port: port, ..Default::default() };
    perform(gate, &BIND_INTERDOMAIN, &event_channel(&mut argument))?;
    Ok(argument.local_port)
}

/// Makes a port by which virtual CPUs signal one of them.
///
/// # Errors
/// ENOENT (2) if there is no such virtual CPU, ENOSPC (28) if no port is free.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, abi::types::{DomId, Port, VcpuId}, event::port};
/// # fn example() -> Result<(), HypercallError> {
/// let ours = port::bind_ipi(&Machine, VcpuId(0))?;
/// # Ok(())
/// # }
/// ```
pub fn bind_ipi(gate: &impl Gate, vcpu: VcpuId) -> Result<Port, HypercallError> {
    let mut argument = abi::BindIpi { vcpu, port: Port::default() };
    perform(gate, &BIND_IPI, &event_channel(&mut argument))?;
    Ok(argument.port)
}

/// Makes a port of a device's interrupt; `shared` if other domains may have the same.
///
/// # Errors
/// EPERM (1) if the interrupt is not for this domain, EINVAL (22) if there is none of that number,
/// EEXIST (17) if it is bound, ENOSPC (28) if no port is free.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, abi::types::{DomId, Port, VcpuId}, event::port};
/// # fn example() -> Result<(), HypercallError> {
/// let ours = port::bind_pirq(&Machine, 11, port::Share::Shared)?;
/// # Ok(())
/// # }
/// ```
pub fn bind_pirq(gate: &impl Gate, pirq: u32, share: Share) -> Result<Port, HypercallError> {
    let mut argument = abi::BindPirq { pirq, flags: share as u32, port: Port::default() };
    perform(gate, &BIND_PIRQ, &event_channel(&mut argument))?;
    Ok(argument.port)
}

/// Makes a port of a virtual interrupt (numbers in [`hypercall_abi::virq`]).
///
/// # Errors
/// EINVAL (22) for one that there is not, or that is not a virtual CPU's own and asked for another
/// than 0; ENOENT (2) if there is no such virtual CPU; EEXIST (17) if the interrupt is bound;
/// ENOSPC (28) if no port is free.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, abi::types::{DomId, Port, VcpuId}, event::port};
/// # fn example() -> Result<(), HypercallError> {
/// let timer = port::bind_virq(&Machine, 0, VcpuId(0))?;
/// # Ok(())
/// # }
/// ```
pub fn bind_virq(gate: &impl Gate, virq: u32, vcpu: VcpuId) -> Result<Port, HypercallError> {
    let mut argument = abi::BindVirq { virq, vcpu, port: Port::default() };
    perform(gate, &BIND_VIRQ, &event_channel(&mut argument))?;
    Ok(argument.port)
}

/// Chooses the virtual CPU that a port notifies. An event that is pending is not moved.
///
/// # Errors
/// ENOENT (2) if there is no such virtual CPU; EINVAL (22) if the port is not open, or one of a
/// virtual CPU's own.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, abi::types::{DomId, Port, VcpuId}, event::port};
/// # fn example() -> Result<(), HypercallError> {
/// port::bind_vcpu(&Machine, Port(5), VcpuId(1))?;
/// # Ok(())
/// # }
/// ```
pub fn bind_vcpu(gate: &impl Gate, port: Port, vcpu: VcpuId) -> Result<(), HypercallError> {
    perform(gate, &BIND_VCPU, &event_channel(&mut abi::BindVcpu { port, vcpu })).map(drop)
}

/// Closes a port.
///
/// # Errors
/// EINVAL (22) if the port is not open.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, abi::types::{DomId, Port, VcpuId}, event::port};
/// # fn example() -> Result<(), HypercallError> {
/// port::close(&Machine, Port(5))?;
/// # Ok(())
/// # }
/// ```
pub fn close(gate: &impl Gate, port: Port) -> Result<(), HypercallError> {
    perform(gate, &CLOSE, &event_channel(&mut abi::Close { port })).map(drop)
}

/// Signals the other end of a port. Nobody hears it if there is none yet.
///
/// # Errors
/// EINVAL (22) if the port is not open or cannot be signalled.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, abi::types::{DomId, Port, VcpuId}, event::port};
/// # fn example() -> Result<(), HypercallError> {
/// port::send(&Machine, Port(5))?;
/// # Ok(())
/// # }
/// ```
pub fn send(gate: &impl Gate, port: Port) -> Result<(), HypercallError> {
    perform(gate, &SEND, &event_channel(&mut abi::Send { port })).map(drop)
}

/// Unmasks a port, and notifies if an event is pending.
///
/// # Errors
/// EINVAL (22) if the port is not open.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, abi::types::{DomId, Port, VcpuId}, event::port};
/// # fn example() -> Result<(), HypercallError> {
/// port::unmask(&Machine, Port(5))?;
/// # Ok(())
/// # }
/// ```
pub fn unmask(gate: &impl Gate, port: Port) -> Result<(), HypercallError> {
    perform(gate, &UNMASK, &event_channel(&mut abi::Unmask { port })).map(drop)
}

/// What a port is connected to.
///
/// # Errors
/// EINVAL (22) if there is no such port.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, abi::types::{DomId, Port, VcpuId}, event::port, println};
/// # fn example() -> Result<(), HypercallError> {
/// let port::Status { state, vcpu } = port::status(&Machine, Port(5))?;
/// println!("{state:?}, on {vcpu:?}");
/// # Ok(())
/// # }
/// ```
pub fn status(gate: &impl Gate, port: Port) -> Result<Status, HypercallError> {
    let mut answer = abi::EventStatus { dom: DomId::SELF, port, ..Default::default() };
    perform(gate, &STATUS, &event_channel(&mut answer))?;
    let remote = DomId(u16::try_from(answer.detail & 0xffff).unwrap_or_default());
    let state = match answer.status {
        abi::STATUS_CLOSED => State::Closed,
        abi::STATUS_UNBOUND => State::Unbound(remote),
        abi::STATUS_INTERDOMAIN => State::Interdomain(remote, answer.remote_port),
        abi::STATUS_PIRQ => State::Pirq(answer.detail),
        abi::STATUS_VIRQ => State::Virq(answer.detail),
        abi::STATUS_IPI => State::Ipi,
        other => State::Other(other),
    };
    Ok(Status { state, vcpu: answer.vcpu })
}

/// What a port is, and whom it notifies.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{event::{State, Status}, println};
/// # fn example(status: Status) {
/// if status.state == State::Closed {
///     println!("nobody has it");
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Status {
    /// What it is.
    pub state: State,
    /// The virtual CPU that is notified.
    pub vcpu: VcpuId,
}

/// Whether a device's interrupt may come to several domains.
///
/// # Examples
///
/// ```ignore-none
/// # use pv_guest_sdk::{event::port::Share};
/// // Two devices have this wire.
/// let share = Share::Shared;
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Share {
    /// To this one alone.
    Alone = 0,
    /// To others that ask for it.
    Shared = 1,
}

/// What a port is.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{event::State, println};
/// # fn example(state: State) {
/// match state {
///     State::Interdomain(domain, port) => println!("port {} of domain {}", port.0, domain.0),
///     State::Unbound(domain) => println!("domain {} may connect to it", domain.0),
///     other => println!("{other:?}"),
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// Not in use.
    Closed,
    /// Waits for a domain to bind to it.
    Unbound(DomId),
    /// Connected to a domain's port.
    Interdomain(DomId, Port),
    /// Bound to a physical interrupt.
    Pirq(u32),
    /// Bound to a virtual interrupt.
    Virq(u32),
    /// Between virtual CPUs.
    Ipi,
    /// Something that this ABI does not name.
    Other(u32),
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use std::string::ToString;

    use hypercall_abi::types::{DomId, Port, VcpuId};

    use super::{alloc_unbound, bind_vcpu, bind_virq, close, send, unmask};
    use crate::raw::gate::{CpuidAnswer, Gate, Request};

    /// Remembers the last call's number and sub-operation.
    struct Recorder(i64, Cell<(u64, u64)>);

    impl Recorder {
        const fn new(answer: i64) -> Self {
            Self(answer, Cell::new((0, 0)))
        }
    }

    impl Gate for Recorder {
        fn call(&self, request: &Request<'_>) -> i64 {
            self.1.set((request.number(), request.args()[0]));
            self.0
        }

        fn cpuid(&self, _leaf: u32, _subleaf: u32) -> CpuidAnswer {
            [0; 4]
        }
    }

    #[test]
    fn every_call_has_its_operation() {
        let gate = Recorder::new(0);
        let last = || gate.1.take();
        alloc_unbound(&gate, DomId(0)).unwrap();
        assert_eq!(last(), (32, 6));
        bind_virq(&gate, 0, VcpuId(0)).unwrap();
        assert_eq!(last(), (32, 1));
        bind_vcpu(&gate, Port(1), VcpuId(0)).unwrap();
        assert_eq!(last(), (32, 8));
        close(&gate, Port(1)).unwrap();
        assert_eq!(last(), (32, 3));
        send(&gate, Port(1)).unwrap();
        assert_eq!(last(), (32, 4));
        unmask(&gate, Port(1)).unwrap();
        assert_eq!(last(), (32, 9));
    }

    #[test]
    fn a_refusal_says_what_it_means_for_a_port() {
        let error = bind_virq(&Recorder::new(-17), 0, VcpuId(0)).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("event_channel_op bind_virq(0x1, "), "{text}");
        assert_eq!(error.meaning(), "the interrupt is bound to a port already");
    }
}
