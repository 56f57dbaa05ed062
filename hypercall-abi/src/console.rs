//! `console_io(command, count, buffer)`: the hypervisor's own console, mostly a serial line.

pub use crate::ops::console::*;
