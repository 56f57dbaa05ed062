//! Ruling other domains, from the control domain.
//!
//! A [`Domain`] is one that this guest has made: it is given memory ([`Domain::populate`]),
//! virtual CPUs ([`MaxVcpus`] by [`Domain::apply`]), contents ([`Domain::map`]), a state
//! ([`Domain::set_context`]), and let go ([`Plain::Unpause`]). What it does then is in
//! [`Domain::info`]; the virtual interrupt `virq::DOM_EXC` says when to look. [`survey`] tells of
//! the machine and of all domains.

use core::fmt;

use hypercall_abi::call::Hypercall;
use hypercall_abi::domctl as abi;
use hypercall_abi::errno::Errno;
use hypercall_abi::{event, grant, memory, sysctl};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::error::{HypercallError, Site};
use crate::grant::Refusal;
use crate::paging::MemoryError;
pub use crate::raw::control::{Domain, Foreign};
pub use crate::raw::survey;
pub use abi::{
    CreateDomain, Credit2, DomainFlags, DomainInfo, GetVcpuInfo, IomemPermission, IoportPermission,
    IrqPermission, MaxMem, MaxVcpus, SchedulerOp, SetTimeOffset,
};

/// Operations that take nothing but the domain.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{control::{ControlError, Domain, Plain}};
/// # fn example(domain: &Domain) -> Result<(), ControlError> {
/// domain.control(Plain::Pause)?;
/// domain.control(Plain::Unpause)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Plain {
    /// Ends the domain and gives its memory back, but for what others have mapped.
    Destroy = abi::DESTROYDOMAIN,
    /// Stops it.
    Pause = abi::PAUSEDOMAIN,
    /// Lets it run.
    Unpause = abi::UNPAUSEDOMAIN,
}

mod sealed {
    pub trait Sealed {}
}

/// The payload of an operation, without guest addresses in it.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{control::{ControlError, Domain, MaxMem}};
/// # fn example(domain: &Domain) -> Result<(), ControlError> {
/// // A structure of an operation of `domctl` is a `Payload`.
/// domain.apply(&mut MaxMem { max_memkb: 16 << 10 })?;
/// # Ok(())
/// # }
/// ```
pub trait Payload: FromBytes + IntoBytes + Immutable + sealed::Sealed {
    /// The operation's number.
    const OPERATION: u32;
}

macro_rules! payloads {
    ($($payload:ident $operation:ident,)*) => {
        $(impl sealed::Sealed for $payload {}
        impl Payload for $payload {
            const OPERATION: u32 = abi::$operation;
        })*
    };
}

payloads! {
    DomainInfo GETDOMAININFO,
    GetVcpuInfo GETVCPUINFO,
    IomemPermission IOMEM_PERMISSION,
    IoportPermission IOPORT_PERMISSION,
    IrqPermission IRQ_PERMISSION,
    MaxMem MAX_MEM,
    MaxVcpus MAX_VCPUS,
    SchedulerOp SCHEDULER_OP,
    SetTimeOffset SETTIMEOFFSET,
}

const NOT_CONTROL: (Errno, &str) = (Errno::EPERM, "only the control domain may");
const GONE: (Errno, &str) = (Errno::ESRCH, "there is no such domain");
const CAUSES: &[(Errno, &str)] = &[
    NOT_CONTROL,
    GONE,
    (Errno::EACCES, "the hypervisor speaks another version of this interface"),
    (Errno::EINVAL, "the hypervisor does not take these settings, or not in the domain's state"),
];

macro_rules! sites {
    ($($operation:ident)*) => {
        /// The place of an operation.
        pub(crate) fn site(operation: u32) -> &'static Site {
            static OTHER: Site = Site::call(Hypercall::Domctl, CAUSES);
            match operation {
                $(abi::$operation => {
                    static SITE: Site =
                        Site::operation(Hypercall::Domctl, abi::OPS, abi::$operation, CAUSES);
                    &SITE
                })*
                _ => &OTHER,
            }
        }
    };
}

sites! {
    SETVCPUAFFINITY GETVCPUAFFINITY CREATEDOMAIN DESTROYDOMAIN PAUSEDOMAIN UNPAUSEDOMAIN GETDOMAININFO MAX_MEM SETVCPUCONTEXT
    GETVCPUCONTEXT GETVCPUINFO MAX_VCPUS SCHEDULER_OP IRQ_PERMISSION IOMEM_PERMISSION
    IOPORT_PERMISSION SETTIMEOFFSET
}

/// The place of a question about the machine.
pub(crate) fn survey_site(operation: u32) -> &'static Site {
    static LOG: Site = survey_of(sysctl::READCONSOLE);
    static MACHINE: Site = survey_of(sysctl::PHYSINFO);
    static DOMAINS: Site = survey_of(sysctl::GETDOMAININFOLIST);
    match operation {
        sysctl::READCONSOLE => &LOG,
        sysctl::PHYSINFO => &MACHINE,
        _ => &DOMAINS,
    }
}

const fn survey_of(operation: u32) -> Site {
    Site::operation(Hypercall::Sysctl, sysctl::OPS, operation, CAUSES)
}

pub(crate) static POPULATE: Site =
    Site::operation(Hypercall::MemoryOp, memory::OPS, memory::POPULATE_PHYSMAP, CAUSES);
pub(crate) static SET_MAP: Site =
    Site::operation(Hypercall::MemoryOp, memory::OPS, memory::SET_MEMORY_MAP, CAUSES);
pub(crate) static UNBOUND: Site =
    Site::operation(Hypercall::EventChannelOp, event::OPS, event::ALLOC_UNBOUND, CAUSES);
pub(crate) static SETUP: Site =
    Site::operation(Hypercall::GrantTableOp, grant::OPS, grant::SETUP_TABLE, CAUSES);

/// Why something cannot be done to a domain.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{control::{ControlError, Domain}, println};
/// # fn example(domain: &Domain) {
/// match domain.info() {
///     Ok(info) => println!("{info:?}"),
///     Err(ControlError::Gone) => println!("it has ended"),
///     Err(other) => println!("{other}"),
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ControlError {
    /// The hypervisor refused.
    Refused(HypercallError),
    /// The hypervisor refused to do something with the grant table.
    Grant(Refusal),
    /// This domain's own memory.
    Own(MemoryError),
    /// The machine has no more memory; the domain got so many frames.
    Memory(u64),
    /// The domain is gone.
    Gone,
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "{error}"),
            Self::Grant(error) => write!(f, "{error}"),
            Self::Own(error) => write!(f, "{error}"),
            Self::Memory(got) => write!(f, "no memory for more than {got} frames"),
            Self::Gone => f.write_str("the domain is gone"),
        }
    }
}

impl core::error::Error for ControlError {}

impl From<HypercallError> for ControlError {
    fn from(error: HypercallError) -> Self {
        Self::Refused(error)
    }
}

impl From<Refusal> for ControlError {
    fn from(error: Refusal) -> Self {
        Self::Grant(error)
    }
}

impl From<MemoryError> for ControlError {
    fn from(error: MemoryError) -> Self {
        Self::Own(error)
    }
}
