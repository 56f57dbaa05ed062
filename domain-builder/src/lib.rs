//! How a domain comes to be: from an ELF image and a size to memory a virtual CPU can start in.
//!
//! Three steps, each usable alone:
//!
//! 1. [`image`] reads the file: where its parts go and what its Xen notes ask for.
//! 2. [`plan`] decides, from those facts and a few sizes, which frame holds what, what every
//!    page-table entry says and what the start-info page tells the guest. It is pure arithmetic on
//!    `Copy` values: nothing is allocated, nothing is written.
//! 3. [`build`] carries a plan out against a small [`build::Target`].
//!
//! The same code builds the initial domain (in ring 0) and all others (in the control domain's
//! toolstack); [`plan::Kind`] names the differences. Frame numbers here are the domain's own
//! ([`Pfn`](hypercall_abi::types::Pfn)); the target alone knows the machine's.
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

pub mod build;
pub mod hypercall_page;
pub mod image;
pub mod plan;
