//! Builds and watches domains, from the control domain.
//!
//! [`archive`] finds the files of a ramdisk, `build` turns an ELF image into a domain that is
//! ready to run, [`config`] reads what a domain shall be, [`kernel`] reads kernels, packed ones too
//! ([`unpack`]), [`nodes`] tells what a domain finds in the store, [`lines`] cuts what a console says
//! into whole lines, [`core_file`] writes what a domain has in it for debuggers, [`volume`] reads files of a partition, [`end`] tells how a domain ended, [`operator`] understands who rules them. What a domain's memory looks like is decided
//! by `domain-builder`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod archive;
#[cfg(target_os = "none")]
pub mod build;
pub mod config;
pub mod core_file;
pub mod end;
pub mod kernel;
pub mod lines;
pub mod nodes;
pub mod operator;
pub mod unpack;
pub mod volume;
