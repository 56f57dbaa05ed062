//! Every decision of the Paravane kernel, in safe code that also runs on the host.
//!
//! The ring-0 binary is a thin layer around this library: it catches what the processor raises,
//! hands it to [`system::System`], and implements [`platform::Platform`]. Everything else is here:
//! which frame may be used as what, what a hypercall does, what a fault of a guest leads to.
//!
//! Where to start reading: [`system`] (what happens on each way into ring 0), [`dispatch`] (a
//! hypercall's way from registers to handler), [`frames`] and [`mm`] (who may use which frame as
//! what), [`initial`] (how the initial domain comes to be).
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

#[cfg(any(test, feature = "fake"))]
extern crate std;

pub mod areas;
pub mod audit;
pub mod bounce;
pub mod calls;
pub mod clock;
mod code_segment;
pub mod control;
pub mod cpu;
pub mod cpu_state;
pub mod cpuid;
pub mod crash;
pub mod debug;
pub mod descriptors;
pub mod dispatch;
pub mod domain;
pub mod domains;
pub mod emulate;
pub mod event;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod frames;
pub mod grant;
pub mod guest_memory;
pub mod initial;
pub mod irq;
pub mod life;
pub mod lock;
pub mod mm;
pub mod nmi;
pub mod options;
pub mod platform;
pub mod poll;
pub mod port_access;
pub mod ports;
pub mod regs;
pub mod saved;
pub mod sched;
pub mod schedule;
pub mod standstill;
pub mod system;
pub mod table_fault;
pub mod timer;
pub mod trace;
pub mod trap;
pub mod vcpu;
pub mod vcpu_create;
pub mod vcpu_start;
mod virtual_cpu;
pub mod wake;
