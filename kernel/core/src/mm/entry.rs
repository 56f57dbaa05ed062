//! One page-table entry: which bits a guest may set, and which the kernel sets itself.
//!
//! The guest's kernel runs in ring 3, so every present entry is accessible to ring 3. What the guest
//! says with the user bit at level 1 is kept in other bits: a page of its user mode becomes global
//! (user mode and kernel mode have the same user pages, so they survive the switch between the two),
//! a page of its kernel gets a mark and is not global (it must vanish with the switch).

use core::fmt;

use hypercall_abi::layout::{HYPERVISOR_FIRST_SLOT, HYPERVISOR_SLOTS};
use hypercall_abi::mmu::{ENTRY_ADDRESS_MASK, EntryFlags};
use hypercall_abi::types::{Mfn, PAGE_SHIFT};

use crate::frames::FrameType;

/// The level of a page table.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// Its entries map pages.
    L1,
    /// Its entries refer to level 1.
    L2,
    /// Its entries refer to level 2.
    L3,
    /// A root; its entries refer to level 3.
    L4,
}

impl Level {
    /// The type of a frame that is such a table.
    #[must_use]
    pub const fn frame_type(self) -> FrameType {
        match self {
            Self::L1 => FrameType::L1,
            Self::L2 => FrameType::L2,
            Self::L3 => FrameType::L3,
            Self::L4 => FrameType::L4,
        }
    }

    /// The level of a frame of that type.
    #[must_use]
    pub const fn of(frame_type: FrameType) -> Option<Self> {
        match frame_type {
            FrameType::L1 => Some(Self::L1),
            FrameType::L2 => Some(Self::L2),
            FrameType::L3 => Some(Self::L3),
            FrameType::L4 => Some(Self::L4),
            _ => None,
        }
    }

    /// The level that entries of this one refer to; `None` if they map pages.
    #[must_use]
    pub const fn below(self) -> Option<Self> {
        match self {
            Self::L1 => None,
            Self::L2 => Some(Self::L1),
            Self::L3 => Some(Self::L2),
            Self::L4 => Some(Self::L3),
        }
    }

    /// Whether the kernel fills this entry itself.
    #[must_use]
    pub fn is_hypervisor_slot(self, index: u16) -> bool {
        let index = usize::from(index);
        self == Self::L4
            && index >= HYPERVISOR_FIRST_SLOT
            && index < HYPERVISOR_FIRST_SLOT.saturating_add(HYPERVISOR_SLOTS)
    }

    /// The index of the entry of this level on the way to an address.
    #[must_use]
    pub const fn index(self, address: u64) -> u16 {
        let shift = match self {
            Self::L1 => 12,
            Self::L2 => 21,
            Self::L3 => 30,
            Self::L4 => 39,
        };
        let [low, high, ..] = (address.wrapping_shr(shift) & 0x1ff).to_le_bytes();
        u16::from_le_bytes([low, high])
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::L1 => "L1",
            Self::L2 => "L2",
            Self::L3 => "L3",
            Self::L4 => "L4",
        })
    }
}

/// Bits that select how a page is cached.
const CACHE: EntryFlags = EntryFlags::PWT.union(EntryFlags::PCD).union(EntryFlags::PSE);
/// The accessed and the dirty bit, which the machine sets.
pub const USED: u64 = EntryFlags::ACCESSED.union(EntryFlags::DIRTY).bits();

/// A page-table entry.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Entry(pub u64);

impl Entry {
    const fn has(self, flag: EntryFlags) -> bool {
        self.0 & flag.bits() != 0
    }

    /// Whether it means anything to the machine.
    #[must_use]
    pub const fn is_present(self) -> bool {
        self.has(EntryFlags::PRESENT)
    }

    /// Whether it allows writing.
    #[must_use]
    pub const fn is_writable(self) -> bool {
        self.has(EntryFlags::RW)
    }

    /// The frame it refers to.
    #[must_use]
    pub const fn mfn(self) -> Mfn {
        Mfn((self.0 & ENTRY_ADDRESS_MASK) >> PAGE_SHIFT)
    }

    /// Whether this entry and `other` hold the same reference.
    #[must_use]
    pub const fn holds_the_same(self, other: Self) -> bool {
        const HELD: u64 = ENTRY_ADDRESS_MASK | EntryFlags::PRESENT.bits() | EntryFlags::RW.bits();
        self.is_present() && (self.0 ^ other.0) & HELD == 0
    }

    /// The bits of this present entry that a guest may not set at `level`. A guest with devices
    /// selects the caching of pages itself.
    #[must_use]
    pub const fn refused_bits(self, level: Level, has_devices: bool) -> u64 {
        let never = match level {
            Level::L1 if has_devices => EntryFlags::empty(),
            Level::L1 => CACHE,
            _ => CACHE.union(EntryFlags::GLOBAL),
        };
        self.0 & never.bits()
    }

    /// This entry without the right to write.
    #[must_use]
    pub const fn read_only(self) -> Self {
        Self(self.0 & !EntryFlags::RW.bits())
    }

    /// This entry, of level 1, for a device: written back, written through and write-protected, as the
    /// memory types are that it may name, it is not cached. The others are the guest's choice.
    #[must_use]
    pub const fn uncached(self) -> Self {
        const PWT: u64 = EntryFlags::PWT.bits();
        const PCD: u64 = EntryFlags::PCD.bits();
        const PAT: u64 = EntryFlags::PSE.bits();
        match self.0 & CACHE.bits() {
            _ if !self.is_present() => self,
            0 => Self(self.0 | PWT | PCD),
            cached if cached & !PAT == PWT => Self(self.0 & !PAT | PCD),
            _ => self,
        }
    }

    /// This entry with the bits that the kernel sets itself. A guest that asks for a global page of
    /// its kernel gets one: it fools only itself.
    #[must_use]
    pub const fn adjusted(self, level: Level) -> Self {
        const USER: u64 = EntryFlags::USER.bits();
        const MARK: u64 = EntryFlags::GUEST_KERNEL.bits();
        const GLOBAL: u64 = EntryFlags::GLOBAL.bits();
        if !self.is_present() {
            return self;
        }
        Self(match level {
            Level::L1 if self.0 & USER == 0 => self.0 | USER | MARK,
            Level::L1 if self.0 & MARK == 0 => self.0 | GLOBAL,
            Level::L1 => self.0,
            Level::L2 | Level::L3 => self.0 | USER,
            Level::L4 => self.0 | USER | EntryFlags::ACCESSED.bits(),
        })
    }
}
