//! Write Xen PV guest kernels in safe Rust.
#![no_std]

pub mod boot;
pub mod console;
pub mod entry;
pub mod frames;
pub mod line;
#[cfg(target_os = "none")]
mod panic;
pub mod raw;
pub mod shutdown;
pub mod start;

pub use boot::BootInfo;
