//! Why an operation on memory is refused, in words for whoever writes the guest.

use core::fmt;

use hypercall_abi::errno::Errno;
use hypercall_abi::types::{DomId, Mfn};

use super::entry::Level;
use crate::frames::{FrameError, FrameType};

/// A refused operation: nothing has changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// The reason.
    pub why: Why,
    /// The entry it is about, if it is about one.
    pub place: Option<Place>,
}

/// An entry of a page table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// The table's level.
    pub level: Level,
    /// The table.
    pub table: Mfn,
    /// The entry's index.
    pub index: u16,
}

/// The reasons.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// The entry has bits that a guest may not set.
    Bits(u64),
    /// The entry is the hypervisor's.
    HypervisorSlot,
    /// The frame is not the domain's.
    NotOwned(Mfn),
    /// The frame is in use as something else.
    InUse {
        /// The frame.
        mfn: Mfn,
        /// What it is.
        is: FrameType,
        /// What it would have to be.
        want: FrameType,
    },
    /// The frame has as many references as can be counted.
    TooMany(Mfn),
    /// The frame is a device's, and the domain has none.
    Device(Mfn),
    /// The frame is a device's that the kernel drives itself.
    KeptDevice(Mfn),
    /// The address has no L1 table in the current address space.
    NoTable(u64),
    /// The address is not one of guest memory.
    Address(u64),
    /// The frame is not a page table of the domain.
    NotTable(Mfn),
    /// The machine address of the entry is not aligned.
    Misaligned(u64),
    /// The frame is pinned already.
    Pinned(Mfn),
    /// The entry is above level 1, and the request names another domain.
    ForeignTable,
    /// The frame is not pinned.
    NotPinned(Mfn),
    /// The entry does not map the frame, or not so.
    NotMapped(Mfn),
    /// A descriptor is not one that a guest may use.
    Descriptor {
        /// The frame.
        mfn: Mfn,
        /// The descriptor's index.
        index: u16,
        /// Its value.
        value: u64,
    },
    /// The named domain doesn't exist, or is none of the caller's business.
    Domain(DomId),
    /// The number of things is too large or makes no sense.
    Count(u64),
    /// The domain keeps its own list of frames.
    OwnList,
    /// How something is cached is not for the guest to say: the frame is the hypervisor's too, or
    /// the domain has no devices.
    Caching,
    /// The caches of all CPUs are none of the domain's business.
    AllCaches,
    /// A command without a meaning.
    Command(u64),
    /// A command whose subject no guest has.
    Gone(u32),
    /// The set of vCPUs at this guest address can't be read.
    Set(u64),
    /// The operation is the privileged domain's.
    Privilege,
    /// A guest address could not be read or written.
    Fault(u64),
    /// There is no memory left, or the domain has as much as it may have.
    NoMemory,
}

/// The frame number of an entry of all ones.
const NO_FRAME: u64 = (1 << 40) - 1;

impl Refusal {
    /// A refusal that is not about an entry.
    #[must_use]
    pub const fn new(why: Why) -> Self {
        Self { why, place: None }
    }

    /// A refusal because of a frame that was to become `want`.
    #[must_use]
    pub const fn frame(mfn: Mfn, want: FrameType, error: FrameError) -> Self {
        Self::new(match error {
            FrameError::NotOwned => Why::NotOwned(mfn),
            FrameError::Conflict(is) => Why::InUse { mfn, is, want },
            FrameError::Overflow | FrameError::Flag => Why::TooMany(mfn),
        })
    }

    /// This refusal, said to be about an entry; the innermost entry stays.
    #[must_use]
    pub fn at(self, place: Place) -> Self {
        Self { place: self.place.or(Some(place)), ..self }
    }

