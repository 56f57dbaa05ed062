//! Consoles: `console_io(command, count, buffer)`, the hypervisor's own (mostly a serial line), and
//! the ring by which a domain's console reaches its back end.

pub use crate::ops::console::*;

abi_structs! {
    /// The ring in a shared page. Indices run on without end; their place is the remainder of the
    /// array's length. Both ends write: this type tells where things are, and is not for viewing.
    ConsoleRing = "struct xencons_interface", size 3088, align 4 {
        /// To the guest.
        0 input: [u8; 1024] = "in",
        /// From the guest.
        1024 output: [u8; 2048] = "out",
        /// How much the guest has taken.
        3072 in_cons: u32,
        /// How much the back end has put.
        3076 in_prod: u32,
        /// How much the back end has taken.
        3080 out_cons: u32,
        /// How much the guest has put.
        3084 out_prod: u32,
    }
}
