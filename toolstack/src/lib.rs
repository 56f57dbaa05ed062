//! Builds and watches domains.
#![no_std]
#![forbid(unsafe_code)]
