//! `set_trap_table`: where a guest wants its exceptions delivered.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One row of a trap table. A row with address 0 ends the table.
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct TrapInfo {
    /// The exception, or the `int` instruction's number.
    pub vector: u8,
    /// Bits 0 and 1: the highest ring that may reach it by `int`. Bit 2: [`TrapInfo::MASK_EVENTS`].
    pub flags: u8,
    /// The handler's code segment; its privilege bits become 3.
    pub cs: u16,
    /// No meaning.
    pub pad: u32,
    /// The handler's address, or 0 for none.
    pub address: u64,
}

impl TrapInfo {
    /// The bits of `flags` that are a ring.
    pub const DPL_MASK: u8 = 3;
    /// The handler starts with events masked.
    pub const MASK_EVENTS: u8 = 1 << 2;
}

abi_layout! { TrapInfo = "struct trap_info", size 16, align 8 {
    vector @ 0, flags @ 1, cs @ 2, pad = "" @ 4, address @ 8,
}}
