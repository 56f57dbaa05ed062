//! Every decision of the kernel, in safe code.
#![no_std]
#![forbid(unsafe_code)]

pub mod boot;
