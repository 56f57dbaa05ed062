//! Tests of the rules for page tables.

#![allow(clippy::wildcard_imports, reason = "a test uses nearly everything")]

mod at_once;
mod attacks;
mod measured;
mod random;
mod together;
mod world;
