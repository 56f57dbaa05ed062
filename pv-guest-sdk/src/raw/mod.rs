//! The one place of the SDK where `unsafe` is allowed.
//!
//! What is here turns the machine and the hypervisor's memory into safe values: the entry code,
//! the gate to the hypervisor, the views of what the loader left in memory. Everything above is
//! safe code. Each block is one operation with its argument beside it.
#![allow(unsafe_code, reason = "the SDK's fence around the machine")]

#[cfg(target_os = "none")]
pub(crate) mod backtrace;
#[cfg(target_os = "none")]
mod boot;
#[cfg(target_os = "none")]
pub(crate) mod console;
#[cfg(target_os = "none")]
pub(crate) mod control;
pub(crate) mod copy;
#[cfg(target_os = "none")]
pub(crate) mod descriptor;
#[cfg(target_os = "none")]
pub(crate) mod device;
#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
pub mod fpu;
pub mod gate;
#[cfg(target_os = "none")]
pub(crate) mod grant;
#[cfg(target_os = "none")]
mod guard;
#[cfg(target_os = "none")]
pub(crate) mod heap;
#[cfg(target_os = "none")]
pub(crate) mod loaded;
#[cfg(target_os = "none")]
pub mod m2p;
#[cfg(all(target_os = "none", feature = "x86_64"))]
mod mapper;
#[cfg(target_os = "none")]
pub(crate) mod memory;
#[cfg(target_os = "none")]
pub mod privileged;
#[cfg(target_os = "none")]
pub mod probe;
#[cfg(target_os = "none")]
pub mod registers;
pub mod request;
#[cfg(target_os = "none")]
pub mod shared;
#[cfg(target_os = "none")]
pub(crate) mod start;
#[cfg(target_os = "none")]
pub(crate) mod strip;
#[cfg(target_os = "none")]
pub mod survey;
#[cfg(target_os = "none")]
pub(crate) mod trap;
#[cfg(target_os = "none")]
pub(crate) mod user;
#[cfg(target_os = "none")]
pub(crate) mod vcpu;
#[cfg(any(test, target_os = "none"))]
pub(crate) mod waker;
#[cfg(target_os = "none")]
pub mod wrong;