    /// The error number that the guest gets. Measured on Xen 4.17: what is wrong with a frame is
    /// `EBUSY` when an entry of level 1 maps it, alone or in a table that is checked as a whole, and
    /// `EINVAL` everywhere else.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        match self.why {
            Why::NotOwned(_) | Why::InUse { .. } | Why::TooMany(_) => match self.place {
                Some(Place { level: Level::L1, .. }) => Errno::EBUSY,
                _ => Errno::EINVAL,
            },
            // The frame that an entry of all ones names.
            Why::Device(Mfn(NO_FRAME)) => Errno::EINVAL,
            Why::Device(_) | Why::KeptDevice(_) => Errno::EPERM,
            Why::Gone(_) => Errno::EOPNOTSUPP,
            Why::OwnList | Why::Caching => Errno::EACCES,
            Why::Bits(_)
            | Why::HypervisorSlot
            | Why::NoTable(_)
            | Why::Address(_)
            | Why::NotTable(_)
            | Why::Misaligned(_)
            | Why::Pinned(_)
            | Why::ForeignTable
            | Why::NotPinned(_)
            | Why::NotMapped(_)
            | Why::Descriptor { .. }
            | Why::Count(_)
            | Why::AllCaches
            | Why::Set(_) => Errno::EINVAL,
            Why::Domain(_) => Errno::ESRCH,
            Why::Command(_) => Errno::ENOSYS,
            Why::Privilege => Errno::EPERM,
            Why::Fault(_) => Errno::EFAULT,
            Why::NoMemory => Errno::ENOMEM,
        }
    }
}

/// What a frame is, as the end of "which is ...".
struct Use(FrameType);

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            FrameType::None => "nothing in particular",
            FrameType::Writable => "mapped writable",
            FrameType::L1 => "an L1 table",
            FrameType::L2 => "an L2 table",
            FrameType::L3 => "an L3 table",
            FrameType::L4 => "an L4 table",
            FrameType::Descriptors => "a page of descriptors",
            FrameType::Shared => "shared copy-on-write",
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Place { level, table, index }) = self.place {
            write!(f, "{level} entry {index} of frame {table:#x}: ")?;
        }
        self.why.fmt(f)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Bits(bits) => write!(f, "bits {bits:#x} are not for guests to set"),
            Self::HypervisorSlot => f.write_str("this entry is the hypervisor's"),
            Self::NotOwned(mfn) => write!(f, "frame {mfn:#x} is not this domain's"),
            Self::InUse { mfn, is, want: FrameType::Writable } => {
                write!(f, "frame {mfn:#x} can't be mapped writable: it is {}", Use(is))
            }
            Self::InUse { mfn, is, want } => {
                write!(f, "frame {mfn:#x} would have to be {}, but is {}", Use(want), Use(is))
            }
            Self::TooMany(mfn) => write!(f, "frame {mfn:#x} has too many references"),
            Self::Device(mfn) => {
                write!(f, "frame {mfn:#x} is no memory, and this domain has no devices")
            }
            Self::KeptDevice(mfn) => {
                write!(f, "frame {mfn:#x} is of a device that the hypervisor drives itself")
            }
            Self::NoTable(va) => write!(f, "no L1 table maps address {va:#x}"),
            Self::Address(va) => write!(f, "address {va:#x} is not the guest's"),
            Self::NotTable(mfn) => write!(f, "frame {mfn:#x} is no page table of this domain"),
            Self::Misaligned(ptr) => write!(f, "machine address {ptr:#x} is not aligned"),
            Self::Pinned(mfn) => write!(f, "frame {mfn:#x} is pinned already"),
            Self::ForeignTable => f.write_str("another domain's tables can't be referred to"),
            Self::NotPinned(mfn) => write!(f, "frame {mfn:#x} is not pinned"),
            Self::NotMapped(mfn) => write!(f, "frame {mfn:#x} is not mapped so there"),
            Self::Descriptor { mfn, index, value } => {
                write!(f, "descriptor {index} of frame {mfn:#x} is not allowed: {value:#018x}")
            }
            Self::Domain(id) => write!(f, "domain {id} can't be reached"),
            Self::Count(count) => write!(f, "{count} is too many, or none, or not aligned"),
            Self::Command(command) => write!(f, "command {command} has no meaning"),
            Self::Gone(command) => {
                write!(f, "command {command} is about something that no guest has")
            }
            Self::OwnList => f.write_str("the domain keeps its list of frames itself"),
            Self::Caching | Self::AllCaches => {
                f.write_str("caching is not this domain's to choose")
            }
            Self::Set(va) => write!(f, "the set of vCPUs at {va:#x} can't be read"),
            Self::Privilege => f.write_str("this is for the privileged domain"),
            Self::Fault(va) => write!(f, "guest address {va:#x} can't be accessed"),
            Self::NoMemory => f.write_str("no memory is left for this domain"),
        }
    }
}
