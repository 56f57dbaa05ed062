//! `multicall(entries, count)`: several hypercalls for the price of one entry.

abi_structs! {
    /// One hypercall of a batch. A failing one does not stop those after it.
    MulticallEntry = "struct multicall_entry", size 64, align 8 {
        /// The hypercall's number.
        0 op: u64,
        /// Out: what it returned.
        8 result: u64,
        /// Its arguments.
        16 args: [u64; 6],
    }
}
