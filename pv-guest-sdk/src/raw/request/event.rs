//! `event_channel_op`, hypercall 32: ports.

use hypercall_abi::call::Hypercall;
use hypercall_abi::event::{
    ALLOC_UNBOUND, AllocUnbound, BIND_INTERDOMAIN, BIND_IPI, BIND_PIRQ, BIND_VCPU, BIND_VIRQ,
    BindInterdomain, BindIpi, BindPirq, BindVcpu, BindVirq, CLOSE, Close, EventStatus, SEND,
    STATUS, Send, UNMASK, Unmask,
};

use super::{Request, writable};

/// The argument of an operation on ports, which says which operation it is of.
pub(crate) trait EventArgument {
    /// The operation's number.
    const OPERATION: u32;
}

macro_rules! arguments {
    ($($argument:ident $operation:ident,)*) => {
        $(impl EventArgument for $argument {
            const OPERATION: u32 = $operation;
        })*
    };
}

arguments! {
    AllocUnbound ALLOC_UNBOUND,
    BindInterdomain BIND_INTERDOMAIN,
    BindIpi BIND_IPI,
    BindPirq BIND_PIRQ,
    BindVcpu BIND_VCPU,
    BindVirq BIND_VIRQ,
    Close CLOSE,
    EventStatus STATUS,
    Send SEND,
    Unmask UNMASK,
}

/// Does with ports what the argument's type says.
pub(crate) fn event_channel<T: EventArgument>(argument: &mut T) -> Request<'_> {
    let args = [T::OPERATION.into(), writable(argument), 0, 0, 0, 0];
    // SAFETY: the hypervisor reads and writes the operation's own structure, which consists of
    // integers and is borrowed, and bits of the shared page, which are atomics.
    unsafe { Request::new(Hypercall::EventChannelOp, args) }
}
