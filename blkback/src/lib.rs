//! The block back end.
#![no_std]
#![forbid(unsafe_code)]
