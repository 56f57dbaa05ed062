//! `set_trap_table`: where a guest wants its exceptions delivered.

abi_structs! {
    /// One row of a trap table. A row with address 0 ends the table.
    TrapInfo = "struct trap_info", size 16, align 8 {
        /// The exception, or the `int` instruction's number.
        0 vector: u8,
        /// Bits 0 and 1: the highest ring that may reach it by `int`. Bit 2: [`TrapInfo::MASK_EVENTS`].
        1 flags: u8,
        /// The handler's code segment; its privilege bits become 3.
        2 cs: u16,
        /// No meaning.
        4 pad: u32 = "",
        /// The handler's address, or 0 for none.
        8 address: u64,
    }
}

impl TrapInfo {
    /// The bits of `flags` that are a ring.
    pub const DPL_MASK: u8 = 3;
    /// The handler starts with events masked.
    pub const MASK_EVENTS: u8 = 1 << 2;
}
