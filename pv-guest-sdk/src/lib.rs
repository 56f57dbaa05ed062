//! Write Xen PV guest kernels in safe Rust.
#![no_std]
