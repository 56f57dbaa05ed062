//! Builds and watches domains, from the control domain.
//!
//! [`archive`] finds the files of a ramdisk, `build` turns an ELF image into a domain that is
//! ready to run, [`lines`] cuts what a console says into whole lines, [`config`] reads what a domain shall be, [`end`] tells how a domain
//! ended. What a domain's memory looks like is decided by `domain-builder`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod archive;
#[cfg(target_os = "none")]
pub mod build;
pub mod config;
pub mod end;
pub mod lines;
pub mod nodes;
