//! The Xen 4.17 64-bit PV ABI as data.
#![no_std]
#![forbid(unsafe_code)]
