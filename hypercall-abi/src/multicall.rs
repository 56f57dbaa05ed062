//! `multicall(entries, count)`: several hypercalls for the price of one entry.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One hypercall of a batch. A failing one does not stop those after it.
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct MulticallEntry {
    /// The hypercall's number.
    pub op: u64,
    /// Out: what it returned.
    pub result: u64,
    /// Its arguments.
    pub args: [u64; 6],
}

abi_layout! { MulticallEntry = "struct multicall_entry", size 64, align 8 {
    op @ 0, result @ 8, args @ 16,
}}
