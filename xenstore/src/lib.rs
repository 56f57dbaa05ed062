//! The xenstore server.
#![no_std]
#![forbid(unsafe_code)]
