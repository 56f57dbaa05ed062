//! Names for the numbers that guest and kernel exchange, so that none is taken for another.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;

/// The size of a page and of a frame. Unit: bytes.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;

macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, Eq, FromBytes, Hash, Immutable, IntoBytes, KnownLayout, Ord,
            PartialEq, PartialOrd,
        )]
        #[repr(transparent)]
        pub struct $name(pub $inner);

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::Display::fmt(&self.0, f)
            }
        }

        impl core::fmt::LowerHex for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::LowerHex::fmt(&self.0, f)
            }
        }
    };
}

newtype! {
    /// A machine frame: the number of a real 4 KiB page. Page tables hold these.
    Mfn(u64)
}
newtype! {
    /// A guest's own frame number, from 0 to the pages it has less one. Only the guest's lists and
    /// the builder give it a meaning.
    Pfn(u64)
}
newtype! {
    /// An event channel's number within one domain. 0 is never a valid port.
    Port(u32)
}
newtype! {
    /// An index into one domain's grant table.
    GrantRef(u32)
}
newtype! {
    /// The kernel's name for one mapping of a grant; valid in the domain that mapped it.
    GrantHandle(u32)
}
newtype! {
    /// A virtual CPU's number within its domain.
    VcpuId(u32)
}
newtype! {
    /// A domain's number, or one of the reserved meanings from [`DomId::FIRST_RESERVED`] on.
    DomId(u16)
}

impl Mfn {
    /// The frame that holds the machine address `address`. Unit: bytes.
    #[must_use]
    pub const fn containing(address: u64) -> Self {
        Self(address >> PAGE_SHIFT)
    }

    /// The machine address of the frame's first byte; the highest bits are lost if the frame
    /// number has more than 52.
    #[must_use]
    pub const fn address(self) -> u64 {
        self.0 << PAGE_SHIFT
    }
}

impl DomId {
    /// The first number that is not a domain's.
    pub const FIRST_RESERVED: Self = Self(0x7ff0);
    /// The calling domain.
    pub const SELF: Self = Self(0x7ff0);
    /// Owner of device memory, and of frames that are mapped whoever owns them.
    pub const IO: Self = Self(0x7ff1);
    /// Owner of frames that the hypervisor shares with all.
    pub const XEN: Self = Self(0x7ff2);
    /// Owner of frames shared copy-on-write.
    pub const COW: Self = Self(0x7ff3);
    /// No domain.
    pub const INVALID: Self = Self(0x7ff4);
    /// The idle domain.
    pub const IDLE: Self = Self(0x7fff);

    /// Whether the number could be a real domain's.
    #[must_use]
    pub const fn is_domain(self) -> bool {
        self.0 < Self::FIRST_RESERVED.0
    }
}
