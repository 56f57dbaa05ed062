//! The Xen 4.17 64-bit PV ABI as data: numbers, names and memory layouts, and nothing that runs.
//!
//! The kernel, the guest SDK, the conformance guests and the tools all read the ABI from here, so
//! that each fact is written once. Two sources of truth are checked against each other in this
//! crate's tests: these definitions, and the C headers of Debian's `libxen-dev`.
//!
//! - [`call`] is where to start: every hypercall, what it is called, and how far this system is
//!   with it. [`ops`] holds the sub-ops of each call, one row a sub-op; [`coverage`] renders both as
//!   the page `docs/src/abi/coverage.md`.
//! - One module a subject ([`start`], [`sched`], [`event`], [`grant`], ...) has that subject's
//!   structures, flags and, re-exported from [`ops`], sub-op numbers.
//! - [`structure`] describes every shared structure as data (sizes and offsets).
//!
//! Rules for shared structures: integers and newtypes only; no `bool`, Rust `enum`, `usize` or
//! reference; padding is spelt out, so that no uninitialised byte can cross the boundary. A guest
//! pointer is a `u64` that nobody has checked yet. Live shared pages are never viewed as
//! `&Struct`: these types are for copies.
#![no_std]
#![forbid(unsafe_code)]

#[macro_use]
mod macros;

pub mod blkif;
pub mod call;
pub mod callback;
pub mod console;
pub mod coverage;
pub mod cpuid;
pub mod domctl;
pub mod elfnote;
pub mod errno;
pub mod event;
pub mod extension;
pub mod grant;
pub mod layout;
pub mod memory;
pub mod mmu;
pub mod multicall;
pub mod netif;
pub mod ops;
pub mod physdev;
pub mod platform;
pub mod regs;
pub mod sched;
pub mod segment;
pub mod start;
pub mod structure;
pub mod sysctl;
pub mod trap;
pub mod types;
pub mod vcpu;
pub mod version;
pub mod virq;
pub mod vm_assist;
pub mod xenstore;
