//! Write Xen PV guest kernels in safe Rust.
//!
//! A guest is a program without an operating system that a PV hypervisor loads:
//!
//! ```no_run
//! # // A host's program has another `main`.
//! use pv_guest_sdk::{BootInfo, entry, println};
//!
//! entry!(start);
//!
//! fn start(boot: &BootInfo) {
//!     println!("Hello, {} pages", boot.pages());
//! }
//! # fn main() {}
//! ```
//!
//! It is `#![no_std]` and `#![no_main]`, and its `build.rs` names the linker script that comes with this crate, `guest.ld`. When `main`
//! returns `()` or `Ok(())` the domain ends with a power-off, which is success; an error or a panic
//! is printed and ends it as crashed.
//!
//! Where to read next: `start` for all that a guest with devices begins with, [`boot`] for what a guest is told at its start, [`console`] for output,
//! [`error`] for what a refused hypercall says, [`paging`] for memory and page tables, [`trap`] for
//! exceptions, `user` for user mode, [`descriptor`] for segments, `heap` for `alloc`, [`event`] for
//! event channels, [`time`] for the clock and timers, `task` and [`wait`] for waiting, `vcpu` for
//! more virtual CPUs, [`lock`] for what they share, [`grant`] for pages that domains share,
//! [`xenstore`] for what domains and tools tell each other, [`xenbus`] for devices of two halves,
//! [`block`] for disks, [`net`] for network cards, [`device`] for devices of the machine, [`raw`] for what is behind all of it. The guests `tour`, `tour-events`,
//! `tour-time`, `usermode`, `smp`, `share` and `blk` show most of it at work.
//!
//! Built for a host, what only a machine has is not there (entry code, virtual CPUs, mappings, user
//! mode, heap); the rest is, so that it can be tested in a process.
#![no_std]
// An example of what only a machine has is a guest's program, without `std`.
#![cfg_attr(target_os = "none", doc(test(attr(no_std, no_main))))]

#[cfg(test)]
extern crate std;

pub mod block;
pub mod boot;
pub mod console;
#[cfg(target_os = "none")]
pub mod control;
pub mod cpuid;
pub mod descriptor;
pub mod device;
pub mod entry;
pub mod error;
pub mod event;
pub mod extension;
pub mod frames;
pub mod grant;
#[cfg(target_os = "none")]
pub mod heap;
pub mod line;
pub mod lock;
pub mod logger;
pub mod memory;
pub mod net;
pub mod paging;
#[cfg(target_os = "none")]
mod panic;
pub mod raw;
pub mod ring;
pub mod shared;
pub mod shutdown;
#[cfg(target_os = "none")]
pub mod start;
#[cfg(any(test, target_os = "none"))]
pub mod task;
pub mod time;
pub mod trap;
#[cfg(target_os = "none")]
pub mod user;
pub mod vary;
#[cfg(target_os = "none")]
pub mod vcpu;
pub mod version;
pub mod wait;
pub mod xenbus;
pub mod xenstore;

pub use boot::BootInfo;
pub use error::HypercallError;
pub use hypercall_abi as abi;
pub use log;
pub use raw::gate::{Gate, Machine};
